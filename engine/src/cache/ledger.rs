//! What has changed, so that whoever finds something remembered knows whether it still holds.
//!
//! Every change is noted under a number of this process (`seq`), and those that the fleet hears of under a number
//! of the fleet (`epoch`, given by the log in Redis). Work takes a [`Mark`] when it begins: the numbers up to
//! which every change was known here. What it makes holds as long as no later change is about it. That is exact
//! whatever the order in which work ends, changes arrive and clocks run: an answer that was being computed while
//! its product changed has an older mark than the change.
//!
//! Numbers of this process say nothing about what another instance made. So memory is judged by `seq`, and what
//! comes out of Redis by `epoch`. A change of the catalogue also carries the revision that has it: an instance
//! that heard of a change and has not loaded it yet still computes from the old catalogue.

use super::entry::tag;
use super::marks::{Bar, From, Marks, Stamp};
use super::{CacheKind, Key, Pattern, Tags, Tier};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

/// Patterns that are remembered one by one; more, and the oldest is taken for everything.
const MOST_PATTERNS: usize = 64;

/// What was known when work began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// Of this process.
    #[serde(skip)]
    pub(super) seq: u64,
    /// Of the fleet.
    pub(super) epoch: u64,
    /// The catalogue that was read.
    pub(super) revision: u64,
}

/// Why something does not hold any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A product was changed or removed.
    ProductUpdate,
    /// The ranking weights changed.
    RankingWeights,
    /// Popularity was computed anew.
    Popularity,
    /// A user did something.
    UserEvents,
    /// Events were imported.
    Import,
    /// A process started, and what changed before is not known to it.
    Start,
    /// An operator said so.
    Operator,
    /// Messages of the fleet were missed.
    MissedMessages,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ProductUpdate,
        Self::RankingWeights,
        Self::Popularity,
        Self::UserEvents,
        Self::Import,
        Self::Start,
        Self::Operator,
        Self::MissedMessages,
    ];

    /// As in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::ProductUpdate => "product_update",
            Self::RankingWeights => "ranking_weights",
            Self::Popularity => "popularity",
            Self::UserEvents => "user_events",
            Self::Import => "import",
            Self::Start => "start",
            Self::Operator => "operator",
            Self::MissedMessages => "missed_messages",
        }
    }
}

/// What a change is about.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Everything.
    All,
    /// What has such a name.
    Pattern(Pattern),
    /// What these products are in, by their ids.
    Products(Vec<String>),
    /// What was made from these users' history, by their ids.
    Users(Vec<String>),
}

/// A change: what does not hold any more, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Change {
    /// The layer it is about; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheKind>,
    /// What it is about.
    pub what: What,
    /// Why.
    pub reason: Reason,
    /// The revision of the catalogue that has it; 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Change {
    /// Of all that is remembered of `cache` (`None`: of everything).
    pub fn all(cache: Option<CacheKind>, reason: Reason) -> Self {
        Self { cache, what: What::All, reason, revision: 0 }
    }

    /// Of what these users' histories are in.
    pub fn users(users: Vec<String>) -> Self {
        Self { cache: None, what: What::Users(users), reason: Reason::UserEvents, revision: 0 }
    }

    /// Of what these products are in; `revision` of the catalogue has the change.
    pub fn products(products: Vec<String>, reason: Reason, revision: u64) -> Self {
        Self { cache: None, what: What::Products(products), reason, revision }
    }
}

/// Who knows of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// This process, and nobody else shall: all find out by themselves.
    Here,
    /// This process; the fleet will be told.
    NotYetTold,
    /// The fleet, under this number.
    Fleet(u64),
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    seq: AtomicU64,
    epoch: AtomicU64,
    /// Every note up to this one that is for the fleet has its number.
    told: AtomicU64,
    /// No message of the fleet is missed; always so where there is no fleet.
    hears: AtomicBool,
    all: [Bar; CacheKind::ALL.len()],
    products: Marks,
    users: Marks,
    patterns: RwLock<Vec<(Option<CacheKind>, Pattern, Stamp)>>,
    newest_pattern: Bar,
    writing: Mutex<()>,
}

impl Ledger {
    /// Nothing changed yet. `alone`: there is no fleet to hear of.
    pub fn new(alone: bool) -> Self {
        Self {
            // A mark of 0 is nobody's: entries out of Redis begin with it.
            seq: AtomicU64::new(1),
            epoch: AtomicU64::new(0),
            told: AtomicU64::new(0),
            hears: AtomicBool::new(alone),
            all: Default::default(),
            products: Marks::default(),
            users: Marks::default(),
            patterns: RwLock::default(),
            newest_pattern: Bar::default(),
            writing: Mutex::default(),
        }
    }

