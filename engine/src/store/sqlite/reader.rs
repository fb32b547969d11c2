//! The threads that read for requests.

use super::rows::{self, PRODUCT_COLUMNS};
use super::{Settings, failed, file};
use crate::catalog::{Product, UserEvent};
use crate::features::Entity;
use crate::store::StoreError;
use crate::store::lite::ended;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use penstock_config::clock::SharedClock;
use rusqlite::{Connection, OptionalExtension};
use std::collections::HashMap;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// Queries that take longer are logged.
pub(super) const SLOW: Duration = Duration::from_millis(100);

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// One question.
#[derive(Debug)]
pub(super) enum Read {
    Products { ids: Vec<String>, reply: Reply<Vec<Option<Product>>> },
    RecentEvents { user_id: String, limit: usize, reply: Reply<Vec<UserEvent>> },
    Features { entity: Entity, id: String, names: Vec<&'static str>, reply: Reply<Values> },
}

/// Of the features asked for, in their order.
type Values = Vec<Option<serde_json::Value>>;

/// A few threads with a connection each behind one bounded queue.
#[derive(Debug)]
pub(super) struct Readers {
    queue: Option<Sender<Read>>,
    bound: usize,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(super) fn start(
        path: &Path,
        settings: &Settings,
        clock: &SharedClock,
    ) -> Result<Self, StoreError> {
        let (queue, questions) = bounded(settings.queue);
        let mut readers = Self { queue: Some(queue), bound: settings.queue, threads: Vec::new() };
        for number in 0..settings.readers.max(1) {
            let connection = file::connect(path, settings)?;
            connection
                .execute_batch("PRAGMA query_only = ON")
                .map_err(failed("opening the store"))?;
            let (questions, clock) = (questions.clone(), clock.clone());
            let thread = std::thread::Builder::new()
                .name(format!("store-read-{number}"))
                .spawn(move || serve(&connection, &questions, &clock))
                .map_err(|e| StoreError::Unavailable(format!("cannot start a thread: {e}")))?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    pub(super) fn ask(&self, question: Read) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().expect("taken only on drop");
        queue.try_send(question).map_err(|e| match e {
            TrySendError::Full(_) => StoreError::Busy(self.bound),
            TrySendError::Disconnected(_) => ended("reader"),
        })
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve(connection: &Connection, questions: &Receiver<Read>, clock: &SharedClock) {
    // A caller that stopped waiting has hung up: its question is not worth a query. A failed send
    // means the same, only later.
    for question in questions {
        let start = clock.now();
        let kind = match question {
            Read::Products { reply, .. } if reply.is_closed() => continue,
            Read::RecentEvents { reply, .. } if reply.is_closed() => continue,
            Read::Features { reply, .. } if reply.is_closed() => continue,
            Read::Products { ids, reply } => {
                let _ = reply.send(products(connection, &ids).map_err(failed("reading products")));
                "products"
            }
            Read::RecentEvents { user_id, limit, reply } => {
                let found = recent_events(connection, &user_id, limit);
                let _ = reply.send(found.map_err(failed("reading events")));
                "recent_events"
            }
            Read::Features { entity, id, names, reply } => {
                let found = features(connection, entity, &id, &names);
                let _ = reply.send(found.map_err(failed("reading features")));
                "features"
            }
        };
        let took = clock.now().saturating_duration_since(start);
        if took > SLOW {
            tracing::warn!(query = kind, micros = took.as_micros() as u64, "slow query");
        }
    }
}

fn products(connection: &Connection, ids: &[String]) -> rusqlite::Result<Vec<Option<Product>>> {
    // No product has a NUL in its id (the import refuses it), and SQLite's JSON would cut it there.
    let asked: Vec<&String> = ids.iter().filter(|id| !id.contains('\0')).collect();
    let asked = serde_json::to_string(&asked).expect("strings are always JSON");
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {PRODUCT_COLUMNS} FROM products WHERE id IN (SELECT value FROM json_each(?1))"
    ))?;
    let mut found: HashMap<String, Product> = HashMap::with_capacity(ids.len());
    let mut rows = statement.query([asked])?;
    while let Some(row) = rows.next()? {
        let product = rows::product(row, 0)?;
        found.insert(product.id.clone(), product);
    }
    Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
}

fn recent_events(
    connection: &Connection,
    user_id: &str,
    limit: usize,
) -> rusqlite::Result<Vec<UserEvent>> {
    // Of two events at the same time, the one stored later is the newer.
    let mut statement = connection.prepare_cached(
        "SELECT product_id, kind, at_micros FROM events WHERE user_id = ?1 \
         ORDER BY at_micros DESC, rowid DESC LIMIT ?2",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map((user_id, limit), |row| rows::user_event(row, 0))?;
    rows.collect()
}

fn features(
    connection: &Connection,
    entity: Entity,
    id: &str,
    names: &[&'static str],
) -> rusqlite::Result<Values> {
    let mut statement = connection.prepare_cached(
        "SELECT value FROM feature_values WHERE entity = ?1 AND name = ?2 AND entity_id = ?3",
    )?;
    let value = |name: &&str| {
        let text = statement.query_row((entity.name(), *name, id), |row| row.get::<_, String>(0));
        let text = text.optional()?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    };
    names.iter().map(value).collect()
}
