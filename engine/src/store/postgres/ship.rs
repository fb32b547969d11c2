//! Events into the table, each once: copied into a staging table, then added unless their id is known.

use super::fault::Fault;
use super::query::Query;
use super::rows::moment;
use crate::catalog::Event;
use deadpool_postgres::Object;
use std::pin::pin;
use std::time::Duration;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tokio_postgres::{CopyInSink, Error};

/// Nobody waits for a batch, and after an outage every index is cold.
pub(super) const PATIENCE: Duration = Duration::from_secs(28);

/// A staging table of the connection's own. Its rows go with the transaction.
const STAGE: &str = "
    SET LOCAL penstock.bulk = 'on';
    SET LOCAL statement_timeout = '25s';
    SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off';
    SET LOCAL client_min_messages = 'warning';
    CREATE TEMP TABLE IF NOT EXISTS penstock_events (
        number bigint NOT NULL, event_id text COLLATE \"C\" NOT NULL, user_id text COLLATE \"C\" NOT NULL,
        product_id text COLLATE \"C\" NOT NULL, event_type text NOT NULL, \"timestamp\" timestamptz NOT NULL,
        source text NOT NULL) ON COMMIT DELETE ROWS";

const COPY: &str = "COPY penstock_events FROM STDIN BINARY";

pub(super) const TYPES: [Type; 7] =
    [Type::INT8, Type::TEXT, Type::TEXT, Type::TEXT, Type::TEXT, Type::TIMESTAMPTZ, Type::TEXT];

/// Ids in order, so that two who store the same ids wait for each other instead of being in each other's way.
pub(super) const ADD: Query = Query { name: "append_events", sql: "
    WITH first AS (SELECT DISTINCT ON (event_id) * FROM penstock_events ORDER BY event_id, number),
    fresh AS (
        INSERT INTO penstock.event_ids (event_id, \"timestamp\")
        SELECT event_id, \"timestamp\" FROM first ORDER BY event_id
        ON CONFLICT DO NOTHING RETURNING event_id),
    added AS (
        INSERT INTO penstock.events (event_id, user_id, product_id, event_type, \"timestamp\", source)
        SELECT event_id, user_id, product_id, event_type::penstock.event_type, \"timestamp\", source
        FROM first JOIN fresh USING (event_id) ORDER BY number)
    SELECT number FROM first JOIN fresh USING (event_id)" };

/// Stores events; `true` where one was not known. Durable when it returns.
pub(super) async fn store(client: &mut Object, events: &[Event]) -> Result<Vec<bool>, Fault> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(STAGE).await?;
    let sink: CopyInSink<bytes::Bytes> = transaction.copy_in(COPY).await?;
    copy(sink, events).await?;
    let statement = transaction.prepare_cached(ADD.sql).await?;
    let rows = transaction.query(&statement, &[]).await?;
    transaction.commit().await?;
    let mut fresh = vec![false; events.len()];
    for row in rows {
        let number: i64 = row.try_get(0)?;
        fresh[number as usize] = true;
    }
    Ok(fresh)
}

async fn copy(sink: CopyInSink<bytes::Bytes>, events: &[Event]) -> Result<(), Error> {
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &TYPES));
    for (number, event) in events.iter().enumerate() {
        let row: [&(dyn tokio_postgres::types::ToSql + Sync); 7] = [
            &(number as i64),
            &event.event_id,
            &event.user_id,
            &event.product_id,
            &event.kind.name(),
            &moment(event.at_micros),
            &event.source,
        ];
        writer.as_mut().write(&row).await?;
    }
    writer.finish().await.map(|_| ())
}
