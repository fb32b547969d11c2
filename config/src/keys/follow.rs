//! Keeping up with the file, one look at a time.
//!
//! A file that only grew is read from where reading stopped; whether what was read is still there is
//! told by its last bytes. Any other change reads the whole file again, once it has been the same for
//! two looks: somebody may be writing it. Who writes it in place may pause for longer than that, before the
//! line that revokes a key; so what was revoked stays so unless another file takes its place, which is whole.

use super::FILE;
use super::table::Table;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A line is some 300 bytes; one that is longer than this is none of ours.
const MAX_LINE_BYTES: usize = 1 << 16;
/// Bytes compared to recognise what was read before.
const MARK_BYTES: u64 = 256;

/// Why the file cannot be followed. The keys read before stay in force.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It was there and is not any more.
    #[error(
        "{FILE} is gone from the policy folder; the keys read before stay in force: put it back, or revoke them"
    )]
    Gone,
    /// The system does not let us read it.
    #[error("{FILE} cannot be read; the keys read before stay in force: {0}")]
    Unreadable(#[from] io::Error),
}

/// The state of a file, as cheaply as it can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    bytes: u64,
    written: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            bytes: metadata.len(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// How far a file was read: whole lines only.
#[derive(Debug, Default)]
struct Extent {
    bytes: u64,
    lines: u64,
    /// The last bytes of what was read.
    mark: Vec<u8>,
}

/// Reads the keys of a policy folder and what changes.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    /// The file as it was last read.
    last: Option<Stamp>,
    /// The file as it was last seen, when that is not to be believed yet.
    unsettled: Option<Stamp>,
    so_far: Extent,
}

impl Follower {
    /// Of the policy folder `dir`. Nothing is read yet.
    pub fn new(dir: &Path) -> Self {
        let path = dir.join(FILE);
        Self { path, last: None, unsettled: None, so_far: Extent::default() }
    }

    /// Reads all there is, without waiting for it to settle. No file: no keys.
    pub fn load(&mut self) -> Result<Table, FollowError> {
        match File::open(&self.path) {
            Ok(file) => Ok(self.read_all(file, Table::default())?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Table::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks whether the file changed since `table` was made of it. `None`: nothing did, or it is
    /// still being written.
    pub fn look(&mut self, table: &Table) -> Result<Option<Table>, FollowError> {
        let seen = match std::fs::metadata(&self.path) {
            Ok(metadata) => Stamp::of(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return if self.last.is_some() { Err(FollowError::Gone) } else { Ok(None) };
            }
            Err(error) => return Err(error.into()),
        };
        if self.last == Some(seen) {
            return Ok(None);
        }
        let mut file = File::open(&self.path)?;
        let seen = Stamp::of(&file.metadata()?);
        if self.grew(seen, &mut file)? {
            return Ok(self.read_tail(seen, file, table)?);
        }
        if self.unsettled != Some(seen) {
            self.unsettled = Some(seen);
            return Ok(None);
        }
        let in_place = self.last.is_some_and(|last| last.file == seen.file);
        let empty = if in_place { Table::after(table) } else { Table::default() };
        Ok(Some(self.read_all(file, empty)?))
    }

    fn grew(&self, seen: Stamp, file: &mut File) -> io::Result<bool> {
        let same_file = self.last.is_some_and(|last| last.file == seen.file);
        if !same_file || seen.bytes <= self.so_far.bytes {
            return Ok(false);
        }
        let mut there = vec![0; self.so_far.mark.len()];
        file.seek(SeekFrom::Start(self.so_far.bytes - there.len() as u64))?;
        file.read_exact(&mut there)?;
        Ok(there == self.so_far.mark)
    }

    fn read_tail(&mut self, seen: Stamp, file: File, table: &Table) -> io::Result<Option<Table>> {
        let before = self.so_far.lines;
        let mut next = table.clone();
        self.go_on(file, &mut next)?;
        self.last = Some(seen);
        self.unsettled = None;
        Ok((self.so_far.lines > before).then_some(next))
    }

    fn read_all(&mut self, file: File, mut table: Table) -> io::Result<Table> {
        let seen = Stamp::of(&file.metadata()?);
        let before = std::mem::take(&mut self.so_far);
        if let Err(error) = self.go_on(file, &mut table) {
            self.so_far = before;
            return Err(error);
        }
        self.last = Some(seen);
        self.unsettled = None;
        Ok(table)
    }

    /// Applies every whole line from where reading stopped.
    fn go_on(&mut self, mut file: File, table: &mut Table) -> io::Result<()> {
        file.seek(SeekFrom::Start(self.so_far.bytes))?;
        let mut lines = self.so_far.lines;
        let mut bytes = self.so_far.bytes;
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let mut line = Vec::new();
        while let Some(length) = next_line(&mut reader, &mut line)? {
            bytes += length;
            lines += 1;
            if !line.trim_ascii().is_empty() {
                table.apply(lines, &line);
            }
        }
        let mut file = reader.into_inner();
        let mut mark = vec![0; bytes.min(MARK_BYTES) as usize];
        file.seek(SeekFrom::Start(bytes - mark.len() as u64))?;
        file.read_exact(&mut mark)?;
        self.so_far = Extent { bytes, lines, mark };
        Ok(())
    }
}

/// Reads the next whole line, its end left out and cut at the longest there may be; its length in the
/// file. `None`: there is none, or it is still being written.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<u64>> {
    line.clear();
    let mut length = 0;
    loop {
        let there = reader.fill_buf()?;
        if there.is_empty() {
            return Ok(None);
        }
        let end = there.iter().position(|&byte| byte == b'\n');
        let part = &there[..end.unwrap_or(there.len())];
        let room = MAX_LINE_BYTES - line.len();
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = part.len() + usize::from(end.is_some());
        length += used as u64;
        reader.consume(used);
        if end.is_some() {
            return Ok(Some(length));
        }
    }
}
