//! One table of a file, handing out its values.

use super::Report;
use super::suggest::{closest, printable, without_unit};
use super::value::{self, Read, article};
use crate::units::{parse_rfc3339, unit_of};
use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Reads a value from its text; the error is a clause and what to write instead.
pub(crate) type Parse<T> = fn(&str) -> Read<T>;

type Found<'a> = (Range<usize>, &'a DeValue<'a>);

/// A table, with the tables that answer where it says nothing.
pub(crate) struct Section<'a> {
    report: &'a Report<'a>,
    path: String,
    /// Where the file names this table; nowhere is its start.
    at: Range<usize>,
    /// The file's own table, if it has one: the only one problems are reported of.
    own: Option<&'a DeTable<'a>>,
    /// Asked in order where `own` says nothing; known to be good, or reported elsewhere.
    fallbacks: Vec<&'a DeTable<'a>>,
    asked: RefCell<Vec<String>>,
}

impl<'a> Section<'a> {
    pub(super) fn top(report: &'a Report<'a>, layers: Vec<&'a DeTable<'a>>) -> Self {
        let mut layers = layers.into_iter();
        Self {
            report,
            path: String::new(),
            at: 0..0,
            own: layers.next(),
            fallbacks: layers.collect(),
            asked: RefCell::default(),
        }
    }

    /// A finite number in `range`.
    pub(crate) fn number(&self, key: &str, range: RangeInclusive<f64>) -> f64 {
        self.value(key, |value| value::number(value, &range)).unwrap_or(*range.end())
    }

    /// A whole number in `range`.
    pub(crate) fn count(&self, key: &str, range: RangeInclusive<usize>) -> usize {
        self.value(key, |value| value::count(value, &range)).unwrap_or(*range.end())
    }

    /// A duration with its unit, `"14d"`, in `range`.
    pub(crate) fn duration(&self, key: &str, range: RangeInclusive<Duration>) -> Duration {
        // The unit to advise: that of the default.
        let usual = self
            .fallbacks
            .iter()
            .find_map(|table| table.get(key)?.get_ref().as_str())
            .map_or("s", unit_of);
        self.value(key, |value| value::duration(value, &range, usual)).unwrap_or(*range.end())
    }

    /// A number of bytes with its unit, `"64MiB"`, in `range`.
    pub(crate) fn bytes(&self, key: &str, range: RangeInclusive<u64>) -> u64 {
        self.value(key, |value| value::bytes(value, &range)).unwrap_or(*range.end())
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.value(key, value::flag).unwrap_or_default()
    }

    /// One of several words. `choices` has at least one.
    pub(crate) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> T {
        self.value(key, |value| value::choice(value, choices)).unwrap_or(choices[0].1)
    }

    /// A text or (with `numeric`) a whole number as its text, read by `parse`. `None`: absent, or
    /// wrong and reported.
    pub(crate) fn parsed<T>(&self, key: &str, numeric: bool, parse: Parse<T>) -> Option<T> {
        self.asked.borrow_mut().push(key.to_owned());
        let (span, value) = self.lookup(key)?;
        let text = match value {
            DeValue::String(text) if !numeric => text.to_string(),
            DeValue::Integer(number) if numeric => value::plain_digits(number),
            other => {
                let kind = if numeric { "whole number" } else { "text" };
                let message = format!("expected a {kind}, found {}", article(other));
                self.report.problem(span, self.path_of(key), message, None);
                return None;
            }
        };
        self.noting(span, key, parse(&text))
    }

    /// A list of texts, each read by `parse`; what is wrong is reported and left out.
    pub(crate) fn list<T>(&self, key: &str, parse: Parse<T>) -> Vec<T> {
        self.asked.borrow_mut().push(key.to_owned());
        let Some((span, value)) = self.lookup(key) else {
            return Vec::new();
        };
        let Some(items) = value.as_array() else {
            let message = format!("expected a list of texts, found {}", article(value));
            let hint = value.as_str().map(|text| format!("write [\"{}\"]", printable(text)));
            self.report.problem(span, self.path_of(key), message, hint);
            return Vec::new();
        };
        let read = items.iter().filter_map(|item| {
            let text = item.get_ref().as_str().ok_or_else(|| {
                let message = format!("expected a text, found {}", article(item.get_ref()));
                (message, None)
            });
            self.noting(item.span(), key, text.and_then(parse))
        });
        read.collect()
    }

