//! Reads go to replicas that are well and new enough, and on when servers die.

use crate::stores::{event, import, open, prepared, product, settings};
use penstock_engine::store::postgres::{PostgresStore, ServerStatus};
use penstock_engine::store::{Bulk, ProductChange, Store};
use penstock_tests::PgServer;
use penstock_tests::postgres::installed;
use penstock_tests::wait::until_true;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// A primary with two replicas of it.
async fn fleet() -> [PgServer; 3] {
    let primary = PgServer::relaxed().await;
    prepared(&primary, &[]).await;
    let (one, two) = tokio::join!(PgServer::replica_of(&primary), PgServer::replica_of(&primary));
    [primary, one, two]
}

/// A store over them that finds the primary among all three.
fn over([primary, one, two]: &[PgServer; 3], more: &[(&str, &str)]) -> PostgresStore {
    let [a, b, c] = [primary, one, two].map(|server| server.address().to_string());
    let url = primary.url("penstock").replace(&a, &format!("{a},{b},{c}"));
    open(&settings(&url, &[one, two], more))
}

fn replica(store: &PostgresStore, server: &PgServer) -> ServerStatus {
    let name = server.address().to_string();
    let replicas = store.database().expect("a database").replicas;
    replicas.into_iter().find(|status| status.name == name).expect("a replica")
}

async fn until_in_rotation(store: &PostgresStore, server: &PgServer, expected: bool) {
    let what = format!("{} in rotation: {expected}", server.address());
    until_true(&what, PATIENCE, async || replica(store, server).in_rotation == expected).await;
}

/// Queries a server was asked since it counts.
async fn asked(server: &PgServer) -> u64 {
    let sql = "SELECT coalesce(sum(seq_scan + idx_scan), 0) FROM pg_stat_user_tables WHERE relname = 'products'";
    server.sql(sql).await[0][0].parse().expect("a number")
}

async fn read(store: &PostgresStore) -> bool {
    match store.products(vec!["a".into()]).await {
        Ok(found) => found[0].is_some(),
        Err(error) => {
            eprintln!("{error}; {:#?}", store.database());
            false
        }
    }
}

#[tokio::test]
async fn reads_are_spread_and_writes_are_seen() {
    if !installed() {
        return;
    }
    let servers = fleet().await;
    for choice in ["round-robin", "least-lag"] {
        let store = over(&servers, &[("PENSTOCK_READ_FROM", choice)]);
        import(&store, &[product("a", choice)], &[]);
        for server in &servers[1..] {
            server.wait_replayed(&servers[0]).await;
            until_in_rotation(&store, server, true).await;
        }
        let before = [asked(&servers[1]).await, asked(&servers[2]).await];
        for _ in 0..100 {
            assert!(read(&store).await);
        }
        // Figures of a server are of its sessions, which tell them now and then.
        until_true("both replicas were asked", PATIENCE, async || {
            read(&store).await;
            asked(&servers[1]).await >= before[0] + 20 && asked(&servers[2]).await >= before[1] + 20
        })
        .await;
    }
    // What was written is read, however far replicas are.
    let store = over(&servers, &[]);
    until_in_rotation(&store, &servers[1], true).await;
    until_in_rotation(&store, &servers[2], true).await;
    for n in 0..50 {
        let events = vec![event(&format!("e{n}"), "ann", &format!("p{n}"), n)];
        store.append_events(events).await.unwrap();
        let newest = store.recent_events("ann".into(), 1).await.unwrap();
        assert_eq!(newest[0].product_id, format!("p{n}"));
        let name = format!("name {n}");
        store.change_products(vec![ProductChange::Put(product("a", &name))]).unwrap();
        let revision = store.catalog_revision().unwrap();
        assert_eq!(store.changes_since(revision - 1, 9).unwrap().unwrap().revision, revision);
    }
}

#[tokio::test]
async fn a_replica_that_stands_still_is_left_out_and_comes_back() {
    if !installed() {
        return;
    }
    let servers = fleet().await;
    let store = over(&servers, &[("PENSTOCK_MAX_LAG_SECONDS", "2")]);
    import(&store, &[product("a", "A")], &[]);
    until_in_rotation(&store, &servers[1], true).await;
    until_in_rotation(&store, &servers[2], true).await;
    servers[1].pause_replay().await;
    until_in_rotation(&store, &servers[1], false).await;
    assert!(replica(&store, &servers[1]).lag_seconds.unwrap() > 2.0);
    assert!(replica(&store, &servers[2]).in_rotation);
    assert!(read(&store).await);
    servers[2].pause_replay().await;
    until_in_rotation(&store, &servers[2], false).await;
    assert!(read(&store).await);
    for replica in &servers[1..] {
        replica.resume_replay().await;
        until_in_rotation(&store, replica, true).await;
    }
    assert!(replica(&store, &servers[1]).lag_seconds.unwrap() < 2.0);
}

#[tokio::test]
async fn reads_go_on_while_servers_die_and_a_new_primary_is_found() {
    if !installed() {
        return;
    }
    let mut servers = fleet().await;
    let store = over(&servers, &[]);
    import(&store, &[product("a", "A")], &[]);
    servers[1].wait_replayed(&servers[0]).await;
    servers[2].wait_replayed(&servers[0]).await;
    until_in_rotation(&store, &servers[1], true).await;
    until_in_rotation(&store, &servers[2], true).await;

    servers[1].kill();
    for _ in 0..50 {
        assert!(read(&store).await);
    }
    servers[2].kill();
    for _ in 0..50 {
        assert!(read(&store).await);
    }
    let (one, two) = servers[1..].split_at_mut(1);
    tokio::join!(one[0].restart(), two[0].restart());
    until_in_rotation(&store, &servers[1], true).await;
    until_in_rotation(&store, &servers[2], true).await;

    // The watch has looked at the restarted ones, not only at those before: no breaker keeps reads from them.
    until_true("the replicas are asked again", PATIENCE, async || {
        servers[1..].iter().all(|server| replica(&store, server).breaker != "open")
    })
    .await;
    let revision = store.catalog_revision().unwrap();
    servers[0].kill();
    for _ in 0..50 {
        assert!(read(&store).await);
    }
    // Nothing is known to have changed.
    assert_eq!(store.catalog_revision().unwrap(), revision);
    assert!(store.append_events(vec![event("1", "ann", "a", 1)]).await.is_err());
    servers[1].promote().await;
    until_true("the new primary stores events", PATIENCE, async || {
        store.append_events(vec![event("1", "ann", "a", 1)]).await.is_ok()
    })
    .await;
    assert_eq!(store.recent_events("ann".into(), 9).await.unwrap().len(), 1);
    // The other replica follows it, and is read from.
    servers[2].follow(&servers[1]).await;
    until_in_rotation(&store, &servers[2], true).await;
    until_in_rotation(&store, &servers[1], true).await;
    assert!(read(&store).await);
}