    /// For work that begins now, on this revision of the catalogue.
    pub fn mark(&self, revision: u64) -> Mark {
        Mark {
            seq: self.seq.load(Ordering::Acquire),
            epoch: self.epoch.load(Ordering::Acquire),
            revision,
        }
    }

    /// Whether what was made from `mark` and found in `tier` still holds.
    pub fn holds(&self, key: &Key, mark: Mark, tags: &Tags, tier: Tier) -> bool {
        let from = From { tier, told: self.told.load(Ordering::Acquire) };
        !self.all[key.kind() as usize].get().outdates(mark, from)
            && !self.products.outdate(&tags.products, mark, from)
            && !tags.user.is_some_and(|user| self.users.outdate(&[user], mark, from))
            && !self.matched(key, mark, from)
    }

    fn matched(&self, key: &Key, mark: Mark, from: From) -> bool {
        if !self.newest_pattern.get().outdates(mark, from) {
            return false;
        }
        let patterns = self.patterns.read().unwrap_or_else(PoisonError::into_inner);
        patterns.iter().any(|(cache, pattern, stamp)| {
            stamp.outdates(mark, from)
                && cache.is_none_or(|cache| cache == key.kind())
                && pattern.matches(key.name())
        })
    }

    /// Notes a change; the number of the note.
    pub fn note(&self, change: &Change, known: Known) -> u64 {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = self.seq.fetch_add(1, Ordering::AcqRel) + 1;
        let (epoch, untold) = match known {
            Known::Here => (0, 0),
            Known::NotYetTold => (0, seq),
            Known::Fleet(epoch) => (epoch, 0),
        };
        let stamp = Stamp { seq, epoch, untold, revision: change.revision };
        match &change.what {
            What::All => self.note_all(change.cache, stamp),
            What::Pattern(pattern) if pattern.is_everything() => self.note_all(change.cache, stamp),
            What::Pattern(pattern) => self.note_pattern(change.cache, pattern, stamp),
            What::Products(ids) => ids.iter().for_each(|id| self.products.note(tag(id), stamp)),
            What::Users(ids) => ids.iter().for_each(|id| self.users.note(tag(id), stamp)),
        }
        seq
    }

    /// Every note up to this one that is for the fleet was noted again with its number.
    pub fn told(&self, seq: u64) {
        self.told.fetch_max(seq, Ordering::AcqRel);
    }

    /// The number of the latest note.
    pub fn latest(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }

    fn note_all(&self, cache: Option<CacheKind>, stamp: Stamp) {
        for kind in CacheKind::ALL {
            if cache.is_none_or(|cache| cache == kind) {
                self.all[kind as usize].raise(stamp);
            }
        }
    }

    fn note_pattern(&self, cache: Option<CacheKind>, pattern: &Pattern, stamp: Stamp) {
        let mut patterns = self.patterns.write().unwrap_or_else(PoisonError::into_inner);
        self.newest_pattern.raise(stamp);
        let known = patterns.iter_mut().find(|(c, p, _)| *c == cache && p == pattern);
        if let Some((_, _, before)) = known {
            *before = before.joined(stamp);
            return;
        }
        if patterns.len() >= MOST_PATTERNS {
            let (cache, _, stamp) = patterns.remove(0);
            self.note_all(cache, stamp);
        }
        patterns.push((cache, pattern.clone(), stamp));
    }

    /// Every change of the fleet up to `epoch` is noted.
    pub fn heard(&self, epoch: u64) {
        self.epoch.fetch_max(epoch, Ordering::AcqRel);
    }

