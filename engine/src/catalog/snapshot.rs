//! The catalogue as serving reads it: in memory, immutable, addressed by ordinal.
//!
//! Holds what ranking and filters need. Descriptions stay in the store: they are most of the bytes
//! and are wanted only by `fields=description`.

use super::persistent::{Blocks, Ids};
use crate::catalog::{Categories, CategoryId, Ordinal, Product};
use crate::query::Filter;
use crate::retrieve::Allowed;
use crate::store::Changes;
use std::collections::HashMap;
use std::sync::Arc;

/// What is kept of one product.
#[derive(Debug, Clone)]
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
    /// [`Product::text_hash`]: what an index knows of it.
    pub text: u64,
}

/// An immutable catalogue.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    revision: u64,
    rows: Blocks<Row>,
    by_id: Ids,
    by_brand: Arc<HashMap<String, Arc<Vec<Ordinal>>>>,
    categories: Arc<Categories>,
}

/// What is different in a later catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// Ids of products that were there and are others now, or gone.
    pub changed: Vec<String>,
    /// A product may belong into answers that it is not in: it is new, or other words, another category or other
    /// figures were said of it.
    pub widens: bool,
    /// A price is another one.
    pub prices: bool,
}

impl Catalog {
    /// An empty catalogue of this revision, to be filled in ascending order of ordinals.
    pub fn new(revision: u64) -> Self {
        Self { revision, ..Self::default() }
    }

    /// Adds a product, or replaces the one with its number. Cheapest where ordinals ascend.
    pub fn push(&mut self, ordinal: Ordinal, product: &Product) {
        let before = self.rows.get(ordinal.index()).cloned();
        let filed = before.as_ref().filter(|before| {
            *before.category == *product.category && *before.brand == *product.brand
        });
        // Most changes are of a price: they leave categories and brands alone.
        let categories = match filed {
            Some(before) => before.categories.clone(),
            None => {
                if let Some(before) = &before {
                    self.unfile(ordinal, before);
                }
                self.file(ordinal, product)
            }
        };
        if before.is_none() {
            self.by_id.insert(&product.id, ordinal);
        }
        let row = Row {
            id: product.id.as_str().into(),
            name: product.name.as_str().into(),
            brand: product.brand.as_str().into(),
            category: product.category.as_str().into(),
            categories,
            price: product.price,
            created_at: product.created_at,
            popularity: product.popularity,
            text: product.text_hash(),
        };
        self.rows.set(ordinal.index(), Some(row));
    }

    /// The catalogue after these changes.
    pub fn after(&self, changes: &Changes) -> Self {
        let mut after = Self { revision: changes.revision, ..self.clone() };
        for changed in &changes.products {
            match &changed.product {
                Some(product) => after.push(changed.ordinal, product),
                None => after.remove(changed.ordinal),
            }
        }
        after
    }

    fn remove(&mut self, ordinal: Ordinal) {
        if let Some(row) = self.rows.get(ordinal.index()).cloned() {
            self.unfile(ordinal, &row);
            self.by_id.remove(&row.id, ordinal);
            self.rows.set(ordinal.index(), None);
        }
    }

    /// Puts a product under its categories and its brand; gives its categories.
    fn file(&mut self, ordinal: Ordinal, product: &Product) -> Box<[CategoryId]> {
        if !product.brand.is_empty() {
            let brands = Arc::make_mut(&mut self.by_brand);
            let of_brand = brands.entry(product.brand.to_lowercase()).or_default();
            if let Err(at) = of_brand.binary_search(&ordinal) {
                Arc::make_mut(of_brand).insert(at, ordinal);
            }
        }
        if product.category.is_empty() {
            return Box::default();
        }
        Arc::make_mut(&mut self.categories).insert(&product.category, ordinal).into()
    }

    fn unfile(&mut self, ordinal: Ordinal, row: &Row) {
        if !row.categories.is_empty() {
            Arc::make_mut(&mut self.categories).remove(&row.categories, ordinal);
        }
        let brand = row.brand.to_lowercase();
        let listed = self.by_brand.get(&brand).and_then(|found| found.binary_search(&ordinal).ok());
        if let Some(at) = listed
            && let Some(of_brand) = Arc::make_mut(&mut self.by_brand).get_mut(&brand)
        {
            Arc::make_mut(of_brand).remove(at);
        }
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
        self.len() == 0
    }

    /// One more than the greatest ordinal: the length of a column.
    pub fn columns(&self) -> usize {
        self.rows.len()
    }

    /// The product with this number.
    pub fn row(&self, ordinal: Ordinal) -> Option<&Row> {
        self.rows.get(ordinal.index())
    }

    /// The number of the product with this id.
    pub fn ordinal(&self, id: &str) -> Option<Ordinal> {
        self.by_id.get(id)
    }

    /// Its categories.
    pub fn categories(&self) -> &Categories {
        &self.categories
    }

    /// Every product, by ascending number.
    pub fn iter(&self) -> impl Iterator<Item = (Ordinal, &Row)> {
        self.rows.iter().map(|(index, row)| (Ordinal(index as u32), row))
    }

    /// What is different in `newer` of the products with these numbers; no more than `most` ids and one.
    pub fn difference(
        &self,
        newer: &Self,
        ordinals: impl IntoIterator<Item = Ordinal>,
        most: usize,
    ) -> Difference {
        let mut found = Difference::default();
        for ordinal in ordinals {
            if found.changed.len() > most {
                break;
            }
            let (before, now) = (self.row(ordinal), newer.row(ordinal));
            let bits = |row: &Row| row.price.map(f64::to_bits);
            let said = |row: &Row| (row.text, row.created_at, row.popularity.map(f64::to_bits));
            let others = before.map(said) != now.map(said);
            let price = before.map(bits) != now.map(bits);
            if let Some(row) = before.filter(|_| others || price) {
                found.changed.push(row.id.to_string());
            }
            found.widens |= others && now.is_some();
            found.prices |= price && now.is_some();
        }
        found
    }

    /// Every number that a product of this catalogue or of `other` may have.
    pub fn numbers(&self, other: &Self) -> impl Iterator<Item = Ordinal> + use<> {
        (0..self.columns().max(other.columns()) as u32).map(Ordinal)
    }

    /// Products of this brand, by ascending number.
    pub fn of_brand(&self, brand: &str) -> &[Ordinal] {
        self.by_brand.get(&brand.trim().to_lowercase()).map_or(&[][..], |found| found.as_slice())
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
mod tests;
