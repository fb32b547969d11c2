//! The allow and the deny list of a fleet.

use super::{Board, Link, Trouble};
use penstock_config::lists::Change;
use penstock_config::policy::{Entry, Resilience, Target};
use std::sync::Arc;

/// The lists as all instances have them; the entries of `access.toml` are in force besides.
#[derive(Debug, Clone)]
pub struct SharedLists(Board);

/// Why the lists were not changed.
#[derive(Debug, thiserror::Error)]
pub enum SharedListsError {
    /// Neither list has it.
    #[error("neither list in Redis has {0}; `lists show` shows what they have")]
    Absent(Target),
    /// Redis did not do it, or did not say so.
    #[error("the lists in Redis were not changed: {0}")]
    Trouble(#[from] Trouble),
}

impl SharedLists {
    /// Through `link`.
    pub fn new(link: Arc<Link>) -> Self {
        Self(Board::new(link, "lists"))
    }

    /// The map beneath, for whoever follows it.
    pub fn board(&self) -> &Board {
        &self.0
    }

    /// All entries; one that cannot be read is left out, and logged.
    pub async fn entries(&self, policy: &Resilience) -> Result<Vec<Entry>, Trouble> {
        let rows = self.0.read(policy).await?;
        let mut entries: Vec<Entry> = rows
            .into_iter()
            .filter_map(|(target, json)| {
                serde_json::from_str(&json)
                    .inspect_err(|error| tracing::error!(target, %error, "an entry of the lists in Redis cannot be read"))
                    .ok()
            })
            .collect();
        entries.sort_by_key(|entry| (entry.list as u8, entry.target.to_string()));
        Ok(entries)
    }

    /// Makes a change; how many entries went. A target is on one list at most.
    pub async fn change(
        &self,
        policy: &Resilience,
        change: &Change,
    ) -> Result<usize, SharedListsError> {
        let (remove, put) = match change {
            Change::Put(entry) => {
                let json = serde_json::to_string(entry).unwrap_or_default();
                (Vec::new(), vec![(entry.target.to_string(), json)])
            }
            Change::Remove(target) => (vec![target.to_string()], Vec::new()),
            Change::Prune(now) => {
                let entries = self.entries(policy).await?;
                let expired = entries.iter().filter(|entry| !entry.is_in_force(*now));
                (expired.map(|entry| entry.target.to_string()).collect(), Vec::new())
            }
        };
        let gone = self.0.change(policy, &remove, &put).await?;
        match change {
            Change::Remove(target) if gone == 0 => Err(SharedListsError::Absent(*target)),
            _ => Ok(gone),
        }
    }
}
