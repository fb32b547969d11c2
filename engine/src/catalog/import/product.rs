//! From a record to a product.

use super::columns::product_field as field;
use super::read::Record;
use super::timestamp::parse_micros;
use crate::catalog::product::{
    AMOUNT_MAX, BRAND_BYTES, CATEGORY_BYTES, DESCRIPTION_BYTES, ID_BYTES, NAME_BYTES,
};
use crate::catalog::{Product, category_paths};
use std::borrow::Cow;

/// The product of a record. Error: what is wrong, in words.
pub(super) fn product(record: &mut Record) -> Result<Product, String> {
    let id = id(record, field::ID, "id")?;
    let name = text(record, field::NAME, "name", NAME_BYTES)?;
    if name.is_empty() {
        return Err(format!("product {id:?} has no name"));
    }
    Ok(Product {
        id,
        name,
        description: text(record, field::DESCRIPTION, "description", DESCRIPTION_BYTES)?,
        category: category_paths(&text(record, field::CATEGORY, "category", CATEGORY_BYTES)?),
        brand: text(record, field::BRAND, "brand", BRAND_BYTES)?,
        price: amount(record, field::PRICE, "price")?,
        created_at: created_at(record)?,
        popularity: amount(record, field::POPULARITY, "popularity")?,
    })
}

/// An id: 1 to [`ID_BYTES`] bytes without control characters.
pub(super) fn id(record: &mut Record, at: usize, name: &str) -> Result<String, String> {
    let value = record.take(at);
    let trimmed = value.trim();
    match trimmed {
        "" => Err(format!("`{name}` is empty")),
        _ if trimmed.len() > ID_BYTES => {
            Err(format!("`{name}` has {} bytes, at most {ID_BYTES} are allowed", trimmed.len()))
        }
        _ if trimmed.chars().any(char::is_control) => {
            Err(format!("`{name}` {} has control characters", shown(trimmed)))
        }
        _ => Ok(trimmed.to_owned()),
    }
}

/// Text without blanks around it; control characters other than line ends become blanks.
pub(super) fn text(
    record: &mut Record,
    at: usize,
    name: &str,
    bytes: usize,
) -> Result<String, String> {
    let value = record.take(at);
    let trimmed = value.trim();
    if trimmed.len() > bytes {
        return Err(format!("`{name}` has {} bytes, at most {bytes} are allowed", trimmed.len()));
    }
    let unwanted = |c: char| c.is_control() && c != '\n';
    if trimmed.contains(unwanted) {
        return Ok(trimmed.replace(unwanted, " "));
    }
    Ok(if trimmed.len() == value.len() { value } else { trimmed.to_owned() })
}

/// A value as it is shown in a message: quoted, escaped, short.
pub(super) fn shown(value: &str) -> String {
    const CHARS: usize = 40;
    let short: String = value.chars().take(CHARS).collect();
    let more = if short.len() < value.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

/// A number as shops export it, as one that can be read: without a currency before or after it, and
/// without commas between thousands. `1,50` stays as it is: it may be one and a half or a mistake.
fn plain_number(value: &str) -> Cow<'_, str> {
    let sign = |c: char| matches!(c, '$' | '€' | '£' | '¥' | '₹');
    let code = |text: &str| text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase());
    let mut value = value.trim_matches(|c: char| sign(c) || c.is_whitespace());
    if let Some((before, after)) = value.split_once(' ') {
        value = match (code(before), code(after)) {
            (true, false) => after.trim(),
            (false, true) => before,
            _ => value,
        };
    }
    let whole = value.split('.').next().unwrap_or_default();
    let mut groups = whole.split(',');
    let first = groups.next().unwrap_or_default();
    let thousands = (1..=3).contains(&first.len())
        && groups.clone().count() > 0
        && groups.all(|group| group.len() == 3);
    let digits = whole.bytes().all(|byte| byte.is_ascii_digit() || byte == b',');
    if thousands && digits { value.replace(',', "").into() } else { value.into() }
}

fn amount(record: &mut Record, at: usize, name: &str) -> Result<Option<f64>, String> {
    let value = record.take(at);
    let value = value.trim();
    if value.is_empty() {
        return Ok(None);
    }
    match plain_number(value).parse::<f64>() {
        // `-0` is stored as 0.
        Ok(number) if (0.0..=AMOUNT_MAX).contains(&number) => Ok(Some(number + 0.0)),
        Ok(number) if number < 0.0 => Err(format!("`{name}` {} is negative", shown(value))),
        Ok(number) if number.is_finite() => Err(format!("`{name}` {} is too large", shown(value))),
        _ => Err(format!("`{name}` {} is not a number (write it like 1234.56)", shown(value))),
    }
}

fn created_at(record: &mut Record) -> Result<Option<i64>, String> {
    let value = record.take(field::CREATED_AT);
    if value.trim().is_empty() {
        return Ok(None);
    }
    match parse_micros(&value) {
        Some(micros) => Ok(Some(micros.div_euclid(1_000_000))),
        None => Err(format!(
            "`created_at` {} is not a time (write it like 2024-05-01 or 2024-05-01T12:00:00Z)",
            shown(&value)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::plain_number;

    #[test]
    fn prices_as_shops_export_them() {
        for (text, number) in [
            ("1299.00", "1299.00"),
            ("$1,299.00", "1299.00"),
            ("€ 12", "12"),
            ("12.50 €", "12.50"),
            ("12 EUR", "12"),
            ("USD 1,234,567", "1234567"),
            // Might be one and a half.
            ("1,50", "1,50"),
            ("1.299,00", "1.299,00"),
            ("12,34,567", "12,34,567"),
            ("1,2345", "1,2345"),
            ("-5", "-5"),
        ] {
            assert_eq!(plain_number(text), number, "{text}");
        }
    }
}
