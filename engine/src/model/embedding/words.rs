//! Words of a text for the learnt embedding: folded, split, with plurals taken off.
//!
//! Language-neutral on purpose: catalogues mix languages. What this misses (other inflections,
//! typos) is caught by the nearest known words of [`super::near`].

use crate::query::fold;
use unicode_normalization::char::is_combining_mark;

/// Words of a text that are looked at.
const MAX_WORDS: usize = 512;
/// Longer is no word but a key or a blob.
const MAX_CHARS: usize = 32;

/// The words of `text`, in order. A word of letters and digits is given whole and in its parts
/// (`64gb`: `64gb`, `64`, `gb`); scripts written without spaces become pairs of characters.
pub(crate) fn words(text: &str) -> Vec<String> {
    let end = text.char_indices().nth(MAX_WORDS * MAX_CHARS).map_or(text.len(), |(at, _)| at);
    let folded = fold(&text[..end]);
    let mut words = Vec::new();
    for run in folded.split(|c: char| !c.is_alphanumeric() && !is_combining_mark(c)) {
        if words.len() >= MAX_WORDS {
            break;
        }
        if run.is_empty() {
            continue;
        }
        if run.chars().any(is_unspaced) {
            pairs(run, &mut words);
        } else if run.chars().count() <= MAX_CHARS {
            let parts = parts(run);
            if parts.len() > 1 {
                words.push(run.to_owned());
            }
            words.extend(parts.into_iter().map(singular));
        }
    }
    words.truncate(MAX_WORDS);
    words
}

/// Letters and digits apart.
fn parts(run: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut before: Option<char> = None;
    for (at, c) in run.char_indices() {
        if before.is_some_and(|before| before.is_numeric() != c.is_numeric()) {
            parts.push(&run[start..at]);
            start = at;
        }
        before = Some(c);
    }
    parts.push(&run[start..]);
    parts
}

fn pairs(run: &str, words: &mut Vec<String>) {
    let characters: Vec<char> = run.chars().take(MAX_WORDS).collect();
    if let [only] = characters[..] {
        words.push(only.to_string());
    }
    words.extend(characters.windows(2).map(|pair| pair.iter().collect()));
}

/// Han, Hiragana, Katakana, Thai, Lao, Khmer, Myanmar.
fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3040..=0x30FF
        | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF)
}

/// Takes an English plural off (the S-stemmer: Harman, "How effective is suffixing?", JASIS 1991;
/// with `-sses`, `-xes`, `-ches`, `-shes`, `-zes` added).
fn singular(word: &str) -> String {
    let cut = |suffix: usize| &word[..word.len() - suffix];
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| word.ends_with(suffix));
    if word.len() < 4 || !word.is_ascii() || !ends(&["s"]) || ends(&["ss", "us", "is"]) {
        return word.to_owned();
    }
    if ends(&["ies"]) && !ends(&["eies", "aies"]) && word.len() > 4 {
        return format!("{}y", cut(3));
    }
    if ends(&["sses", "xes", "ches", "shes", "zes"]) {
        return cut(2).to_owned();
    }
    cut(1).to_owned()
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn texts_become_words() {
        let check = |text: &str, expected: &[&str]| assert_eq!(words(text), expected, "{text:?}");
        check("", &[]);
        check("  ?!  🎧 ", &[]);
        check("Crème Brûlée Dishes", &["creme", "brulee", "dish"]);
        check("batteries, boxes & glasses", &["battery", "box", "glass"]);
        check("wireless bus glass lens", &["wireless", "bus", "glass", "len"]);
        check("64GB iPhone12", &["64gb", "64", "gb", "iphone12", "iphone", "12"]);
        check("WH-1000XM4", &["wh", "1000xm4", "1000", "xm", "4"]);
        check("無線耳機", &["無線", "線耳", "耳機"]);
        check("LabelWriter™ हिन्दी", &["labelwriter", "हिन्दी"]);
        check("ＦＵＬＬ ｗｉｄｔｈ ﬁt", &["full", "width", "fit"]);
        check("'; DROP TABLE products; --", &["drop", "table", "product"]);
        check(&"x".repeat(33), &[]);
    }

    #[test]
    fn hostile_texts_stay_bounded() {
        assert_eq!(words(&"a ".repeat(100_000)).len(), 512);
        assert_eq!(words(&"耳".repeat(100_000)).len(), 511);
        assert!(words(&"1a".repeat(100_000)).len() <= 512);
    }
}
