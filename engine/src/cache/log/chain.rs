//! The log as it is read: additions in a chain, of which each says what was before it.

use super::super::{Change, What};
use serde::Deserialize;

/// One addition to the list.
#[derive(Debug, Deserialize)]
pub(super) struct Added {
    pub epoch: u64,
    pub before: u64,
    pub changes: Vec<Change>,
}

/// What the log says to somebody who knows everything up to `known`.
#[derive(Debug)]
pub(super) enum Read {
    /// It is not the log that was known.
    Lost { last: u64 },
    /// Of the changes up to `last` some are not in it any more, or not understood.
    Gap { last: u64 },
    /// All that is newer.
    Whole(Vec<Added>),
}

/// `last` is the number of the last addition, `added` are those that are kept, oldest first. Each says what was
/// before it, so that a chain is whole or is not.
pub(super) fn read_log(last: u64, added: &[Vec<u8>], known: u64) -> Read {
    if last < known {
        return Read::Lost { last };
    }
    let read: Result<Vec<Added>, _> =
        added.iter().map(|bytes| serde_json::from_slice::<Added>(bytes)).collect();
    let Ok(read) = read else {
        return Read::Gap { last };
    };
    let newer: Vec<Added> = read.into_iter().filter(|added| added.epoch > known).collect();
    let mut before = known;
    for added in &newer {
        match added.before.cmp(&before) {
            std::cmp::Ordering::Less => return Read::Lost { last },
            std::cmp::Ordering::Greater => return Read::Gap { last },
            std::cmp::Ordering::Equal => before = added.epoch,
        }
    }
    // What was added between the two looks is in the list and not in `last`.
    if before < last { Read::Gap { last } } else { Read::Whole(newer) }
}

/// Changes of one kind as one change.
pub(super) fn joined(changes: &[Change]) -> Vec<Change> {
    let mut joined: Vec<Change> = Vec::new();
    for change in changes {
        let alike = joined.iter_mut().find(|other| {
            other.reason == change.reason
                && other.cache == change.cache
                && other.revision == change.revision
        });
        match (alike.map(|other| &mut other.what), &change.what) {
            (Some(What::Users(all)), What::Users(more))
            | (Some(What::Products(all)), What::Products(more)) => all.extend(more.iter().cloned()),
            (Some(all), more) if all == more => {}
            _ => joined.push(change.clone()),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::super::super::Reason;
    use super::*;

    #[test]
    fn the_log_is_a_chain() {
        let added = |chain: &[(u64, u64)]| -> Vec<Vec<u8>> {
            let line = |(before, epoch): &(u64, u64)| {
                format!("{{\"epoch\":{epoch},\"before\":{before},\"changes\":[]}}").into_bytes()
            };
            chain.iter().map(line).collect()
        };
        let check = |last, chain: &[(u64, u64)], known, expected: &str| {
            let read = read_log(last, &added(chain), known);
            let said = match read {
                Read::Lost { .. } => "lost".to_owned(),
                Read::Gap { .. } => "gap".to_owned(),
                Read::Whole(newer) => newer.len().to_string(),
            };
            assert_eq!(said, expected, "{last} {chain:?} {known}");
        };
        check(0, &[], 0, "0");
        check(7, &[(0, 5), (5, 7)], 0, "2");
        check(7, &[(0, 5), (5, 7)], 5, "1");
        check(7, &[(0, 5), (5, 7)], 7, "0");
        // Added between the two looks.
        check(5, &[(0, 5), (5, 7)], 5, "1");
        // The old end is cut off.
        check(9, &[(7, 9)], 5, "gap");
        check(9, &[], 5, "gap");
        check(9, &[(5, 7)], 5, "gap");
        // Another log: empty, or begun anew by somebody.
        check(0, &[], 5, "lost");
        check(9, &[(0, 9)], 5, "lost");
        // Of a version that knows more.
        assert!(matches!(read_log(7, &[b"{}".to_vec()], 5), Read::Gap { .. }));
    }

    #[test]
    fn changes_of_one_kind_are_told_as_one() {
        let users = |ids: &[&str]| Change::users(ids.iter().map(ToString::to_string).collect());
        let all = Change::all(None, Reason::Operator);
        let changes = [users(&["ann"]), all.clone(), users(&["bob", "cid"]), all.clone()];
        assert_eq!(joined(&changes), [users(&["ann", "bob", "cid"]), all]);
        let product = |id: &str, revision| {
            Change::products(vec![id.to_owned()], Reason::ProductUpdate, revision)
        };
        assert_eq!(joined(&[product("a", 1), product("b", 2)]).len(), 2);
    }
}
