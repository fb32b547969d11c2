use super::*;
use crate::catalog::EventKind;
use penstock_config::clock;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use tempfile::TempDir;

mod damage;
mod disk;
mod killed;
mod shipping;

pub(super) fn event(id: &str, user: &str, at: i64) -> Event {
    Event {
        event_id: id.into(),
        user_id: user.into(),
        product_id: format!("product of {id}"),
        kind: EventKind::Purchase,
        at_micros: at,
        source: "test".into(),
    }
}

/// `count` events of as many users, `<name>-0` and on.
pub(super) fn events(name: &str, count: usize) -> Vec<Event> {
    (0..count).map(|n| event(&format!("{name}-{n}"), &format!("user {n}"), n as i64)).collect()
}

/// Small enough for a test's disk.
pub(super) fn settings() -> Settings {
    Settings { reserve_bytes: 1 << 20, ..Settings::default() }
}

pub(super) fn open(folder: impl AsRef<Path>) -> Arc<Spool> {
    open_with(folder, settings())
}

pub(super) fn open_with(folder: impl AsRef<Path>, settings: Settings) -> Arc<Spool> {
    Spool::open(folder, settings, clock::system()).unwrap()
}

pub(super) fn fresh() -> (TempDir, Arc<Spool>) {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(&folder);
    (folder, spool)
}

/// Remembers what it is sent.
#[derive(Default)]
pub(super) struct Recorder {
    /// Every event of a shipment that worked, in order.
    pub stored: Mutex<Vec<String>>,
    pub calls: AtomicUsize,
    /// Says before and after storing whether a shipment fails.
    pub before: Option<fn(&[Event], usize) -> Result<(), StoreError>>,
    pub after: Option<fn(&[Event], usize) -> Result<(), StoreError>>,
}

impl Recorder {
    pub fn ids(&self) -> Vec<String> {
        self.stored.lock().unwrap().clone()
    }

    pub fn once(&self) -> HashSet<String> {
        self.ids().into_iter().collect()
    }
}

impl Sink for Recorder {
    fn ship<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let call = self.calls.fetch_add(1, Ordering::SeqCst);
            self.before.map_or(Ok(()), |say| say(events, call))?;
            self.stored.lock().unwrap().extend(events.iter().map(|e| e.event_id.clone()));
            self.after.map_or(Ok(()), |say| say(events, call))
        })
    }
}

/// Ships until nothing waits.
pub(super) async fn drain(spool: &Arc<Spool>, sink: &Recorder) {
    while spool.ship_once(sink, &|_| {}).await.unwrap() > 0 {}
}

/// Waits for what other threads do.
pub(super) async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within half a minute: {what}");
}

#[tokio::test]
async fn many_share_a_flush_and_each_gets_its_own_answer() {
    let (folder, spool) = fresh();
    // Every id is sent by two calls: exactly one of them is told that it is new.
    let calls = (0..200).map(|n| {
        spool.append(vec![event(&format!("e{}", n / 2), "u", n), event(&format!("own{n}"), "u", n)])
    });
    let mut firsts = 0;
    for answer in futures::future::join_all(calls).await {
        let answer = answer.unwrap();
        assert!(answer[1]);
        firsts += usize::from(answer[0]);
    }
    assert_eq!((firsts, spool.status().waiting), (100, 300));
    let changes = spool.board.totals().change;
    assert!(changes < 100, "{changes} transactions for 200 calls");
    assert_eq!(spool.append(vec![]).await.unwrap(), [] as [bool; 0]);
    drop(spool);
    assert_eq!(open(&folder).status().waiting, 300);
}

