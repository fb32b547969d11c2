//! The schema: made by many at once, refused where it is newer, changed through by any SQL client.

use crate::stores::{event, import, open, prepared, product, settings};
use penstock_config::clock;
use penstock_engine::catalog::Event;
use penstock_engine::store::postgres::{PostgresStore, Unobserved, migrate};
use penstock_engine::store::{Bulk, Store, StoreError, UsersChanged};
use penstock_tests::PgServer;
use penstock_tests::postgres::installed;
use penstock_tests::wait::until_true;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn many_migrate_at_once_and_one_does_it() {
    if !installed() {
        return;
    }
    let server = PgServer::relaxed().await;
    let settings = settings(&server.url("penstock"), &[], &[]);
    let refused =
        PostgresStore::open(settings.clone(), "test", None, clock::system(), Arc::new(Unobserved));
    let error = refused.err().expect("there is no schema").to_string();
    assert!(error.contains("run penstock-control migrate"), "{error}");
    let all = futures_util::future::join_all((0..8).map(|_| migrate(&settings, "test"))).await;
    let steps: Vec<usize> =
        all.into_iter().map(|done| done.expect("migrated").steps.len()).collect();
    assert_eq!(steps.iter().filter(|steps| **steps > 0).count(), 1, "{steps:?}");
    assert_eq!(migrate(&settings, "test").await.unwrap().steps.len(), 0);
    let store = open(&settings);
    let id = store.store_id().unwrap();
    assert_eq!(id.len(), 32);
    assert_eq!(open(&settings).store_id().unwrap(), id);

    server.sql("INSERT INTO penstock.migrations VALUES (99, 'later', 99)").await;
    let error = migrate(&settings, "test").await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Format(text) if text.contains("newer program")),
        "{error}"
    );
    let refused =
        PostgresStore::open(settings.clone(), "test", None, clock::system(), Arc::new(Unobserved));
    assert!(matches!(refused.err(), Some(StoreError::Format(_))));
    // A later step that this program can live with.
    server.sql("UPDATE penstock.migrations SET needs = 1 WHERE version = 99").await;
    drop(open(&settings));
}

#[tokio::test]
async fn what_any_client_changes_is_heard_and_known() {
    if !installed() {
        return;
    }
    let server = PgServer::relaxed().await;
    let store = open(&prepared(&server, &[]).await);
    import(&store, &[product("a", "A"), product("b", "B")], &[]);
    let woken = Arc::new(AtomicUsize::new(0));
    let users: Arc<Mutex<Vec<UsersChanged>>> = Arc::default();
    let (counted, noted) = (woken.clone(), users.clone());
    store.wake_on_change(Arc::new(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    }));
    store.on_users(Arc::new(move |changed| noted.lock().unwrap().push(changed)));
    let revision = store.catalog_revision().unwrap();
    // Whatever was heard at the start is over.
    tokio::time::sleep(Duration::from_millis(300)).await;
    woken.store(0, Ordering::SeqCst);

    // Two transactions, the one that began first commits last: what it changed has the later revision.
    let (first, second) = tokio::join!(
        server.sql("BEGIN; UPDATE penstock.products SET price = 1 WHERE product_id = 'a'; SELECT pg_sleep(1); COMMIT"),
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            server.sql("UPDATE penstock.products SET price = 2 WHERE product_id = 'b'").await;
            let changes = store.changes_since(revision, 9).unwrap().unwrap();
            let ids: Vec<String> = changes.products.iter().map(|changed| changed.id.clone()).collect();
            assert_eq!(ids, ["b"]);
            changes.revision
        }
    );
    drop(first);
    let changes = store.changes_since(second, 9).unwrap().unwrap();
    assert_eq!(changes.products.len(), 1);
    assert_eq!((&*changes.products[0].id, changes.revision), ("a", second + 1));
    until_true("the changes were heard", PATIENCE, async || woken.load(Ordering::SeqCst) >= 2)
        .await;

    // Scores of a job are no change of a product.
    server.sql("UPDATE penstock.products SET popularity_score = 3").await;
    assert_eq!(store.catalog_revision().unwrap(), second + 1);
    server.sql("DELETE FROM penstock.products WHERE product_id = 'b'").await;
    let changes = store.changes_since(second + 1, 9).unwrap().unwrap();
    assert_eq!(changes.products[0].product, None);
    let renamed = server.try_sql("UPDATE penstock.products SET product_id = 'x'").await;
    assert!(renamed.unwrap_err().contains("a product keeps its product_id"));
    server.sql("TRUNCATE penstock.products").await;
    assert_eq!(store.changes_since(revision, 9).unwrap(), None);

    // Events of others, once each whatever they come as.
    for _ in 0..2 {
        server.sql(
            "INSERT INTO penstock.events (event_id, user_id, product_id, event_type, \"timestamp\") VALUES
             ('1', 'ann', 'a', 'view', now()), ('2', 'é\"b', 'a', 'purchase', now()), ('1', 'ann', 'a', 'view', now())",
        )
        .await;
    }
    assert_eq!(store.counts().unwrap().events, 2);
    until_true("new events of users were heard", PATIENCE, async || {
        !users.lock().unwrap().is_empty()
    })
    .await;
    let heard = users.lock().unwrap().clone();
    let expected =
        UsersChanged { users: Some(vec!["ann".into(), "é\"b".into()]), by_the_fleet: false };
    assert_eq!(heard, [expected]);
    // What this store stores itself it tells once, when it is there for everybody.
    store.append_events(vec![event("3", "cy", "a", 3)]).await.unwrap();
    server.sql("SELECT pg_notify('penstock_products', '')").await;
    let before = woken.load(Ordering::SeqCst);
    until_true("a later message", PATIENCE, async || woken.load(Ordering::SeqCst) >= before).await;
    let heard = users.lock().unwrap().clone();
    let own = UsersChanged { users: Some(vec!["cy".into()]), by_the_fleet: false };
    assert_eq!(heard[1..], [own]);
}

#[tokio::test]
async fn events_lie_in_their_months() {
    if !installed() {
        return;
    }
    let server = PgServer::relaxed().await;
    let settings = prepared(&server, &[]).await;
    let store = open(&settings);
    let tables = async || {
        let sql = "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                   WHERE i.inhparent = 'penstock.events'::regclass ORDER BY 1";
        let rows = server.sql(sql).await;
        rows.into_iter().map(|row| row.concat()).collect::<Vec<String>>()
    };
    // This month, three to come, and the rest.
    assert_eq!(tables().await.len(), 5, "{:?}", tables().await);
    let at = |id: &str, micros| Event { at_micros: micros, ..event(id, "u", "p", 0) };
    let march_2024 = 1_710_000_000_000_000;
    store
        .append_events(vec![at("old", march_2024), at("now", clock::unix_micros())])
        .await
        .unwrap();
    let other = "SELECT event_id FROM penstock.events_other";
    assert_eq!(server.sql(other).await, [["old"]]);
    // An import makes the months it needs, and what lay elsewhere moves there.
    import(&store, &[], &[at("imported", march_2024 + 1)]);
    assert!(tables().await.contains(&"events_2024_03".to_owned()), "{:?}", tables().await);
    assert!(server.sql(other).await.is_empty());
    let march = server.sql("SELECT event_id FROM penstock.events_2024_03 ORDER BY 1").await;
    assert_eq!(march, [["imported"], ["old"]]);
    assert_eq!(store.recent_events("u".into(), 9).await.unwrap().len(), 3);
    assert_eq!(store.append_events(vec![at("old", march_2024)]).await.unwrap(), [false]);
}
