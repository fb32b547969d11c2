//! Reading a TOML file for people: every problem at once, each with its place.
//!
//! Serde stops at the first problem and forgets where values came from. Here a file becomes a
//! tree with positions ([`Document`]), and a [`Section`] hands out its values one by one. A value
//! that is wrong is noted in the [`Report`] and a harmless placeholder is returned, so that
//! reading goes on and finds the rest; whoever asked throws the result away when the report is
//! not empty. Keys nobody asked for are unknown keys.

mod section;
mod suggest;
mod value;

pub(crate) use section::{Parse, Section};
pub(crate) use suggest::{closest, printable};
pub(crate) use value::Read;

use crate::problem::Problem;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use toml::de::DeTable;

/// Largest settings file that is read. Real ones have a few kilobytes.
pub(crate) const MAX_FILE_BYTES: usize = 1 << 20;

/// A file full of mistakes is told so; thousands of lines of log help nobody.
const MAX_PROBLEMS_PER_FILE: usize = 50;

/// The text of a file, or what is wrong with its bytes. A byte order mark is taken off.
pub(crate) fn text_of<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, Problem> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(Problem::of_file(file, format!("the file has {} bytes", bytes.len()))
            .suggest(format!("the most that is read is {MAX_FILE_BYTES}")));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Problem::of_file(file, "the file is UTF-16").suggest("save it as UTF-8"));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let valid = &bytes[..error.valid_up_to()];
            let valid = String::from_utf8_lossy(valid);
            let mut problem = Problem::of_file(file, "the text is not UTF-8 from here on")
                .suggest("save the file as UTF-8");
            problem.line = Some(1 + valid.matches('\n').count() as u32);
            Err(problem)
        }
    }
}

/// A file's tree with positions. Syntax errors are in the report; what could be read is here.
pub(crate) struct Document<'a> {
    table: DeTable<'a>,
    report: Report<'a>,
}

impl<'a> Document<'a> {
    /// Parses as much as possible.
    pub(crate) fn parse(file: &'a str, text: &'a str) -> Self {
        let report = Report::new(file, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            report.syntax(span, error.message());
        }
        Self { table: table.into_inner(), report }
    }

    /// Reads the whole document with `read`; keys `read` did not ask for become problems.
    /// `fallback` answers where this document says nothing.
    pub(crate) fn read<'s, T>(
        &'s self,
        fallback: Option<&'s Document<'s>>,
        read: impl FnOnce(&Section<'s>) -> T,
    ) -> T {
        let layers =
            std::iter::once(&self.table).chain(fallback.map(|document| &document.table)).collect();
        let section = Section::top(&self.report, layers);
        let value = read(&section);
        section.finish();
        value
    }

    /// What was found, in the order of lines.
    pub(crate) fn into_findings(self) -> Findings {
        self.report.into_findings()
    }
}

/// What reading a file brought to light.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
}

/// Collects the problems of one file.
pub(crate) struct Report<'a> {
    file: &'a str,
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    /// Lines with a syntax error: whatever else seems wrong there follows from it.
    torn_lines: RefCell<BTreeSet<u32>>,
}

impl<'a> Report<'a> {
    fn new(file: &'a str, text: &'a str) -> Self {
        Self {
            file,
            text,
            problems: RefCell::default(),
            warnings: RefCell::default(),
            torn_lines: RefCell::default(),
        }
    }

    fn syntax(&self, span: Range<usize>, message: &str) {
        let problem = self.place(span, String::new(), format!("not TOML: {message}"), None);
        if let Some(line) = problem.line {
            self.torn_lines.borrow_mut().insert(line);
        }
        self.problems.borrow_mut().push(problem);
    }

    pub(crate) fn problem(
        &self,
        span: Range<usize>,
        key: String,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        let problem = self.place(span, key, message.into(), suggestion);
        let torn = problem.line.is_some_and(|line| self.torn_lines.borrow().contains(&line));
        if !torn {
            self.problems.borrow_mut().push(problem);
        }
    }

    pub(crate) fn warning(
        &self,
        span: Range<usize>,
        key: String,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        let warning = self.place(span, key, message.into(), suggestion);
        self.warnings.borrow_mut().push(warning);
    }

    fn place(
        &self,
        span: Range<usize>,
        key: String,
        message: String,
        suggestion: Option<String>,
    ) -> Problem {
        let mut start = span.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Problem {
            file: self.file.to_owned(),
            line: Some(1 + before.matches('\n').count() as u32),
            column: Some(1 + before[line_start..].chars().count() as u32),
            key,
            message,
            suggestion,
        }
    }

    fn into_findings(self) -> Findings {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems.dedup();
        if problems.len() > MAX_PROBLEMS_PER_FILE {
            let more = problems.len() - MAX_PROBLEMS_PER_FILE;
            problems.truncate(MAX_PROBLEMS_PER_FILE);
            problems.push(Problem::of_file(self.file, format!("and {more} more problems")));
        }
        let mut warnings = self.warnings.into_inner();
        warnings.sort_by_key(|warning| (warning.line, warning.column));
        warnings.truncate(MAX_PROBLEMS_PER_FILE);
        Findings { problems, warnings }
    }
}
