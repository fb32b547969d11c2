//! Which text of which product an index version was made of, so that whoever serves with it knows which products
//! are others by now, whatever else of them changed since and however long ago that was.

use crate::catalog::{Catalog, Ordinal};
use std::fs;
use std::io;
use std::path::Path;

/// File of the keyword part: for each product, ascending, its number (u32) and its [`text_hash`] (u64),
/// little-endian. Versions of older programs have none.
///
/// [`text_hash`]: crate::catalog::Product::text_hash
pub const FILE_NAME: &str = "texts.bin";

const ENTRY: usize = 12;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Texts {
    ordinals: Vec<Ordinal>,
    hashes: Vec<u64>,
}

impl Texts {
    /// Takes up a product; ordinals ascend.
    pub fn push(&mut self, ordinal: Ordinal, hash: u64) {
        self.ordinals.push(ordinal);
        self.hashes.push(hash);
    }

    /// Of the product with this number; `None`: it was not there.
    pub fn get(&self, ordinal: Ordinal) -> Option<u64> {
        Some(self.hashes[self.ordinals.binary_search(&ordinal).ok()?])
    }

    /// Writes them into the folder of the keyword part.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let entries = self.ordinals.iter().zip(&self.hashes);
        let bytes: Vec<u8> = entries
            .flat_map(|(ordinal, hash)| {
                ordinal.0.to_le_bytes().into_iter().chain(hash.to_le_bytes())
            })
            .collect();
        fs::write(folder.join(FILE_NAME), bytes)
    }

    /// Reads them from the folder of the keyword part, which is verified. `None`: the version has none.
    pub fn read(folder: &Path) -> Option<Self> {
        let bytes = fs::read(folder.join(FILE_NAME)).ok()?;
        let (entries, rest) = bytes.as_chunks::<ENTRY>();
        if !rest.is_empty() {
            return None;
        }
        let mut texts = Self::default();
        for entry in entries {
            let (ordinal, hash) = entry.split_first_chunk::<4>()?;
            let hash = hash.first_chunk::<8>()?;
            texts.push(Ordinal(u32::from_le_bytes(*ordinal)), u64::from_le_bytes(*hash));
        }
        texts.ordinals.is_sorted_by(|a, b| a < b).then_some(texts)
    }

    /// Products whose text in `catalog` is not the one here: new, others, or gone. Ascending.
    pub fn changed_in(&self, catalog: &Catalog) -> Vec<Ordinal> {
        let mut changed = Vec::new();
        let mut here = self.ordinals.iter().zip(&self.hashes).peekable();
        for (ordinal, row) in catalog.iter() {
            while let Some((gone, _)) = here.next_if(|(known, _)| **known < ordinal) {
                changed.push(*gone);
            }
            let known = here.next_if(|(known, _)| **known == ordinal);
            if known.is_none_or(|(_, hash)| *hash != row.text) {
                changed.push(ordinal);
            }
        }
        changed.extend(here.map(|(gone, _)| *gone));
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Product;

    #[test]
    fn what_is_written_is_read_and_tells_what_changed() {
        let product = |name: &str| Product { name: name.into(), ..Product::default() };
        let mut texts = Texts::default();
        for (number, name) in [(1, "one"), (4, "four"), (5, "five"), (9, "nine")] {
            texts.push(Ordinal(number), product(name).text_hash());
        }
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Texts::read(folder.path()), None);
        texts.write(folder.path()).unwrap();
        assert_eq!(Texts::read(folder.path()).as_ref(), Some(&texts));
        assert_eq!(texts.get(Ordinal(4)), Some(product("four").text_hash()));
        assert_eq!(texts.get(Ordinal(3)), None);

        let mut catalog = Catalog::new(1);
        for (number, name) in [(1, "one"), (3, "three"), (5, "other"), (12, "new")] {
            let product = Product { id: name.into(), price: Some(1.0), ..product(name) };
            catalog.push(Ordinal(number), &product);
        }
        assert_eq!(texts.changed_in(&catalog), [3, 4, 5, 9, 12].map(Ordinal));
        std::fs::write(folder.path().join(FILE_NAME), [0; 13]).unwrap();
        assert_eq!(Texts::read(folder.path()), None);
    }
}
