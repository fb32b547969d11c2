//! The catalogue as serving reads it: in memory, immutable, addressed by ordinal.
//!
//! Holds what ranking and filters need. Descriptions stay in the store: they are most of the bytes
//! and are wanted only by `fields=description`.

use crate::catalog::{Categories, CategoryId, Ordinal, Product};
use crate::query::Filter;
use crate::retrieve::Allowed;
use std::collections::HashMap;

/// What is kept of one product.
#[derive(Debug)]
pub struct Row {
    /// The shop's id.
    pub id: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Brand as written; empty when unknown.
    pub brand: Box<str>,
    /// Category text as written; empty when unknown.
    pub category: Box<str>,
    /// Leaves of its category paths.
    pub categories: Box<[CategoryId]>,
    /// In the shop's currency.
    pub price: Option<f64>,
    /// Seconds since 1970.
    pub created_at: Option<i64>,
    /// The shop's own popularity figure.
    pub popularity: Option<f64>,
    /// Of everything the shop said, the description too: another one is another product.
    fingerprint: u64,
}

/// An immutable catalogue.
#[derive(Debug, Default)]
pub struct Catalog {
    revision: u64,
    rows: Vec<Option<Row>>,
    by_id: HashMap<Box<str>, Ordinal>,
    by_brand: HashMap<String, Vec<Ordinal>>,
    categories: Categories,
}

impl Catalog {
    /// An empty catalogue of this revision, to be filled in ascending order of ordinals.
    pub fn new(revision: u64) -> Self {
        Self { revision, ..Self::default() }
    }

    /// Adds a product. Ordinals ascend.
    pub fn push(&mut self, ordinal: Ordinal, product: &Product) {
        if ordinal.index() >= self.rows.len() {
            self.rows.resize_with(ordinal.index() + 1, || None);
        }
        let categories = self.categories.insert(&product.category, ordinal).into();
        if !product.brand.is_empty() {
            self.by_brand.entry(product.brand.to_lowercase()).or_default().push(ordinal);
        }
        self.by_id.insert(product.id.as_str().into(), ordinal);
        self.rows[ordinal.index()] = Some(Row {
            id: product.id.as_str().into(),
            name: product.name.as_str().into(),
            brand: product.brand.as_str().into(),
            category: product.category.as_str().into(),
            categories,
            price: product.price,
            created_at: product.created_at,
            popularity: product.popularity,
            fingerprint: fingerprint(product),
        });
    }

    /// The revision of the store it was read at.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many products.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// No products.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// One more than the greatest ordinal: the length of a column.
    pub fn columns(&self) -> usize {
        self.rows.len()
    }

    /// The product with this number.
    pub fn row(&self, ordinal: Ordinal) -> Option<&Row> {
        self.rows.get(ordinal.index())?.as_ref()
    }

    /// The number of the product with this id.
    pub fn ordinal(&self, id: &str) -> Option<Ordinal> {
        self.by_id.get(id).copied()
    }

    /// Its categories.
    pub fn categories(&self) -> &Categories {
        &self.categories
    }

    /// Every product, by ascending number.
    pub fn iter(&self) -> impl Iterator<Item = (Ordinal, &Row)> {
        self.rows
            .iter()
            .enumerate()
            .filter_map(|(index, row)| Some((Ordinal(index as u32), row.as_ref()?)))
    }

    /// Ids of this catalogue's products that are different in `newer`, or not in it. What is new there is not
    /// among them.
    pub fn changed_in<'c>(&'c self, newer: &'c Self) -> impl Iterator<Item = &'c str> {
        let same = |row: &Row| {
            let found = newer.ordinal(&row.id).and_then(|ordinal| newer.row(ordinal));
            found.is_some_and(|other| other.fingerprint == row.fingerprint)
        };
        self.iter().filter(move |(_, row)| !same(row)).map(|(_, row)| &*row.id)
    }

    /// Products of this brand, by ascending number.
    pub fn of_brand(&self, brand: &str) -> &[Ordinal] {
        self.by_brand.get(&brand.trim().to_lowercase()).map_or(&[][..], Vec::as_slice)
    }

    /// Whether a price is within the filter's bounds.
    pub fn is_priced(&self, filter: &Filter, ordinal: Ordinal) -> bool {
        self.row(ordinal).is_some_and(|row| price_passes(filter, row.price))
    }

