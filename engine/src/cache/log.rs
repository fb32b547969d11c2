//! Changes, told to every instance.
//!
//! A change is noted here at once and told to the others through a list in Redis that is only added to (and cut at
//! its old end), with a message to whoever listens. Each addition has a number, the time in microseconds by the
//! clock of Redis or one more than the last, and carries the number before it: who reads the list knows whether
//! it missed any. What changes within a moment is one addition.
//!
//! An instance that does not hear the messages forgets what it has in memory, does not ask Redis for values, and
//! when it hears again reads the list before it does. What it could not tell meanwhile it tells then.

mod chain;

use super::{Change, Known, Ledger, Observe, Operation, Reason, What};
use crate::redis::{Event, Link, Script, Trouble, cmd};
use chain::{Added, Read, joined, read_log};
use penstock_config::clock::SharedClock;
use penstock_config::policy::Resilience;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

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
    /// By the numbers of their notes.
    pending: Mutex<VecDeque<(u64, Change)>>,
    /// One tells at a time, in order.
    telling: tokio::sync::Mutex<()>,
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
            telling: tokio::sync::Mutex::default(),
            own: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Of this process alone: told to nobody, because everybody finds out alone.
    pub fn note(&self, change: &Change) {
        self.ledger.note(change, Known::Here);
        self.observe(change, "noted");
    }

    /// In force here when it returns; the fleet hears of it a moment later, or when Redis is there again. Never
    /// waits.
    pub fn tell(&self, change: Change) {
        self.observe(&change, "told");
        if self.link.is_none() {
            self.ledger.note(&change, Known::Here);
            return;
        }
        let mut pending = lock(&self.pending);
        if pending.len() >= MOST_PENDING {
            pending.clear();
            let all = Change::all(None, Reason::MissedMessages);
            pending.push_back((self.ledger.note(&all, Known::NotYetTold), all));
        }
        // Noted while nobody else may look what is pending: what has no number is in the list.
        pending.push_back((self.ledger.note(&change, Known::NotYetTold), change));
        drop(pending);
        self.wake.notify_one();
    }

    /// As [`Log::tell`], for an operator: in Redis when it returns, or why not yet.
    pub async fn tell_now(&self, policy: &Resilience, change: Change) -> Result<(), Trouble> {
        self.tell(change);
        self.tell_pending(policy).await
    }

    fn observe(&self, change: &Change, how: &str) {
        self.observer.invalidated(change.cache, change.reason);
        tell_log(change, how);
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
        // Of its own: however many messages there are, what failed is tried again.
        let mut again = tokio::time::interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut behind = false;
        loop {
            tokio::select! {
                event = messages.next() => match event {
                    Some(Event::Message(bytes)) if self.ledger.hears() => self.hear(&bytes),
                    // It is in the list, too, and is read with what was before it.
                    Some(Event::Message(_)) => {}
                    Some(Event::Interrupted) => {
                        behind = false;
                        self.lost_touch();
                    }
                    Some(Event::Resubscribed) => behind = !self.catch_up(link).await,
                    None => return,
                },
                () = self.wake.notified() => {
                    tokio::time::sleep(TOGETHER).await;
                    // What is left is told when it is time again.
                    let _ = self.tell_pending(&policy()).await;
                }
                _ = again.tick() => {
                    if behind {
                        behind = !self.catch_up(link).await;
                    }
                    let _ = self.tell_pending(&policy()).await;
                }
            }
        }
    }

    /// Tells what waits, as far as Redis takes it.
    async fn tell_pending(&self, policy: &Resilience) -> Result<(), Trouble> {
        let _telling = self.telling.lock().await;
        loop {
            let together: Vec<(u64, Change)> =
                lock(&self.pending).iter().take(MOST_TOGETHER).cloned().collect();
            let Some((last, _)) = together.last() else {
                return Ok(());
            };
            let changes: Vec<Change> = together.iter().map(|(_, change)| change.clone()).collect();
            self.add(policy, &joined(&changes)).await?;
            let mut pending = lock(&self.pending);
            while pending.front().is_some_and(|(seq, _)| seq <= last) {
                pending.pop_front();
            }
            let told = pending.front().map_or(self.ledger.latest(), |(seq, _)| seq - 1);
            self.ledger.told(told);
        }
    }

    /// Adds to the list and notes the number.
    async fn add(&self, policy: &Resilience, changes: &[Change]) -> Result<(), Trouble> {
        let link = self.link.as_ref().expect("asked for a fleet only");
        let json = serde_json::to_string(changes).expect("changes have no failing fields");
        let keys = [list(link), number(link)];
        let args = [link.key(NAME), KEPT.to_string(), FORGOTTEN_MS.to_string(), json];
        let began = self.clock.now();
        let told = link.script(policy, &self.add, &keys, &args).await;
        if let Err(Trouble::Rejected(why)) = &told {
            tracing::error!(
                why,
                "the fleet cannot be told of changes: something else is under these keys"
            );
        }
        let epoch: String = told?;
        let took = self.clock.now().saturating_duration_since(began);
        let about = changes.iter().find_map(|change| change.cache);
        self.observer.took(about.unwrap_or(super::CacheKind::Results), Operation::Invalidate, took);
        let epoch: u64 = epoch
            .parse()
            .map_err(|_| Trouble::Rejected(format!("the log has the number {epoch:?}")))?;
        let mut own = lock(&self.own);
        if own.len() >= OWN {
            own.pop_front();
        }
        own.push_back(epoch);
        drop(own);
        for change in changes {
            self.ledger.note(change, Known::Fleet(epoch));
        }
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
                self.ledger.note(&all, Known::Fleet(self.ledger.epoch() + 1));
                self.observer.invalidated(None, Reason::MissedMessages);
            }
        }
    }

    fn apply(&self, added: &Added) {
        let known = self.ledger.epoch();
        if added.epoch <= known {
            return;
        }
        if added.before > known {
            self.note_gap(added.before);
        }
        let own = lock(&self.own).contains(&added.epoch);
        if !own {
            for change in &added.changes {
                self.ledger.note(change, Known::Fleet(added.epoch));
                self.observe(change, "heard");
            }
        }
        self.ledger.heard(added.epoch);
    }

    /// Changes up to `epoch` are not known: they may be about anything.
    fn note_gap(&self, epoch: u64) {
        tracing::warn!("changes were missed; nothing older is remembered");
        self.ledger.note(&Change::all(None, Reason::MissedMessages), Known::Fleet(epoch));
        self.observer.invalidated(None, Reason::MissedMessages);
    }

    fn lost_touch(&self) {
        tracing::warn!("changes are not heard for now; what is in memory is forgotten");
        self.ledger.hear(false);
        self.ledger.note(&Change::all(None, Reason::MissedMessages), Known::Here);
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
