//! The allow and the deny list of a fleet.

use super::{Board, Link, Revision, Rows, Trouble};
use penstock_config::lists::Change;
use penstock_config::policy::{Entry, List, Resilience, Target};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;

/// The lists as all instances have them; the entries of `access.toml` are in force besides.
#[derive(Debug, Clone)]
pub struct SharedLists(Board);

/// The lists as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListsRead {
    /// What state it was.
    pub revision: Revision,
    /// All entries, sorted.
    pub entries: Vec<Entry>,
}

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

    /// All entries that can be read; the others are logged.
    pub async fn entries(&self, policy: &Resilience) -> Result<Vec<Entry>, Trouble> {
        Ok(sorted(parsed(self.0.read(policy).await?, &[])))
    }

    /// What changed since `known` was read, if anything did. `kept` are the entries of then: of a target
    /// whose row cannot be read (a newer version's, a damaged one) the entry stays as it was, and one that
    /// says it denies does so without an end, so that nothing opens.
    pub async fn read_since(
        &self,
        policy: &Resilience,
        known: Option<Revision>,
        kept: &[Entry],
    ) -> Result<Option<ListsRead>, Trouble> {
        let read = self.0.read_since(policy, known).await?;
        Ok(read.map(|(revision, rows)| ListsRead { revision, entries: sorted(parsed(rows, kept)) }))
    }

    /// Puts entries back that Redis lost.
    pub async fn restore(&self, policy: &Resilience, entries: &[Entry]) -> Result<(), Trouble> {
        let rows: Vec<(String, String)> = entries
            .iter()
            .map(|entry| {
                (entry.target.to_string(), serde_json::to_string(entry).unwrap_or_default())
            })
            .collect();
        self.0.change(policy, &[], &rows).await.map(|_| ())
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

fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by_cached_key(|entry| (entry.list as u8, entry.target.to_string()));
    entries
}

fn parsed(rows: Rows, kept: &[Entry]) -> Vec<Entry> {
    let kept: HashMap<Target, &Entry> = kept.iter().map(|entry| (entry.target, entry)).collect();
    let read = |(target, json): (String, String)| match serde_json::from_str(&json) {
        Ok(entry) => Some(entry),
        Err(error) => {
            tracing::error!(target, %error, "an entry of the lists in Redis cannot be read");
            let target = Target::parse(&target).ok()?;
            let known = kept.get(&target).map(|&entry| entry.clone());
            match known {
                Some(Entry { list: List::Deny, .. }) => known,
                _ => denied(target, &json).or(known),
            }
        }
    };
    rows.into_iter().filter_map(read).collect()
}

/// The entry of a row of which nothing is understood but that it denies.
fn denied(target: Target, json: &str) -> Option<Entry> {
    #[derive(Deserialize)]
    struct Verdict {
        list: List,
    }
    let Verdict { list } = serde_json::from_str(json).ok()?;
    let reason = "written by another version".to_owned();
    (list == List::Deny).then_some(Entry { list, target, reason, expires: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_stays_as_it_was() {
        let entry = |target: &str, list, reason: &str| Entry {
            list,
            target: Target::parse(target).unwrap(),
            reason: reason.into(),
            expires: None,
        };
        let kept = [
            entry("203.0.113.1", List::Deny, "known"),
            entry("203.0.113.2", List::Allow, "known"),
            entry("203.0.113.9", List::Deny, "gone"),
        ];
        let check = |target: &str, json: &str, expected: Option<(List, &str)>| {
            let rows = Rows::from([(target.to_owned(), json.to_owned())]);
            let found = parsed(rows, &kept);
            let expected = expected.map(|(list, reason)| entry(target, list, reason));
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{target} {json}");
        };
        let good = r#"{"list":"allow","address":"203.0.113.1","reason":"new"}"#;
        check("203.0.113.1", good, Some((List::Allow, "new")));
        check("203.0.113.1", "", Some((List::Deny, "known")));
        check("203.0.113.2", "{", Some((List::Allow, "known")));
        check("203.0.113.3", "{", None);
        let newer = |list: &str| format!(r#"{{"list":"{list}","since":7}}"#);
        check("203.0.113.1", &newer("allow"), Some((List::Deny, "known")));
        check("203.0.113.2", &newer("deny"), Some((List::Deny, "written by another version")));
        check("203.0.113.3", &newer("deny"), Some((List::Deny, "written by another version")));
        check("203.0.113.3", &newer("allow"), None);
        check("nobody", &newer("deny"), None);
    }
}
