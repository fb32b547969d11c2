//! From a query to the concepts that are looked for, and how each may be spelt in the index.

use super::analysis::{Item, items, joined, pair, runs};
use super::schema::PAIRS;
use super::words::{singular, stem, stem_term};

/// Where a spelling is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Name, brand, category, description.
    Words,
    /// Neighbouring words of the name, written as one.
    Pairs,
}

impl Place {
    /// Whether `field` belongs to it.
    pub fn has(self, field: usize) -> bool {
        (field == PAIRS) == (self == Self::Pairs)
    }
}

/// What the index knows about words.
pub(super) trait Lexicon {
    /// Products that contain `term`: the largest count over the fields of `place`.
    fn frequency(&self, term: &str, place: Place) -> u64;

    /// Words of the catalogue one edit away from `word` (a letter more, less, other, or two swapped),
    /// best guess first, at most `limit`.
    fn near(&self, word: &str, limit: usize) -> Vec<String>;
}

/// One way a concept may be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spelling {
    /// A term of the index.
    pub term: String,
    /// Where.
    pub place: Place,
    /// In (0, 1]: what an occurrence counts against one of the query's own spelling.
    pub weight: f32,
}

/// One thing the query asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Concept {
    /// Ways to write it, the query's own first. A product counts the best.
    pub spellings: Vec<Spelling>,
    /// How much it counts, 1 for a word of the query.
    pub weight: f32,
    /// Whether it is part of what a product should cover; not so for what only confirms the words.
    pub required: bool,
}

/// Another form of the word: `trimming` for `trimmer`.
const STEM: f32 = 0.3;
/// One word for two, or two for one: `firepit`, `fire pit`.
const COMPOUND: f32 = 0.5;
/// A number without its unit, where the query gave one.
const BARE_NUMBER: f32 = 0.2;
/// The best guess for a word that no product has.
const MISSPELT: f32 = 0.7;
/// Further guesses.
const MISSPELT_MORE: f32 = 0.4;
/// Neighbouring words of the query that are neighbours in the name (the sequential dependence of
/// Metzler and Croft, SIGIR 2005, with the neighbours found in the index rather than by position).
const NEIGHBOURS: f32 = 0.3;
/// Two numbers of a size next to each other.
const SIZE: f32 = 0.5;

/// Guesses for a misspelt word.
const GUESSES: usize = 3;
/// Misspelt words of a query that are looked up: each costs a walk over the dictionaries.
const GUESSED_WORDS: usize = 4;
/// Shortest word that is guessed, in letters; of shorter ones everything is one edit away.
const GUESSED_LETTERS: usize = 4;
/// Shortest half of a word that is split, and shortest word looked for as two, in bytes.
const SPLIT_LETTERS: usize = 3;

/// The concepts of `text`, of its first `max_terms` words and numbers. Empty when nothing in it can be
/// looked for.
pub(super) fn plan(text: &str, max_terms: usize, lexicon: &dyn Lexicon) -> Vec<Concept> {
    let mut items = items(text);
    keep_first(&mut items, max_terms);
    let mut concepts: Vec<Option<Concept>> = items.iter().map(concept).collect();
    codes_and_compounds(&items, &mut concepts, lexicon);
    let mut confirming = neighbours(&items, &mut concepts, lexicon);
    confirming.extend(sizes(&items));
    let halves = guess(&items, &mut concepts, lexicon);

    let mut out: Vec<Concept> = Vec::with_capacity(items.len());
    for concept in concepts.into_iter().flatten().chain(halves).chain(confirming) {
        let same = |seen: &Concept| seen.spellings[0] == concept.spellings[0];
        if !out.iter().any(same) {
            out.push(concept);
        }
    }
    out
}

impl Concept {
    fn new(term: impl Into<String>, place: Place) -> Self {
        let spelling = Spelling { term: term.into(), place, weight: 1.0 };
        Self { spellings: vec![spelling], weight: 1.0, required: true }
    }

    /// A word, its other forms, and itself as two words.
    fn word(word: &str) -> Self {
        let mut concept = Self::new(singular(word), Place::Words);
        concept.forms(word, 1.0);
        concept
    }

    fn forms(&mut self, word: &str, weight: f32) {
        let (one, stem) = (singular(word), stem(word));
        self.or(one.clone(), Place::Words, weight);
        self.or(stem_term(&stem), Place::Words, weight * STEM);
        self.or(stem, Place::Words, weight * STEM);
        if one.len() >= 2 * SPLIT_LETTERS {
            self.or(one, Place::Pairs, weight * COMPOUND);
        }
    }

    fn or(&mut self, term: impl Into<String>, place: Place, weight: f32) {
        let term = term.into();
        if !self.spellings.iter().any(|seen| seen.term == term && seen.place == place) {
            self.spellings.push(Spelling { term, place, weight });
        }
    }

