//! One spelling for one query: what caches key by and what every retriever reads.

use unicode_normalization::UnicodeNormalization;

/// The query as every part of the engine sees it: compatibility-composed (NFKC), lower-case, control
/// and invisible characters gone, runs of white space one blank, trimmed. Trade signs (`™ ® © ℠`)
/// become blanks: NFKC would turn `Word™` into `wordtm`. Applying it twice changes nothing.
///
/// Accents stay: they mean something to an embedding. [`fold`] takes them off for the keyword index.
pub fn normalise(query: &str) -> String {
    let composed: String = visible(query).nfkc().collect();
    // Lower-casing can undo composition (`İ`), composition can bring capitals back (`℡`).
    let lower: String = composed.to_lowercase().nfkc().collect();
    let lower = lower.to_lowercase();
    let mut out = String::with_capacity(lower.len());
    for word in visible_str(&lower).split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// Lower-case text without accents: `Café` → `cafe`, `Straße` → `strasse`, `ﬁlm` → `film`. Marks that
/// are letters in their script stay: the vowel signs of Hindi and Thai, the voiced sounds of Japanese.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut out = String::with_capacity(text.len());
    for c in visible(text).nfkc().flat_map(char::to_lowercase).nfd() {
        match c {
            c if is_accent(c) => {}
            // Lower-casing letter by letter does not know where a word ends, whole words does.
            'ς' => out.push('σ'),
            'ß' => out.push_str("ss"),
            'æ' => out.push_str("ae"),
            'œ' => out.push_str("oe"),
            'ø' => out.push('o'),
            'đ' | 'ð' => out.push('d'),
            'þ' => out.push_str("th"),
            'ł' => out.push('l'),
            'ı' => out.push('i'),
            '\u{2044}' => out.push('/'),
            c => out.push(c),
        }
    }
    // Korean was taken apart into its letters, three bytes each.
    out.nfc().collect()
}

/// Marks people leave out when they type: Latin, Greek and Cyrillic accents, the points of Hebrew and
/// Arabic.
fn is_accent(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}' | '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}' | '\u{5c2}' | '\u{5c4}'
        | '\u{5c5}' | '\u{5c7}' | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}' | '\u{670}')
}

fn visible_str(text: &str) -> String {
    visible(text).collect()
}

/// Blanks for what separates without being seen, nothing for what joins without being seen.
fn visible(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().flat_map(|c| {
        let (before, own) = match c {
            '™' | '®' | '©' | '℠' => (None, Some(' ')),
            // NFKC writes ½ as 1⁄2; the blank keeps 1½ from becoming 11/2.
            '¼'..='¾' | '\u{2150}'..='\u{215e}' => (Some(' '), Some(c)),
            '\u{2044}' => (None, Some('/')),
            '\u{ad}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' => (None, None),
            c if c.is_control() => (None, Some(' ')),
            c => (None, Some(c)),
        };
        before.into_iter().chain(own)
    })
}

#[cfg(test)]
mod tests {
    use super::{fold, normalise};
    use proptest::prelude::*;

    #[test]
    fn one_spelling_per_query() {
        for (input, expected) in [
            ("", ""),
            ("  \t\n ", ""),
            ("Laser  Printer ", "laser printer"),
            ("LabelWriter™ 450", "labelwriter 450"),
            ("ＵＳＢ　Ｃ", "usb c"),
            ("Cafe\u{301}", "café"),
            ("STRASSE", "strasse"),
            ("a\0b\u{7}c", "a b c"),
            ("1½ IN", "1 1/2 in"),
            ("zero\u{200b}width", "zerowidth"),
            ("\u{feff}bom", "bom"),
            ("😀", "😀"),
        ] {
            assert_eq!(normalise(input), expected, "{input:?}");
        }
    }

    #[test]
    fn folding_takes_accents_off() {
        for (input, expected) in [
            ("Café", "cafe"),
            ("Straße", "strasse"),
            ("ﬁlm", "film"),
            ("ŁÓDŹ", "lodz"),
            ("Smørrebrød", "smorrebrod"),
            ("1¾ in", "1 3/4 in"),
            ("日本", "日本"),
            ("パン ガス", "パン ガス"),
            ("काम", "काम"),
            ("블루투스", "블루투스"),
            ("ΟΔΟΣ Άλφα", "οδοσ αλφα"),
            ("οδος", "οδοσ"),
        ] {
            assert_eq!(fold(input), expected, "{input:?}");
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(text in any::<String>()) {
            let once = normalise(&text);
            prop_assert_eq!(normalise(&once), once);
        }
    }
}
