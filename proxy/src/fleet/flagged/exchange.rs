//! What an instance takes from the board, and what it puts there.
//!
//! A client's row and its pardon are two fields. Rows only grow ([`Stamp`]) and a pardon is only replaced by
//! a later one, so instances come to rest whatever they hear in whatever order. A row is put where the
//! board does not cover it, and back on a board that lost it only while its penalty runs: nobody revives
//! what another has thrown away.

use crate::admission::abuse::{Flagged, Pardon, Stamp};
use crate::admission::{Admission, Who};
use penstock_config::policy::Abuse;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Instant;

/// Before the client in the field of its pardon.
const PARDON: &str = "pardon:";
/// No policy allows a longer penalty, microseconds.
const LONGEST: i64 = 30 * 86_400 * 1_000_000;

/// A value on the board, and in the kept file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Row {
    /// A client was found out.
    Flagged(Flagged),
    /// What a client did is forgiven.
    Pardoned(Pardon),
}

impl Row {
    /// Its field on the board.
    pub fn field(&self) -> String {
        match self {
            Self::Flagged(row) => row.client.to_string(),
            Self::Pardoned(pardon) => format!("{PARDON}{}", pardon.client),
        }
    }

    /// Its field and its value on the board.
    pub fn entry(&self) -> (String, String) {
        (self.field(), serde_json::to_string(self).unwrap_or_default())
    }
}

/// Rows and pardons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rows {
    pub flagged: Vec<Flagged>,
    pub pardons: Vec<Pardon>,
}

impl Rows {
    /// What can be read of a board; the rest is another version's.
    pub fn parsed(board: &HashMap<String, String>) -> Self {
        let read = |(field, json): (&String, &String)| {
            serde_json::from_str(json).ok().filter(|row: &Row| row.field() == *field)
        };
        board.iter().filter_map(read).collect()
    }

    /// What is known here.
    pub fn here(admission: &Admission, policy: &Abuse, now: Instant, unix_micros: i64) -> Self {
        Self {
            flagged: admission.flagged(policy, now, unix_micros),
            pardons: admission.pardons(unix_micros),
        }
    }

    /// All of them.
    pub fn into_rows(self) -> Vec<Row> {
        let pardons = self.pardons.into_iter().map(Row::Pardoned);
        pardons.chain(self.flagged.into_iter().map(Row::Flagged)).collect()
    }
}

impl FromIterator<Row> for Rows {
    fn from_iter<I: IntoIterator<Item = Row>>(rows: I) -> Self {
        let mut all = Self::default();
        for row in rows {
            match row {
                Row::Flagged(row) => all.flagged.push(row),
                Row::Pardoned(pardon) => all.pardons.push(pardon),
            }
        }
        all
    }
}

/// What is to be changed on the board.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Fields.
    pub remove: Vec<String>,
    /// Fields and values.
    pub put: Vec<(String, String)>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.put.is_empty()
    }
}

/// One instance's side of it.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// What the board had last time. What is forgotten here for lack of room is not taken again and again.
    seen: HashMap<Who, Stamp>,
}

impl Exchange {
    /// Takes what is news on the board; what is to be changed there. `unix_micros` is the wall time at
    /// `now`.
    pub fn with(
        &mut self,
        admission: &Admission,
        policy: &Abuse,
        board: &Rows,
        now: Instant,
        unix_micros: i64,
    ) -> Changes {
        // Pardons first: what they forgive is not worth comparing.
        admission.forgive(&board.pardons, now, unix_micros);
        let mut here = Rows::here(admission, policy, now, unix_micros);
        let known = stamps(&here.flagged);
        let is_news = |row: &&Flagged| {
            let stamp = row.stamp();
            self.seen.get(&row.client) != Some(&stamp)
                && !known.get(&row.client).is_some_and(|known| known.covers(stamp))
        };
        let news: Vec<Flagged> = board.flagged.iter().filter(is_news).cloned().collect();
        self.seen = stamps(&board.flagged);
        if admission.import(policy, &news, now, unix_micros) > 0 {
            here = Rows::here(admission, policy, now, unix_micros);
        }
        let pardons: HashMap<Who, Pardon> =
            here.pardons.iter().map(|pardon| (pardon.client, *pardon)).collect();
        let forgiven =
            |row: &Flagged| pardons.get(&row.client).is_some_and(|pardon| pardon.forgives(row));

        let told: HashMap<Who, Pardon> =
            board.pardons.iter().map(|pardon| (pardon.client, *pardon)).collect();
        let untold = |pardon: &Pardon| {
            let told = told.get(&pardon.client);
            told.is_none_or(|told| told.pardoned_micros < pardon.pardoned_micros)
        };
        let missing = |row: &Flagged| match self.seen.get(&row.client) {
            Some(there) => !there.covers(row.stamp()),
            None => row.penalty_until_micros > unix_micros,
        };
        let forget_after = i64::try_from(policy.penalty.forget_after.as_micros());
        let forget_after = forget_after.unwrap_or(i64::MAX);
        let old = |row: &Flagged| {
            let latest = row.last_offence_micros.saturating_add(LONGEST);
            let end = row.penalty_until_micros.min(latest);
            end.saturating_add(forget_after) < unix_micros
        };

        let mut changes = Changes::default();
        let gone = board.flagged.iter().filter(|row| forgiven(row) || old(row));
        changes.remove.extend(gone.map(|row| row.client.to_string()));
        let gone = board.pardons.iter().filter(|pardon| pardon.is_forgotten(unix_micros));
        changes.remove.extend(gone.map(|pardon| Row::Pardoned(*pardon).field()));
        let rows = here.flagged.into_iter().filter(|row| !forgiven(row) && missing(row));
        changes.put.extend(rows.map(|row| Row::Flagged(row).entry()));
        let pardons = here.pardons.into_iter();
        let pardons = pardons.filter(|pardon| !pardon.is_stale(unix_micros) && untold(pardon));
        changes.put.extend(pardons.map(|pardon| Row::Pardoned(pardon).entry()));
        changes
    }
}

fn stamps(rows: &[Flagged]) -> HashMap<Who, Stamp> {
    rows.iter().map(|row| (row.client, row.stamp())).collect()
}

#[cfg(test)]
mod tests;
