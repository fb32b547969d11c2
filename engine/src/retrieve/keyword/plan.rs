//! From a query to the concepts that are looked for, and how each may be spelt in the index.

use super::analysis::{Item, items, joined, runs, stem};

/// What the index knows about words.
pub(super) trait Lexicon {
    /// Products that contain `term` in some field: the largest count over the fields.
    fn frequency(&self, term: &str) -> u64;

    /// Terms of the index one edit away from `term` (a letter more, less, other, or two swapped),
    /// most frequent first, ties in alphabetical order; at most `limit`.
    fn near(&self, term: &str, limit: usize) -> Vec<String>;
}

/// One way a concept may be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spelling {
    /// A term of the index.
    pub term: String,
    /// In (0, 1]: what a match counts against the query's own spelling.
    pub weight: f32,
}

/// One thing the query asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Concept {
    /// Ways to write it, the query's own first. A product counts the best.
    pub spellings: Vec<Spelling>,
    /// How much it counts, 1 for a word of the query.
    pub weight: f32,
}

impl Concept {
    fn new(term: String) -> Self {
        Self {
            spellings: vec![Spelling { term, weight: 1.0 }],
            weight: 1.0,
        }
    }

    fn or(&mut self, term: &str, weight: f32) {
        if self.spellings.iter().all(|spelling| spelling.term != term) {
            self.spellings.push(Spelling {
                term: term.to_owned(),
                weight,
            });
        }
    }
}

/// A number without its unit, where the query gave one.
const BARE_NUMBER: f32 = 0.5;
/// Two words of the query written as one in the product, or the other way round.
const COMPOUND: f32 = 1.0;
/// A word one edit away from one that no product has.
const MISSPELT: f32 = 0.8;
/// Shortest word that is corrected, in letters.
const MISSPELT_LETTERS: usize = 5;
/// How many corrections are tried at once.
const MISSPELT_TRIES: usize = 3;

/// The concepts of `text`, no more than `max_terms`. Empty when nothing in it can be looked for.
pub(super) fn plan(text: &str, max_terms: usize, lexicon: &dyn Lexicon) -> Vec<Concept> {
    let items = items(text);
    let mut concepts: Vec<Option<Concept>> = items.iter().map(concept).collect();
    let mut extra: Vec<Concept> = Vec::new();

    for run in runs(&items) {
        let Some(term) = joined(&items[run.clone()]).filter(|term| lexicon.frequency(term) > 0)
        else {
            continue;
        };
        let code = items[run.clone()].iter().any(|item| item.number);
        for (nth, at) in run.enumerate() {
            // A code that the catalogue knows is one concept; a hyphenated word is its parts as well.
            match (&mut concepts[at], code, nth) {
                (slot, true, 0) => *slot = Some(Concept::new(term.clone())),
                (slot, true, _) => *slot = None,
                (Some(concept), false, _) => concept.or(&term, COMPOUND),
                (None, false, _) => {}
            }
        }
    }
    for at in 1..items.len() {
        let pair = &items[at - 1..=at];
        if pair[1].attached || pair.iter().any(|item| item.stop) {
            continue;
        }
        let Some(term) = joined(pair).filter(|term| lexicon.frequency(term) > 0) else {
            continue;
        };
        for concept in concepts[at - 1..=at].iter_mut().flatten() {
            concept.or(&term, COMPOUND);
        }
    }
    for (at, item) in items.iter().enumerate() {
        let unknown = concepts[at].as_ref().is_some_and(|concept| {
            concept
                .spellings
                .iter()
                .all(|spelling| lexicon.frequency(&spelling.term) == 0)
        });
        if unknown && !item.number {
            if let Some((left, right)) = split(&item.surface, lexicon) {
                concepts[at] = Some(Concept::new(left));
                extra.push(Concept::new(right));
            } else if item.surface.chars().count() >= MISSPELT_LETTERS
                && let Some(concept) = &mut concepts[at]
            {
                for term in lexicon.near(&item.term, MISSPELT_TRIES) {
                    concept.or(&term, MISSPELT);
                }
            }
        }
    }
    let mut out: Vec<Concept> = Vec::new();
    for concept in concepts.into_iter().flatten().chain(extra) {
        if !out
            .iter()
            .any(|seen| seen.spellings[0].term == concept.spellings[0].term)
        {
            out.push(concept);
        }
    }
    out.truncate(max_terms);
    out
}

fn concept(item: &Item) -> Option<Concept> {
    if item.stop {
        return None;
    }
    Some(match &item.measure {
        Some(measure) => {
            let mut concept = Concept::new(measure.clone());
            concept.or(&item.term, BARE_NUMBER);
            concept
        }
        None => Concept::new(item.term.clone()),
    })
}

/// `toolbox` as `tool` and `box`, when the catalogue knows only the parts. The split whose rarer part
/// is most frequent wins.
fn split(word: &str, lexicon: &dyn Lexicon) -> Option<(String, String)> {
    const SHORTEST: usize = 3;
    if !word.is_ascii() || word.len() < 2 * SHORTEST {
        return None;
    }
    (SHORTEST..=word.len() - SHORTEST)
        .map(|at| (stem(&word[..at]), stem(&word[at..])))
        .map(|(left, right)| {
            let rarer = lexicon.frequency(&left).min(lexicon.frequency(&right));
            (rarer, left, right)
        })
        .filter(|(rarer, ..)| *rarer > 0)
        .max_by_key(|(rarer, ..)| *rarer)
        .map(|(_, left, right)| (left, right))
}
