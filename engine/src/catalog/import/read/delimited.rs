//! Lines of a fixed number of fields between separators: no header, no quotes.

use super::lines::{Line, Lines};
use super::{Record, Rows, Step};
use std::io::Read;

pub(in super::super) struct DelimitedRows {
    lines: Lines,
    separator: &'static str,
    fields: usize,
}

impl DelimitedRows {
    pub(in super::super) fn open(
        from: Box<dyn Read>,
        separator: &'static str,
        fields: usize,
    ) -> Self {
        Self { lines: Lines::new(from), separator, fields }
    }
}

impl Rows for DelimitedRows {
    fn next(&mut self, record: &mut Record) -> Result<Step, String> {
        let line = self.lines.next();
        record.number = self.lines.number();
        match line? {
            Line::End => return Ok(Step::End),
            Line::TooLong(reason) => return Ok(Step::Bad(reason)),
            Line::Whole => {}
        }
        let line = self.lines.line().trim_ascii_end();
        // Files of this kind are older than UTF-8 in such places: what is none is Latin-1.
        let latin = || line.iter().map(|byte| char::from(*byte)).collect();
        let line = std::str::from_utf8(line).map_or_else(|_| latin(), str::to_owned);
        let found = line.split(self.separator).count();
        if found != self.fields {
            return Ok(Step::Bad(format!(
                "{found} fields between `{}` where {} are expected",
                self.separator.escape_debug(),
                self.fields
            )));
        }
        record.clear();
        for (field, value) in line.split(self.separator).enumerate() {
            record.set(field, value);
        }
        Ok(Step::Row)
    }

    fn lacks(&self, _field: usize) -> bool {
        false
    }

    fn ignored(&self) -> Vec<String> {
        Vec::new()
    }

    fn unit(&self) -> &'static str {
        "line"
    }
}
