//! What start-up and jobs read.

use super::fault::Fault;
use super::import::PostgresImport;
use super::query::{self, Params, Query};
use super::server::Server;
use super::session::Session;
use super::{PostgresStore, Shared, lock, popularity, rows};
use crate::catalog::{Ordinal, UserEvent};
use crate::store::{
    Bulk, Changed, ChangedProduct, Changes, Counts, DatabaseStatus, Import, PopularityMade,
    ProductChange, StoreError, StoredProduct, UsersChanged,
};
use penstock_config::policy::Policy;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio_postgres::Row;

/// Products read at once.
const PAGE: i64 = 8_192;
/// Events that wait to be looked at.
const EVENTS: usize = 8_192;

impl Bulk for PostgresStore {
    fn store_id(&self) -> Result<String, StoreError> {
        let row = self.one("reading the store's identity", &query::STORE_ID, Vec::new())?;
        row.try_get(0).map_err(|error| Fault::from(error).told("reading the store's identity"))
    }

    fn catalog_revision(&self) -> Result<u64, StoreError> {
        let shared = self.shared.clone();
        self.wait(async move { shared.catalog_revision().await })
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        const DOING: &str = "counting rows";
        // Reads everything: not under the deadline, nor at the expense, of those who ask little.
        let shared = self.shared.clone();
        let row = self.wait(async move {
            let session = Session::open(&shared.reading_server().connector).await?;
            Ok::<_, Fault>(session.client.query_one(query::COUNTS.sql, &[]).await?)
        });
        let row = row.map_err(|fault| fault.told(DOING))?;
        let count = |column| row.try_get::<_, i64>(column).map(i64::unsigned_abs);
        let counts = (|| Ok(Counts { products: count(0)?, events: count(1)? }))();
        counts.map_err(|error: tokio_postgres::Error| Fault::from(error).told(DOING))
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn changes_since(&self, revision: u64, most: usize) -> Result<Option<Changes>, StoreError> {
        let shared = self.shared.clone();
        self.wait(async move { shared.changes_since(revision, most).await })
    }

    fn change_products(&self, changes: Vec<ProductChange>) -> Result<Vec<Changed>, StoreError> {
        let shared = self.shared.clone();
        self.wait(async move { super::changes::change(&shared, &changes).await })
    }

    fn on_users(&self, told: Arc<dyn Fn(UsersChanged) + Send + Sync>) {
        lock(&self.shared.users).push(told);
    }

    fn on_recovered(&self, told: Arc<dyn Fn() + Send + Sync>) {
        lock(&self.shared.recovered).push(Arc::new(move |()| told()));
    }

    fn policy_changed(&self, policy: &Policy) {
        self.shared.servers.breaker.store(Arc::new(policy.resilience.breaker));
    }

    fn place(&self) -> String {
        self.shared.servers.settings.url.to_string()
    }

    fn database(&self) -> Option<DatabaseStatus> {
        let mut servers = self.shared.servers.status().into_iter();
        let primary = servers.next().expect("there is a primary");
        let spool = self.outbox.as_ref().and_then(|outbox| outbox.status());
        Some(DatabaseStatus { primary, replicas: servers.collect(), spool })
    }

    fn breakers(&self) -> Vec<&crate::resilience::Breaker> {
        let servers = &self.shared.servers;
        let all = std::iter::once(&servers.primary).chain(&servers.replicas);
        all.map(|server| &server.breaker).collect()
    }

    fn wake_on_change(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        lock(&self.shared.wake).push(Arc::new(move |()| wake()));
    }

    fn scan_products(&self, each: &mut dyn FnMut(StoredProduct)) -> Result<(), StoreError> {
        const DOING: &str = "reading the catalogue";
        let shared = self.shared.clone();
        let mut session = self.wait(async move { shared.snapshot().await })?;
        let mut after = -1_i64;
        loop {
            let (back, page) = self.wait(async move {
                let page = session.client.query(query::CATALOG_PAGE.sql, &[&after, &PAGE]).await;
                (session, page)
            });
            session = back;
            let made = page.and_then(|rows| rows.iter().map(rows::stored_product).collect());
            let page: Vec<StoredProduct> = made.map_err(|error| Fault::from(error).told(DOING))?;
            let Some(last) = page.last() else { return Ok(()) };
            after = i64::from(last.ordinal.0);
            page.into_iter().for_each(&mut *each);
        }
    }

    fn scan_events(&self, each: &mut dyn FnMut(&str, UserEvent)) -> Result<(), StoreError> {
        const DOING: &str = "reading the events";
        let shared = self.shared.clone();
        let (rows, received) = std::sync::mpsc::sync_channel::<Result<Row, Fault>>(EVENTS);
        self.spawn(async move { shared.stream_events(rows).await });
        for row in received {
            let row = row.map_err(|fault| fault.told(DOING))?;
            let failed = |error| Fault::from(error).told(DOING);
            let event = rows::user_event(&row, 1).map_err(failed)?;
            each(row.try_get(0).map_err(failed)?, event);
        }
        Ok(())
    }

    fn popularity_made(&self) -> Result<Option<PopularityMade>, StoreError> {
        let shared = self.shared.clone();
        self.wait(async move { popularity::made(&shared).await })
    }

    fn popularity_news(&self) -> u64 {
        self.shared.popularity_news.load(Ordering::Acquire)
    }

    fn scan_popularity(
        &self,
        made: &PopularityMade,
        each: &mut dyn FnMut(Ordinal, f64),
    ) -> Result<(), StoreError> {
        popularity::scan(self, made, each)
    }

    fn begin_import(&self) -> Result<Box<dyn Import + '_>, StoreError> {
        Ok(Box::new(PostgresImport::begin(self)?))
    }
}

