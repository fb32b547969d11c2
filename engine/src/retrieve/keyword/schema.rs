//! The fields of the index.

use penstock_config::policy::FieldBoosts;
use tantivy::schema::{FAST, Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};

/// How many text fields there are.
pub(super) const FIELDS: usize = 4;

/// Names of the text fields, in the order used everywhere here.
pub(super) const NAMES: [&str; FIELDS] = ["name", "brand", "category", "description"];

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

/// The text fields of an index's schema, in the order of [`NAMES`].
pub(super) fn text_fields(schema: &Schema) -> tantivy::Result<[Field; FIELDS]> {
    let mut out = [Field::from_field_id(0); FIELDS];
    for (slot, name) in out.iter_mut().zip(NAMES) {
        *slot = schema.get_field(name)?;
    }
    Ok(out)
}

/// The boosts in the order of [`NAMES`].
pub(super) fn boosts(of: &FieldBoosts) -> [f32; FIELDS] {
    [of.name, of.brand, of.category, of.description]
}
