//! One setting: the environment first, then the file, then the default file.

use super::parse;
use crate::problem::Problem;
use crate::read::{Parse, Read, Section};
use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

pub(super) struct Settings<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Settings<'a> {
    pub(super) fn new(env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { env, problems: RefCell::default() }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// A problem between several settings, wherever each of them came from.
    pub(super) fn cross(&self, key: &str, message: String) {
        let mut problem = Problem::of_file("settings", message);
        key.clone_into(&mut problem.key);
        self.problems.borrow_mut().push(problem);
    }

    pub(super) fn text<T>(
        &self,
        section: &Section<'_>,
        key: &str,
        variable: &str,
        parse: Parse<T>,
    ) -> Option<T> {
        let in_file = section.parsed(key, false, parse);
        match self.variable(variable) {
            Some(text) => self.noting(variable, parse(&text)),
            None => in_file,
        }
    }

    pub(super) fn path(&self, section: &Section<'_>, key: &str, variable: &str) -> Option<PathBuf> {
        self.text(section, key, variable, parse::path)
    }

    /// As `text`, but a variable that is set and empty means none.
    pub(super) fn optional<T>(
        &self,
        section: &Section<'_>,
        key: &str,
        variable: &str,
        parse: Parse<T>,
    ) -> Option<T> {
        let value = self.text(section, key, variable, parse);
        if self.cleared(variable) { None } else { value }
    }

    /// As `path`, but a variable that is set and empty means none.
    pub(super) fn optional_path(
        &self,
        section: &Section<'_>,
        key: &str,
        variable: &str,
    ) -> Option<PathBuf> {
        self.optional(section, key, variable, parse::path)
    }

    /// A port of 0 (any free one) stands in for an address that is wrong.
    pub(super) fn address(&self, section: &Section<'_>, key: &str, variable: &str) -> SocketAddr {
        self.text(section, key, variable, parse::address)
            .unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into())
    }

    pub(super) fn number(
        &self,
        section: &Section<'_>,
        key: &str,
        variable: &str,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let least = *range.start();
        self.optional_number(section, key, variable, range).unwrap_or(least)
    }

    pub(super) fn optional_number(
        &self,
        section: &Section<'_>,
        key: &str,
        variable: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let in_file = section.parsed(key, true, parse::whole_number).and_then(|number| {
            match parse::within(number, &range) {
                Ok(number) => Some(number),
                Err((message, hint)) => {
                    section.problem(key, &message, hint);
                    None
                }
            }
        });
        let Some(text) = self.variable(variable) else {
            return in_file;
        };
        let number = parse::whole_number(&text).and_then(|n| parse::within(n, &range));
        self.noting(variable, number)
    }

    /// A list; in the environment separated by commas, and set but empty means none.
    pub(super) fn list<T>(
        &self,
        section: &Section<'_>,
        key: &str,
        variable: &str,
        parse: Parse<T>,
    ) -> Vec<T> {
        let in_file = section.list(key, parse);
        if self.cleared(variable) {
            return Vec::new();
        }
        let Some(text) = self.variable(variable) else {
            return in_file;
        };
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .filter_map(|part| self.noting(variable, parse(part)))
            .collect()
    }

    fn variable(&self, name: &str) -> Option<String> {
        let text = (self.env)(name)?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn cleared(&self, name: &str) -> bool {
        (self.env)(name).is_some_and(|text| text.trim().is_empty())
    }

    fn noting<T>(&self, variable: &str, read: Read<T>) -> Option<T> {
        read.map_err(|(message, hint)| {
            let mut problem = Problem::of_file("environment", message);
            variable.clone_into(&mut problem.key);
            problem.suggestion = hint;
            self.problems.borrow_mut().push(problem);
        })
        .ok()
    }
}
