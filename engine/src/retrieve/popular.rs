//! Popular products, per category: what to show when there is no query.
//!
//! With a user's history, products popular in the user's categories come first, weighed by how much
//! the user cares for each; the fewer interactions, the more general popularity is blended in.

use super::{Allowed, Ask, Candidate, RetrieveError, Retriever, Source};
use crate::catalog::{Catalog, CategoryId, Ordinal};
use crate::features::{Popularity, Taste};
use crate::query::Filter;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

/// The user's strongest categories that are looked at. More would let a single stray click in.
const CATEGORIES: usize = 5;
/// Candidates at least, so that ranking has something to choose from.
const CANDIDATES: usize = 200;

/// Products of a list that are looked at for one answer where the rest may be none that a filter lets pass:
/// some hundred microseconds.
const LOOKED_AT: usize = 5_000;

/// Retrieves by popularity. Immutable.
pub struct Popular {
    catalog: Arc<Catalog>,
    popularity: Arc<Popularity>,
    /// Every product, most popular first.
    everywhere: Vec<Ordinal>,
    /// Those of each category, in the same order. Shared with the one before where nothing changed.
    by_category: Vec<Arc<Vec<Ordinal>>>,
}

/// Most popular first, ties by id.
fn order(catalog: &Catalog, popularity: &Popularity, a: Ordinal, b: Ordinal) -> Ordering {
    let id = |ordinal: Ordinal| catalog.row(ordinal).map(|row| &*row.id);
    let (x, y) = (popularity.score(a), popularity.score(b));
    y.total_cmp(&x).then_with(|| id(a).cmp(&id(b)))
}

impl Popular {
    /// Sorts the catalogue once.
    pub fn new(catalog: Arc<Catalog>, popularity: Arc<Popularity>) -> Self {
        let mut everywhere: Vec<Ordinal> = catalog.iter().map(|(ordinal, _)| ordinal).collect();
        everywhere.sort_by(|a, b| order(&catalog, &popularity, *a, *b));
        // Position of each product, to order a category's products cheaply.
        let mut place = vec![0_u32; catalog.columns()];
        for (index, ordinal) in everywhere.iter().enumerate() {
            place[ordinal.index()] = index as u32;
        }
        let categories = catalog.categories();
        let by_category = categories
            .iter()
            .map(|category| {
                let mut products = categories.products(category).to_vec();
                products.sort_by_key(|ordinal| place[ordinal.index()]);
                Arc::new(products)
            })
            .collect();
        Self { catalog, popularity, everywhere, by_category }
    }

    /// The same of a later catalogue, in which these products changed: what did not is in order already.
    pub fn after(
        &self,
        catalog: Arc<Catalog>,
        popularity: Arc<Popularity>,
        changed: &[Ordinal],
    ) -> Self {
        let order = |a: &Ordinal, b: &Ordinal| order(&catalog, &popularity, *a, *b);
        let gone = Allowed::from_ordinals(changed.iter().copied());
        let there = changed.iter().copied().filter(|ordinal| catalog.row(*ordinal).is_some());
        let mut came: Vec<Ordinal> = there.collect();
        came.sort_unstable_by(&order);
        came.dedup();
        let merged = |list: &[Ordinal], came: &[Ordinal]| -> Vec<Ordinal> {
            let stay = list.iter().copied().filter(|ordinal| !gone.contains(*ordinal));
            let stay: Vec<Ordinal> = stay.collect();
            let mut all = Vec::with_capacity(stay.len() + came.len());
            let mut from = 0;
            // Looking up the places of a few costs less than comparing with all.
            for next in came {
                let at = from + stay[from..].partition_point(|there| order(there, next).is_lt());
                all.extend_from_slice(&stay[from..at]);
                all.push(*next);
                from = at;
            }
            all.extend_from_slice(&stay[from..]);
            all
        };
        let everywhere = merged(&self.everywhere, &came);
        let mut by_category = self.by_category.clone();
        by_category.resize(catalog.categories().len(), Arc::default());
        // Categories keep their numbers from a catalogue to the next.
        let tree = catalog.categories();
        let rows = |catalog: &Catalog| -> Vec<CategoryId> {
            let rows = changed.iter().filter_map(|ordinal| catalog.row(*ordinal));
            rows.flat_map(|row| row.categories.to_vec()).collect()
        };
        let leaves = rows(&self.catalog).into_iter().chain(rows(&catalog));
        let mut touched: Vec<CategoryId> = leaves.flat_map(|id| tree.ancestry(id)).collect();
        touched.sort_unstable();
        touched.dedup();
        for id in touched {
            let inside = tree.products(id);
            let came = came.iter().copied().filter(|o| inside.binary_search(o).is_ok());
            let came: Vec<Ordinal> = came.collect();
            let list = &mut by_category[id.0 as usize];
            *list = Arc::new(merged(list, &came));
        }
        Self { catalog, popularity, everywhere, by_category }
    }

