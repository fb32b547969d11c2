//! Product ids as a series and a number in it: `SHO-01144` is number 1144 of `SHO-…`.

use super::evidence::shown;
use std::hash::BuildHasher;

/// Digits that are taken for the number; what stands before them belongs to the series. Nine fit an
/// `u32`, and a walk across a billion begins anew.
const MOST_DIGITS: usize = 9;

/// An id with a number in it: its last run of ASCII digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbered<'i> {
    prefix: &'i str,
    digits: &'i str,
    suffix: &'i str,
    /// What the digits say.
    pub number: u32,
}

impl<'i> Numbered<'i> {
    /// `None`: there is no digit in it.
    pub fn of(id: &'i str) -> Option<Self> {
        let end = id.bytes().rposition(|byte| byte.is_ascii_digit())? + 1;
        let leading = id.as_bytes()[..end].iter().rev().take(MOST_DIGITS);
        let start = end - leading.take_while(|byte| byte.is_ascii_digit()).count();
        // Digits are ASCII, so both ends lie between characters.
        let (prefix, digits, suffix) = (&id[..start], &id[start..end], &id[end..]);
        Some(Self { prefix, digits, suffix, number: digits.parse().ok()? })
    }

    /// The series, as one number: what comes before the number and after it. Never 0.
    pub fn series(&self, hasher: &impl BuildHasher) -> u32 {
        hasher.hash_one((self.prefix, self.suffix)) as u32 | 1
    }

    /// Another number of the same series as it would be written, fit to be shown. Leading zeros are
    /// kept where this id proves that there are some.
    pub fn with(&self, number: u32) -> String {
        let padded = self.digits.starts_with('0') || self.digits.len() == MOST_DIGITS;
        let width = if padded { self.digits.len() } else { 0 };
        shown(&format!("{}{number:0width$}{}", self.prefix, self.suffix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_have_a_number() {
        let check = |id: &str, expected: Option<(&str, u32, &str)>| {
            let found = Numbered::of(id).map(|it| (it.prefix, it.number, it.suffix));
            assert_eq!(found, expected, "{id}");
        };
        check("SHO-01144", Some(("SHO-", 1144, "")));
        check("1144", Some(("", 1144, "")));
        check("p12", Some(("p", 12, "")));
        check("12-large", Some(("", 12, "-large")));
        check("a1b22c", Some(("a1b", 22, "c")));
        check("4006381333931", Some(("4006", 381_333_931, "")));
        check("000000000000", Some(("000", 0, "")));
        check("é7ü", Some(("é", 7, "ü")));
        check("٣٤", None);
        check("", None);
        check("lamp", None);
    }

    #[test]
    fn numbers_are_written_as_their_series_writes_them() {
        let check = |id: &str, number: u32, expected: &str| {
            assert_eq!(Numbered::of(id).unwrap().with(number), expected);
        };
        check("SHO-01144", 98, "SHO-00098");
        check("p12", 9, "p9");
        check("4006381333931", 7, "4006000000007");
        check("a\n0", 3, "a\\n3");
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart_and_put_together(id in "\\PC{0,8}[0-9]{0,25}\\PC{0,8}") {
            if let Some(it) = Numbered::of(&id) {
                prop_assert_eq!([it.prefix, it.digits, it.suffix].concat(), id.as_str());
                prop_assert!(it.number < 1_000_000_000);
            } else {
                prop_assert!(!id.contains(|c: char| c.is_ascii_digit()));
            }
        }
    }
}
