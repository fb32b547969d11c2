//! Forms of words.

use frostem::{Algorithm, Stemmer};

/// Words that say nothing about a product.
const STOP_WORDS: [&str; 28] = [
    "a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "have", "how", "i",
    "in", "is", "it", "its", "my", "of", "on", "or", "that", "the", "this", "to", "what", "with",
];

/// Whether a lower-case word says nothing about a product.
pub(super) fn stop(word: &str) -> bool {
    STOP_WORDS.contains(&word)
}

/// A lower-case English word without its plural: `batteries`, `switches`, `lamps`; not `glass`,
/// `bus`. The S stemmer (Harman, "How effective is suffixing?", JASIS 1991) and its `-es` after
/// hissing sounds. It is the first form a word is indexed under: in a shop `trimmer` and `trim` are
/// two things.
pub(super) fn singular(word: &str) -> String {
    let cut = |letters: usize, ending: &str| format!("{}{ending}", &word[..word.len() - letters]);
    let ends = |ending: &str| word.ends_with(ending);
    match word.len() {
        _ if !word.is_ascii() => word.to_owned(),
        5.. if ends("ies") => cut(3, "y"),
        5.. if ends("ches") || ends("shes") || ends("xes") || ends("sses") => cut(2, ""),
        4.. if ends("s") && !ends("ss") && !ends("us") => cut(1, ""),
        _ => word.to_owned(),
    }
}

/// The Porter 2 stem of a lower-case English word; other words stay as they are.
pub(super) fn stem(word: &str) -> String {
    if word.bytes().all(|b| b.is_ascii_lowercase()) {
        Stemmer::new(Algorithm::English).stem(word).into_owned()
    } else {
        word.to_owned()
    }
}

/// The term under which a stem is indexed: no word is spelt so, so `trim` the word and `trim` the
/// stem of `trimming` stay apart.
pub(super) fn stem_term(stem: &str) -> String {
    format!("~{stem}")
}

/// Whether a term of the index is a word as people write it: not a stem, no digit in it.
pub(super) fn plain(term: &str) -> bool {
    !term.starts_with('~') && !term.bytes().any(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{plain, singular, stem, stem_term};

    #[test]
    fn forms_of_words() {
        for (word, one, root) in [
            ("lamps", "lamp", "lamp"),
            ("batteries", "battery", "batteri"),
            ("switches", "switch", "switch"),
            ("sizes", "size", "size"),
            ("boxes", "box", "box"),
            ("glass", "glass", "glass"),
            ("bus", "bus", "bus"),
            ("gas", "gas", "gas"),
            ("trimming", "trimming", "trim"),
            ("ies", "ies", "ie"),
            ("größes", "größes", "größes"),
            ("", "", ""),
        ] {
            assert_eq!((singular(word).as_str(), stem(word).as_str()), (one, root), "{word:?}");
        }
        assert!(plain("lamp") && !plain("12v") && !plain(&stem_term("lamp")));
    }
}
