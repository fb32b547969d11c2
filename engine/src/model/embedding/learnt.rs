//! Word embeddings learnt from the catalogue itself (latent semantic analysis, made by
//! `train::lsa`), with the same lookup as a static table.

use super::near::Near;
use super::table::Table;
use super::words::words;
use super::{EmbedError, Embedder, Kind, fingerprint, to_unit};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Says that a folder holds a learnt embedding, and how it was made.
pub(super) const SETTINGS: &str = "learnt.json";
const WORDS: &str = "words.txt";
const TABLE: &str = "table.safetensors";
/// The tensor `[words, dims]` in the table.
pub(crate) const TENSOR: &str = "words";
/// Unknown words of a text that are looked up by resemblance: each costs a walk over the vocabulary,
/// and a text that has more of them is not in the catalogue's language.
const MAX_UNKNOWN: usize = 8;
/// Layout of the three files and of the way from text to vector.
pub(crate) const FORMAT: u32 = 2;

/// The files of a learnt embedding.
pub(crate) const FILES: [&str; 3] = [SETTINGS, WORDS, TABLE];

/// How a learnt embedding was made: content of `learnt.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Layout.
    pub(crate) format: u32,
    /// Numbers in a vector.
    pub(crate) dims: usize,
    /// Products it was learnt from.
    pub(crate) products: usize,
    /// Seed of the random projection.
    pub(crate) seed: u64,
}

/// Writes a learnt embedding: one row of `table` (of `dims` numbers) per word.
#[cfg(feature = "train")]
pub(crate) fn write(
    folder: &Path,
    words: &[String],
    table: &[f32],
    settings: &Settings,
) -> std::io::Result<()> {
    use half::f16;
    use safetensors::tensor::{Dtype, TensorView, serialize};
    use std::io::Error;

    // Half precision: the error of 1/2048 is far below what two near words differ by.
    let bytes: Vec<u8> =
        table.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F16, vec![words.len(), settings.dims], &bytes)
        .map_err(Error::other)?;
    let tensors = serialize([(TENSOR, view)], None).map_err(Error::other)?;
    fs::create_dir_all(folder)?;
    fs::write(folder.join(TABLE), tensors)?;
    fs::write(folder.join(WORDS), words.join("\n"))?;
    fs::write(folder.join(SETTINGS), serde_json::to_vec_pretty(settings)?)
}

/// A learnt embedding.
#[derive(Debug)]
pub struct Learnt {
    words: HashMap<String, u32>,
    near: Near,
    table: Table,
    fingerprint: String,
}

impl Learnt {
    /// Opens the embedding in `folder`.
    pub fn open(folder: &Path) -> Result<Self, EmbedError> {
        let refuse = |why: String| EmbedError::model(folder, why);
        let read = |name: &str| {
            fs::read(folder.join(name)).map_err(|error| refuse(format!("{name}: {error}")))
        };
        let (settings_bytes, words_bytes, table_bytes) =
            (read(SETTINGS)?, read(WORDS)?, read(TABLE)?);
        let settings: Settings = serde_json::from_slice(&settings_bytes)
            .map_err(|error| refuse(format!("{SETTINGS}: {error}")))?;
        if settings.format != FORMAT {
            return Err(refuse(format!(
                "its format is {}, this program reads {FORMAT}; build the index again",
                settings.format
            )));
        }
        let table = Table::parse(&table_bytes, TENSOR, &folder.join(TABLE))?;
        let text = std::str::from_utf8(&words_bytes)
            .map_err(|_| refuse(format!("{WORDS} is not UTF-8")))?;
        let words: HashMap<String, u32> = text.lines().map(str::to_owned).zip(0..).collect();
        if words.len() != table.rows() || table.dims() != settings.dims {
            return Err(refuse(format!(
                "{} words and {} dimensions do not fit a table of {} × {}",
                words.len(),
                settings.dims,
                table.rows(),
                table.dims()
            )));
        }
        let scheme = format!("learnt {FORMAT}");
        Ok(Self {
            near: Near::new(text.lines()),
            words,
            table,
            fingerprint: fingerprint(&scheme, [&words_bytes[..], &table_bytes]),
        })
    }

    fn embed_one(&self, text: &str) -> Option<Vec<f32>> {
        let mut unknown = 0;
        let mut counts: HashMap<String, f32> = HashMap::new();
        let words = words(text);
        for word in &words {
            *counts.entry(word.clone()).or_default() += 1.0;
        }
        let mut sum = vec![0.0; self.table.dims()];
        // In the order of the text, not of the map: the last bits of a sum depend on the order.
        for word in &words {
            let Some(count) = counts.remove(word) else {
                continue;
            };
            let weight = term_weight(count);
            if let Some(id) = self.words.get(word) {
                self.table.add(*id, weight, &mut sum);
                continue;
            }
            unknown += 1;
            if unknown > MAX_UNKNOWN {
                continue;
            }
            let near = self.near.find(word);
            let share = weight / near.len().max(1) as f32;
            for (id, resemblance) in near {
                self.table.add(id, share * resemblance, &mut sum);
            }
        }
        to_unit(sum)
    }
}

/// Weight of a word that a text has `count` times (sublinear: the tenth mention says little new).
pub(crate) fn term_weight(count: f32) -> f32 {
    1.0 + count.ln()
}

impl Embedder for Learnt {
    fn dims(&self) -> usize {
        self.table.dims()
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Option<Vec<f32>>>, EmbedError> {
        Ok(texts.iter().map(|text| self.embed_one(text)).collect())
    }

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn kind(&self) -> Kind {
        Kind::Learnt
    }
}
