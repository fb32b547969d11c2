//! The tree of categories, read from the products' paths.

use crate::catalog::Ordinal;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A category's position in [`Categories`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CategoryId(pub u32);

#[derive(Debug, Clone)]
struct Node {
    path: String,
    key: String,
    parent: Option<CategoryId>,
    /// Products in this category or below it, ascending. Shared with the catalogue before.
    products: Arc<Vec<Ordinal>>,
}

/// All categories of a catalogue. Compared without case and without surrounding blanks. One that has lost its last
/// product keeps its number and is not found any more.
#[derive(Debug, Clone, Default)]
pub struct Categories {
    nodes: Vec<Node>,
    by_key: HashMap<String, CategoryId>,
    by_part: HashMap<String, Vec<CategoryId>>,
}

/// A path as the key it is compared by: `Kitchen >Mugs ` is `kitchen > mugs`.
pub fn path_key(path: &str) -> String {
    parts(path).collect::<Vec<_>>().join(" > ").to_lowercase()
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('>').map(str::trim).filter(|part| !part.is_empty())
}

impl Categories {
    /// Adds a product under every path of `category` (`A > B|C`) and returns the leaves.
    pub fn insert(&mut self, category: &str, ordinal: Ordinal) -> Vec<CategoryId> {
        let mut leaves = Vec::new();
        for path in category.split('|') {
            let mut parent = None;
            let mut text = String::new();
            for part in parts(path) {
                if !text.is_empty() {
                    text.push_str(" > ");
                }
                text.push_str(part);
                let id = self.intern(&text, part, parent);
                let products = Arc::make_mut(&mut self.nodes[id.0 as usize].products);
                if products.last().is_none_or(|last| *last < ordinal) {
                    products.push(ordinal);
                } else if let Err(at) = products.binary_search(&ordinal) {
                    products.insert(at, ordinal);
                }
                parent = Some(id);
            }
            leaves.extend(parent);
        }
        leaves
    }

    /// Takes a product out of these leaves and of what is above them.
    pub(super) fn remove(&mut self, leaves: &[CategoryId], ordinal: Ordinal) {
        let all: Vec<CategoryId> = leaves.iter().flat_map(|id| self.ancestry(*id)).collect();
        for id in all {
            let products = &mut self.nodes[id.0 as usize].products;
            if let Ok(at) = products.binary_search(&ordinal) {
                Arc::make_mut(products).remove(at);
            }
        }
    }

    fn has_products(&self, id: CategoryId) -> bool {
        !self.nodes[id.0 as usize].products.is_empty()
    }

    fn intern(&mut self, path: &str, part: &str, parent: Option<CategoryId>) -> CategoryId {
        let key = path.to_lowercase();
        if let Some(&id) = self.by_key.get(&key) {
            return id;
        }
        let id = CategoryId(self.nodes.len() as u32);
        self.by_part.entry(part.to_lowercase()).or_default().push(id);
        self.by_key.insert(key.clone(), id);
        self.nodes.push(Node { path: path.to_owned(), key, parent, products: Arc::default() });
        id
    }

    /// The categories a person means: the one with this path, or all that have this part at any
    /// level. Empty when there is none.
    pub fn find(&self, text: &str) -> Vec<CategoryId> {
        let key = path_key(text);
        let mut found = match self.by_key.get(&key).filter(|id| self.has_products(**id)) {
            Some(&id) => vec![id],
            None => self.by_part.get(&key).cloned().unwrap_or_default(),
        };
        found.retain(|id| self.has_products(*id));
        found
    }

    /// Whether a category has this path, spelled as [`path_key`] makes it.
    pub fn has_path(&self, key: &str) -> bool {
        self.by_key.get(key).is_some_and(|id| self.has_products(*id))
    }

    /// As the shop wrote it first.
    pub fn path(&self, id: CategoryId) -> &str {
        &self.nodes[id.0 as usize].path
    }

    /// Paths of the categories with most products, those first; ties by path.
    pub fn largest(&self, most: usize) -> Vec<String> {
        let mut nodes: Vec<&Node> =
            self.nodes.iter().filter(|node| !node.products.is_empty()).collect();
        nodes.sort_by(|a, b| {
            b.products.len().cmp(&a.products.len()).then_with(|| a.path.cmp(&b.path))
        });
        nodes.into_iter().take(most).map(|node| node.path.clone()).collect()
    }

    /// Products in it or below it.
    pub fn products(&self, id: CategoryId) -> &[Ordinal] {
        &self.nodes[id.0 as usize].products
    }

    /// The category and those above it, nearest first.
    pub fn ancestry(&self, id: CategoryId) -> impl Iterator<Item = CategoryId> + '_ {
        std::iter::successors(Some(id), |id| self.nodes[id.0 as usize].parent)
    }

    /// The value set for the category or for its nearest ancestor that has one; keys of `values`
    /// are as [`path_key`] makes them.
    pub fn nearest<'v, T>(
        &self,
        id: CategoryId,
        values: &'v BTreeMap<String, T>,
    ) -> Option<(&str, &'v T)> {
        self.ancestry(id).find_map(|id| {
            let node = &self.nodes[id.0 as usize];
            values.get(&node.key).map(|value| (node.path.as_str(), value))
        })
    }

    /// Every category.
    pub fn iter(&self) -> impl Iterator<Item = CategoryId> + use<> {
        (0..self.nodes.len() as u32).map(CategoryId)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// No product has a category.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Categories {
        let mut tree = Categories::default();
        tree.insert("Kitchen > Mugs", Ordinal(1));
        tree.insert("Kitchen > Pans", Ordinal(2));
        tree.insert("Comedy|Kitchen > Mugs", Ordinal(3));
        tree.insert("", Ordinal(4));
        tree
    }

    #[test]
    fn finds_by_path_and_by_part_and_counts_descendants() {
        let tree = tree();
        let check = |text: &str, expected: &[u32]| {
            let mut found: Vec<u32> =
                tree.find(text).into_iter().flat_map(|id| tree.products(id)).map(|o| o.0).collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{text:?}");
        };
        check("Kitchen", &[1, 2, 3]);
        check(" kitchen>MUGS ", &[1, 3]);
        check("mugs", &[1, 3]);
        check("comedy", &[3]);
        check("nothing", &[]);
        check("", &[]);
    }

    #[test]
    fn the_nearest_ancestor_with_a_value_wins() {
        let tree = tree();
        let values = BTreeMap::from([("kitchen".to_owned(), 1), ("kitchen > mugs".to_owned(), 2)]);
        let check = |path: &str, expected: Option<(&str, &i32)>| {
            assert_eq!(tree.nearest(tree.find(path)[0], &values), expected, "{path}");
        };
        check("kitchen > mugs", Some(("Kitchen > Mugs", &2)));
        check("kitchen > pans", Some(("Kitchen", &1)));
        check("comedy", None);
    }
}
