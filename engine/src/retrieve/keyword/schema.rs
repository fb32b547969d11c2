//! The fields of the index.

use penstock_config::policy::FieldBoosts;
use tantivy::schema::{FAST, Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};

/// How many fields hold terms.
pub(super) const FIELDS: usize = 5;

/// Names of the fields that hold terms, in the order used everywhere here. The last one holds
/// neighbouring words of the name written as one, see [`super::analysis::pairs`].
pub(super) const NAMES: [&str; FIELDS] = ["name", "brand", "category", "description", "pairs"];

/// The place of the last one.
pub(super) const PAIRS: usize = FIELDS - 1;

/// The fields that misspelt words are corrected from: descriptions know too many words.
pub(super) const VOCABULARY: std::ops::Range<usize> = 0..3;

/// The column with the product's number.
pub(super) const ORDINAL: &str = "ordinal";

/// The schema. Text is analysed before it reaches Tantivy, so no tokenizer has to be registered to
/// read an index.
pub(super) fn schema() -> Schema {
    let mut builder = Schema::builder();
    let text = TextOptions::default().set_indexing_options(
        TextFieldIndexing::default()
            .set_tokenizer("raw")
            .set_index_option(IndexRecordOption::WithFreqs)
            .set_fieldnorms(true),
    );
    for name in NAMES {
        builder.add_text_field(name, text.clone());
    }
    builder.add_u64_field(ORDINAL, FAST);
    builder.build()
}

/// The fields of [`NAMES`] in an index's schema.
pub(super) fn text_fields(schema: &Schema) -> tantivy::Result<[Field; FIELDS]> {
    let mut out = [Field::from_field_id(0); FIELDS];
    for (slot, name) in out.iter_mut().zip(NAMES) {
        *slot = schema.get_field(name)?;
    }
    Ok(out)
}

/// The boosts of [`NAMES`]; pairs are of the name and count as it does.
pub(super) fn boosts(of: &FieldBoosts) -> [f32; FIELDS] {
    [of.name, of.brand, of.category, of.description, of.name]
}
