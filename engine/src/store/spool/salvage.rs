//! What becomes of a damaged spool: all that can be read of it goes into a new one, and it is moved aside whole.
//!
//! It may be killed at any point. The new file is made beside the old one and gets the name `spool.salvaged` when it
//! is complete; from then on it is what counts, and whoever opens next only moves the old files away and the new one
//! into place.

use super::file::{LAYOUT, PAGE, failed};
use super::page::{self, Found};
use super::row::{Row, SALVAGE};
use super::totals::Totals;
use super::wal::{self, Which};
use crate::store::StoreError;
use crate::store::lite::file::{finish, sidecar, sync_folder, unavailable};
use penstock_config::clock::Clock;
use rusqlite::Connection;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// Makes a new spool of what can be read and moves the damaged one aside. Nobody else may have it open.
pub(super) fn salvage(path: &Path, why: &str, clock: &dyn Clock) -> Result<(), StoreError> {
    let new = path.with_extension("new");
    let mut connection = LAYOUT.begin(&new)?;
    let mut wrong = 0;
    let saved = fill(&mut connection, path, &mut wrong)?;
    finish(connection, &new, &complete(path))?;
    let moved = move_aside(path, clock)?;
    tracing::error!(
        why,
        saved,
        lost = wrong,
        moved_to = %moved.display(),
        "the spool was damaged: it was moved aside, and what could be read of it is in a new one"
    );
    Ok(())
}

/// Ends what a killed process began.
pub(super) fn resume(path: &Path, clock: &dyn Clock) -> Result<(), StoreError> {
    if complete(path).exists() {
        let moved = move_aside(path, clock)?;
        tracing::error!(moved_to = %moved.display(), "the spool was damaged: it was moved aside");
    }
    Ok(())
}

/// The name of a salvaged spool that is complete.
pub(super) fn complete(path: &Path) -> PathBuf {
    path.with_extension("salvaged")
}

fn fill(connection: &mut Connection, path: &Path, wrong: &mut u64) -> Result<u64, StoreError> {
    let doing = failed("salvaging the spool");
    let transaction = connection.transaction().map_err(&doing)?;
    let mut saved = 0;
    let mut seqs = Vec::new();
    let mut put = |rows: Vec<Row>| -> Result<(), StoreError> {
        let mut insert = transaction.prepare_cached(SALVAGE).map_err(&doing)?;
        for row in rows {
            if row.insert(&mut insert).map_err(&doing)? {
                saved += 1;
                seqs.push(row.seq);
            }
        }
        Ok(())
    };
    let mut found = Found::default();
    let file = File::open(path).map_err(|e| unavailable("read", path, &e))?;
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut page = vec![0; PAGE];
    // A last page that is cut short is read as far as it goes.
    while read_up_to(&mut file, &mut page).map_err(|e| unavailable("read", path, &e))? {
        page::read(&page, &mut found);
        put(std::mem::take(&mut found.rows))?;
    }
    let log = sidecar(path, "-wal");
    let rest = wal::rows(&log, Which::All).map_err(|e| unavailable("read", &log, &e))?;
    put(rest.rows)?;

    let mut totals = Totals::load(&transaction).map_err(&doing)?;
    let known = page::newer(found.totals, rest.totals);
    let counted = known.is_some();
    if let Some(old) = known {
        // Rows before the first were shipped, and found in pages that nobody used again.
        let alive = seqs.iter().filter(|seq| **seq >= old.first).count() as u64;
        *wrong = (old.waiting + old.aside).unsigned_abs().saturating_sub(alive);
        (totals.shipped, totals.refused) = (old.shipped, old.refused);
        (totals.damaged, totals.files, totals.last) = (old.damaged, old.files, old.last);
    }
    // Numbers are given one after the other: where the counts are lost, too, the gaps tell.
    let span = seqs.iter().max().zip(seqs.iter().min()).map_or(0, |(last, first)| last - first + 1);
    let gaps = span.unsigned_abs().saturating_sub(seqs.len() as u64);
    *wrong = (*wrong).max(found.wrong).max(if counted { 0 } else { gaps });
    totals.damaged += *wrong as i64;
    totals.files += 1;
    totals.recount(&transaction).map_err(&doing)?;
    totals.save(&transaction).map_err(&doing)?;
    transaction.commit().map_err(&doing)?;
    Ok(saved)
}

/// `false`: nothing is left. What is missing of a page is zeros.
fn read_up_to(file: &mut impl Read, page: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < page.len() {
        match file.read(&mut page[filled..])? {
            0 => break,
            some => filled += some,
        }
    }
    page[filled..].fill(0);
    Ok(filled > 0)
}

/// The log goes first: beside the new file it would be taken for the new file's.
fn move_aside(path: &Path, clock: &dyn Clock) -> Result<PathBuf, StoreError> {
    let mut seconds = clock.unix_seconds();
    let away = loop {
        let name = sidecar(path, &format!(".damaged-{seconds}"));
        if !["", "-wal", "-shm"].iter().any(|end| sidecar(&name, end).exists()) {
            break name;
        }
        seconds += 1;
    };
    for end in ["-wal", "-shm", ""] {
        let (from, to) = (sidecar(path, end), sidecar(&away, end));
        match fs::rename(&from, &to) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(unavailable("move", &from, &e));
            }
            _ => {}
        }
    }
    let placed = sync_folder(path)
        .and_then(|()| fs::rename(complete(path), path))
        .and_then(|()| sync_folder(path));
    placed.map_err(|e| unavailable("move", &complete(path), &e))?;
    Ok(away)
}
