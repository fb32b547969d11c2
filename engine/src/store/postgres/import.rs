//! An import: rows are copied into staging tables of the connection's own, then merged in one transaction.
//!
//! Staging holds no lock and no transaction, so it costs nobody anything however long it takes. A connection that
//! breaks takes its staging tables with it.

use super::fault::Fault;
use super::partitions::{self, FirstDay};
use super::rows;
use super::session::Session;
use super::ship::TYPES as EVENT_TYPES;
use super::{PostgresStore, Shared};
use crate::catalog::{Event, Product};
use crate::store::{Import, Imported, StoreError};
use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{CopyInSink, Error};

/// Rows that are sent at once: a few megabytes, one statement.
const ROWS: usize = 8_192;
/// Changed products that are named one by one; more, and everything is read again.
const MOST_NAMED: u64 = 50_000;

/// So far back events get months of their own.
const OWN_MONTHS: Duration = Duration::from_secs(5 * 366 * 86_400);

const STAGE: &str = "
    SET client_min_messages = 'warning';
    SET temp_buffers = '64MB'; SET work_mem = '128MB'; SET maintenance_work_mem = '256MB';
    SET penstock.bulk = 'on';
    CREATE TEMP TABLE stage_products (
        number bigint NOT NULL, product_id text COLLATE \"C\" NOT NULL, name text NOT NULL, description text NOT NULL,
        category text NOT NULL, brand text NOT NULL, price double precision, created_at timestamptz,
        popularity double precision);
    CREATE TEMP TABLE stage_events (
        number bigint NOT NULL, event_id text COLLATE \"C\" NOT NULL, user_id text COLLATE \"C\" NOT NULL,
        product_id text COLLATE \"C\" NOT NULL, event_type text NOT NULL, \"timestamp\" timestamptz NOT NULL,
        source text NOT NULL)";

const PRODUCT_TYPES: [Type; 9] = [
    Type::INT8,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::FLOAT8,
    Type::TIMESTAMPTZ,
    Type::FLOAT8,
];

/// The last row of an id wins; a new product gets its number in the order of the first row. What would change
/// nothing is left out before anything is locked.
const PREPARE: &str = "
    CREATE TEMP TABLE last_products AS
        SELECT DISTINCT ON (product_id) *, min(number) OVER (PARTITION BY product_id) AS first
        FROM stage_products ORDER BY product_id, number DESC;
    ANALYZE last_products;
    CREATE TEMP TABLE new_products AS
        SELECT s.*, p.ordinal FROM last_products s LEFT JOIN penstock.products p USING (product_id)
        WHERE p.product_id IS NULL
            OR (s.name, s.description, s.category, s.brand, s.price, s.created_at, s.popularity) IS DISTINCT FROM
               (p.name, p.description, p.category, p.brand, p.price, p.created_at, p.popularity);
    CREATE TEMP TABLE first_events AS
        SELECT DISTINCT ON (event_id) * FROM stage_events s
        WHERE NOT EXISTS (SELECT 1 FROM penstock.event_ids k WHERE k.event_id = s.event_id)
        ORDER BY event_id, number;
    ANALYZE new_products; ANALYZE first_events";

/// As changes of single products do it: in order, so that nobody is in anybody's way.
const LOCK: &str = "
    SELECT 1 FROM penstock.products p JOIN new_products s USING (product_id) ORDER BY p.product_id FOR UPDATE OF p";
const UPDATE: &str = "
    UPDATE penstock.products p SET name = s.name, description = s.description, category = s.category,
        brand = s.brand, price = s.price, created_at = s.created_at, popularity = s.popularity
    FROM new_products s WHERE p.product_id = s.product_id";
const INSERT: &str = "
    INSERT INTO penstock.products (product_id, name, description, category, brand, price, created_at, popularity)
    SELECT product_id, name, description, category, brand, price, created_at, popularity
    FROM new_products WHERE ordinal IS NULL ORDER BY first";
