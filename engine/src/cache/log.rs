//! Changes, told to every instance.
//!
//! A change is noted here at once and told to the others through a list in Redis that is only added to (and cut at
//! its old end), with a message to whoever listens. Each addition has a number, the time in microseconds by the
//! clock of Redis or one more than the last, and carries the number before it: who reads the list knows whether
//! it missed any. What changes within a moment is one addition.
//!
//! An instance that does not hear the messages forgets what it has in memory, does not ask Redis for values, and
//! when it hears again reads the list before it does. What it could not tell meanwhile it tells then.

use super::{Change, Ledger, Observe, Operation, Reason, What};
use crate::redis::{Event, Link, Script, Trouble, cmd};
use penstock_config::clock::SharedClock;
use penstock_config::policy::Resilience;
use serde::Deserialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The channel, and what the keys begin with.
const NAME: &str = "cache";
/// Additions that are kept: minutes of a busy shop's events, weeks of its products.
const KEPT: usize = 10_000;
/// So long after the last one Redis may forget all: longer than anything remembered lives.
const FORGOTTEN_MS: u64 = 8 * 24 * 3_600 * 1_000;
/// Changes that wait to be told; more, and they are one change of everything.
const MOST_PENDING: usize = 10_000;
/// Changes in one addition.
const MOST_TOGETHER: usize = 1_000;
/// What changes within so long is told together.
const TOGETHER: Duration = Duration::from_millis(15);
/// Between two attempts to tell or to read while Redis fails.
const AGAIN: Duration = Duration::from_millis(250);
/// Reading the list is no request's wait.
const READ_DEADLINE: Duration = Duration::from_secs(5);
/// Own numbers that are recognised when they are heard.
const OWN: usize = 1_024;

/// KEYS: the list, the last number. ARGV: the channel, how many are kept, for how many milliseconds, the changes as
/// JSON. Returns the number.
const ADD: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
if now <= last then now = last + 1 end
local number = string.format('%.0f', now)
local added = '{\"epoch\":' .. number .. ',\"before\":' .. string.format('%.0f', last)
  .. ',\"changes\":' .. ARGV[4] .. '}'
redis.call('RPUSH', KEYS[1], added)
redis.call('LTRIM', KEYS[1], -ARGV[2], -1)
redis.call('SET', KEYS[2], number, 'PX', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PUBLISH', ARGV[1], added)
return number";

/// One addition to the list.
#[derive(Debug, Deserialize)]
struct Added {
    epoch: u64,
    before: u64,
    changes: Vec<Change>,
}

/// How it stands, for the status page.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LogStatus {
    /// There is a fleet to tell.
    pub shared: bool,
    /// No message of the fleet is missed.
    pub hears: bool,
    /// The last change of the fleet that is noted; 0: none.
    pub epoch: u64,
    /// Changes the fleet was not told of yet.
    pub pending: usize,
}

/// See the module.
pub struct Log {
    ledger: Arc<Ledger>,
    link: Option<Arc<Link>>,
    clock: SharedClock,
    observer: Arc<dyn Observe>,
    add: Script,
    pending: Mutex<VecDeque<Change>>,
    own: Mutex<VecDeque<u64>>,
    wake: Notify,
}