    /// There is a list, and not a single value.
    pub(crate) fn is_list(&self, key: &str) -> bool {
        self.lookup(key).is_some_and(|(_, value)| value.as_array().is_some())
    }

    /// A list of tables (`[[key]]`), each read by `read`; what is no table is reported and left out.
    pub(crate) fn entries<T>(&self, key: &str, mut read: impl FnMut(&Section<'a>) -> T) -> Vec<T> {
        self.asked.borrow_mut().push(key.to_owned());
        let Some((span, value)) = self.lookup(key) else {
            return Vec::new();
        };
        let hint = || Some(format!("write [[{key}]] and its keys below it, for each one"));
        let Some(items) = value.as_array() else {
            let message = format!("expected a list of tables, found {}", article(value));
            self.report.problem(span, self.path_of(key), message, hint());
            return Vec::new();
        };
        let mut values = Vec::new();
        for item in items {
            let Some(own) = item.get_ref().as_table() else {
                let message = format!("expected a table, found {}", article(item.get_ref()));
                self.report.problem(item.span(), self.path_of(key), message, hint());
                continue;
            };
            let section = Section {
                report: self.report,
                path: self.path_of(key),
                at: item.span(),
                own: Some(own),
                fallbacks: Vec::new(),
                asked: RefCell::default(),
            };
            values.push(read(&section));
            section.finish();
        }
        values
    }

    /// A time, seconds since 1970: RFC 3339 as a text or as TOML's own. `None`: absent, or wrong and
    /// reported.
    pub(crate) fn moment(&self, key: &str) -> Option<i64> {
        self.asked.borrow_mut().push(key.to_owned());
        let (span, value) = self.lookup(key)?;
        let read = match value {
            DeValue::String(text) => parse_rfc3339(text),
            DeValue::Datetime(moment) => parse_rfc3339(&moment.to_string()),
            other => Err((format!("expected a time, found {}", article(other)), None)),
        };
        self.noting(span, key, read)
    }

    /// The file itself has this key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.own.is_some_and(|own| own.contains_key(key))
    }