const EVENTS: &str = "
    WITH fresh AS (
        INSERT INTO penstock.event_ids (event_id, \"timestamp\")
        SELECT event_id, \"timestamp\" FROM first_events ORDER BY event_id
        ON CONFLICT DO NOTHING RETURNING event_id)
    INSERT INTO penstock.events (event_id, user_id, product_id, event_type, \"timestamp\", source)
    SELECT event_id, user_id, product_id, event_type::penstock.event_type, \"timestamp\", source
    FROM first_events JOIN fresh USING (event_id) ORDER BY number";
const ADRIFT: &str = "
    SELECT count(*) FROM first_events s
    WHERE NOT EXISTS (SELECT 1 FROM penstock.products p WHERE p.product_id = s.product_id)";
/// The catalogue's row is locked last, as everybody does it.
const NAME_CHANGES: &str = "
    INSERT INTO penstock.product_changes (revision, ordinal, product_id)
    SELECT r.revision, p.ordinal, p.product_id
    FROM (SELECT penstock.revise() AS revision) r, new_products s JOIN penstock.products p USING (product_id)
    ON CONFLICT (ordinal) DO UPDATE SET revision = excluded.revision, at = excluded.at";
const NAME_NONE: &str =
    "SELECT penstock.revise(); UPDATE penstock.catalog SET forgotten = revision";

/// Two imports of the same products would both add them.
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_xact_lock(5786922118823169359)";

type Cells = Vec<Box<dyn ToSql + Sync + Send>>;

/// Rows on their way to a staging table.
#[derive(Default)]
struct Rows {
    waiting: Vec<Cells>,
    sent: u64,
}

pub(super) struct PostgresImport<'a> {
    store: &'a PostgresStore,
    /// `None` only while it is in use.
    session: Option<Session>,
    products: Rows,
    events: Rows,
    months: BTreeSet<FirstDay>,
    /// What happened before gets no month of its own: hundreds of them make every query slow to plan.
    oldest_month: i64,
}

impl<'a> PostgresImport<'a> {
    pub(super) fn begin(store: &'a PostgresStore) -> Result<Self, StoreError> {
        let shared = store.shared.clone();
        let session = store.wait(async move {
            let session = Session::open(&shared.servers.primary.connector).await?;
            session.client.batch_execute(STAGE).await?;
            Ok(session)
        });
        let session = session.map_err(|fault: Fault| fault.told("beginning an import"))?;
        let (products, events) = (Rows::default(), Rows::default());
        let now = store.shared.servers.clock.unix_micros();
        let oldest_month = now.saturating_sub(OWN_MONTHS.as_micros() as i64);
        Ok(Self {
            store,
            session: Some(session),
            products,
            events,
            months: BTreeSet::new(),
            oldest_month,
        })
    }

    fn send(&mut self, table: Table) -> Result<(), StoreError> {
        let rows = match table {
            Table::Products => &mut self.products,
            Table::Events => &mut self.events,
        };
        let waiting = std::mem::take(&mut rows.waiting);
        rows.sent += waiting.len() as u64;
        if waiting.is_empty() {
            return Ok(());
        }
        let mut session = self.session.take().expect("in use by one at a time");
        let (session, copied) = self.store.wait(async move {
            let copied = copy(&mut session, table, &waiting).await;
            (session, copied)
        });
        self.session = Some(session);
        copied.map_err(|error| Fault::from(error).told("staging the import"))
    }
}

#[derive(Clone, Copy)]
enum Table {
    Products,
    Events,
}

async fn copy(session: &mut Session, table: Table, rows: &[Cells]) -> Result<(), Error> {
    let (sql, types) = match table {
        Table::Products => ("COPY stage_products FROM STDIN BINARY", &PRODUCT_TYPES[..]),
        Table::Events => ("COPY stage_events FROM STDIN BINARY", &EVENT_TYPES[..]),
    };
    let sink: CopyInSink<bytes::Bytes> = session.client.copy_in(sql).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, types));
    for row in rows {
        let cells: Vec<&(dyn ToSql + Sync)> = row.iter().map(|cell| &**cell as _).collect();
        writer.as_mut().write(&cells).await?;
    }
    writer.finish().await.map(|_| ())
}

