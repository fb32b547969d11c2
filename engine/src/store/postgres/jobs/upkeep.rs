//! What a database needs now and then: months ahead, old months away, bounded tables.

use super::super::fault::Fault;
use super::super::partitions;
use super::super::rows::moment;
use crate::store::jobs::{Keep, Maintained};
use std::time::Duration;
use tokio_postgres::Client;

/// Makes the catalogue's oldest known change the first that is kept. The row is locked as by whoever changes products,
/// so that no change comes in between.
const FORGET: &str = "
    WITH old AS (SELECT max(revision) AS until FROM penstock.product_changes WHERE at < $1),
    known AS (
        UPDATE penstock.catalog SET forgotten = greatest(forgotten, old.until) FROM old
        WHERE old.until IS NOT NULL RETURNING forgotten)
    DELETE FROM penstock.product_changes USING known WHERE revision <= known.forgotten";

const RUNS: &str = "
    DELETE FROM penstock.job_runs WHERE id IN (
        SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY job ORDER BY id DESC) AS place
                        FROM penstock.job_runs WHERE outcome IS NOT NULL) AS runs WHERE place > $1)";

const NOBODYS: &str = "
    DELETE FROM penstock.feature_values v
    WHERE entity = 'product' AND NOT EXISTS (SELECT FROM penstock.products p WHERE p.product_id = v.entity_id)";

pub(super) async fn maintain(
    client: &mut Client,
    keep: &Keep,
    months: Option<u32>,
) -> Result<Maintained, Fault> {
    partitions::make_ahead(client).await?;
    let months_retired = match months {
        Some(months) => partitions::retire(client, keep.now_micros, months).await?,
        None => Vec::new(),
    };
    let before = |age: Duration| {
        let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        moment(keep.now_micros.saturating_sub(micros))
    };
    let changes_forgotten = client.execute(FORGET, &[&before(keep.changes)]).await?;
    let runs_forgotten = client.execute(RUNS, &[&i64::from(keep.runs)]).await?;
    let values_of_nobody = client.execute(NOBODYS, &[]).await?;
    Ok(Maintained { months_retired, changes_forgotten, runs_forgotten, values_of_nobody })
}