#[tokio::test]
async fn a_users_waiting_events_come_newest_first() {
    let (_folder, spool) = fresh();
    let given = [("1", "u", 10), ("2", "u", 30), ("3", "v", 40), ("4", "u", 30), ("5", "u", 20)];
    let given = given.map(|(id, user, at)| event(id, user, at));
    spool.append(given.to_vec()).await.unwrap();
    let check = async |user: &str, limit: usize, expected: &[&str]| {
        let found = spool.waiting_of(user, limit).await.unwrap();
        assert!(found.iter().all(|e| given.contains(e)));
        let found: Vec<_> = found.iter().map(|e| &*e.event_id).collect();
        assert_eq!(found, expected);
    };
    check("u", usize::MAX, &["4", "2", "5", "1"]).await;
    check("u", 2, &["4", "2"]).await;
    check("u", 0, &[]).await;
    check("v", 9, &["3"]).await;
    assert!(!spool.board.perhaps("nobody"), "nothing is asked for who has nothing");
    check("nobody", 9, &[]).await;

    drain(&spool, &Recorder::default()).await;
    assert!(!spool.board.perhaps("u"), "nothing is asked when all is shipped");
    check("u", 9, &[]).await;
    spool.append(vec![event("6", "u", 5)]).await.unwrap();
    assert_eq!(spool.waiting_of("u", 9).await.unwrap(), [event("6", "u", 5)]);
}

#[tokio::test]
async fn after_a_restart_everything_is_found() {
    let (folder, spool) = fresh();
    spool.append(events("e", 50)).await.unwrap();
    drop(spool);
    let spool = open(&folder);
    assert_eq!(spool.waiting_of("user 7", 9).await.unwrap(), [event("e-7", "user 7", 7)]);
    assert_eq!(spool.append(events("e", 51)).await.unwrap().iter().filter(|new| **new).count(), 1);
}

#[tokio::test]
async fn what_waits_is_bounded_and_there_is_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open_with(&folder, Settings { max_bytes: 2 << 20, ..settings() });
    let mut taken = 0;
    let refused = loop {
        match spool.append(events(&format!("n{taken}"), 100)).await {
            Ok(_) => taken += 100,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Full(_)), "{refused}");
    let text = refused.to_string();
    assert!(text.contains("2097152 may"), "{text}");
    let status = spool.status();
    assert!(status.full && status.waiting == taken && status.bytes <= 2 << 20, "{status:?}");
    assert!(status.bytes > (2 << 20) - 50_000, "{status:?}");
    // What waits already needs no room, and part of a call is never taken.
    assert_eq!(spool.append(events("n0", 100)).await.unwrap(), [false; 100]);
    assert!(spool.append(events("n0", 300)).await.is_err());
    assert_eq!(spool.status().waiting, taken);
    let file = || std::fs::metadata(spool.path()).unwrap().len();
    let sink = Recorder::default();
    for _ in 0..3 {
        drain(&spool, &sink).await;
        while spool.append(events(&format!("again {}", sink.ids().len()), 1)).await.is_err() {}
        let fill = sink.ids().len();
        for n in 0.. {
            if spool.append(events(&format!("fill {fill} {n}"), 100)).await.is_err() {
                break;
            }
        }
        assert!(spool.status().bytes > (2 << 20) - 50_000, "dead pages count for nothing");
    }
    let full = file();
    assert!(full < 5 << 20, "{full} bytes for a bound of 2 MiB");
    drain(&spool, &sink).await;
    let status = spool.status();
    assert_eq!((status.waiting, status.bytes, status.full), (0, 0, false));
    assert!(file() < 300 << 10, "{} bytes with nothing in it", file());
    let log = std::fs::metadata(spool.path().with_extension("sqlite-wal")).unwrap().len();
    assert!(log <= 1 << 20, "{log} bytes of log");
}

