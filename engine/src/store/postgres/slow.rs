//! Slow queries: logged with their text, their plan and the request they were for.

use super::query::{Query, normalised};
use super::server::Server;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One plan is asked for at a time: a database that is slow is not asked for more.
static EXPLAINING: AtomicBool = AtomicBool::new(false);

/// Asking for a plan may not take longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Logs the query; its plan is asked for in the background, without its values: they may be of a person.
pub(super) fn log(server: &Arc<Server>, query: &Query, rows: usize, took: Duration) {
    let trace_id = crate::trace::current();
    let trace_id = trace_id.map(hex::encode);
    let text = normalised(query.sql);
    let (server, name) = (server.clone(), query.name);
    let millis = took.as_millis() as u64;
    if EXPLAINING.swap(true, Ordering::AcqRel) {
        tracing::warn!(
            query = name,
            millis,
            rows,
            trace_id,
            server = server.name,
            text,
            "slow query"
        );
        return;
    }
    tokio::spawn(async move {
        let plan = tokio::time::timeout(PATIENCE, plan(&server, &text)).await;
        let plan = plan.unwrap_or_else(|_| Err("the plan took too long".into()));
        let plan = plan.unwrap_or_else(|why| format!("not known: {why}"));
        tracing::warn!(
            query = name,
            millis,
            rows,
            trace_id,
            server = server.name,
            text,
            plan,
            "slow query"
        );
        EXPLAINING.store(false, Ordering::Release);
    });
}

/// The plan the server has for any values.
async fn plan(server: &Server, text: &str) -> Result<String, String> {
    let asked = async {
        let client = server.pool.get().await?;
        let statement = client.prepare_cached(text).await?;
        let nulls = vec!["NULL"; statement.params().len()].join(", ");
        let arguments = if nulls.is_empty() { nulls } else { format!("({nulls})") };
        // Taken out for good: whoever stops waiting for the plan leaves it in the middle of something.
        let client = deadpool_postgres::Object::take(client);
        let answer = client
            .simple_query(&format!(
                "BEGIN READ ONLY; SET LOCAL plan_cache_mode = force_generic_plan; \
                 PREPARE penstock_slow AS {text}; EXPLAIN EXECUTE penstock_slow{arguments}; \
                 DEALLOCATE penstock_slow; ROLLBACK"
            ))
            .await;
        Ok::<_, super::fault::Fault>(answer?)
    };
    let rows = asked.await.map_err(|fault: super::fault::Fault| fault.to_string())?;
    let lines = rows.iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}
