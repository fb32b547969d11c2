//! The known words that an unknown one resembles: same beginnings, endings and middles.
//!
//! Resemblance is the Dice coefficient of the character trigrams of `^word$`. It catches typos
//! (`headfones`), compounds and inflections the vocabulary does not have.

/// Resemblance below which words are strangers.
const MIN_DICE: f32 = 0.5;
/// Known words that speak for an unknown one.
const MAX_NEAR: usize = 3;
/// Shorter words resemble too much.
const MIN_CHARS: usize = 4;

/// Which words have which trigrams.
#[derive(Debug)]
pub(super) struct Near {
    /// `(trigram, word)`, sorted.
    postings: Vec<(u64, u32)>,
    /// Trigrams per word.
    counts: Vec<u8>,
}

impl Near {
    pub(super) fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut postings, mut counts) = (Vec::new(), Vec::new());
        for (id, word) in words.into_iter().enumerate() {
            let grams = trigrams(word);
            counts.push(grams.len() as u8);
            postings.extend(grams.into_iter().map(|gram| (gram, id as u32)));
        }
        postings.sort_unstable();
        Self { postings, counts }
    }

    /// The known words nearest to `word` with their resemblance in (0, 1], best first, ties by
    /// word number. Empty for numbers and short words: 1200 is no typo of 1201.
    pub(super) fn find(&self, word: &str) -> Vec<(u32, f32)> {
        let grams = trigrams(word);
        if grams.is_empty() {
            return Vec::new();
        }
        let mut shared = vec![0_u8; self.counts.len()];
        for gram in &grams {
            let start = self.postings.partition_point(|(other, _)| other < gram);
            for (_, id) in self.postings[start..].iter().take_while(|(other, _)| other == gram) {
                shared[*id as usize] += 1;
            }
        }
        let mut near: Vec<(u32, f32)> = (0..)
            .zip(shared)
            .filter(|(_, shared)| *shared > 0)
            .map(|(id, shared)| {
                let all = grams.len() + usize::from(self.counts[id as usize]);
                (id, 2.0 * f32::from(shared) / all as f32)
            })
            .filter(|(_, dice)| *dice >= MIN_DICE)
            .collect();
        near.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        near.truncate(MAX_NEAR);
        near
    }
}

/// Distinct trigrams of `^word$`, sorted; none for words that are short or have digits.
fn trigrams(word: &str) -> Vec<u64> {
    if word.chars().count() < MIN_CHARS || word.chars().any(char::is_numeric) {
        return Vec::new();
    }
    let framed: Vec<u64> = std::iter::once('^')
        .chain(word.chars())
        .chain(std::iter::once('$'))
        .map(u64::from)
        .collect();
    // A Unicode scalar value has 21 bits.
    let mut grams: Vec<u64> =
        framed.windows(3).map(|gram| gram[0] << 42 | gram[1] << 21 | gram[2]).collect();
    grams.sort_unstable();
    grams.dedup();
    grams
}

#[cfg(test)]
mod tests {
    use super::Near;

    #[test]
    fn unknown_words_find_what_they_resemble() {
        let words = ["headphone", "headset", "telephone", "microphone", "lamp", "1200", "mug"];
        let near = Near::new(words);
        let check = |word: &str, expected: &[&str]| {
            let found: Vec<_> =
                near.find(word).into_iter().map(|(id, _)| words[id as usize]).collect();
            assert_eq!(found, expected, "{word}");
        };
        check("headphone", &["headphone"]);
        check("headfone", &["headphone"]);
        check("headphonen", &["headphone"]);
        check("hedphone", &["headphone"]);
        check("telefone", &["telephone"]);
        check("zzzzzz", &[]);
        check("1201", &[]);
        check("mgu", &[]);
    }
}
