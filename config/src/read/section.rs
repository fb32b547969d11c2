//! One table of a file, handing out its values.

use super::Report;
use super::suggest::{closest, printable, without_unit};
use crate::units::{format_duration, parse_duration, unit_of};
use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

/// Reads a value from its text; the error is a clause and what to write instead.
pub(crate) type Parse<T> = fn(&str) -> Result<T, (String, Option<String>)>;

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
        let found = self.value(key, |value| {
            let number = number_of(value).ok_or_else(|| {
                let unquoted = value
                    .as_str()
                    .and_then(|text| text.trim().parse::<f64>().ok());
                (
                    format!("expected a number, found {}", article(value)),
                    unquoted.map(|number| format!("write {number} without quotes")),
                )
            })?;
            if !number.is_finite() {
                return Err((format!("must be finite, found {number}"), None));
            }
            in_range(&number, &range, |n| short(*n)).map(|()| number)
        });
        found.unwrap_or(*range.end())
    }

    /// A whole number in `range`.
    pub(crate) fn count(&self, key: &str, range: RangeInclusive<usize>) -> usize {
        let found = self.value(key, |value| {
            let integer = value.as_integer().ok_or_else(|| {
                (
                    format!("expected a whole number, found {}", article(value)),
                    None,
                )
            })?;
            // Wider than i64 is out of every range of ours, on the side its sign says.
            let number = i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(
                if integer.as_str().starts_with('-') {
                    i128::MIN
                } else {
                    i128::MAX
                },
            );
            let bounds = *range.start() as i128..=*range.end() as i128;
            in_range(&number, &bounds, ToString::to_string)?;
            Ok(usize::try_from(number).unwrap_or(*range.end()))
        });
        found.unwrap_or(*range.end())
    }

    /// A duration with its unit, `"14d"`, in `range`.
    pub(crate) fn duration(&self, key: &str, range: RangeInclusive<Duration>) -> Duration {
        let usual = self
            .fallbacks
            .iter()
            .find_map(|table| table.get(key)?.get_ref().as_str())
            .map_or("s", unit_of);
        let found = self.value(key, |value| {
            let Some(text) = value.as_str() else {
                let hint = number_of(value).map(|n| format!("write \"{n}{usual}\""));
                return Err(match hint {
                    Some(hint) => ("a duration needs its unit".into(), Some(hint)),
                    None => (
                        format!("expected a duration, found {}", article(value)),
                        None,
                    ),
                });
            };
            let duration = parse_duration(text).map_err(|(message, hint)| {
                let bare = text.trim().parse::<u64>().ok();
                (
                    message,
                    hint.or(bare.map(|n| format!("write \"{n}{usual}\""))),
                )
            })?;
            in_range(&duration, &range, |d| format_duration(*d)).map(|()| duration)
        });
        found.unwrap_or(*range.end())
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, key: &str) -> bool {
        let found = self.value(key, |value| {
            value.as_bool().ok_or_else(|| {
                let word = value.as_str().map(|text| text.trim().to_lowercase());
                let meant = match word.as_deref() {
                    Some("true" | "yes" | "on") => Some("true"),
                    Some("false" | "no" | "off") => Some("false"),
                    _ => None,
                };
                (
                    format!("expected true or false, found {}", article(value)),
                    meant.map(|word| format!("write {word} without quotes")),
                )
            })
        });
        found.unwrap_or_default()
    }

    /// One of several words. `choices` has at least one.
    pub(crate) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> T {
        let words = || choices.iter().map(|(word, _)| *word);
        let found = self.value(key, |value| {
            let text = value
                .as_str()
                .ok_or_else(|| (format!("expected a word, found {}", article(value)), None))?;
            let chosen = choices.iter().find(|(word, _)| *word == text);
            chosen.map(|(_, value)| *value).ok_or_else(|| {
                let all: Vec<_> = words().map(|word| format!("\"{word}\"")).collect();
                (
                    format!("\"{}\" is not one of {}", printable(text), all.join(", ")),
                    closest(text, words()).map(|word| format!("did you mean \"{word}\"?")),
                )
            })
        });
        found.unwrap_or(choices[0].1)
    }

    /// A text or (with `numeric`) a whole number as its text, read by `parse`. `None`: absent, or
    /// wrong and reported.
    pub(crate) fn parsed<T>(&self, key: &str, numeric: bool, parse: Parse<T>) -> Option<T> {
        self.asked.borrow_mut().push(key.to_owned());
        let (span, value) = self.lookup(key)?;
        let text = match value {
            DeValue::String(text) if !numeric => text.to_string(),
            DeValue::Integer(number) if numeric => plain_digits(number),
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
            let hint = value
                .as_str()
                .map(|text| format!("write [\"{}\"]", printable(text)));
            self.report.problem(span, self.path_of(key), message, hint);
            return Vec::new();
        };
        let read = items
            .iter()
            .filter_map(|item| match item.get_ref().as_str() {
                Some(text) => self.noting(item.span(), key, parse(text)),
                None => {
                    let message = format!("expected a text, found {}", article(item.get_ref()));
                    self.report
                        .problem(item.span(), self.path_of(key), message, None);
                    None
                }
            });
        read.collect()
    }

    /// The file itself has this key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.own.is_some_and(|own| own.contains_key(key))
    }

    /// Whatever is in here is accepted; used where the whole section is refused in one sentence.
    pub(crate) fn ignore(&self) {
        let keys = self
            .own
            .into_iter()
            .flatten()
            .map(|(key, _)| key.get_ref().to_string());
        self.asked.borrow_mut().extend(keys);
    }

    fn lookup(&self, key: &str) -> Option<Found<'a>> {
        let mut layers = self.own.iter().chain(&self.fallbacks);
        layers.find_map(|table| entry(table, key))
    }

    fn noting<T>(
        &self,
        span: Range<usize>,
        key: &str,
        read: Result<T, (String, Option<String>)>,
    ) -> Option<T> {
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
        let Some(table) = self
            .own_table(key)
            .or_else(|| self.fallback_tables(key).first().copied())
        else {
            return Vec::new();
        };
        let own = self
            .own
            .and_then(|own| own.get(inherits)?.get_ref().as_table());
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
                fallbacks: own
                    .into_iter()
                    .chain(self.fallback_tables(inherits))
                    .collect(),
                asked: RefCell::default(),
            };
            values.push(read(name.get_ref(), &section));
            section.finish();
        }
        values
    }

    /// Notes a problem of this section's key, or of the section itself when the key is not there.
    pub(crate) fn problem(&self, key: &str, message: &str, suggestion: Option<String>) {
        self.report
            .problem(self.span_of(key), self.path_of(key), message, suggestion);
    }

    /// As [`Section::problem`], for something doubtful.
    pub(crate) fn warning(&self, key: &str, message: &str, suggestion: Option<String>) {
        self.report
            .warning(self.span_of(key), self.path_of(key), message, suggestion);
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
            self.report
                .problem(key.span(), self.path_of(name), "unknown key", Some(hint));
        }
    }

    /// Looks a value up and reads it. `None`: it is wrong (and reported) or nowhere (and reported).
    fn value<T>(
        &self,
        key: &str,
        read: impl Fn(&'a DeValue<'a>) -> Result<T, (String, Option<String>)>,
    ) -> Option<T> {
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
            self.report
                .problem(span, self.path_of(key), message, Some(hint));
        }
        table
    }

    fn fallback_tables(&self, key: &str) -> Vec<&'a DeTable<'a>> {
        self.fallbacks
            .iter()
            .filter_map(|table| table.get(key)?.get_ref().as_table())
            .collect()
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
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

fn short(number: f64) -> String {
    if number.abs() < 1e15 {
        number.to_string()
    } else {
        format!("{number:e}")
    }
}

fn plain_digits(integer: &DeInteger<'_>) -> String {
    i128::from_str_radix(integer.as_str(), integer.radix())
        .map_or_else(|_| integer.to_string(), |number| number.to_string())
}

fn number_of(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(float) => float.as_str().parse().ok(),
        DeValue::Integer(integer) => i128::from_str_radix(integer.as_str(), integer.radix())
            .map(|number| number as f64)
            .ok(),
        _ => None,
    }
}

fn in_range<T: PartialOrd>(
    value: &T,
    range: &RangeInclusive<T>,
    show: impl Fn(&T) -> String,
) -> Result<(), (String, Option<String>)> {
    if value < range.start() {
        let message = format!(
            "must be at least {}, found {}",
            show(range.start()),
            show(value)
        );
        return Err((message, None));
    }
    if value > range.end() {
        let message = format!(
            "must be at most {}, found {}",
            show(range.end()),
            show(value)
        );
        return Err((message, None));
    }
    Ok(())
}

fn article(value: &DeValue<'_>) -> String {
    match value.type_str() {
        kind @ ("integer" | "array") => format!("an {kind}"),
        kind => format!("a {kind}"),
    }
}
