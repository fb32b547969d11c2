//! Loading an index version for serving: every file is proved against the manifest before Tantivy or
//! FAISS sees it, and a part that is damaged leaves the other part usable.

use super::snapshot::Index;
use crate::model::manifest::Part;
use crate::model::texts::Texts;
use crate::model::versions::{self, Version};
use crate::retrieve::Retriever;
use crate::retrieve::keyword::KeywordIndex;
use crate::retrieve::semantic::SemanticIndex;
use std::path::Path;
use std::sync::Arc;

/// What loading needs to know beside the version.
pub(super) struct Loader<'l> {
    /// The folder that holds `indexes/`.
    pub data_dir: &'l Path,
    /// An index made from another store would point at other products.
    pub store_id: &'l str,
    /// The embedding model's folder; `None`: what the manifest says.
    pub embedding_model: Option<&'l Path>,
}

/// Name of the version that shall serve, as written; empty when none was ever published.
pub(super) fn current(data_dir: &Path) -> String {
    // An unreadable file is noticed when the version is loaded.
    let line = std::fs::read_to_string(data_dir.join("indexes").join("CURRENT"));
    line.map(|line| line.trim().to_owned()).unwrap_or_default()
}

impl Loader<'_> {
    /// The version in force, with notes on what of it cannot be loaded.
    pub fn current(&self) -> Index {
        let version = match versions::current(self.data_dir) {
            Ok(Some(version)) => version,
            Ok(None) => {
                return none("keyword: no index has been built; run penstock-control index");
            }
            Err(error) => {
                let index = none(&format!("keyword: {error}"));
                return Index { version: current(self.data_dir), ..index };
            }
        };
        self.load(&version)
    }

    /// The newest other version that loads whole.
    pub fn newest_whole(&self) -> Option<Index> {
        let names = versions::names(self.data_dir).ok()?;
        let named = current(self.data_dir);
        let versions = versions::list(self.data_dir).ok()?;
        let others = names.iter().zip(versions).filter(|(name, _)| **name != named);
        let mut loaded = others.filter_map(|(_, version)| Some(self.load(&version.ok()?)));
        loaded.find(|index| index.notes.is_empty())
    }

    fn load(&self, version: &Version) -> Index {
        let revision = version.manifest.catalog_revision;
        let mut index = Index { version: version.name.clone(), revision, ..Index::default() };
        if let Err(error) = version.check_store(self.store_id) {
            index.notes.push(format!("keyword: {error}"));
            return index;
        }
        let keyword = version.verify(Part::Keyword).map_err(|error| error.to_string());
        let keyword = keyword.and_then(|folder| {
            index.texts = Texts::read(&folder).map(Arc::new);
            KeywordIndex::open(&folder).map_err(|error| error.to_string())
        });
        match keyword {
            Ok(keyword) => index.retrievers.push(Arc::new(keyword) as Arc<dyn Retriever>),
            Err(why) => index.notes.push(labelled("keyword", &why)),
        }
        // An empty catalogue has no vectors, and misses none.
        if version.manifest.products == 0 {
            return index;
        }
        match SemanticIndex::open(version, self.embedding_model) {
            Ok(semantic) => index.retrievers.push(Arc::new(semantic)),
            Err(error) => index.notes.push(labelled("semantic", &error.to_string())),
        }
        index
    }
}

fn none(note: &str) -> Index {
    Index { notes: vec![note.to_owned()], ..Index::default() }
}

/// A note begins with the retriever it is about: the mode's reason is looked up by it.
fn labelled(retriever: &str, why: &str) -> String {
    if why.starts_with(retriever) { why.to_owned() } else { format!("{retriever}: {why}") }
}