impl Import for PostgresImport<'_> {
    fn put_product(&mut self, product: Product) -> Result<(), StoreError> {
        let number = (self.products.sent + self.products.waiting.len() as u64).cast_signed();
        let Product { id, name, description, category, brand, price, created_at, popularity } =
            product;
        let created_at = created_at.and_then(rows::day);
        self.products.waiting.push(vec![
            Box::new(number),
            Box::new(id),
            Box::new(name),
            Box::new(description),
            Box::new(category),
            Box::new(brand),
            Box::new(price),
            Box::new(created_at),
            Box::new(popularity),
        ]);
        if self.products.waiting.len() < ROWS { Ok(()) } else { self.send(Table::Products) }
    }

    fn put_event(&mut self, event: Event) -> Result<(), StoreError> {
        let number = (self.events.sent + self.events.waiting.len() as u64).cast_signed();
        if event.at_micros >= self.oldest_month {
            self.months.extend(FirstDay::of(event.at_micros));
        }
        self.events.waiting.push(vec![
            Box::new(number),
            Box::new(event.event_id),
            Box::new(event.user_id),
            Box::new(event.product_id),
            Box::new(event.kind.name()),
            Box::new(rows::moment(event.at_micros)),
            Box::new(event.source),
        ]);
        if self.events.waiting.len() < ROWS { Ok(()) } else { self.send(Table::Events) }
    }

    fn commit(mut self: Box<Self>) -> Result<Imported, StoreError> {
        self.send(Table::Products)?;
        self.send(Table::Events)?;
        let mut session = self.session.take().expect("in use by one at a time");
        let (events, months) = (self.events.sent, std::mem::take(&mut self.months));
        let shared = self.store.shared.clone();
        let merged =
            self.store.wait(async move { merge(&shared, &mut session, events, months).await });
        merged.map_err(|fault| fault.told("merging the import"))
    }
}

async fn merge(
    shared: &Arc<Shared>,
    session: &mut Session,
    events: u64,
    months: BTreeSet<FirstDay>,
) -> Result<Imported, Fault> {
    let client = &mut session.client;
    client.batch_execute(PREPARE).await?;
    let staged: i64 =
        client.query_one("SELECT count(*) FROM last_products", &[]).await?.try_get(0)?;
    let months: Vec<FirstDay> = months.into_iter().collect();
    partitions::make(client, &months).await?;
    let begun = shared.servers.clock.now();
    let transaction = client.transaction().await?;
    transaction.batch_execute(ONE_AT_A_TIME).await?;
    transaction.batch_execute(LOCK).await?;
    let updated = transaction.execute(UPDATE, &[]).await?;
    let added = transaction.execute(INSERT, &[]).await?;
    let events_added = transaction.execute(EVENTS, &[]).await?;
    if added + updated > MOST_NAMED {
        transaction.batch_execute(NAME_NONE).await?;
    } else if added + updated > 0 {
        transaction.execute(NAME_CHANGES, &[]).await?;
    }
    transaction.commit().await?;
    let took = shared.servers.clock.now().saturating_duration_since(begun);
    tracing::info!(
        added,
        updated,
        events = events_added,
        millis = took.as_millis() as u64,
        "merged an import"
    );
    // It is in force: what fails from here on is no failure of the import.
    let adrift = match client.query_one(ADRIFT, &[]).await {
        Ok(row) if events_added > 0 => row.try_get::<_, i64>(0).unwrap_or(0),
        Ok(_) => 0,
        Err(error) => {
            tracing::warn!(%error, "cannot count the events of unknown products");
            0
        }
    };
    Ok(Imported {
        products_added: added,
        products_updated: updated,
        products_unchanged: staged.unsigned_abs() - added - updated,
        events_added,
        events_known: events - events_added,
        events_adrift: adrift.unsigned_abs(),
    })
}
