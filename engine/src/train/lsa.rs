//! Word embeddings learnt from the catalogue: latent semantic analysis.
//!
//! Words that occur in the same products get near vectors (Deerwester et al., JASIS 1990): TF-IDF
//! rows of length 1 per product, and their truncated singular value decomposition ([`super::svd`]).
//! A word's vector is its direction in that subspace, times its inverse document frequency; a text's
//! vector is the sum over its words.
//!
//! Direction, not place: classic folding-in keeps the length of a word's place, which is short for
//! rare words, and it is rare words that tell products apart. On the electronics set (19,406
//! products, 256 dimensions) nDCG@10 rose from 0.37 to 0.45 and recall@100 from 0.63 to 0.71, and
//! weighting dimensions with powers of their singular values from -1 to 1 then changed little.

use super::svd::{RightSingular, Sparse, right_singular};
use crate::model::embedding::learnt::{FORMAT, Settings, term_weight, write};
use crate::model::embedding::words::words;
use rayon::prelude::*;
use std::collections::HashMap;
use std::io;
use std::path::Path;

/// Words of a vocabulary; the rarest go first.
const MAX_VOCABULARY: usize = 200_000;
/// From this many products on a word must be in two of them: what is in one alone has no company to
/// be learnt from.
const RARE_WORDS_BELOW: usize = 200;
/// Collects the words of products, then learns.
#[derive(Debug, Default)]
pub struct Learner {
    ids: HashMap<String, u32>,
    /// Products that have each word.
    documents: Vec<u32>,
    ends: Vec<usize>,
    entries: Vec<(u32, f32)>,
}

impl Learner {
    /// Takes in the texts of some products. Memory: 8 bytes per distinct word of each.
    pub fn add(&mut self, texts: &[String]) {
        let read: Vec<Vec<String>> = texts.par_iter().map(|text| words(text)).collect();
        for words in read {
            self.add_words(words);
        }
    }

    fn add_words(&mut self, words: Vec<String>) {
        let mut counts: HashMap<u32, f32> = HashMap::new();
        for word in words {
            let next = self.ids.len() as u32;
            let id = *self.ids.entry(word).or_insert(next);
            if id == next {
                self.documents.push(0);
            }
            *counts.entry(id).or_default() += 1.0;
        }
        if counts.is_empty() {
            return;
        }
        let start = self.entries.len();
        self.entries.extend(counts);
        self.entries[start..].sort_unstable_by_key(|(id, _)| *id);
        for (id, _) in &self.entries[start..] {
            self.documents[*id as usize] += 1;
        }
        self.ends.push(self.entries.len());
    }

    /// Products with words so far.
    pub fn products(&self) -> usize {
        self.ends.len()
    }

    /// Learns at most `dims` dimensions and writes the embedding to `folder`. `false`, and nothing
    /// written: there are no words to learn from.
    pub fn learn(
        self,
        folder: &Path,
        dims: usize,
        seed: u64,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> io::Result<bool> {
        let products = self.products();
        let vocabulary = self.vocabulary();
        let matrix = self.matrix(&vocabulary);
        // A few hundred products do not hold 128 independent topics.
        let dims = dims.min(matrix.columns().min(matrix.rows()).div_ceil(2)).max(1);
        let learnt = right_singular(&matrix, dims, seed, progress)?;
        let dims = learnt.values.len();
        if dims == 0 {
            return Ok(false);
        }
        let settings = Settings { format: FORMAT, dims, products, seed };
        write(folder, &vocabulary.words, &vocabulary.table(&learnt), &settings)?;
        Ok(true)
    }

    fn vocabulary(&self) -> Vocabulary {
        let at_least = if self.products() < RARE_WORDS_BELOW { 1 } else { 2 };
        let mut chosen: Vec<(&str, u32, u32)> = self
            .ids
            .iter()
            .map(|(word, id)| (word.as_str(), *id, self.documents[*id as usize]))
            .filter(|(_, _, documents)| *documents >= at_least)
            .collect();
        chosen.sort_unstable_by(|a, b| b.2.cmp(&a.2).then(a.0.cmp(b.0)));
        chosen.truncate(MAX_VOCABULARY);
        let products = self.products() as f32;
        let mut vocabulary = Vocabulary {
            words: Vec::with_capacity(chosen.len()),
            idf: Vec::with_capacity(chosen.len()),
            column: vec![None; self.ids.len()],
        };
        for (column, (word, id, documents)) in chosen.into_iter().enumerate() {
            vocabulary.words.push(word.to_owned());
            vocabulary.idf.push(((1.0 + products) / (1.0 + documents as f32)).ln() + 1.0);
            vocabulary.column[id as usize] = Some(column as u32);
        }
        vocabulary
    }

    fn matrix(self, vocabulary: &Vocabulary) -> Sparse {
        let mut matrix = Sparse::new(vocabulary.words.len());
        let mut start = 0;
        for end in self.ends {
            let mut row: Vec<(u32, f32)> = self.entries[start..end]
                .iter()
                .filter_map(|(id, count)| {
                    let column = vocabulary.column[*id as usize]?;
                    Some((column, term_weight(*count) * vocabulary.idf[column as usize]))
                })
                .collect();
            start = end;
            let length = row.iter().map(|(_, value)| value * value).sum::<f32>().sqrt();
            if length > 0.0 {
                row.iter_mut().for_each(|(_, value)| *value /= length);
                row.sort_unstable_by_key(|(column, _)| *column);
                matrix.push(row);
            }
        }
        matrix
    }
}

struct Vocabulary {
    /// By number of products, falling.
    words: Vec<String>,
    idf: Vec<f32>,
    /// From a learner's word id.
    column: Vec<Option<u32>>,
}

impl Vocabulary {
    /// One row per word, scaled so that the largest number is 1: half precision has no room above
    /// 65,504 or, precisely, below 0.00006.
    fn table(&self, learnt: &RightSingular) -> Vec<f32> {
        let dims = learnt.values.len();
        let mut table = learnt.vectors.clone();
        for (row, idf) in table.chunks_mut(dims).zip(&self.idf) {
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            // A word whose place is the origin has no direction.
            let scale = if length > 1e-6 { idf / length } else { 0.0 };
            row.iter_mut().for_each(|x| *x *= scale);
        }
        let largest = table.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        if largest > 0.0 {
            table.iter_mut().for_each(|x| *x /= largest);
        }
        table
    }
}