    /// The most popular products, in these categories if there are any; best first.
    fn top<'a>(
        &'a self,
        category: Option<CategoryId>,
        allowed: Option<&'a Allowed>,
        limit: usize,
    ) -> impl Iterator<Item = Ordinal> + 'a {
        let list = category.map_or(&self.everywhere, |id| &*self.by_category[id.0 as usize]);
        list.iter()
            .copied()
            .filter(move |ordinal| allowed.is_none_or(|allowed| allowed.contains(*ordinal)))
            .take(limit)
    }

    /// The `k` most popular products that pass `filter`, best first, from lists that are in order already: cheap
    /// enough for any thread. Of a filter that lets hardly anything pass, some may be missed.
    pub fn best(&self, filter: &Filter, k: usize) -> Vec<Candidate> {
        let priced = |ordinal: &Ordinal| self.catalog.is_priced(filter, *ordinal);
        let inside = filter.category.as_deref().map(|text| self.catalog.categories().find(text));
        let mut found: Vec<Ordinal> = match (&filter.brand, &inside) {
            (Some(brand), _) => {
                let of_brand = self.catalog.of_brand(brand).iter().copied().take(LOOKED_AT);
                of_brand.filter(|o| priced(o) && self.is_inside(inside.as_deref(), *o)).collect()
            }
            (None, None) => {
                self.everywhere.iter().copied().take(LOOKED_AT).filter(priced).take(k).collect()
            }
            (None, Some(categories)) => {
                let lists = categories.iter().map(|id| &self.by_category[id.0 as usize]);
                lists
                    .flat_map(|l| l.iter().copied().take(LOOKED_AT).filter(priced).take(k))
                    .collect()
            }
        };
        found.sort_by(|a, b| order(&self.catalog, &self.popularity, *a, *b));
        // Some products are in two categories of one name.
        found.dedup();
        let candidate = |ordinal| Candidate {
            ordinal,
            score: self.popularity.score(ordinal),
            raw: self.popularity.raw(ordinal),
            source: Source::Popular,
        };
        found.into_iter().take(k).map(candidate).collect()
    }

    /// In one of these categories, or below it; `None`: anywhere.
    fn is_inside(&self, categories: Option<&[CategoryId]>, ordinal: Ordinal) -> bool {
        let (Some(categories), Some(row)) = (categories, self.catalog.row(ordinal)) else {
            return categories.is_none();
        };
        let tree = self.catalog.categories();
        row.categories.iter().any(|id| tree.ancestry(*id).any(|id| categories.contains(&id)))
    }

    /// General popularity and the user's own, blended by how well the user is known.
    fn blend(&self, taste: &Taste, ordinal: Ordinal) -> f32 {
        let general = self.popularity.score(ordinal);
        let own = self.catalog.row(ordinal).map_or(0.0, |row| {
            let in_category = |(category, affinity): &(CategoryId, f32)| {
                let inside = row
                    .categories
                    .iter()
                    .any(|id| self.catalog.categories().ancestry(*id).any(|id| id == *category));
                inside.then(|| affinity * self.within(*category, general))
            };
            taste.categories.iter().take(CATEGORIES).filter_map(in_category).fold(0.0, f32::max)
        });
        let confidence = taste.confidence();
        confidence * own + (1.0 - confidence) * general
    }

    /// Popularity relative to the category's most popular product, in [0.5, 1]: that a product lies
    /// in a category the user cares for says at least as much as its sales.
    fn within(&self, category: CategoryId, general: f32) -> f32 {
        let best = self.by_category[category.0 as usize].first();
        let best = best.map_or(0.0, |ordinal| self.popularity.score(*ordinal));
        if best > 0.0 { 0.5 + 0.5 * general / best } else { 0.5 }
    }
}

impl Retriever for Popular {
    fn source(&self) -> Source {
        Source::Popular
    }

    fn applies(&self, ask: &Ask) -> bool {
        ask.text.is_empty() && ask.like.is_none()
    }

    fn retrieve(&self, ask: &Ask) -> Result<Vec<Candidate>, RetrieveError> {
        let taste = ask.taste(&self.catalog);
        let allowed = ask.allowed.as_deref();
        // What the user has bought is taken out, so that much more is needed.
        let limit = ask.k.max(CANDIDATES) + taste.bought.len();
        let mut scores: HashMap<Ordinal, f32> = HashMap::new();
        let own = taste.categories.iter().take(CATEGORIES).map(|(id, _)| Some(*id));
        for category in own.chain([None]) {
            for ordinal in self.top(category, allowed, limit) {
                scores.entry(ordinal).or_insert_with(|| self.blend(&taste, ordinal));
            }
        }
        scores.retain(|ordinal, _| {
            self.catalog.row(*ordinal).is_some_and(|row| !taste.bought.contains(&*row.id))
        });
        let mut found: Vec<Candidate> = scores
            .into_iter()
            .map(|(ordinal, score)| Candidate {
                ordinal,
                score,
                raw: self.popularity.raw(ordinal),
                source: Source::Popular,
            })
            .collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.ordinal.cmp(&b.ordinal)));
        found.truncate(limit);
        Ok(found)
    }

    fn personal(&self) -> bool {
        true
    }

    fn score(&self, ask: &Ask, ordinal: Ordinal) -> Option<Candidate> {
        self.catalog.row(ordinal)?;
        let taste = ask.taste(&self.catalog);
        Some(Candidate {
            ordinal,
            score: self.blend(&taste, ordinal),
            raw: self.popularity.raw(ordinal),
            source: Source::Popular,
        })
    }
}

#[cfg(test)]
mod tests;
