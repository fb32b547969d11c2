//! Rows in the log that SQLite would not read.
//!
//! SQLite reads its log up to the first page whose sum is wrong and takes the rest for a torn end. After a crash it
//! is one, and nobody was told that it is stored. But where a byte in the middle changed, acknowledged events follow,
//! so their rows are looked for ([`super::page`]). What is found too much was shipped before, or its client heard an
//! error: it counts once all the same.

use super::file::PAGE;
use super::page::{self, Found};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const HEADER: usize = 32;
const FRAME: usize = 24;

/// Which pages of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those behind what SQLite reads.
    Rest,
    /// All of this log, but none that an older one left behind.
    All,
}

/// Rows in the log at `path`; none when there is no log. Nobody else may have the spool open.
pub(super) fn rows(path: &Path, which: Which) -> io::Result<Found> {
    let mut found = Found::default();
    let mut log = match File::open(path) {
        Ok(file) => BufReader::with_capacity(1 << 20, file),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(e),
    };
    let mut header = [0; HEADER];
    if !fill(&mut log, &mut header)? {
        return Ok(found);
    }
    let salt: [u8; 8] = header[16..24].try_into().expect("eight bytes");
    let big = header[3] & 1 == 1;
    let mut sum = checksum([0, 0], &header[..24], big);
    // Of a log with a damaged head SQLite reads nothing, and its salt says nothing.
    let headed = sum == stored(&header[24..32]);
    let mut whole = headed;
    let mut pending = Found::default();
    let mut frame = vec![0; FRAME + PAGE];
    while fill(&mut log, &mut frame)? {
        let (head, page) = frame.split_at(FRAME);
        if headed && head[8..16] != salt {
            whole = false;
            continue;
        }
        if whole {
            sum = checksum(checksum(sum, &head[..8], big), page, big);
            whole = sum == stored(&head[16..24]);
        }
        let commits = head[4..8] != [0; 4];
        match which {
            Which::All => page::read(page, &mut found),
            Which::Rest if !whole => page::read(page, &mut found),
            // Read by SQLite only when its transaction is whole.
            Which::Rest if commits => pending = Found::default(),
            Which::Rest => page::read(page, &mut pending),
        }
    }
    found.rows.append(&mut pending.rows);
    Ok(found)
}

/// `false`: less is left.
fn fill(log: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

fn stored(bytes: &[u8]) -> [u32; 2] {
    [0, 4].map(|at| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes")))
}

fn checksum([mut a, mut b]: [u32; 2], bytes: &[u8], big: bool) -> [u32; 2] {
    let word = |four: &[u8]| {
        let four = four.try_into().expect("four bytes");
        if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
    };
    for pair in bytes.chunks_exact(8) {
        a = a.wrapping_add(word(&pair[..4])).wrapping_add(b);
        b = b.wrapping_add(word(&pair[4..])).wrapping_add(a);
    }
    [a, b]
}
