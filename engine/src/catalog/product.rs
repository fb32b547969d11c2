//! One product, as the shop describes it.

/// A product's number in the store: assigned when it is first imported, never used again for
/// another product. Indexes and features are addressed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ordinal(pub u32);

impl Ordinal {
    /// As a position in a column.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A product. Empty text means that the shop did not say.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Product {
    /// The shop's own id, unique in the catalogue, 1 to 256 bytes.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Category path, parts joined with ` > `; several paths joined with `|`.
    pub category: String,
    /// Who makes it.
    pub brand: String,
    /// In the shop's currency; at least 0.
    pub price: Option<f64>,
    /// When it was added to the catalogue: seconds since 1970, UTC.
    pub created_at: Option<i64>,
    /// The shop's own popularity figure, any scale, at least 0. Orders products nobody has
    /// interacted with yet.
    pub popularity: Option<f64>,
}

/// Longest id of a product or a user, bytes.
pub(crate) const ID_BYTES: usize = 256;
/// Longest name, bytes.
pub(crate) const NAME_BYTES: usize = 2 * 1024;
/// Longest description, bytes.
pub(crate) const DESCRIPTION_BYTES: usize = 256 * 1024;
/// Longest category, bytes.
pub(crate) const CATEGORY_BYTES: usize = 4 * 1024;
/// Longest brand, bytes.
pub(crate) const BRAND_BYTES: usize = 1024;
/// Beyond this a price is a mistake.
pub(crate) const AMOUNT_MAX: f64 = 1e12;

impl Product {
    /// A number that stands for what an index knows of it: name, brand, category, description. The same in every
    /// process and every version of the program (FNV-1a, 64 bits), because index versions have it in a file.
    pub fn text_hash(&self) -> u64 {
        let fields = [&self.name, &self.brand, &self.category, &self.description];
        // No text has a byte 255, so that words do not move from field to field unseen.
        let bytes = fields.into_iter().flat_map(|text| text.bytes().chain([u8::MAX]));
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
    }

    /// Whether a store may take it; what is wrong with it, in words. An import has the same rules, and mends what
    /// can be mended.
    pub fn check(&self) -> Result<(), String> {
        check_id(&self.id)?;
        if self.name.trim().is_empty() {
            return Err(format!("product {:?} has no name", self.id));
        }
        for (name, text, bytes) in [
            ("name", &self.name, NAME_BYTES),
            ("description", &self.description, DESCRIPTION_BYTES),
            ("category", &self.category, CATEGORY_BYTES),
            ("brand", &self.brand, BRAND_BYTES),
        ] {
            if text.len() > bytes {
                let found = text.len();
                return Err(format!("`{name}` has {found} bytes, at most {bytes} are allowed"));
            }
            if text.contains(|c: char| c.is_control() && c != '\n') {
                return Err(format!("`{name}` has control characters"));
            }
        }
        for (name, amount) in [("price", self.price), ("popularity", self.popularity)] {
            // A NaN is in no range.
            if amount.is_some_and(|amount| !(0.0..=AMOUNT_MAX).contains(&amount)) {
                return Err(format!("`{name}` must be a number from 0 to {AMOUNT_MAX}"));
            }
        }
        Ok(())
    }
}

/// Whether this may be the id of a product: 1 to [`ID_BYTES`] bytes without blanks around them and without control
/// characters. What is wrong with it, in words.
pub fn check_id(id: &str) -> Result<(), String> {
    if id.trim().is_empty() {
        Err("`id` is empty".into())
    } else if id.len() > ID_BYTES {
        Err(format!("`id` has {} bytes, at most {ID_BYTES} are allowed", id.len()))
    } else if id.chars().any(char::is_control) {
        Err(format!("`id` {id:?} has control characters"))
    } else if id.trim() != id {
        Err(format!("`id` {id:?} has blanks around it"))
    } else {
        Ok(())
    }
}

/// Category paths as the catalogue writes them: `A > B|C > D`, without empty parts.
pub fn category_paths(text: &str) -> String {
    let path = |path: &str| {
        let parts = path.split('>').map(str::trim).filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join(" > ")
    };
    let paths = text.split('|').map(path).filter(|path| !path.is_empty());
    paths.collect::<Vec<_>>().join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_product_keeps_its_number() {
        let lamp = Product { name: "Lamp".into(), brand: "Acme".into(), ..Product::default() };
        assert_eq!(lamp.text_hash(), 4_596_439_317_997_077_157);
        let cheap = Product { price: Some(1.0), popularity: Some(2.0), ..lamp.clone() };
        assert_eq!(cheap.text_hash(), lamp.text_hash());
        let moved = Product { name: "LampAcme".into(), brand: String::new(), ..lamp.clone() };
        assert_ne!(moved.text_hash(), lamp.text_hash());
    }

    #[test]
    fn what_a_store_does_not_take_is_refused_with_the_reason() {
        let check = |change: fn(&mut Product), expected: &str| {
            let mut product = Product { id: "a".into(), name: "Lamp".into(), ..Product::default() };
            assert_eq!(product.check(), Ok(()));
            change(&mut product);
            let refused = product.check().unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        };
        check(|p| p.id.clear(), "`id` is empty");
        check(|p| p.id = " a".into(), "blanks around");
        check(|p| p.id = "a\0b".into(), "control");
        check(|p| p.id = "a".repeat(257), "257 bytes");
        check(|p| p.name = " ".into(), "no name");
        check(|p| p.name = "x".repeat(2_049), "`name` has 2049 bytes");
        check(|p| p.brand = "a\0".into(), "`brand` has control");
        check(|p| p.price = Some(-0.01), "`price`");
        check(|p| p.price = Some(f64::NAN), "`price`");
        check(|p| p.popularity = Some(f64::INFINITY), "`popularity`");
    }
}
