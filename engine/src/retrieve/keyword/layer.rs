//! The layers of a keyword index: the segments that were built, and over them small ones in memory with the products
//! that changed since. A product counts in the latest layer that has it.
//!
//! Lengths and frequencies are those of what still counts, over all layers, so that scores are what they would be
//! if the index was built anew. Layers in memory grow in steps of four times, so that a question meets a handful
//! of them and a product is rewritten a few times before it ends up in a large one.

use super::KeywordError;
use super::build::Documents;
use super::schema::{FIELDS, ORDINAL, schema};
use crate::catalog::Ordinal;
use crate::retrieve::Allowed;
use crate::store::ChangedProduct;
use std::sync::Arc;
use tantivy::directory::{OwnedBytes, RamDirectory};
use tantivy::fastfield::{AliveBitSet, write_alive_bitset};
use tantivy::fieldnorm::FieldNormReader;
use tantivy::index::SegmentReader;
use tantivy::indexer::merge_filtered_segments;
use tantivy::postings::TermInfo;
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{BitSet, DocId, DocSet, Index, InvertedIndexReader, TantivyError};

/// A layer in memory is at least this many times as large as the next.
const STEP: usize = 4;
/// What the table of terms begins with while a layer in memory is made; it grows.
const MEMORY: usize = 300_000;
/// Occurrences of a term that are counted one by one to see which still count; of more frequent ones the share of
/// all products is taken, which is as good.
const COUNTED: u32 = 8_192;

/// Terms in a field, and products that have any.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    terms: u64,
    filled: u64,
}

/// Documents that do not change.
pub(super) struct Segment {
    /// In the order of the schema.
    pub texts: Vec<Text>,
    /// By document.
    pub ordinals: Vec<Ordinal>,
    /// Ascending.
    places: Vec<(Ordinal, DocId)>,
    sizes: [Size; FIELDS],
    source: tantivy::Segment,
}

/// One field of a segment.
pub(super) struct Text {
    pub postings: Arc<InvertedIndexReader>,
    pub lengths: FieldNormReader,
}

impl Segment {
    pub(super) fn open(source: tantivy::Segment, fields: [Field; FIELDS]) -> tantivy::Result<Self> {
        let reader = SegmentReader::open(&source)?;
        let column = reader.fast_fields().u64(ORDINAL)?;
        let ordinal = |doc| Ordinal(column.first(doc).unwrap_or(u64::from(u32::MAX)) as u32);
        let text = |field| {
            Ok(Text {
                postings: reader.inverted_index(field)?,
                lengths: reader.get_fieldnorms_reader(field)?,
            })
        };
        let texts = fields.into_iter().map(text).collect::<tantivy::Result<Vec<Text>>>()?;
        let ordinals: Vec<Ordinal> = (0..reader.max_doc()).map(ordinal).collect();
        let mut places: Vec<_> = ordinals.iter().copied().zip(0..).collect();
        places.sort_unstable();
        let size = |text: &Text| {
            let filled = ordinals.iter().zip(0..).filter(|(_, doc)| text.has(*doc)).count();
            Size { terms: text.postings.total_num_tokens(), filled: filled as u64 }
        };
        let sizes = std::array::from_fn(|field| size(&texts[field]));
        Ok(Self { texts, ordinals, places, sizes, source })
    }

    fn in_memory(index: &Index) -> tantivy::Result<Self> {
        let fields = super::schema::text_fields(&index.schema())?;
        let segments = index.searchable_segments()?;
        let only = segments.into_iter().next();
        let only = only.ok_or_else(|| TantivyError::InternalError("no segment was made".into()))?;
        Self::open(only, fields)
    }

    fn doc(&self, ordinal: Ordinal) -> Option<DocId> {
        let at = self.places.binary_search_by_key(&ordinal, |place| place.0).ok()?;
        Some(self.places[at].1)
    }
}

impl Text {
    fn has(&self, doc: DocId) -> bool {
        self.lengths.fieldnorm_id(doc) > 0
    }
}

/// A segment, and which of its products changed since.
#[derive(Clone)]
pub(super) struct Layer {
    pub segment: Arc<Segment>,
    /// Of these a later layer tells, or they are gone.
    pub gone: Allowed,
    gone_sizes: [Size; FIELDS],
}

impl Layer {
    pub(super) fn of(segment: Segment) -> Self {
        Self {
            segment: Arc::new(segment),
            gone: Allowed::default(),
            gone_sizes: Default::default(),
        }
    }

    /// Products that count.
    pub(super) fn len(&self) -> usize {
        self.segment.ordinals.len() - self.gone.len()
    }