    /// Something that confirms words which are concepts of their own.
    fn confirming(term: impl Into<String>, place: Place, weight: f32) -> Self {
        Self { weight, required: false, ..Self::new(term, place) }
    }

    fn known(&self, lexicon: &dyn Lexicon) -> bool {
        let known = |spelling: &Spelling| lexicon.frequency(&spelling.term, spelling.place) > 0;
        self.spellings.iter().any(known)
    }
}

fn keep_first(items: &mut Vec<Item>, max_terms: usize) {
    let mut left = max_terms;
    items.retain(|item| {
        let keep = item.stop || left > 0;
        left -= usize::from(keep && !item.stop);
        keep
    });
}

fn concept(item: &Item) -> Option<Concept> {
    if item.stop {
        return None;
    }
    if !item.number {
        return Some(Concept::word(&item.surface));
    }
    let Some(measure) = &item.measure else {
        return Some(Concept::new(&item.term, Place::Words));
    };
    let mut concept = Concept::new(measure, Place::Words);
    concept.or(&item.term, Place::Words, BARE_NUMBER);
    Some(concept)
}

/// What was typed in one go and is known in one piece: a code is that one thing, a compound may also
/// be its parts.
fn codes_and_compounds(items: &[Item], concepts: &mut [Option<Concept>], lexicon: &dyn Lexicon) {
    for run in runs(items) {
        let term = joined(&items[run.clone()]);
        let Some(term) = term.filter(|term| lexicon.frequency(term, Place::Words) > 0) else {
            continue;
        };
        let code = items[run.clone()].iter().any(|item| item.number);
        if code {
            concepts[run.clone()].fill(None);
            concepts[run.start] = Some(Concept::new(term, Place::Words));
        } else {
            for concept in concepts[run].iter_mut().flatten() {
                concept.or(&term, Place::Words, COMPOUND);
            }
        }
    }
}

/// Neighbours in the query: written as one in a product they are a spelling of both; neighbours in a
/// name, they confirm both.
fn neighbours(
    items: &[Item],
    concepts: &mut [Option<Concept>],
    lexicon: &dyn Lexicon,
) -> Vec<Concept> {
    let mut confirming = Vec::new();
    for (at, two) in items.windows(2).enumerate() {
        let Some(term) = pair(two) else { continue };
        if lexicon.frequency(&term, Place::Words) > 0 {
            for concept in concepts[at..at + 2].iter_mut().flatten() {
                concept.or(&term, Place::Words, COMPOUND);
            }
        }
        if lexicon.frequency(&term, Place::Pairs) > 0 {
            let mut concept = Concept::confirming(&term, Place::Pairs, NEIGHBOURS);
            concept.or(term, Place::Words, 1.0);
            confirming.push(concept);
        }
    }
    confirming
}

fn sizes(items: &[Item]) -> impl Iterator<Item = Concept> + '_ {
    let sizes = items.iter().filter_map(|item| item.size.as_ref());
    sizes.map(|size| Concept::confirming(size, Place::Words, SIZE))
}

/// Words that no product has: guessed from the catalogue's own, else taken for two words typed without
/// a blank. Gives the second halves of those.
fn guess(items: &[Item], concepts: &mut [Option<Concept>], lexicon: &dyn Lexicon) -> Vec<Concept> {
    let mut halves = Vec::new();
    let unknown = items.iter().zip(concepts).filter_map(|(item, slot)| {
        let concept = slot.as_mut()?;
        (!item.number && !concept.known(lexicon)).then_some((item, concept))
    });
    for (item, concept) in unknown.take(GUESSED_WORDS) {
        let guesses = if item.term.chars().count() < GUESSED_LETTERS {
            Vec::new()
        } else {
            lexicon.near(&item.term, GUESSES)
        };
        for (nth, guess) in guesses.iter().enumerate() {
            concept.forms(guess, if nth == 0 { MISSPELT } else { MISSPELT_MORE });
        }
        if guesses.is_empty()
            && let Some((left, right)) = split(&item.surface, lexicon)
        {
            *concept = Concept::word(left);
            halves.push(Concept::word(right));
        }
    }
    halves
}

/// `brownswitch` as `brown` and `switch`. The split whose rarer half is most frequent wins.
fn split<'w>(word: &'w str, lexicon: &dyn Lexicon) -> Option<(&'w str, &'w str)> {
    if !word.is_ascii() || word.len() < 2 * SPLIT_LETTERS {
        return None;
    }
    let frequency = |half: &str| lexicon.frequency(&singular(half), Place::Words);
    (SPLIT_LETTERS..=word.len() - SPLIT_LETTERS)
        .map(|at| word.split_at(at))
        .map(|(left, right)| (frequency(left).min(frequency(right)), left, right))
        .filter(|(rarer, ..)| *rarer > 0)
        .max_by_key(|(rarer, ..)| *rarer)
        .map(|(_, left, right)| (left, right))
}

#[cfg(test)]
mod tests;