impl PostgresStore {
    fn one(
        &self,
        doing: &'static str,
        query: &'static Query,
        params: Params,
    ) -> Result<Row, StoreError> {
        let shared = self.shared.clone();
        let rows = self.wait(async move { shared.servers.read(query, &params, None).await });
        let rows = rows.map_err(|fault| fault.told(doing))?;
        rows.into_iter().next().ok_or_else(|| {
            StoreError::Format(format!(
                "{doing}: the row is missing; restore the database from a backup"
            ))
        })
    }
}

impl Shared {
    /// The primary knows. While it is away it is what was seen last, or what a replica has beyond that.
    async fn catalog_revision(&self) -> Result<u64, StoreError> {
        const DOING: &str = "reading the catalogue's revision";
        let servers = &self.servers;
        let params = Params::new();
        let (rows, at_primary) = match servers.write(&query::REVISION, &params).await {
            Ok(rows) => (rows, true),
            Err(_) => {
                let read = servers.read(&query::REVISION, &params, None).await;
                (read.map_err(|fault| fault.told(DOING))?, false)
            }
        };
        let revision = revision_of(&rows, 0).map_err(|error| Fault::from(error).told(DOING))?;
        if at_primary {
            // Before the new catalogue is in force: from now on what is read must have it.
            if self.revision.swap(revision, Ordering::AcqRel) != revision {
                self.moments.note_products(servers.clock.now());
            }
            return Ok(revision);
        }
        Ok(self.revision.fetch_max(revision, Ordering::AcqRel).max(revision))
    }

    async fn changes_since(
        &self,
        revision: u64,
        most: usize,
    ) -> Result<Option<Changes>, StoreError> {
        const DOING: &str = "reading what changed";
        let params: Params = vec![Box::new(revision.cast_signed()), Box::new(most as i64 + 1)];
        let servers = &self.servers;
        let rows = match servers.write(&query::CHANGES, &params).await {
            Ok(rows) => rows,
            Err(_) => {
                let read = servers.read(&query::CHANGES, &params, None).await;
                let rows = read.map_err(|fault| fault.told(DOING))?;
                // A replica that is not as far says nothing about what came after.
                if revision_of(&rows, 0).is_ok_and(|known| known < revision) {
                    return Ok(Some(Changes { revision, products: Vec::new() }));
                }
                rows
            }
        };
        if revision > 0 && revision <= self.doubted.load(Ordering::Acquire) {
            return Ok(None);
        }
        changes(&rows, revision, most).map_err(|error| Fault::from(error).told(DOING))
    }

