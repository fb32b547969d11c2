//! The cache without Redis, on a clock that is stepped. With Redis: `tests/tests/redis/cache.rs`.

use super::*;
use penstock_config::clock::{Clock, SharedClock, Stepped};
use penstock_config::policy::{FileSet, Policy};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Text(String);

impl Cached for Text {
    fn weight(&self) -> usize {
        self.0.len()
    }
}

struct Place {
    clock: Arc<Stepped>,
    ledger: Arc<Ledger>,
    cache: Tiered<Text>,
    policy: Policy,
}

fn place(cache_toml: &str, alone: bool) -> Place {
    let (policy, _) = Policy::from_files(&FileSet::of([("cache.toml", cache_toml)])).unwrap();
    let clock = Stepped::at(1_790_000_000_000_000);
    let ledger = Arc::new(Ledger::new(alone));
    let kind = CacheKind::Results;
    let cache = Tiered::new(
        kind,
        kind.layer(&policy.cache),
        None,
        ledger.clone(),
        clock.clone() as SharedClock,
        Arc::new(Unobserved),
    );
    Place { clock, ledger, cache, policy }
}

fn key(name: &str) -> Key {
    Key::new(CacheKind::Results, &Versions::default(), ["search", name])
}

impl Place {
    fn put(&self, name: &str, text: &str, ttl: Duration) {
        let lives = Lives::new(self.now(), ttl, Duration::from_secs(10), (0.0, 0.0), 0.1);
        let tags = Tags::of(["mug"], Some("ann"));
        let entry = Entry { value: Text(text.into()), lives, tags, mark: self.cache.mark(1) };
        self.cache.put(&self.policy, &key(name), entry, true);
    }

    fn get(&self, name: &str) -> Option<(String, Freshness)> {
        let hit = self.cache.get_local(&self.policy, &key(name))?;
        Some((hit.entry.value.0.clone(), hit.freshness))
    }

    fn now(&self) -> i64 {
        self.clock.unix_micros() / 1_000
    }
}

const TTL: Duration = Duration::from_secs(100);

#[test]
fn what_is_remembered_ages_and_goes() {
    let place = place("", true);
    assert_eq!(place.get("mug"), None);
    place.put("mug", "[1]", TTL);
    let is = |freshness| Some(("[1]".to_owned(), freshness));
    assert_eq!(place.get("mug"), is(Freshness::Fresh));
    assert_eq!(place.get("pan"), None);
    place.clock.step(Duration::from_secs(95));
    assert_eq!(place.get("mug"), is(Freshness::Aging));
    place.clock.step(Duration::from_secs(10));
    assert_eq!(place.get("mug"), is(Freshness::Stale(Duration::from_secs(5))));
    place.clock.step(Duration::from_secs(5));
    assert_eq!(place.get("mug"), None);
    assert_eq!(place.cache.held().1, 0);
}

#[test]
fn what_changed_while_it_was_made_is_not_remembered() {
    let place = place("", true);
    let mark = place.cache.mark(1);
    place.ledger.note(&Change::users(vec!["ann".into()]), Known::Here);
    let lives = Lives::plain(place.now(), TTL);
    let tags = Tags::of([], Some("ann"));
    let entry = Entry { value: Text("old".into()), lives, tags, mark };
    place.cache.put(&place.policy, &key("mug"), entry, true);
    assert_eq!(place.get("mug"), None);
    place.put("mug", "new", TTL);
    assert!(place.get("mug").is_some());
    place.ledger.note(&Change::users(vec!["ann".into()]), Known::Here);
    assert_eq!(place.get("mug"), None);
}

#[test]
fn memory_keeps_its_bound_when_there_is_far_more() {
    let place = place("[results]\nmemory = \"1MiB\"\n", true);
    let text = "x".repeat(1_000);
    for n in 0..20_000 {
        place.put(&n.to_string(), &text, TTL);
        assert!(place.cache.held().0 <= 1 << 20);
    }
    assert!(place.cache.held().1 > 500, "{:?}", place.cache.held());
    // Another bound is in force with the next value.
    let larger = FileSet::of([("cache.toml", "[results]\nmemory = \"4MiB\"\n")]);
    let place = Place { policy: Policy::from_files(&larger).unwrap().0, ..place };
    for n in 0..20_000 {
        place.put(&n.to_string(), &text, TTL);
    }
    let (bytes, _) = place.cache.held();
    assert!((2 << 20..=4 << 20).contains(&bytes), "{bytes}");
}

#[test]
fn a_layer_that_is_off_remembers_nothing() {
    for off in ["enabled = false\n", "[results]\nenabled = false\n"] {
        let place = place(off, true);
        place.put("mug", "[1]", TTL);
        assert_eq!((place.get("mug"), place.cache.held().1), (None, 0), "{off}");
    }
}

#[test]
fn who_may_have_missed_a_change_trusts_nothing_old() {
    let place = place("", false);
    place.ledger.hear(true);
    place.put("mug", "[1]", TTL);
    place.clock.step(Duration::from_secs(40));
    assert_eq!(place.get("mug").unwrap().1, Freshness::Fresh);
    place.ledger.hear(false);
    assert_eq!(place.get("mug").unwrap().1, Freshness::Stale(Duration::from_secs(10)));
}