impl Log {
    /// Notes in `ledger`; tells the fleet, if there is one.
    pub fn new(
        ledger: Arc<Ledger>,
        link: Option<Arc<Link>>,
        clock: SharedClock,
        observer: Arc<dyn Observe>,
    ) -> Self {
        Self {
            ledger,
            link,
            clock,
            observer,
            add: Script::new(ADD),
            pending: Mutex::default(),
            own: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Of this process alone: told to nobody, because everybody finds out alone.
    pub fn note(&self, change: &Change) {
        self.ledger.note(change, Some(0));
        self.observer.invalidated(change.cache, change.reason);
        tell_log(change, "noted");
    }

    /// In force here when it returns; the fleet hears of it a moment later, or when Redis is there again. Never
    /// waits.
    pub fn tell(&self, change: Change) {
        self.ledger.note(&change, None);
        self.observer.invalidated(change.cache, change.reason);
        tell_log(&change, "told");
        if self.link.is_none() {
            return;
        }
        let mut pending = lock(&self.pending);
        if pending.len() >= MOST_PENDING {
            pending.clear();
            pending.push_back(Change::all(None, Reason::MissedMessages));
        }
        pending.push_back(change);
        drop(pending);
        self.wake.notify_one();
    }

    /// As [`Log::tell`], for an operator: in Redis when it returns, or why not yet.
    pub async fn tell_now(&self, policy: &Resilience, change: Change) -> Result<(), Trouble> {
        if self.link.is_none() {
            self.tell(change);
            return Ok(());
        }
        self.ledger.note(&change, None);
        self.observer.invalidated(change.cache, change.reason);
        tell_log(&change, "told");
        let told = self.add(policy, std::slice::from_ref(&change)).await;
        if told.is_err() {
            lock(&self.pending).push_back(change);
            self.wake.notify_one();
        }
        told
    }

    /// How it stands.
    pub fn status(&self) -> LogStatus {
        LogStatus {
            shared: self.link.is_some(),
            hears: self.ledger.hears(),
            epoch: self.ledger.epoch(),
            pending: lock(&self.pending).len(),
        }
    }

    /// Tells what waits and hears what others tell, until it is dropped; `policy` is asked for each time. Returns
    /// at once where there is no fleet.
    pub async fn follow(&self, policy: impl Fn() -> Resilience) {
        let Some(link) = &self.link else {
            return;
        };
        let mut messages = link.subscribe(NAME);
        let mut behind = false;
        loop {
            tokio::select! {
                event = messages.next() => match event {
                    Some(Event::Message(bytes)) => self.hear(&bytes),
                    Some(Event::Interrupted) => {
                        behind = false;
                        self.lost_touch();
                    }
                    Some(Event::Resubscribed) => behind = !self.catch_up(link).await,
                    None => return,
                },
                () = self.wake.notified() => {
                    tokio::time::sleep(TOGETHER).await;
                    self.tell_pending(&policy()).await;
                }
                () = tokio::time::sleep(AGAIN) => {
                    if behind {
                        behind = !self.catch_up(link).await;
                    }
                    self.tell_pending(&policy()).await;
                }
            }
        }
    }

    /// Tells what waits, as far as Redis takes it.
    async fn tell_pending(&self, policy: &Resilience) {
        loop {
            let together: Vec<Change> =
                lock(&self.pending).iter().take(MOST_TOGETHER).cloned().collect();
            if together.is_empty() || self.add(policy, &joined(&together)).await.is_err() {
                return;
            }
            // Where it overflowed meanwhile, what is there now was not told.
            let mut pending = lock(&self.pending);
            for told in &together {
                if pending.front() == Some(told) {
                    pending.pop_front();
                }
            }
        }
    }

    /// Adds to the list and notes the number.
    async fn add(&self, policy: &Resilience, changes: &[Change]) -> Result<(), Trouble> {
        let link = self.link.as_ref().expect("asked for a fleet only");
        let json = serde_json::to_string(changes).expect("changes have no failing fields");
        let keys = [list(link), number(link)];
        let args = [link.key(NAME), KEPT.to_string(), FORGOTTEN_MS.to_string(), json];
        let began = self.clock.now();
        let epoch: String = link.script(policy, &self.add, &keys, &args).await?;
        let took = self.clock.now().saturating_duration_since(began);
        let about = changes.iter().find_map(|change| change.cache);
        self.observer.took(about.unwrap_or(super::CacheKind::Results), Operation::Invalidate, took);
        let epoch: u64 = epoch.parse().unwrap_or(0);
        let mut own = lock(&self.own);
        if own.len() >= OWN {
            own.pop_front();
        }
        own.push_back(epoch);
        drop(own);
        changes.iter().for_each(|change| self.ledger.note(change, Some(epoch)));
        Ok(())
    }

    /// A message of the fleet.
    fn hear(&self, bytes: &[u8]) {
        match serde_json::from_slice::<Added>(bytes) {
            Ok(added) => self.apply(&added),
            Err(error) => {
                // Of a version that knows more kinds of change: it may be about anything.
                tracing::warn!(%error, "a message about changes is not understood; nothing is remembered");
                let all = Change::all(None, Reason::MissedMessages);
                self.ledger.note(&all, Some(self.ledger.epoch() + 1));
                self.observer.invalidated(None, Reason::MissedMessages);
            }
        }
    }

    fn apply(&self, added: &Added) {
        let known = self.ledger.epoch();
        if added.epoch <= known {
            return;
        }
        if added.before > known && self.ledger.hears() {
            self.note_gap(added.before);
        }
        let own = lock(&self.own).contains(&added.epoch);
        if !own {
            for change in &added.changes {
                self.ledger.note(change, Some(added.epoch));
                self.observer.invalidated(change.cache, change.reason);
                tell_log(change, "heard");
            }
        }
        self.ledger.heard(added.epoch);
    }

    /// Changes up to `epoch` are not known: they may be about anything.
    fn note_gap(&self, epoch: u64) {
        tracing::warn!("changes were missed; nothing older is remembered");
        self.ledger.note(&Change::all(None, Reason::MissedMessages), Some(epoch));
        self.observer.invalidated(None, Reason::MissedMessages);
    }

    fn lost_touch(&self) {
        tracing::warn!("changes are not heard for now; what is in memory is forgotten");
        self.ledger.hear(false);
        self.ledger.note(&Change::all(None, Reason::MissedMessages), Some(0));
        self.observer.invalidated(None, Reason::MissedMessages);
    }

    /// Reads what was added while nobody listened; `false`: Redis did not let it.
    async fn catch_up(&self, link: &Link) -> bool {
        let (mut get, mut range) = (cmd("GET"), cmd("LRANGE"));
        get.arg(number(link));
        range.arg(list(link)).arg(0).arg(-1);
        let last = link.call_patiently::<Option<u64>>(READ_DEADLINE, &get).await;
        let added = link.call_patiently::<Vec<Vec<u8>>>(READ_DEADLINE, &range).await;
        let (Ok(last), Ok(added)) = (last, added) else {
            return false;
        };
        match read_log(last.unwrap_or(0), &added, self.ledger.epoch()) {
            Read::Lost { last } => {
                // And with them what an instance that starts now would have to know.
                tracing::warn!("Redis lost the log of changes; nothing that is in Redis is used");
                self.ledger.restart(last);
                self.tell(Change::all(None, Reason::MissedMessages));
            }
            Read::Gap { last } => {
                self.note_gap(last);
                self.ledger.heard(last);
            }
            Read::Whole(newer) => newer.iter().for_each(|added| self.apply(added)),
        }
        self.ledger.hear(true);
        true
    }
}

/// What the log says to somebody who knows everything up to `known`.
#[derive(Debug)]
enum Read {
    /// It is not the log that was known.
    Lost { last: u64 },
    /// Of the changes up to `last` some are not in it any more, or not understood.
    Gap { last: u64 },
    /// All that is newer.
    Whole(Vec<Added>),
}

/// `last` is the number of the last addition, `added` are those that are kept, oldest first. Each says what was
/// before it, so that a chain is whole or is not.
fn read_log(last: u64, added: &[Vec<u8>], known: u64) -> Read {
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
fn joined(changes: &[Change]) -> Vec<Change> {
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

/// At `info` what is rare; what every event does is not worth a line.
fn tell_log(change: &Change, how: &str) {
    let reason = change.reason.name();
    match &change.what {
        What::Users(users) => tracing::debug!(reason, users = users.len(), "invalidation {how}"),
        What::Products(ids) => {
            let some: Vec<_> = ids.iter().take(5).collect();
            tracing::info!(reason, products = ids.len(), ?some, "invalidation {how}");
        }
        What::All => tracing::info!(reason, cache = ?change.cache, "invalidation of all {how}"),
        What::Pattern(pattern) => {
            tracing::info!(reason, pattern = pattern.as_str(), "invalidation {how}");
        }
    }
}

fn list(link: &Link) -> String {
    link.key(&format!("{{{NAME}}}:changes"))
}

fn number(link: &Link) -> String {
    link.key(&format!("{{{NAME}}}:epoch"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
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
