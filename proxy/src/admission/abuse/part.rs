//! One of the detector's parts: everything about the clients that fall into it, under one lock.

use super::Who;
use super::numbered::Numbered;
use super::offender::{Nanos, Offender, Pattern, Scope, nanos, penalty_of};
use super::walk::Walk;
use super::window::Window;
use super::{Asked, Penalty, evidence::shown};
use indexmap::IndexMap;
use indexmap::map::Entry;
use penstock_config::policy::Abuse;
use std::hash::Hash;
use std::time::Duration;

/// Entries compared when one has to be forgotten.
const COMPARED: usize = 8;

/// What a detector reads in a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sign<'r> {
    /// A query under its key, and its text.
    Query(QueryKey, &'r str),
    /// A product of a series.
    Product(u32, Numbered<'r>),
}

/// Half of it is the client's hash, so that a client's queries can be found; half the query's, salted
/// with all of the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct QueryKey {
    pub client: u32,
    pub query: u32,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Proof {
    pattern: Pattern,
    scope: Scope,
    evidence: Box<str>,
}

/// An offender from elsewhere.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub who: Who,
    /// Half of the client's hash.
    pub client: u32,
    pub offender: Offender,
    pub now: Nanos,
    /// Wall time at `now`.
    pub unix_micros: i64,
}

/// Whom a pardon is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forgiven {
    pub who: Who,
    /// Half of the client's hash.
    pub client: u32,
    /// Microseconds since 1970.
    pub until: i64,
    pub now: Nanos,
    /// Wall time at `now`.
    pub unix_micros: i64,
}

#[derive(Debug, Default)]
pub(super) struct Part {
    queries: IndexMap<QueryKey, Window>,
    walks: IndexMap<Who, Walk>,
    pub offenders: IndexMap<Who, Offender>,
}

impl Part {
    /// The penalty that refuses a request, if one does.
    pub fn refuse(
        &mut self,
        policy: &Abuse,
        who: Who,
        asked: Asked<'_>,
        now: Nanos,
    ) -> Option<Penalty> {
        let offender = self.offenders.get_mut(&who)?;
        if !offender.is_refused(policy, asked, now) {
            return None;
        }
        offender.refused = offender.refused.saturating_add(1);
        offender.last_seen = offender.last_seen.max(now);
        offender.shadow = policy.shadow;
        Some(Penalty {
            pattern: offender.pattern,
            scope: offender.scope,
            retry_after: Duration::from_nanos(offender.until.saturating_sub(now) as u64),
            offences: offender.offences,
            shadow: policy.shadow,
            found: None,
        })
    }

    /// Counts a request that is not refused; what it proves, if anything. `most` entries a table.
    pub fn count(
        &mut self,
        policy: &Abuse,
        who: Who,
        sign: Sign<'_>,
        now: u64,
        most: usize,
    ) -> Option<Proof> {
        match sign {
            Sign::Query(key, text) => {
                make_room(&mut self.queries, &key, most, |window| window.worth(now));
                let counted = self.queries.entry(key).or_default().add(now);
                (counted > u32::from(policy.repeated_query.per_minute)).then(|| Proof {
                    pattern: Pattern::RepeatedQuery,
                    scope: Scope::of_query(text),
                    evidence: shown(text).into(),
                })
            }
            Sign::Product(series, id) => {
                let rule = &policy.sequential_ids;
                make_room(&mut self.walks, &who, most, |walk| walk.worth(now, rule));
                let walk = self.walks.entry(who).or_default();
                let run = walk.step(series, id.number, now, rule)?;
                (run.length >= rule.run).then(|| Proof {
                    pattern: Pattern::SequentialIds,
                    scope: Scope::Products,
                    evidence: format!(
                        "{} to {} in steps of {}, {} products",
                        id.with(run.first()),
                        id.with(run.last),
                        run.stride.unsigned_abs(),
                        run.length
                    )
                    .into(),
                })
            }
        }
    }