    /// The products that pass `filter`; `None` when it limits nothing.
    pub fn allowed(&self, filter: &Filter) -> Option<Allowed> {
        if filter.is_empty() {
            return None;
        }
        let by_category = filter.category.as_deref().map(|text| {
            let found = self.categories.find(text);
            Allowed::from_ordinals(
                found.into_iter().flat_map(|id| self.categories.products(id)).copied(),
            )
        });
        let by_brand = filter.brand.as_deref().map(|brand| self.of_brand(brand));
        let in_category = |ordinal| by_category.as_ref().is_none_or(|set| set.contains(ordinal));
        let priced = |ordinal| self.is_priced(filter, ordinal);
        let pass = |ordinal: &Ordinal| in_category(*ordinal) && priced(*ordinal);
        // The smallest list is walked, the other limits are tested.
        Some(match (by_brand, &by_category) {
            (Some(brand), _) => Allowed::from_ordinals(brand.iter().copied().filter(pass)),
            (None, Some(category)) => Allowed::from_ordinals(category.iter().filter(pass)),
            (None, None) => {
                Allowed::from_ordinals(self.iter().map(|(ordinal, _)| ordinal).filter(pass))
            }
        })
    }
}

/// The same for the same product.
fn fingerprint(product: &Product) -> u64 {
    use std::hash::{Hash, Hasher};
    let Product { id, name, description, category, brand, price, created_at, popularity } = product;
    // Its result is only compared with others of this process.
    let mut hash = std::hash::DefaultHasher::new();
    (id, name, description, category, brand, created_at).hash(&mut hash);
    (price.map(f64::to_bits), popularity.map(f64::to_bits)).hash(&mut hash);
    hash.finish()
}

fn price_passes(filter: &Filter, price: Option<f64>) -> bool {
    if filter.min_price.is_none() && filter.max_price.is_none() {
        return true;
    }
    price.is_some_and(|price| {
        filter.min_price.is_none_or(|min| price >= min)
            && filter.max_price.is_none_or(|max| price <= max)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Product;

    fn catalog() -> Catalog {
        let mut catalog = Catalog::new(1);
        let rows = [
            ("a", "Kitchen > Mugs", "Acme", Some(5.0)),
            ("b", "Kitchen > Pans", "ACME", Some(50.0)),
            ("c", "Garden", "Bloom", None),
        ];
        for (index, (id, category, brand, price)) in rows.into_iter().enumerate() {
            let product = Product {
                id: id.into(),
                category: category.into(),
                brand: brand.into(),
                price,
                ..Product::default()
            };
            catalog.push(Ordinal(index as u32 + 1), &product);
        }
        catalog
    }

    #[test]
    fn filters_meet() {
        let catalog = catalog();
        let check = |filter: Filter, expected: &[u32]| {
            let allowed = catalog.allowed(&filter).expect("a filter that limits");
            assert_eq!(allowed.iter().map(|o| o.0).collect::<Vec<_>>(), expected, "{filter:?}");
            assert_eq!(allowed.len(), expected.len());
        };
        let category = |text: &str| Filter { category: Some(text.into()), ..Filter::default() };
        let brand = |text: &str| Filter { brand: Some(text.into()), ..Filter::default() };
        check(category("kitchen"), &[1, 2]);
        check(category("unknown"), &[]);
        check(brand(" acme "), &[1, 2]);
        check(Filter { min_price: Some(10.0), ..Filter::default() }, &[2]);
        check(Filter { max_price: Some(10.0), ..brand("acme") }, &[1]);
        check(Filter { category: Some("pans".into()), ..brand("acme") }, &[2]);
        check(Filter { max_price: Some(1e9), ..category("garden") }, &[]);
        assert!(catalog.allowed(&Filter::default()).is_none());
    }

    #[test]
    fn rows_are_found_by_id_and_by_number() {
        let catalog = catalog();
        assert_eq!(catalog.ordinal("b"), Some(Ordinal(2)));
        assert_eq!(catalog.ordinal("x"), None);
        assert!(catalog.row(Ordinal(0)).is_none());
        assert_eq!(&*catalog.row(Ordinal(3)).expect("row").id, "c");
        assert_eq!((catalog.len(), catalog.columns()), (3, 4));
    }
}
