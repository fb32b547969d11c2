//! Lines of a text file, of a bounded length.

use super::ROW_BYTES;
use std::io::{BufRead, BufReader, Read};

/// What reading on brought.
pub(super) enum Line {
    /// A line that is not blank; [`Lines::line`] has it.
    Whole,
    /// A line that is too long, for this reason; it was skipped.
    TooLong(String),
    /// There is no further line.
    End,
}

pub(super) struct Lines {
    reader: BufReader<Box<dyn Read>>,
    line: Vec<u8>,
    read: u64,
    number: u64,
}

impl Lines {
    pub(super) fn new(from: Box<dyn Read>) -> Self {
        Self { reader: BufReader::new(from), line: Vec::new(), read: 0, number: 0 }
    }

    /// Reads on to a line that is not blank.
    pub(super) fn next(&mut self) -> Result<Line, String> {
        loop {
            self.number = self.read + 1;
            if !self.read_line()? {
                return Ok(Line::End);
            }
            if self.line.len() as u64 > ROW_BYTES && self.line.last() != Some(&b'\n') {
                self.skip_line()?;
                return Ok(Line::TooLong(format!("longer than {ROW_BYTES} bytes")));
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(Line::Whole);
            }
        }
    }

    /// The line that was read last, with its end.
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    /// Lines read so far, blank ones too.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// Number of the line that was read last, or where reading failed; from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// `false` at the end of the file.
    fn read_line(&mut self) -> Result<bool, String> {
        self.line.clear();
        let mut limited = (&mut self.reader).take(ROW_BYTES + 1);
        let read = limited.read_until(b'\n', &mut self.line).map_err(|e| e.to_string())?;
        self.read += u64::from(read > 0);
        Ok(read > 0)
    }

    fn skip_line(&mut self) -> Result<(), String> {
        loop {
            let buffer = self.reader.fill_buf().map_err(|e| e.to_string())?;
            if buffer.is_empty() {
                return Ok(());
            }
            let (used, done) = match buffer.iter().position(|b| *b == b'\n') {
                Some(end) => (end + 1, true),
                None => (buffer.len(), false),
            };
            self.reader.consume(used);
            if done {
                return Ok(());
            }
        }
    }
}
