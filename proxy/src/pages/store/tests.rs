use super::*;
use std::time::UNIX_EPOCH;

fn slot(number: u32) -> HashBinary {
    u128::from(number).to_be_bytes()
}

fn place(store: &Store, number: u32) -> Place {
    let path = format!("/page/{number}").into();
    Place { page: slot(number), host: "shop".into(), path, asked_at: store.latest_change() }
}

fn times() -> Times {
    Times {
        fresh_until: UNIX_EPOCH,
        created: UNIX_EPOCH,
        epoch: UNIX_EPOCH,
        stale_while_revalidate: 0,
        stale_if_error: 0,
        never_fresh: false,
        variance: None,
    }
}

fn kept(store: &Store, place: Place, body: usize) -> Option<Kept> {
    let header = ResponseHeader::build(200, None).unwrap();
    // As in a fill: the body's bytes and the rest are held apart.
    let rest = store.hold(cost(&place, &header))?;
    let body = Body { bytes: vec![0; body], _held: store.hold(body as u64)? };
    Some(Kept::new(place, times(), header, Bytes::from_owner(body), rest))
}

struct Body {
    bytes: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn store(bound: u64) -> Store {
    let store = Store::new();
    store.bound(bound);
    store
}

fn put(store: &Store, number: u32, body: usize) -> bool {
    let Some(kept) = kept(store, place(store, number), body) else { return false };
    store.keep(slot(number), kept)
}

#[test]
fn the_bound_is_never_passed_and_the_least_used_go() {
    let store = store(100_000);
    for number in 0..1_000 {
        assert!(put(&store, number, 5_000));
        assert!(store.bytes() <= 100_000, "{}", store.bytes());
        store.get(&slot(0));
    }
    assert!(store.entries() > 10, "{}", store.entries());
    assert!(store.has(&slot(0)), "it is used all the time");
    assert!(store.has(&slot(999)));
    assert!(!put(&store, 5_000, 100_001));
    store.bound(20_000);
    assert!(store.bytes() <= 20_000);
    store.bound(0);
    assert_eq!((store.bytes(), store.entries()), (0, 0));
}

#[test]
fn what_is_being_sent_counts_and_stays() {
    let store = store(10_000);
    assert!(put(&store, 1, 6_000));
    let sent = store.get(&slot(1)).unwrap();
    assert!(!put(&store, 2, 6_000), "there is no room while it is sent");
    assert!(store.has(&slot(1)));
    // Replaced or purged: the client still gets it, and it still counts.
    let body = sent.body.clone();
    drop(sent);
    store.purge(|_| true);
    assert!(store.bytes() >= 6_000);
    assert!(!put(&store, 2, 6_000));
    drop(body);
    assert_eq!(store.bytes(), 0);
    assert!(put(&store, 2, 6_000));
}

#[test]
fn fills_count_while_they_run() {
    let store = store(10_000);
    let running = store.hold(8_000).unwrap();
    assert!(store.hold(3_000).is_none());
    drop(running);
    assert!(store.hold(3_000).is_some());
}

#[test]
fn what_was_asked_for_before_a_change_is_not_kept_after_it() {
    let store = store(100_000);
    let (early, other) = (place(&store, 1), place(&store, 2));
    assert!(put(&store, 1, 10));
    assert!(store.changed(slot(1)));
    assert!(!store.has(&slot(1)));
    assert!(!store.changed(slot(1)), "there was nothing");
    let keep = |number, place| store.keep(slot(number), kept(&store, place, 10).unwrap());
    assert!(!keep(1, early));
    assert!(keep(2, other.clone()));
    assert!(put(&store, 1, 10));
    // A purge is about whatever is under way.
    assert_eq!(store.purge(|place| &*place.path == "/page/1"), 1);
    assert!(!keep(2, other));
    assert!(store.has(&slot(2)) && !store.has(&slot(1)));
}

#[test]
fn changes_beyond_the_memory_for_them_drop_every_fill() {
    let store = store(100_000);
    let early = place(&store, 1);
    for number in 100..=100 + MOST_CHANGES as u32 {
        store.changed(slot(number));
    }
    assert!(!store.keep(slot(1), kept(&store, early, 10).unwrap()));
    assert!(put(&store, 1, 10));
}

#[test]
fn only_the_same_answer_is_renewed() {
    let store = store(100_000);
    assert!(put(&store, 1, 10));
    let old = store.get(&slot(1)).unwrap();
    let renewed = |body: Bytes| {
        let header = ResponseHeader::build(200, None).unwrap();
        let held = store.hold(cost(&old.place, &header)).unwrap();
        Kept::new(old.place.clone(), times(), header, body, held)
    };
    assert!(store.renew(&slot(1), &old, renewed(old.body.clone())));
    assert!(!store.renew(&slot(1), &old, renewed(old.body.clone())), "it is another by now");
    let newer = store.get(&slot(1)).unwrap();
    store.changed(slot(1));
    assert!(!store.renew(&slot(1), &newer, renewed(old.body.clone())));
}

#[test]
fn threads_at_once_stay_below_the_bound() {
    let store = Arc::new(store(50_000));
    let threads: Vec<_> = (0..4_u32)
        .map(|thread| {
            let store = store.clone();
            std::thread::spawn(move || {
                for number in 0..2_000 {
                    let _ = put(&store, thread * 7 + number % 50, 2_000);
                    assert!(store.bytes() <= 50_000);
                    let _ = store.get(&slot(number % 60));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    store.purge(|_| true);
    assert_eq!(store.bytes(), 0, "everything was given back");
}
