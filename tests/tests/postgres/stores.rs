//! Stores to be tested.

use penstock_config::bootstrap::{Bootstrap, Database};
use penstock_config::clock;
use penstock_engine::catalog::{Event, EventKind, Product};
use penstock_engine::store::postgres::{PostgresStore, Unobserved, migrate};
use penstock_engine::store::{DataStore, Imported, SqliteStore};
use penstock_tests::PgServer;
use penstock_tests::postgres::installed;
use std::any::Any;
use std::sync::Arc;

/// A store and what it lives on.
pub struct Held {
    pub store: Arc<dyn DataStore>,
    _beneath: Box<dyn Any>,
}

/// A file in a new folder.
pub fn embedded() -> Held {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::in_folder(&folder, clock::system()).expect("a store");
    Held { store: Arc::new(store), _beneath: Box::new(folder) }
}

/// A database on a server of its own; `None` where PostgreSQL is not installed.
pub async fn shop() -> Option<Held> {
    if !installed() {
        return None;
    }
    let server = PgServer::relaxed().await;
    let store = open(&prepared(&server, &[]).await);
    Some(Held { store: Arc::new(store), _beneath: Box::new(server) })
}

/// Settings for a primary and its replicas, as an operator gives them.
pub fn settings(primary: &str, replicas: &[&PgServer], more: &[(&str, &str)]) -> Database {
    let replicas: Vec<String> = replicas.iter().map(|replica| replica.url("penstock")).collect();
    let replicas = replicas.join(",");
    let env = |name: &str| match name {
        "PENSTOCK_DATABASE_URL" => Some(primary.to_owned()),
        "PENSTOCK_REPLICA_URLS" => Some(replicas.clone()),
        _ => more.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
    };
    let settings = Bootstrap::parse("penstock.toml", b"", &env).expect("settings");
    settings.database.expect("a database")
}

/// The same for one server, with its schema made.
pub async fn prepared(server: &PgServer, more: &[(&str, &str)]) -> Database {
    let settings = settings(&server.url("penstock"), &[], more);
    migrate(&settings, "test").await.expect("migrated");
    settings
}

pub fn open(settings: &Database) -> PostgresStore {
    let observer = Arc::new(Unobserved);
    PostgresStore::open(settings.clone(), "test", None, clock::system(), observer).expect("opened")
}

pub fn product(id: &str, name: &str) -> Product {
    Product {
        id: id.into(),
        name: name.into(),
        description: "what it is".into(),
        category: "Home > Sofas".into(),
        brand: "Acme".into(),
        price: Some(9.5),
        created_at: Some(-5),
        popularity: None,
    }
}

pub fn event(id: &str, user: &str, product: &str, at: i64) -> Event {
    Event {
        event_id: id.into(),
        user_id: user.into(),
        product_id: product.into(),
        kind: EventKind::AddToCart,
        at_micros: at,
        source: "test".into(),
    }
}

pub fn import(store: &dyn DataStore, products: &[Product], events: &[Event]) -> Imported {
    let mut import = store.begin_import().expect("begun");
    for product in products {
        import.put_product(product.clone()).expect("taken");
    }
    for event in events {
        import.put_event(event.clone()).expect("taken");
    }
    import.commit().expect("committed")
}