#[tokio::test]
async fn a_full_queue_is_busy_and_an_abandoned_call_is_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open_with(&folder, Settings { queue: 2, ..settings() });
    let blocker = rusqlite::Connection::open(spool.path()).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let append = |n: i64| spool.append(vec![event(&format!("e{n}"), "u", n)]);
    // The writer waits for the lock with one call in hand.
    let mut in_hand = append(100);
    assert!(futures::poll!(in_hand.as_mut()).is_pending());
    until("the writer has it", || spool.writer.waiting() == 0).await;
    let mut calls: Vec<_> = (0..6).map(append).collect();
    let mut waiting = Vec::new();
    for call in &mut calls {
        match futures::poll!(call.as_mut()) {
            std::task::Poll::Ready(Err(StoreError::Busy(2))) => waiting.push(false),
            std::task::Poll::Ready(other) => panic!("{other:?}"),
            std::task::Poll::Pending => waiting.push(true),
        }
    }
    assert_eq!(waiting, [true, true, false, false, false, false]);
    let last = 1;
    drop(calls.remove(last));
    waiting.remove(last);
    blocker.execute_batch("COMMIT").unwrap();
    for (call, waits) in calls.into_iter().zip(waiting) {
        if waits {
            assert_eq!(call.await.unwrap(), [true]);
        }
    }
    assert_eq!(in_hand.await.unwrap(), [true]);
    let found = spool.waiting_of("u", 99).await.unwrap();
    assert_eq!(found, [event("e100", "u", 100), event("e0", "u", 0)]);
}

#[tokio::test]
async fn the_age_is_from_when_it_was_received() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock::Stepped::at(1_000_000_000_000);
    let spool = Spool::open(&folder, settings(), clock.clone()).unwrap();
    assert_eq!(spool.status().oldest_seconds, None);
    // The client's clock says anything.
    spool.append(vec![event("future", "u", i64::MAX), event("past", "u", 0)]).await.unwrap();
    clock.step(Duration::from_secs(7));
    spool.append(vec![event("later", "u", 0)]).await.unwrap();
    clock.step(Duration::from_secs(3));
    assert_eq!(spool.status().oldest_seconds, Some(10));
    drain(&spool, &Recorder::default()).await;
    assert_eq!(spool.status().oldest_seconds, None);
}

#[tokio::test]
async fn commits_are_flushed() {
    let (_folder, spool) = fresh();
    let connection = file::connect(spool.path(), &settings()).unwrap();
    let number = |name: &str| -> i64 {
        connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!((number("synchronous"), number("auto_vacuum"), number("page_size")), (2, 2, 4096));
}

/// Two handles as two processes have them.
#[tokio::test]
async fn what_another_handle_does_is_known() {
    let (folder, one) = fresh();
    let two = open(&folder);
    assert_eq!(one.append(vec![event("1", "u", 1)]).await.unwrap(), [true]);
    assert_eq!(
        two.append(vec![event("1", "u", 1), event("2", "v", 1)]).await.unwrap(),
        [false, true]
    );
    until("the other's events are known", || {
        two.board.perhaps("u") && one.board.perhaps("v") && one.status().waiting == 2
    })
    .await;
    assert_eq!(two.waiting_of("u", 9).await.unwrap().len(), 1);
    assert_eq!(one.waiting_of("v", 9).await.unwrap().len(), 1);
    let sink = Recorder::default();
    drain(&two, &sink).await;
    assert_eq!(sink.ids(), ["1", "2"]);
    until("the other's shipping is known", || one.status().waiting == 0).await;
    assert!(!one.board.perhaps("u"));
    assert_eq!(one.status().shipped, 2);
}

#[tokio::test]
async fn only_one_ships_and_the_other_takes_over() {
    let (folder, one) = fresh();
    let two = open(&folder);
    let sink: Arc<Recorder> = Arc::default();
    let ship = |spool: &Arc<Spool>| {
        let (spool, sink) = (spool.clone(), sink.clone());
        tokio::spawn(async move { spool.ship_to(&*sink, &|_| {}).await })
    };
    let first = ship(&one);
    until("the first ships", || one.status().shipping).await;
    let second = ship(&two);
    two.append(events("a", 10)).await.unwrap();
    until("the first ships the other's events", || one.status().shipped == 10).await;
    assert!(!two.status().shipping);
    first.abort();
    until("the second takes over", || two.status().shipping).await;
    one.append(events("b", 10)).await.unwrap();
    until("the second ships", || two.status().shipped == 20).await;
    assert!(!one.status().shipping);
    second.abort();
    assert_eq!(sink.ids().len(), 20);
}
