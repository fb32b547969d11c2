//! Writing the index.

use super::KeywordError;
use super::analysis::{pairs, terms};
use super::schema::{FIELDS, ORDINAL, schema, text_fields};
use crate::catalog::{Ordinal, Product};
use crate::store::StoredProduct;
use std::path::Path;
use tantivy::indexer::NoMergePolicy;
use tantivy::schema::{Field, Schema};
use tantivy::tokenizer::{PreTokenizedString, Token};
use tantivy::{Directory, Index, IndexWriter, TantivyDocument, TantivyError};

/// Bytes the writer gathers before it writes a segment. One thread: the other cores embed.
const WRITER_MEMORY: usize = 64_000_000;

/// Builds a keyword index in a folder. Memory is bounded; nothing can be opened before
/// [`Builder::finish`].
pub struct Builder {
    writer: IndexWriter,
    documents: Documents,
}

/// Makes documents of products.
pub(super) struct Documents {
    fields: [Field; FIELDS],
    ordinal: Field,
}

impl Documents {
    pub(super) fn of(schema: &Schema) -> tantivy::Result<Self> {
        Ok(Self { fields: text_fields(schema)?, ordinal: schema.get_field(ORDINAL)? })
    }

    pub(super) fn document(&self, ordinal: Ordinal, product: &Product) -> TantivyDocument {
        // In the order of the schema.
        let texts: [Vec<(usize, String)>; FIELDS] = [
            terms(&product.name),
            terms(&product.brand),
            terms(&product.category),
            terms(&product.description),
            pairs(&product.name),
        ];
        let mut document = TantivyDocument::default();
        for (&field, terms) in self.fields.iter().zip(texts) {
            let token = |(position, text)| Token { position, text, ..Token::default() };
            let text = PreTokenizedString {
                text: String::new(),
                tokens: terms.into_iter().map(token).collect(),
            };
            document.add_pre_tokenized_text(field, text);
        }
        document.add_u64(self.ordinal, u64::from(ordinal.0));
        document
    }
}

impl Builder {
    /// Starts an index in `dir`, which is made when absent.
    ///
    /// # Errors
    /// The folder cannot be written, or holds an index already.
    pub fn create(dir: &Path) -> Result<Self, KeywordError> {
        std::fs::create_dir_all(dir).map_err(|e| KeywordError::folder(dir, &e))?;
        let wrap = |e| KeywordError::folder(dir, &e);
        let schema = schema();
        let index = Index::create_in_dir(dir, schema.clone()).map_err(wrap)?;
        let writer = index.writer_with_num_threads(1, WRITER_MEMORY).map_err(wrap)?;
        // Merged once, at the end: background merges would rewrite the same postings several times.
        writer.set_merge_policy(Box::new(NoMergePolicy));
        Ok(Self { writer, documents: Documents::of(&schema).map_err(wrap)? })
    }

    /// Adds a product. Each ordinal once.
    pub fn add(&mut self, stored: &StoredProduct) -> Result<(), KeywordError> {
        let document = self.documents.document(stored.ordinal, &stored.product);
        self.writer.add_document(document).map_err(write_error)?;
        Ok(())
    }

    /// Writes everything, merges it into one segment and syncs it to disk.
    pub fn finish(mut self) -> Result<(), KeywordError> {
        self.writer.commit().map_err(write_error)?;
        let index = self.writer.index().clone();
        let segments = index.searchable_segment_ids().map_err(write_error)?;
        if segments.len() > 1 {
            self.writer.merge(&segments).wait().map_err(write_error)?;
            self.writer.garbage_collect_files().wait().map_err(write_error)?;
        }
        self.writer.wait_merging_threads().map_err(write_error)?;
        let synced = index.directory().sync_directory();
        synced.map_err(|e| KeywordError::Write(e.to_string()))
    }
}

fn write_error(error: TantivyError) -> KeywordError {
    KeywordError::Write(error.to_string())
}
