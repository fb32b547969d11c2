//! Features of users that a job of another process stored in the same file: what is remembered of them goes. Over a
//! database the job tells who it was; a file can only say that something is other than before.

use super::Caches;
use crate::cache::{CacheKind, Change, Reason};
use crate::store::{DataStore, StoreError};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct StoredFeatures {
    seen: Option<u64>,
}

impl StoredFeatures {
    /// Looks, and tells what does not hold any more.
    pub fn look(
        &mut self,
        store: &dyn DataStore,
        caches: Option<&Caches>,
    ) -> Result<(), StoreError> {
        let Some(caches) = caches else { return Ok(()) };
        let number = store.features_number()?;
        let before = self.seen.replace(number);
        if before.is_some_and(|before| before != number) {
            for layer in [CacheKind::Features, CacheKind::Results, CacheKind::Candidates] {
                caches.tell(Change::all(Some(layer), Reason::Import));
            }
        }
        Ok(())
    }
}