    /// Where a product is that counts.
    pub(super) fn doc(&self, ordinal: Ordinal) -> Option<DocId> {
        self.segment.doc(ordinal).filter(|_| !self.gone.contains(ordinal))
    }

    /// Terms and products of a field that count.
    pub(super) fn size(&self, field: usize) -> (u64, u64) {
        let (all, gone) = (self.segment.sizes[field], self.gone_sizes[field]);
        (all.terms.saturating_sub(gone.terms), all.filled - gone.filled)
    }

    /// Products that count and have a term in a field.
    pub(super) fn frequency(&self, text: &Text, info: &TermInfo) -> u64 {
        let all = u64::from(info.doc_freq);
        if self.gone.is_empty() {
            return all;
        }
        if info.doc_freq > COUNTED {
            let (len, of) = (self.len() as u64, self.segment.ordinals.len() as u64);
            return (all * len).div_ceil(of);
        }
        let postings = text.postings.read_postings_from_terminfo(info, IndexRecordOption::Basic);
        // A list that cannot be read was refused by its checksum long before.
        let Ok(mut postings) = postings else { return 0 };
        let mut count = 0;
        let mut doc = postings.doc();
        while doc != tantivy::TERMINATED {
            count += u64::from(!self.gone.contains(self.segment.ordinals[doc as usize]));
            doc = postings.advance();
        }
        count
    }

    fn lose(&mut self, ordinal: Ordinal) {
        let Some(doc) = self.doc(ordinal) else { return };
        self.gone.insert(ordinal);
        for (text, gone) in self.segment.texts.iter().zip(&mut self.gone_sizes) {
            gone.terms += u64::from(text.lengths.fieldnorm(doc));
            gone.filled += u64::from(text.has(doc));
        }
    }

    /// Documents that still count, for a merge.
    fn alive(&self) -> Option<AliveBitSet> {
        if self.gone.is_empty() {
            return None;
        }
        let mut alive = BitSet::with_max_value_and_full(self.segment.ordinals.len() as u32);
        for (ordinal, doc) in &self.segment.places {
            if self.gone.contains(*ordinal) {
                alive.remove(*doc);
            }
        }
        let mut bytes = Vec::new();
        write_alive_bitset(&alive, &mut bytes).expect("a vector takes every byte");
        Some(AliveBitSet::open(OwnedBytes::new(bytes)))
    }
}

/// `layers` after these products changed. The first `built` of them stay what they are but for what is gone.
pub(super) fn after(
    layers: &[Layer],
    built: usize,
    changed: &[ChangedProduct],
) -> Result<Vec<Layer>, KeywordError> {
    let mut layers = layers.to_vec();
    for changed in changed {
        layers.iter_mut().for_each(|layer| layer.lose(changed.ordinal));
    }
    let there: Vec<&ChangedProduct> = changed.iter().filter(|c| c.product.is_some()).collect();
    let failed = |error: TantivyError| KeywordError::Write(error.to_string());
    if !there.is_empty() {
        layers.push(Layer::of(written(&there).map_err(failed)?));
    }
    let mut small = layers.split_off(built);
    small.retain(|layer| layer.len() > 0);
    let mut from = small.len();
    let mut len = 0;
    while from > 0 && (len == 0 || small[from - 1].len() < STEP * len) {
        from -= 1;
        len += small[from].len();
    }
    if small.len() - from > 1 {
        let merged = merged(&small[from..]).map_err(failed)?;
        small.truncate(from);
        small.push(Layer::of(merged));
    }
    layers.append(&mut small);
    Ok(layers)
}

fn written(changed: &[&ChangedProduct]) -> tantivy::Result<Segment> {
    let documents = Documents::of(&schema())?;
    let index = Index::builder().schema(schema());
    let mut writer = index.single_segment_index_writer(RamDirectory::create(), MEMORY)?;
    for changed in changed {
        if let Some(product) = &changed.product {
            writer.add_document(documents.document(changed.ordinal, product))?;
        }
    }
    Segment::in_memory(&writer.finalize()?)
}

fn merged(layers: &[Layer]) -> tantivy::Result<Segment> {
    let segments: Vec<tantivy::Segment> =
        layers.iter().map(|layer| layer.segment.source.clone()).collect();
    let alive = layers.iter().map(Layer::alive).collect();
    let settings = tantivy::IndexSettings::default();
    let index = merge_filtered_segments(&segments, settings, alive, RamDirectory::create())?;
    Segment::in_memory(&index)
}