    fn lookup(&self, key: &str) -> Option<Found<'a>> {
        let mut layers = self.own.iter().chain(&self.fallbacks);
        layers.find_map(|table| entry(table, key))
    }

    fn noting<T>(&self, span: Range<usize>, key: &str, read: Read<T>) -> Option<T> {
        read.map_err(|(message, hint)| {
            self.report.problem(span, self.path_of(key), message, hint);
        })
        .ok()
    }

    /// A sub-table, read by `read`.
    pub(crate) fn table<T>(&self, key: &str, read: impl FnOnce(&Section<'a>) -> T) -> T {
        self.asked.borrow_mut().push(key.to_owned());
        let section = Section {
            report: self.report,
            path: self.path_of(key),
            at: self.span_of(key),
            own: self.own_table(key),
            fallbacks: self.fallback_tables(key),
            asked: RefCell::default(),
        };
        let value = read(&section);
        section.finish();
        value
    }

    /// A table of tables with names of the operator's choice, each read by `read` (which gets the
    /// name); where one says nothing, the table `inherits` of this section answers.
    pub(crate) fn tables<T>(
        &self,
        key: &str,
        inherits: &str,
        mut read: impl FnMut(&str, &Section<'a>) -> T,
    ) -> Vec<T> {
        self.asked.borrow_mut().push(key.to_owned());
        let Some(table) =
            self.own_table(key).or_else(|| self.fallback_tables(key).first().copied())
        else {
            return Vec::new();
        };
        let own = self.own.and_then(|own| own.get(inherits)?.get_ref().as_table());
        let mut values = Vec::new();
        for (name, value) in table {
            let path = join(&self.path_of(key), name.get_ref());
            let Some(own_value) = value.get_ref().as_table() else {
                let message = format!("expected a table, found {}", article(value.get_ref()));
                self.report.problem(name.span(), path, message, None);
                continue;
            };
            let section = Section {
                report: self.report,
                path,
                at: name.span(),
                own: Some(own_value),
                fallbacks: own.into_iter().chain(self.fallback_tables(inherits)).collect(),
                asked: RefCell::default(),
            };
            values.push(read(name.get_ref(), &section));
            section.finish();
        }
        values
    }

    /// Notes a problem of this section's key, or of the section itself when the key is not there.
    pub(crate) fn problem(&self, key: &str, message: &str, suggestion: Option<String>) {
        self.report.problem(self.span_of(key), self.path_of(key), message, suggestion);
    }

    /// As [`Section::problem`], for something doubtful.
    pub(crate) fn warning(&self, key: &str, message: &str, suggestion: Option<String>) {
        self.report.warning(self.span_of(key), self.path_of(key), message, suggestion);
    }

    /// Reports the keys nobody asked for.
    pub(super) fn finish(&self) {
        let asked = self.asked.borrow();
        let known = || asked.iter().map(String::as_str);
        for (key, _) in self.own.into_iter().flatten() {
            let name: &str = key.get_ref();
            if known().any(|known| known == name) {
                continue;
            }
            let hint = without_unit(name, known())
                .map(|stem| format!("write {stem} = \"…\" with the unit in the value"))
                .or_else(|| closest(name, known()).map(|near| format!("did you mean \"{near}\"?")))
                .unwrap_or_else(|| match asked.len() {
                    0 => "nothing may be written here".to_owned(),
                    _ => format!("known here: {}", asked.join(", ")),
                });
            self.report.problem(key.span(), self.path_of(name), "unknown key", Some(hint));
        }
    }

    /// Looks a value up and reads it. `None`: it is wrong (and reported) or nowhere (and reported).
    fn value<T>(&self, key: &str, read: impl Fn(&'a DeValue<'a>) -> Read<T>) -> Option<T> {
        self.asked.borrow_mut().push(key.to_owned());
        if let Some((span, value)) = self.own.and_then(|own| entry(own, key)) {
            return match read(value) {
                Ok(value) => Some(value),
                Err((message, hint)) => {
                    self.report.problem(span, self.path_of(key), message, hint);
                    None
                }
            };
        }
        let mut inherited = self.fallbacks.iter().filter_map(|table| entry(table, key));
        if let Some((_, value)) = inherited.next() {
            return read(value).ok();
        }
        self.problem(key, "is missing", None);
        None
    }

    fn own_table(&self, key: &str) -> Option<&'a DeTable<'a>> {
        let (span, value) = entry(self.own?, key)?;
        let table = value.as_table();
        if table.is_none() {
            let message = format!("expected a table, found {}", article(value));
            let hint = format!("write [{}] and its keys below it", self.path_of(key));
            self.report.problem(span, self.path_of(key), message, Some(hint));
        }
        table
    }

    fn fallback_tables(&self, key: &str) -> Vec<&'a DeTable<'a>> {
        self.fallbacks.iter().filter_map(|table| table.get(key)?.get_ref().as_table()).collect()
    }

    fn span_of(&self, key: &str) -> Range<usize> {
        let own = self.own.and_then(|own| entry(own, key));
        own.map_or_else(|| self.at.clone(), |(span, _)| span)
    }

    fn path_of(&self, key: &str) -> String {
        if key.is_empty() {
            return self.path.clone();
        }
        join(&self.path, key)
    }
}

fn entry<'a>(table: &'a DeTable<'a>, key: &str) -> Option<Found<'a>> {
    let (name, value): (&Spanned<_>, _) = table.get_key_value(key)?;
    // The key's place, not the value's: that is where an eye looks for a setting.
    Some((name.span(), value.get_ref()))
}

fn join(path: &str, key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let key = if key.chars().all(plain) && !key.is_empty() {
        printable(key)
    } else {
        format!("\"{}\"", printable(key))
    };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
