//! Boards: read whole however large they are, and only when they changed.

use super::{connected, policy};
use penstock_config::lists::Change;
use penstock_config::policy::{Entry, List, Target};
use penstock_engine::redis::{Board, SharedLists, Trouble};
use penstock_engine::resilience::breaker::{Forced, State};
use penstock_tests::RedisServer;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn a_large_board_is_read_whole_and_costs_requests_nothing() {
    const ROWS: usize = 120_000;
    let server = RedisServer::start().await;
    let link = Arc::new(connected(&server.url()).await);
    let board = Board::new(link.clone(), "large");
    let fill = "for i = 1, ARGV[1] do redis.call('HSET', KEYS[1], i, string.rep('x', 200)) end";
    server.ask(&["EVAL", fill, "1", "test:{board:large}", &ROWS.to_string()]);
    let mut hurried = policy();
    hurried.redis.timeout = Duration::from_millis(1);
    let rows = board.read(&hurried).await.expect("read in spite of the deadline of requests");
    assert_eq!(rows.len(), ROWS);
    let status = link.status();
    assert_eq!((status.breaker.state, status.breaker.counts.failures), (State::Closed, 0));

    // Neither does it wait for the breaker of the requests.
    link.breaker().force(Some(Forced::Open));
    assert_eq!(board.read(&hurried).await.expect("read").len(), ROWS);
    let refused = board.change(&hurried, &["1".into()], &[]).await;
    assert!(matches!(refused, Err(Trouble::Open { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_board_that_did_not_change_is_not_read_again() {
    let server = RedisServer::start().await;
    let link = Arc::new(connected(&server.url()).await);
    let lists = SharedLists::new(link);
    let policy = policy();
    let entry = |target: &str| Entry {
        list: List::Deny,
        target: Target::parse(target).expect("a target"),
        reason: String::new(),
        expires: None,
    };
    let (one, two) = (entry("203.0.113.1"), entry("203.0.113.2"));
    let put = |entry: &Entry| Change::Put(entry.clone());
    let read = async |known| lists.read_since(&policy, known, &[]).await.expect("read");

    let empty = read(None).await.expect("never read");
    assert!(empty.entries.is_empty());
    assert_eq!(read(Some(empty.revision)).await, None);
    lists.change(&policy, &put(&one)).await.expect("changed");
    let first = read(Some(empty.revision)).await.expect("changed");
    assert_eq!(first.entries, std::slice::from_ref(&one));
    assert_eq!(read(Some(first.revision)).await, None);
    // In place of another: the same number of rows.
    lists.change(&policy, &put(&two)).await.expect("changed");
    lists.change(&policy, &Change::Remove(one.target)).await.expect("changed");
    let second = read(Some(first.revision)).await.expect("changed");
    assert_eq!(second.entries, [two]);
    // Behind the back of the revision, as after a loss of data.
    server.ask(&["HDEL", "test:{board:lists}", "203.0.113.2"]);
    assert!(read(Some(second.revision)).await.expect("changed").entries.is_empty());
}

#[tokio::test]
async fn a_board_that_changes_while_it_is_read_is_one_state() {
    let server = RedisServer::start().await;
    let link = Arc::new(connected(&server.url()).await);
    let board = Board::new(link, "busy");
    let mut patient = policy();
    patient.redis.timeout = Duration::from_secs(5);
    let row = |n: usize| (format!("row {n}"), n.to_string());
    let rows: Vec<_> = (0..5_000).map(row).collect();
    board.change(&patient, &[], &rows).await.expect("filled");
    // One row moves all the time; every state has as many rows and one of the moved.
    let writer = tokio::spawn({
        let (board, patient) = (board.clone(), patient.clone());
        async move {
            for n in 0.. {
                let gone = [format!("moved {n}")];
                let come = [(format!("moved {}", n + 1), String::new())];
                board.change(&patient, &gone, &come).await.expect("changed");
            }
        }
    });
    for round in 0..10 {
        let rows = board.read(&patient).await.expect("read");
        let moved = rows.keys().filter(|field| field.starts_with("moved")).count();
        assert!(rows.len() == 5_000 + moved && moved <= 1, "{round}: {moved}");
        assert!(round == 0 || moved == 1, "{round}: between two states");
    }
    writer.abort();
}
