//! What a client wrote, fit to be shown to an operator.

/// Most characters of it that are shown.
const SHOWN: usize = 100;

/// The beginning of `text` on one line: what controls a terminal, and what cannot be seen, is escaped.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(SHOWN));
    for c in text.chars().take(SHOWN) {
        match c {
            '\'' | '"' => out.push(c),
            c => out.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

/// Evidence from elsewhere: escaped already, if the other side is one of us.
pub(super) fn imported(text: &str) -> Box<str> {
    // Nine characters stand for one at most, and there are two ids and some words.
    let shown = text.chars().take(3 * 9 * SHOWN);
    shown.map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_one_short_line() {
        let check = |text: &str, expected: &str| assert_eq!(shown(text), expected);
        check("laser printer 12\"", "laser printer 12\"");
        check("café 日本", "café 日本");
        check("a\r\nb\u{1b}[31m\0", "a\\r\\nb\\u{1b}[31m\\0");
        check("\u{202e}back", "\\u{202e}back");
        check(&"x".repeat(10_000), &format!("{}…", "x".repeat(100)));
        assert_eq!(&*imported("a\nb"), "a\u{fffd}b");
        assert_eq!(imported(&"y".repeat(10_000)).len(), 2_700);
    }
}