    /// A session whose transaction sees one moment of the catalogue: at a replica, if it has the latest revision that
    /// was seen, else at the primary.
    async fn snapshot(&self) -> Result<Session, StoreError> {
        const DOING: &str = "reading the catalogue";
        let servers = &self.servers;
        let wanted = self.revision.load(Ordering::Acquire);
        let replicas = servers.replicas.iter().filter(|replica| servers.in_rotation(replica));
        let mut last = None;
        for server in replicas.chain([&servers.primary]) {
            match snapshot_of(&server.connector).await {
                Ok((session, revision)) if revision >= wanted => return Ok(session),
                Ok(_) => {}
                Err(fault) => last = Some(fault),
            }
        }
        Err(last.map_or_else(
            || StoreError::Unavailable(format!("{DOING}: no server has revision {wanted} (yet)")),
            |fault| fault.told(DOING),
        ))
    }

    /// For what reads much: a replica that is well, else the primary.
    fn reading_server(&self) -> &Arc<Server> {
        let servers = &self.servers;
        let replica = servers.replicas.iter().find(|replica| servers.in_rotation(replica));
        replica.unwrap_or(&servers.primary)
    }

    /// Sends every event, and ends.
    async fn stream_events(&self, rows: std::sync::mpsc::SyncSender<Result<Row, Fault>>) {
        use futures::TryStreamExt;
        let server = self.reading_server();
        let streaming = async {
            let session = Session::open(&server.connector).await?;
            let stream = session.client.query_raw(query::EVENTS.sql, Vec::<i32>::new()).await?;
            let mut stream = std::pin::pin!(stream);
            while let Some(row) = stream.try_next().await? {
                // Whoever reads is a thread that computes; this one has nothing else to do for it.
                if tokio::task::block_in_place(|| rows.send(Ok(row))).is_err() {
                    return Ok(());
                }
            }
            Ok(())
        };
        if let Err(fault) = streaming.await {
            let _ = tokio::task::block_in_place(|| rows.send(Err(fault)));
        }
    }
}

async fn snapshot_of(connector: &super::connect::Connector) -> Result<(Session, u64), Fault> {
    let session = Session::open(connector).await?;
    session.client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let rows = session.client.query(query::REVISION.sql, &[]).await?;
    let revision = revision_of(&rows, 0)?;
    Ok((session, revision))
}

fn revision_of(rows: &[Row], column: usize) -> Result<u64, tokio_postgres::Error> {
    // The row is made with the table; without it nothing is known to have changed.
    rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>(column).map(i64::unsigned_abs))
}

fn changes(
    rows: &[Row],
    since: u64,
    most: usize,
) -> Result<Option<Changes>, tokio_postgres::Error> {
    let mut changes = Changes { revision: revision_of(rows, 0)?, products: Vec::new() };
    let forgotten = revision_of(rows, 1)?;
    if since < forgotten || since > changes.revision || rows.len() > most {
        return Ok(None);
    }
    for row in rows {
        let Some(ordinal) = row.try_get::<_, Option<i64>>(2)? else { continue };
        let id: String = row.try_get(3)?;
        let product = match row.try_get(4)? {
            true => {
                let values = rows::values(row, 5)?;
                Some(crate::catalog::Product { id: id.clone(), ..values })
            }
            false => None,
        };
        changes.products.push(ChangedProduct { ordinal: Ordinal(ordinal as u32), id, product });
    }
    Ok(Some(changes))
}
