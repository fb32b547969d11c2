//! What of a product is embedded.

use super::Kind;
use crate::catalog::Product;
use crate::query::normalise;

/// The text of a product for a model of this kind, normalised as queries are: `LabelWriter™` would be
/// another word otherwise.
///
/// A bag of words counts: saying the name twice gives it weight over a long description. A
/// transformer reads: it gets every field once, the telling ones first, since it stops reading
/// after 256 tokens.
pub fn product_text(product: &Product, kind: Kind) -> String {
    // Category paths are words, not punctuation.
    let category = product.category.replace([';', '>', '|', '/'], " ");
    let fields: &[&str] = match kind {
        Kind::Transformer => &[&product.name, &product.brand, &category, &product.description],
        Kind::Static | Kind::Learnt => {
            &[&product.name, &product.name, &product.brand, &category, &product.description]
        }
    };
    let mut text = String::new();
    for field in fields {
        let field = field.trim();
        if !field.is_empty() {
            if !text.is_empty() {
                text.push_str(if kind == Kind::Transformer { ". " } else { " " });
            }
            text.push_str(field);
        }
    }
    normalise(&text)
}
