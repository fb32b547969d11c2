//! The pool: bounded, given back, healed; and connections that are protected.

use crate::stores::{import, open, prepared, product, settings};
use penstock_config::clock;
use penstock_engine::store::postgres::{PostgresStore, Unobserved, migrate};
use penstock_engine::store::{Bulk, Store, StoreError};
use penstock_tests::PgServer;
use penstock_tests::postgres::installed;
use penstock_tests::wait::until_true;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

async fn connections(server: &PgServer) -> usize {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'penstock:test#%'";
    server.sql(sql).await[0][0].parse().expect("a number")
}

async fn read(store: &PostgresStore) -> Result<(), StoreError> {
    store.products(vec!["a".into()]).await.map(|found| assert!(found[0].is_some()))
}

#[tokio::test]
async fn hundreds_share_thirty_connections_and_ten_are_given_back() {
    if !installed() {
        return;
    }
    let server = PgServer::relaxed().await;
    let store = open(&prepared(&server, &[]).await);
    import(&store, &[product("a", "A")], &[]);
    for _ in 0..3 {
        let all = futures_util::future::join_all((0..500).map(|_| read(&store))).await;
        assert!(all.iter().all(Result::is_ok), "{:?}", all.iter().find(|one| one.is_err()));
    }
    let pool = store.database().unwrap().primary.pool;
    assert_eq!((pool.active + pool.idle, pool.most), (30, 30), "{pool:?}");
    // One more listens, and one looks after the server.
    assert_eq!(connections(&server).await, 32);
    until_true("what is too many is closed", PATIENCE, async || {
        // Some are in use all the time.
        read(&store).await.unwrap();
        let pool = store.database().unwrap().primary.pool;
        pool.active + pool.idle <= 20
    })
    .await;
}

#[tokio::test]
async fn more_than_may_wait_are_told_at_once_and_nobody_waits_for_ever() {
    if !installed() {
        return;
    }
    let mut server = PgServer::relaxed().await;
    let bounds = [
        ("PENSTOCK_DATABASE_CONNECTIONS", "2"),
        ("PENSTOCK_DATABASE_OVERFLOW", "0"),
        ("PENSTOCK_DATABASE_MAX_WAITING", "3"),
        ("PENSTOCK_DATABASE_WAIT_MS", "500"),
    ];
    let store = open(&prepared(&server, &bounds).await);
    import(&store, &[product("a", "A")], &[]);
    server.freeze();
    let all = futures_util::future::join_all((0..20).map(|_| read(&store)));
    let all = tokio::time::timeout(PATIENCE, all).await.expect("nobody waits for ever");
    let busy = all.iter().filter(|one| matches!(one, Err(StoreError::Busy(_)))).count();
    assert!(busy >= 10, "{all:?}");
    assert!(all.iter().all(Result::is_err));
    server.thaw();
    until_true("it goes on", PATIENCE, async || read(&store).await.is_ok()).await;

    // Connections that the server ends are replaced.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'penstock:test#%'";
    server.sql(end).await;
    until_true("it goes on", PATIENCE, async || read(&store).await.is_ok()).await;
    server.kill();
    server.restart().await;
    until_true("it goes on", PATIENCE, async || read(&store).await.is_ok()).await;
}

#[tokio::test]
async fn certificates_are_verified_and_passwords_are_read_from_a_file() {
    if !installed() {
        return;
    }
    let server = PgServer::setup().relaxed().tls().password("it is-secret").start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "it is-secret\n").unwrap();
    let password = ("PENSTOCK_DATABASE_PASSWORD_FILE", file.to_str().unwrap());
    let ca = server.ca();
    let ca = ("PENSTOCK_DATABASE_CA_FILE", ca.to_str().unwrap());
    let url = format!("postgres://penstock@localhost:{}/penstock", server.address().port());
    let check = async |mode: &str, more: &[(&str, &str)]| {
        let settings = settings(&format!("{url}{mode}"), &[], more);
        migrate(&settings, "test").await.map_err(|error| error.to_string())
    };
    check("?sslmode=verify-full", &[password, ca]).await.expect("the authority is known");
    check("?sslmode=require", &[password]).await.expect("whoever is there is believed");
    let refused = async |mode: &str, more: &[(&str, &str)], words: &str| {
        let why = check(mode, more).await.expect_err(words);
        assert!(why.to_lowercase().contains(words), "{why}");
        assert!(!why.contains("secret"), "{why}");
    };
    refused("?sslmode=verify-full", &[password], "certificate").await;
    refused("?sslmode=disable", &[password], "pg_hba").await;
    std::fs::write(&file, "another-secret").unwrap();
    refused("?sslmode=require", &[password], "password authentication failed").await;
    let settings = settings(&format!("{url}?sslmode=require"), &[], &[password]);
    let refused =
        PostgresStore::open(settings.clone(), "test", None, clock::system(), Arc::new(Unobserved));
    assert!(refused.is_err());
    // The next connection reads the file again.
    std::fs::write(&file, "it is-secret").unwrap();
    open(&settings).store_id().unwrap();
}
