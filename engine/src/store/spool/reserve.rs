//! Space that is kept for shipping.
//!
//! Deleting rows writes to the log before it frees anything, and what is in the log has to find its place in the
//! file: on a full disk neither works, and what cannot be deleted is shipped for ever. So a file of real zeros lies
//! beside the spool. It goes when what was shipped cannot be deleted. No event is taken until it is back, and that is
//! known to every process, because the state is the file itself.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A full disk is not filled again more often than this.
const PAUSE: Duration = Duration::from_millis(500);

/// The file of zeros.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    size: u64,
    tried: Option<Instant>,
}

impl Reserve {
    /// The reserve of the spool at `spool`; it need not be there.
    pub fn of(spool: &Path, size: u64) -> Self {
        Self { path: spool.with_extension("reserve"), size, tried: None }
    }

    /// Events may be taken: the reserve is there, or could be laid down again.
    pub fn stands(&mut self, now: Instant) -> bool {
        if fs::metadata(&self.path).is_ok_and(|found| found.len() >= self.size) {
            return true;
        }
        if self.tried.is_some_and(|then| now.saturating_duration_since(then) < PAUSE) {
            return false;
        }
        self.tried = Some(now);
        match self.lay() {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "no room for the spool's reserve");
                self.release();
                false
            }
        }
    }

    fn lay(&self) -> io::Result<()> {
        // A hole in a file keeps nothing: every byte is written.
        let zeros = vec![0; 1 << 16];
        let mut file = File::create(&self.path)?;
        let mut left = self.size;
        while left > 0 {
            let part = left.min(zeros.len() as u64);
            file.write_all(&zeros[..part as usize])?;
            left -= part;
        }
        file.sync_all()
    }

    /// Gives the space to whoever ships.
    pub fn release(&self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "cannot free the spool's reserve");
        }
    }
}
