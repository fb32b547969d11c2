//! Popularity, counted in the database: each event once, whoever commits meanwhile.
//!
//! A transaction that began before the last run may have committed after it, so neither a time nor a number says what
//! was counted. The server's own snapshots do: the last run's says which transactions it saw, every event has the
//! transaction that stored it, and what is visible now and was not then is new. Scores and the snapshot are written in
//! one transaction, under a lock on the job's row: a run that is killed or repeated changes nothing twice.
//!
//! A score is the binary logarithm of a sum of `weight · 2^(t / half_life)`, `t` since 1970. So it decays without being
//! touched: only products with new events are written.

use super::super::fault::Fault;
use super::super::rows::Moment;
use crate::store::jobs::{Folded, PopularityBy};
use serde_json::{Value, json};
use tokio_postgres::{Client, Transaction};

pub(super) const JOB: &str = "popularity";

const STAGE: &str = "
    CREATE TEMP TABLE IF NOT EXISTS penstock_mark (snapshot text NOT NULL) ON COMMIT DROP;
    CREATE TEMP TABLE IF NOT EXISTS penstock_fresh (
        product_id text COLLATE \"C\" PRIMARY KEY, score double precision, newest timestamptz NOT NULL,
        events bigint NOT NULL) ON COMMIT DROP";

