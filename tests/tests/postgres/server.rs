//! The servers that tests start.

use penstock_tests::PgServer;
use penstock_tests::postgres::installed;
use penstock_tests::wait::until_true;
use std::time::Duration;

/// Above anything a server may take on a machine that is busy building.
const PATIENCE: Duration = Duration::from_secs(20);

const COUNT: &str = "SELECT count(*) FROM product";

async fn count(server: &PgServer) -> usize {
    server.sql(COUNT).await[0][0].parse().expect("a number")
}

async fn add(server: &PgServer, id: &str) {
    server.sql(&format!("INSERT INTO product VALUES ('{id}')")).await;
}

async fn with_table(server: PgServer) -> PgServer {
    server.sql("CREATE TABLE product (id text PRIMARY KEY)").await;
    server
}

#[tokio::test]
async fn what_was_committed_survives_a_kill_and_a_stop() {
    if !installed() {
        return;
    }
    let mut server = with_table(PgServer::start().await).await;
    add(&server, "mug").await;
    for expected in 1..=3 {
        assert_eq!(count(&server).await, expected);
        add(&server, &format!("mug {expected}")).await;
        match expected {
            1 => server.kill(),
            2 => server.freeze(),
            _ => server.stop().await,
        }
        server.restart().await;
    }
    assert_eq!(count(&server).await, 4);
    assert!(server.try_sql("SELECT 1/0").await.unwrap_err().contains("division by zero"));
    let rows = server.sql("SELECT id, NULL, 'a|b' FROM product ORDER BY id LIMIT 2").await;
    assert_eq!(rows, [["mug", "", "a|b"], ["mug 1", "", "a|b"]]);
}

#[tokio::test]
async fn a_replica_follows_pauses_takes_over_and_is_followed() {
    if !installed() {
        return;
    }
    let mut primary = with_table(PgServer::relaxed().await).await;
    add(&primary, "mug").await;
    let (next, other) =
        tokio::join!(PgServer::replica_of(&primary), PgServer::replica_of(&primary));
    assert_eq!(count(&next).await, 1);
    let refused = next.try_sql("DELETE FROM product").await.unwrap_err();
    assert!(refused.contains("read-only"), "{refused}");

    next.pause_replay().await;
    add(&primary, "cup").await;
    other.wait_replayed(&primary).await;
    assert_eq!((count(&next).await, count(&other).await), (1, 2));
    next.resume_replay().await;
    next.wait_replayed(&primary).await;
    assert_eq!(count(&next).await, 2);

    primary.kill();
    next.promote().await;
    other.follow(&next).await;
    add(&next, "jug").await;
    other.wait_replayed(&next).await;
    assert_eq!(count(&other).await, 3);
    // Nobody told it, which is what makes two primaries of one.
    primary.restart().await;
    assert_eq!(count(&primary).await, 2);
}

#[tokio::test]
async fn a_frozen_server_answers_nothing_until_it_is_thawed() {
    if !installed() {
        return;
    }
    let server = PgServer::relaxed().await;
    // A session that is there before, as those of a pool are.
    let mut question = Box::pin(server.sql("SELECT pg_sleep(1)"));
    let at_work = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    tokio::select! {
        _ = &mut question => panic!("it was to sleep"),
        () = until_true("a session at work", PATIENCE, async || !server.sql(at_work).await.is_empty()) => {}
    }
    server.freeze();
    let waited = tokio::time::timeout(Duration::from_secs(2), &mut question).await;
    assert!(waited.is_err(), "a frozen server answered");
    server.thaw();
    question.await;
    assert_eq!(server.sql("SELECT 1").await, [["1"]]);
}

#[tokio::test]
async fn a_password_and_tls_are_asked_for() {
    if !installed() {
        return;
    }
    let (closed, secret) = tokio::join!(PgServer::with_password("swordfish"), PgServer::with_tls());
    assert_eq!(
        closed.url("shop"),
        format!("postgres://penstock:swordfish@{}/shop", closed.address())
    );
    assert_eq!(closed.sql("SHOW password_encryption").await, [["scram-sha-256"]]);
    let replica = PgServer::replica_of(&closed).await;
    assert_eq!(replica.sql("SELECT pg_is_in_recovery()").await, [["t"]]);

    let ssl = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(secret.sql(ssl).await, [["t"]]);
    let url = secret.url("penstock");
    let ca = secret.ca();
    for (options, expected) in [
        (format!("sslmode=verify-full&sslrootcert={}", ca.display()), true),
        ("sslmode=disable".to_owned(), false),
    ] {
        let psql = std::process::Command::new("psql")
            .args(["-X", "-c", ssl, &format!("{url}?{options}")])
            .output();
        let Ok(output) = psql else { return };
        assert_eq!(output.status.success(), expected, "{options}: {output:?}");
    }
}
