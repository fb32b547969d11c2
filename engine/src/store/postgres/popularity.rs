//! The scores that the job `popularity` made, as instances read them.

use super::fault::Fault;
use super::query::{self, Params};
use super::session::Session;
use super::{PostgresStore, Shared, rows};
use crate::catalog::Ordinal;
use crate::store::{PopularityMade, StoreError};
use futures::TryStreamExt;
use std::time::Duration;
use tokio_postgres::Row;

const DOING: &str = "reading popularity";
/// Rows that wait to be looked at.
const ROWS: usize = 8_192;

/// What was made last, as the primary knows it; while that is away, as a replica does.
pub(super) async fn made(shared: &Shared) -> Result<Option<PopularityMade>, StoreError> {
    let params = Params::new();
    let rows = match shared.servers.write(&query::POPULARITY, &params).await {
        Ok(rows) => rows,
        Err(_) => {
            let read = shared.servers.read(&query::POPULARITY, &params, None).await;
            read.map_err(|fault| fault.told(DOING))?
        }
    };
    of(&rows).map_err(|error| Fault::from(error).told(DOING))
}

fn of(rows: &[Row]) -> Result<Option<PopularityMade>, tokio_postgres::Error> {
    let Some(row) = rows.first() else { return Ok(None) };
    let half_life: f64 = row.try_get(2)?;
    Ok(Some(PopularityMade {
        number: row.try_get::<_, i64>(0)?.unsigned_abs(),
        newest_micros: row.try_get(1)?,
        half_life: Duration::try_from_secs_f64(half_life).unwrap_or(Duration::MAX),
    }))
}

pub(super) fn scan(
    store: &PostgresStore,
    made: &PopularityMade,
    each: &mut dyn FnMut(Ordinal, f64),
) -> Result<(), StoreError> {
    let (shared, number) = (store.shared.clone(), made.number);
    let (send, received) = std::sync::mpsc::sync_channel::<Result<Row, Fault>>(ROWS);
    store.spawn(async move {
        let streaming = async {
            let session = shared.with_popularity(number).await?;
            let stream = session.client.query_raw(query::SCORES.sql, Vec::<i32>::new()).await?;
            let mut stream = std::pin::pin!(stream);
            while let Some(row) = stream.try_next().await? {
                if tokio::task::block_in_place(|| send.send(Ok(row))).is_err() {
                    return Ok(());
                }
            }
            Ok(())
        };
        if let Err(fault) = streaming.await {
            let _ = tokio::task::block_in_place(|| send.send(Err(fault)));
        }
    });
    for row in received {
        let row = row.map_err(|fault| fault.told(DOING))?;
        let failed = |error| Fault::from(error).told(DOING);
        let score = row.try_get(1).map_err(failed)?;
        each(rows::ordinal(&row, 0).map_err(failed)?, score);
    }
    Ok(())
}

impl Shared {
    /// A connection to a replica that has what was made under this number, else to the primary.
    async fn with_popularity(&self, number: u64) -> Result<Session, Fault> {
        let servers = &self.servers;
        for replica in servers.replicas.iter().filter(|replica| servers.in_rotation(replica)) {
            let Ok(session) = Session::open(&replica.connector).await else { continue };
            let rows = session.client.query(query::POPULARITY.sql, &[]).await;
            let has = rows.and_then(|rows| of(&rows)).ok().flatten();
            if has.is_some_and(|made| made.number >= number) {
                return Ok(session);
            }
        }
        Session::open(&servers.primary.connector).await
    }
}
