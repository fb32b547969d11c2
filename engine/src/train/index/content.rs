//! The second pass: words into the keyword index, vectors into theirs.

use super::{BuildOptions, IndexError, Progress, Stage, in_batches, write_error};
use crate::catalog::Ordinal;
use crate::model::embedding::{EmbedError, Embedder, product_text};
use crate::model::manifest::{Calibration, Part, VectorLayout, VectorsInfo};
use crate::model::texts::Texts;
use crate::model::versions::Building;
use crate::retrieve::exact::{self, Exact};
use crate::retrieve::faiss::Hnsw;
use crate::retrieve::keyword::Builder;
use crate::retrieve::semantic;
use crate::retrieve::vectors::dot;
use crate::store::{Bulk, StoredProduct};
use rayon::prelude::*;
use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher};

/// Texts that a model is given at once.
const TEXTS: usize = 32;

/// What the second pass found.
#[derive(Default)]
pub(super) struct Content {
    pub(super) products: u64,
    pub(super) vectors: Distinct,
}

/// Vectors, each once, and whose they are.
#[derive(Default)]
pub(super) struct Distinct {
    pub(super) ordinals: Vec<u32>,
    positions: Vec<u32>,
    values: Vec<f32>,
    /// Position by hash.
    known: HashMap<u64, u32>,
}

impl Distinct {
    fn add(&mut self, ordinal: Ordinal, vector: &[f32]) {
        let mut hash = DefaultHasher::new();
        vector.iter().for_each(|x| hash.write_u32(x.to_bits()));
        let next = (self.values.len() / vector.len()) as u32;
        let mut position = *self.known.entry(hash.finish()).or_insert(next);
        let start = position as usize * vector.len();
        // Also when another vector has the same hash.
        if self.values.get(start..start + vector.len()) != Some(vector) {
            self.values.extend_from_slice(vector);
            position = next;
        }
        self.ordinals.push(ordinal.0);
        self.positions.push(position);
    }
}

/// Indexes and embeds every product.
pub(super) fn scan(
    store: &dyn Bulk,
    embedder: Option<&dyn Embedder>,
    building: &Building,
    pool: &rayon::ThreadPool,
    total: u64,
    progress: Progress,
) -> Result<Content, IndexError> {
    let folder = building.part(Part::Keyword)?;
    let mut keyword = Builder::create(&folder)?;
    let mut texts = Texts::default();
    let mut content = Content::default();
    progress(Stage::Embed, 0, total);
    in_batches(store, |batch| {
        for stored in batch {
            keyword.add(stored)?;
            texts.push(stored.ordinal, stored.product.text_hash());
        }
        if let Some(embedder) = embedder {
            for (ordinal, vector) in pool.install(|| embed(batch, embedder))? {
                content.vectors.add(ordinal, &vector);
            }
        }
        content.products += batch.len() as u64;
        progress(Stage::Embed, content.products, total.max(content.products));
        Ok(())
    })?;
    keyword.finish()?;
    texts.write(&folder).map_err(write_error(&folder))?;
    Ok(content)
}

/// Those products of the batch that have a vector, in order, with it.
fn embed(
    batch: &[StoredProduct],
    embedder: &dyn Embedder,
) -> Result<Vec<(Ordinal, Vec<f32>)>, EmbedError> {
    let embedded: Vec<_> = batch
        .par_chunks(TEXTS)
        .map(|some| {
            let texts: Vec<String> =
                some.iter().map(|stored| product_text(&stored.product, embedder.kind())).collect();
            embedder.embed(&texts.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .collect::<Result<_, _>>()?;
    let ordinals = batch.iter().map(|stored| stored.ordinal);
    Ok(ordinals
        .zip(embedded.into_iter().flatten())
        .filter_map(|(ordinal, vector)| Some((ordinal, vector?)))
        .collect())
}

/// Writes the vectors part: scanned when there are few, linked into a graph when there are many.
pub(super) fn write_vectors(
    vectors: Distinct,
    dims: usize,
    options: &BuildOptions,
    building: &Building,
    progress: Progress,
) -> Result<VectorsInfo, IndexError> {
    let folder = building.part(Part::Vectors)?;
    let Distinct { ordinals, positions, values, .. } = vectors;
    let distinct = values.len() / dims;
    for (name, numbers) in [(semantic::ORDINALS, &ordinals), (semantic::POSITIONS, &positions)] {
        let path = folder.join(name);
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        fs::write(&path, bytes).map_err(write_error(&path))?;
    }
    let calibration = calibrate(&values, dims);
    let layout = if distinct <= exact::MAX_VECTORS {
        let path = folder.join(semantic::EXACT);
        Exact::new(dims, values)?.write(&path).map_err(write_error(&path))?;
        VectorLayout::Exact
    } else {
        let linked = |done| progress(Stage::Link, done as u64, distinct as u64);
        linked(0);
        let index = Hnsw::build(dims, &values, options.threads.max(1), &linked)?;
        index.write(&folder.join(semantic::HNSW))?;
        VectorLayout::Hnsw
    };
    Ok(VectorsInfo { layout, products: ordinals.len(), distinct, calibration })
}

/// The cosine that nineteen of twenty pairs of products stay below is what unrelated things have in
/// common in this catalogue; identity is the other end.
fn calibrate(vectors: &[f32], dims: usize) -> Calibration {
    let rows: Vec<&[f32]> = vectors.chunks(dims).collect();
    let step = rows.len().div_ceil(400).max(1);
    let some: Vec<&[f32]> = rows.into_iter().step_by(step).collect();
    let mut cosines: Vec<f32> = some
        .iter()
        .enumerate()
        .flat_map(|(at, a)| some[at + 1..].iter().map(|b| dot(a, b)))
        .collect();
    if cosines.len() < 100 {
        return Calibration::IDENTITY;
    }
    let at = cosines.len() * 19 / 20;
    let (_, floor, _) = cosines.select_nth_unstable_by(at, f32::total_cmp);
    Calibration { floor: floor.clamp(0.0, 0.9), ceiling: 1.0 }
}