    /// Begins the penalty of an offence. What was counted for it is forgotten, so that the client
    /// begins anew when the penalty ends.
    pub fn penalise(
        &mut self,
        policy: &Abuse,
        who: Who,
        client: u32,
        proof: Proof,
        now: Nanos,
        most: usize,
    ) -> Penalty {
        let known = self.offenders.get(&who).filter(|offender| !offender.is_forgotten(policy, now));
        let offences = known.map_or(0, |offender| offender.offences).saturating_add(1);
        let first_seen = known.map_or(now, |offender| offender.first_seen);
        let refused = known.map_or(0, |offender| offender.refused);
        let Proof { pattern, scope, evidence } = proof;
        let scope = if offences > 1 { Scope::Client } else { scope };
        let lasts = penalty_of(offences, &policy.penalty);
        match (scope, pattern) {
            (Scope::Products, _) => drop(self.walks.swap_remove(&who)),
            _ => self.forget_counts(who, client),
        }
        make_room(&mut self.offenders, &who, most, |offender| offender.until.max(0) as u64);
        let found = Some(evidence.clone());
        let offender = Offender {
            pattern,
            scope,
            evidence,
            offences,
            refused: refused.saturating_add(1),
            first_seen,
            last_offence: now,
            last_seen: now,
            until: now.saturating_add(nanos(lasts)),
            told: None,
            shadow: policy.shadow,
        };
        self.offenders.insert(who, offender);
        let shadow = policy.shadow;
        Penalty { pattern, scope, retry_after: lasts, offences, shadow, found }
    }

    /// Takes an offender from elsewhere; `false`: nothing of it is news. What is counted here is only
    /// forgotten for an offence that was not known and whose penalty runs, or nobody who is known would
    /// ever be found out again.
    pub fn take(&mut self, policy: &Abuse, mut new: Newcomer, most: usize) -> bool {
        let Newcomer { who, client, now, unix_micros, .. } = new;
        if self.offenders.get(&who).is_some_and(|known| known.is_forgotten(policy, now)) {
            self.offenders.swap_remove(&who);
        }
        let theirs = new.offender.stamp(now, unix_micros);
        let mine = self.offenders.get_mut(&who).map(|known| known.stamp(now, unix_micros));
        if mine.is_some_and(|mine| mine.covers(theirs)) {
            return false;
        }
        if mine.is_none_or(|mine| theirs.tells_of_an_offence(mine)) && new.offender.until > now {
            self.forget_counts(who, client);
        }
        make_room(&mut self.offenders, &who, most, |offender| offender.until.max(0) as u64);
        match self.offenders.entry(who) {
            Entry::Occupied(mut known) => known.get_mut().merge(new.offender, now, unix_micros),
            Entry::Vacant(place) => drop(place.insert(new.offender)),
        }
        true
    }

    /// Forgets an offender whose last offence was at `until` (microseconds since 1970) or before, and what
    /// was counted of it; `false`: there is none.
    pub fn forgive(&mut self, new: &Forgiven) -> bool {
        let Forgiven { who, client, until, now, unix_micros } = *new;
        let offender = self.offenders.get_mut(&who);
        let forgiven =
            offender.is_some_and(|known| known.told(now, unix_micros).last_offence <= until);
        if forgiven {
            self.offenders.swap_remove(&who);
            self.forget_counts(who, client);
        }
        forgiven
    }

    /// Forgets what was counted of a client, whose hash `client` is half of.
    pub fn forget_counts(&mut self, who: Who, client: u32) {
        self.walks.swap_remove(&who);
        self.queries.retain(|key, _| key.client != client);
    }

    /// Entries that are counted: queries and clients.
    pub fn counted(&self) -> (usize, usize) {
        (self.queries.len(), self.walks.len())
    }
}

/// Makes room for `new`, unless it is there: of a few beside a random place, the one that is worth least
/// goes. To be forgotten, somebody who does a lot would have to look idle first.
fn make_room<K: Hash + Eq, V>(
    table: &mut IndexMap<K, V>,
    new: &K,
    most: usize,
    worth: impl Fn(&V) -> u64,
) {
    if table.len() < most || table.contains_key(new) {
        return;
    }
    while table.len() >= most {
        let all = table.len();
        // Side by side in memory: a full table is large, and eight places apart are eight waits for it.
        let start = rand::random_range(0..all);
        let candidates = (start..start + COMPARED).map(|at| at % all);
        if let Some(least) = candidates.min_by_key(|&at| worth(&table[at])) {
            table.swap_remove_index(least);
        }
    }
}