    /// The fleet's numbers begin anew at `epoch`: Redis lost those after it.
    pub fn restart(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    /// The latest change of the fleet that is noted.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// From now on no message is missed, or some may be.
    pub fn hear(&self, hears: bool) {
        self.hears.store(hears, Ordering::Release);
    }

    /// No message of the fleet is missed. While some may be, Redis is not asked for values.
    pub fn hears(&self) -> bool {
        self.hears.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Versions;
    use super::*;

    fn key(kind: CacheKind, parts: &[&str]) -> Key {
        Key::new(kind, &Versions::default(), parts.iter().copied())
    }

    #[test]
    fn what_a_change_is_about_does_not_hold_any_more() {
        let search = key(CacheKind::Results, &["search", "1", "", "10"]);
        let popular = key(CacheKind::Popular, &["popular", "global", "10"]);
        let tags = Tags::of(["mug", "pan"], Some("ann"));
        let check = |change: Change, expected: (bool, bool)| {
            let ledger = Ledger::new(true);
            let mark = ledger.mark(1);
            let holds = |key, mark| ledger.holds(key, mark, &tags, Tier::L1);
            assert!(holds(&search, mark) && holds(&popular, mark));
            ledger.note(&change, Known::Here);
            assert_eq!((holds(&search, mark), holds(&popular, mark)), expected, "{change:?}");
            // What begins after it knows it.
            let after = ledger.mark(1.max(change.revision));
            assert!(holds(&search, after) && holds(&popular, after), "{change:?}");
        };
        let pattern = |text: &str, cache| Change {
            cache,
            what: What::Pattern(Pattern::parse(text).unwrap()),
            reason: Reason::Operator,
            revision: 0,
        };
        check(Change::all(None, Reason::Operator), (false, false));
        check(Change::all(Some(CacheKind::Popular), Reason::Popularity), (true, false));
        check(pattern("search:*", None), (false, true));
        check(pattern("*", Some(CacheKind::Results)), (false, true));
        check(pattern("*:10", Some(CacheKind::Popular)), (true, false));
        check(Change::products(vec!["pan".into()], Reason::ProductUpdate, 0), (false, false));
        check(Change::products(vec!["cup".into()], Reason::ProductUpdate, 0), (true, true));
        check(Change::users(vec!["ann".into()]), (false, false));
        check(Change::users(vec!["bob".into()]), (true, true));
    }

    #[test]
    fn who_has_not_loaded_the_change_yet_makes_nothing_that_holds() {
        let ledger = Ledger::new(true);
        let (key, tags) = (key(CacheKind::Results, &["search"]), Tags::of(["mug"], None));
        ledger.note(
            &Change::products(vec!["mug".into()], Reason::ProductUpdate, 8),
            Known::Fleet(100),
        );
        assert!(!ledger.holds(&key, ledger.mark(7), &tags, Tier::L1));
        assert!(ledger.holds(&key, ledger.mark(8), &tags, Tier::L1));
    }

    #[test]
    fn what_comes_from_redis_is_judged_by_the_numbers_of_the_fleet() {
        let ledger = Ledger::new(false);
        let (key, tags) = (key(CacheKind::Results, &["search"]), Tags::of(["mug"], None));
        let change = Change::products(vec!["mug".into()], Reason::Operator, 0);
        let at = |epoch| Mark { seq: 0, epoch, revision: 1 };
        // Not numbered yet: nothing in Redis can know of it.
        let seq = ledger.note(&change, Known::NotYetTold);
        assert!(!ledger.holds(&key, at(500), &tags, Tier::L2));
        ledger.note(&change, Known::Fleet(300));
        assert!(!ledger.holds(&key, at(500), &tags, Tier::L2));
        ledger.told(seq);
        assert!(ledger.holds(&key, at(500), &tags, Tier::L2));
        assert!(ledger.holds(&key, at(300), &tags, Tier::L2));
        assert!(!ledger.holds(&key, at(299), &tags, Tier::L2));
        // A change that was noted is not yet one up to which everything is known.
        assert_eq!(ledger.epoch(), 0);
        ledger.heard(300);
        assert_eq!(ledger.mark(1).epoch, 300);
    }

    #[test]
    fn many_patterns_become_everything() {
        let ledger = Ledger::new(true);
        let (first, other) = (key(CacheKind::Results, &["a0"]), key(CacheKind::Results, &["zz"]));
        let mark = ledger.mark(1);
        for n in 0..=MOST_PATTERNS {
            assert!(ledger.holds(&other, mark, &Tags::default(), Tier::L1), "{n}");
            let what = What::Pattern(Pattern::parse(&format!("a{n}")).unwrap());
            ledger.note(&Change { what, ..Change::all(None, Reason::Operator) }, Known::Here);
            assert!(!ledger.holds(&first, mark, &Tags::default(), Tier::L1), "{n}");
        }
        assert!(!ledger.holds(&other, mark, &Tags::default(), Tier::L1));
        assert!(ledger.holds(&first, ledger.mark(1), &Tags::default(), Tier::L1));
    }
}
