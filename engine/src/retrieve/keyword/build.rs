//! Writing the index.

use super::KeywordError;
use super::analysis::index_terms;
use super::schema::{NAMES, ORDINAL, schema, text_fields};
use crate::store::StoredProduct;
use std::path::Path;
use tantivy::indexer::NoMergePolicy;
use tantivy::schema::Field;
use tantivy::tokenizer::{PreTokenizedString, Token};
use tantivy::{Directory, Index, IndexWriter, TantivyDocument};

/// Bytes the writer gathers before it writes a segment. One thread: segments then hold products in
/// the order they came, and the other core is free for embeddings.
const WRITER_MEMORY: usize = 64_000_000;

/// Builds a keyword index in a folder. Memory is bounded; nothing can be opened before
/// [`Builder::finish`].
pub struct Builder {
    writer: IndexWriter,
    fields: [Field; NAMES.len()],
    ordinal: Field,
}

impl Builder {
    /// Starts an index in `dir`, which is made when absent.
    ///
    /// # Errors
    /// The folder cannot be written, or holds an index already.
    pub fn create(dir: &Path) -> Result<Self, KeywordError> {
        std::fs::create_dir_all(dir).map_err(|e| KeywordError::io(dir, &e))?;
        let wrap = |e| KeywordError::tantivy(dir, &e);
        let schema = schema();
        let index = Index::create_in_dir(dir, schema.clone()).map_err(wrap)?;
        let writer = index
            .writer_with_num_threads(1, WRITER_MEMORY)
            .map_err(wrap)?;
        // Merged once, at the end: background merges would rewrite the same postings several times.
        writer.set_merge_policy(Box::new(NoMergePolicy));
        Ok(Self {
            writer,
            fields: text_fields(&schema).map_err(wrap)?,
            ordinal: schema.get_field(ORDINAL).map_err(wrap)?,
        })
    }

    /// Adds a product. Each ordinal once.
    pub fn add(&mut self, stored: &StoredProduct) -> Result<(), KeywordError> {
        let product = &stored.product;
        let texts = [
            &product.name,
            &product.brand,
            &product.category,
            &product.description,
        ];
        let mut document = TantivyDocument::default();
        for (&field, text) in self.fields.iter().zip(texts) {
            let tokens: Vec<Token> = index_terms(text)
                .into_iter()
                .map(|(position, text)| Token {
                    position,
                    text,
                    ..Token::default()
                })
                .collect();
            if !tokens.is_empty() {
                document.add_pre_tokenized_text(
                    field,
                    PreTokenizedString {
                        text: String::new(),
                        tokens,
                    },
                );
            }
        }
        document.add_u64(self.ordinal, u64::from(stored.ordinal.0));
        self.writer
            .add_document(document)
            .map(|_| ())
            .map_err(|e| KeywordError::Write(e.to_string()))
    }

    /// Writes everything, merges it into one segment and syncs it to disk.
    pub fn finish(mut self) -> Result<(), KeywordError> {
        let wrap = |e: tantivy::TantivyError| KeywordError::Write(e.to_string());
        self.writer.commit().map_err(wrap)?;
        let index = self.writer.index().clone();
        let segments = index.searchable_segment_ids().map_err(wrap)?;
        if segments.len() > 1 {
            self.writer.merge(&segments).wait().map_err(wrap)?;
            self.writer.garbage_collect_files().wait().map_err(wrap)?;
        }
        self.writer.wait_merging_threads().map_err(wrap)?;
        index
            .directory()
            .sync_directory()
            .map_err(|e| KeywordError::Write(e.to_string()))
    }
}
