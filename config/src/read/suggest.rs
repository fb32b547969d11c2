//! "Did you mean …?"

/// The known name a mistyped one is nearest to, if near enough to be worth saying.
pub(crate) fn closest<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Distance costs the product of the lengths; no key of ours is long.
    let typed: String = typed.to_lowercase().chars().take(64).collect();
    // A third of the letters: more than that is another word.
    let bound = (typed.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&typed, name), name))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, name)| name)
}

/// Endings that carry a unit in the key, where our durations carry it in the value.
const UNIT_ENDINGS: [&str; 16] = [
    "_us", "_ms", "_s", "_m", "_h", "_d", "_millis", "_sec", "_secs", "_seconds", "_min", "_mins",
    "_minutes", "_hours", "_days", "_weeks",
];

/// `half_life` for `half_life_days`, when `half_life` is known.
pub(super) fn without_unit<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let stem = UNIT_ENDINGS.iter().find_map(|ending| typed.strip_suffix(ending))?;
    known.into_iter().find(|name| *name == stem)
}

/// A name from a file, fit for one line of a log: no control characters, not endless.
pub(crate) fn printable(name: &str) -> String {
    const LONGEST: usize = 60;
    let mut text: String = name.escape_debug().take(LONGEST).collect();
    if name.escape_debug().nth(LONGEST).is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_not() {
        let known = ["search", "cf", "popularity", "freshness"];
        let check = |typed, expected| assert_eq!(closest(typed, known), expected, "{typed}");
        check("serch", Some("search"));
        check("Search", Some("search"));
        check("freshnes", Some("freshness"));
        check("popularty", Some("popularity"));
        check("cd", Some("cf"));
        check("bm25", None);
        check("", None);
        assert_eq!(without_unit("half_life_days", ["half_life"]), Some("half_life"));
        assert_eq!(without_unit("half_life", ["half_life"]), None);
    }

    #[test]
    fn names_stay_on_one_line() {
        assert_eq!(printable("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(printable(&"x".repeat(100)).chars().count(), 61);
    }
}