/// The sums of events that are new, and the snapshot that saw them: one statement, so one snapshot. An event that is a
/// thousand half-lives older than its product's newest counts as if it were a thousand.
const FRESH: &str = "
    WITH mark AS (INSERT INTO penstock_mark SELECT pg_current_snapshot()::text),
    weighed AS MATERIALIZED (
        SELECT product_id, \"timestamp\" AS at,
            CASE event_type WHEN 'view' THEN $1::float8 WHEN 'add_to_cart' THEN $2::float8 ELSE $3::float8 END AS weight,
            extract(epoch FROM \"timestamp\")::float8 / $4::float8 AS exponent
        FROM penstock.events WHERE ";
const SUM: &str = "),
    tops AS (
        SELECT product_id, max(exponent) FILTER (WHERE weight > 0) AS top FROM weighed GROUP BY product_id)
    INSERT INTO penstock_fresh
    SELECT product_id,
        CASE WHEN top IS NOT NULL
            THEN top + ln(sum(weight * power(2::float8, greatest(exponent - top, -1000)))) / ln(2::float8) END,
        max(at), count(*)
    FROM weighed JOIN tops USING (product_id) GROUP BY product_id, top";

/// What the snapshot `$5` does not see. The index on `stored_by` finds where to begin.
const NEW: &str = "
    stored_by >= pg_snapshot_xmin($5::text::pg_snapshot)::text::bigint
    AND NOT pg_visible_in_snapshot(stored_by::text::xid8, $5::text::pg_snapshot)";
const ALL: &str = "$5::text IS NOT NULL";

const ADD: &str = "
    INSERT INTO penstock.popularity AS p (product_id, score, newest)
    SELECT product_id, score, newest FROM penstock_fresh ORDER BY product_id
    ON CONFLICT (product_id) DO UPDATE SET
        score = CASE WHEN p.score IS NULL OR excluded.score IS NULL THEN coalesce(p.score, excluded.score)
            ELSE greatest(p.score, excluded.score)
                + ln(1 + power(2::float8, greatest(-abs(p.score - excluded.score), -1000))) / ln(2::float8) END,
        newest = greatest(p.newest, excluded.newest)";

/// Products with new events, and those that came after their events.
const WRITE: &str = "
    UPDATE penstock.products t SET popularity_score = p.score FROM penstock.popularity p
    WHERE p.product_id = t.product_id AND t.popularity_score IS DISTINCT FROM p.score
      AND (t.popularity_score IS NULL OR EXISTS (SELECT FROM penstock_fresh f WHERE f.product_id = t.product_id))";

/// Products whose events are gone.
const CLEAR: &str = "
    UPDATE penstock.products t SET popularity_score = NULL
    WHERE popularity_score IS NOT NULL
      AND NOT EXISTS (SELECT FROM penstock.popularity p WHERE p.product_id = t.product_id)";

/// Events that a dump brought from another server have the numbers of its transactions, and those are still to come
/// here: they would be new again and again.
const SETTLE: &str = "
    UPDATE penstock.events SET stored_by = 0
    WHERE stored_by >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint";

const NEWEST: &str = "
    SELECT max(p.newest) FROM penstock.popularity p JOIN penstock.products USING (product_id)";

pub(super) async fn fold(client: &mut Client, by: &PopularityBy) -> Result<Folded, Fault> {
    let transaction = client.transaction().await?;
    let add = "INSERT INTO penstock.job_state VALUES ($1, '{}') ON CONFLICT DO NOTHING";
    transaction.execute(add, &[&JOB]).await?;
    let read = "SELECT state::text FROM penstock.job_state WHERE job = $1 FOR UPDATE";
    let state: String = transaction.query_one(read, &[&JOB]).await?.try_get(0)?;
    let before: Value = serde_json::from_str(&state).unwrap_or_default();
    let full = why_full(&transaction, &before, by).await?;
    transaction.batch_execute(STAGE).await?;
    if full.is_some() {
        transaction.execute(SETTLE, &[]).await?;
        transaction.execute("DELETE FROM penstock.popularity", &[]).await?;
    }
    let events = sum_up(&transaction, &before, by, full.is_some()).await?;
    transaction.execute(ADD, &[]).await?;
    transaction.batch_execute("ANALYZE penstock_fresh").await?;
    let mut products = transaction.execute(WRITE, &[]).await?;
    if full.is_some() {
        products += transaction.execute(CLEAR, &[]).await?;
    }
    let number = before["number"].as_u64().unwrap_or(0);
    // A newer newest event is another scale, and there is one only with events.
    let changed = full.is_some() || events > 0 || products > 0;
    let number = if changed { number + 1 } else { number };
    let newest = match changed {
        true => {
            let newest: Option<Moment> = transaction.query_one(NEWEST, &[]).await?.try_get(0)?;
            json!(newest.map(|moment| moment.0))
        }
        false => before["newest_micros"].clone(),
    };
    if changed {
        transaction.execute("SELECT pg_notify('penstock_popularity', '')", &[]).await?;
    }
    let mark = "SELECT snapshot FROM penstock_mark";
    let snapshot: String = transaction.query_one(mark, &[]).await?.try_get(0)?;
    let state = json!({
        "snapshot": snapshot, "how": how(by), "number": number, "newest_micros": newest,
        "half_life_seconds": by.half_life.as_secs_f64(),
    });
    let write = "UPDATE penstock.job_state SET state = $2::text::jsonb WHERE job = $1";
    transaction.execute(write, &[&JOB, &state.to_string()]).await?;
    transaction.commit().await?;
    Ok(Folded { events, products, full, number })
}

/// What must be the same for scores to be added to.
fn how(by: &PopularityBy) -> String {
    format!("{:?} {:?}", by.weights, by.half_life)
}

async fn why_full(
    transaction: &Transaction<'_>,
    before: &Value,
    by: &PopularityBy,
) -> Result<Option<&'static str>, Fault> {
    let Some(snapshot) = before["snapshot"].as_str() else {
        return Ok(Some("it was never counted"));
    };
    if by.full {
        return Ok(Some("asked for"));
    }
    if before["how"] != json!(how(by)) {
        return Ok(Some("weights or the half-life are others"));
    }
    let sql =
        "SELECT pg_snapshot_xmax($1::text::pg_snapshot) > pg_snapshot_xmax(pg_current_snapshot())";
    let restored: bool = transaction.query_one(sql, &[&snapshot]).await?.try_get(0)?;
    Ok(restored.then_some("the database was restored"))
}

async fn sum_up(
    transaction: &Transaction<'_>,
    before: &Value,
    by: &PopularityBy,
    full: bool,
) -> Result<u64, Fault> {
    let sql = format!("{FRESH}{}{SUM}", if full { ALL } else { NEW });
    let weights = by.weights;
    let [view, cart, purchase] =
        [weights.view, weights.add_to_cart, weights.purchase].map(f64::from);
    let half_life = by.half_life.as_secs_f64();
    let snapshot = before["snapshot"].as_str().unwrap_or_default();
    transaction.execute(&sql, &[&view, &cart, &purchase, &half_life, &snapshot]).await?;
    let count = "SELECT coalesce(sum(events), 0)::bigint FROM penstock_fresh";
    let count: i64 = transaction.query_one(count, &[]).await?.try_get(0)?;
    Ok(count.unsigned_abs())
}
