//! Feature values and what jobs remember, in the database.

use super::PostgresStore;
use crate::features::Entity;
use crate::store::StoreError;
use serde_json::Value;

/// Bytes of a message to everybody; PostgreSQL takes less than 8,000.
const MESSAGE: usize = 6_000;

pub(super) const SCAN: &str = "
    SELECT entity_id, value::text FROM penstock.feature_values WHERE entity = $1 AND name = $2 ORDER BY entity_id";

/// Time and version of a value that is as it was stay what they are.
const PUT: &str = "
    INSERT INTO penstock.feature_values AS v (entity, entity_id, name, version, value)
    SELECT $1, id, $2, $3, value::jsonb FROM unnest($4::text[], $5::text[]) AS new (id, value) ORDER BY id
    ON CONFLICT (entity, entity_id, name) DO UPDATE
    SET version = excluded.version, value = excluded.value, computed_at = excluded.computed_at
    WHERE (v.version, v.value) IS DISTINCT FROM (excluded.version, excluded.value)";

pub(super) fn put(
    store: &PostgresStore,
    entity: Entity,
    name: &str,
    version: u32,
    values: &[(String, Value)],
) -> Result<u64, StoreError> {
    let (name, version) = (name.to_owned(), version as i32);
    let ids: Vec<String> = values.iter().map(|(id, _)| id.clone()).collect();
    let values: Vec<String> = values.iter().map(|(_, value)| value.to_string()).collect();
    store.on_session("storing feature values", move |client| {
        Box::pin(async move {
            let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                [&entity.name(), &name, &version, &ids, &values];
            Ok(client.execute(PUT, &params).await?)
        })
    })
}

pub(super) fn job_state(store: &PostgresStore, job: &str) -> Result<Option<Value>, StoreError> {
    let job = job.to_owned();
    store.on_session("reading what a job remembers", move |client| {
        Box::pin(async move {
            let sql = "SELECT state::text FROM penstock.job_state WHERE job = $1";
            let row = client.query_opt(sql, &[&job]).await?;
            let text: Option<String> = row.map(|row| row.try_get(0)).transpose()?;
            Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
        })
    })
}

pub(super) fn set_job_state(
    store: &PostgresStore,
    job: &str,
    state: &Value,
) -> Result<(), StoreError> {
    let (job, state) = (job.to_owned(), state.to_string());
    store.on_session("storing what a job remembers", move |client| {
        Box::pin(async move {
            let sql = "INSERT INTO penstock.job_state VALUES ($1, $2::text::jsonb)
                       ON CONFLICT (job) DO UPDATE SET state = excluded.state";
            client.execute(sql, &[&job, &state]).await?;
            Ok(())
        })
    })
}

pub(super) fn tell_users(
    store: &PostgresStore,
    users: Option<&[String]>,
) -> Result<(), StoreError> {
    let messages = messages(users);
    store.on_session("telling whose features changed", move |client| {
        Box::pin(async move {
            for message in &messages {
                client.execute("SELECT pg_notify('penstock_users', $1)", &[message]).await?;
            }
            Ok(())
        })
    })
}

/// As the trigger on events tells it. Not in the name of an instance, which would tell the fleet by itself.
fn messages(users: Option<&[String]>) -> Vec<String> {
    let message = |ids: &str| format!("penstock-jobs\n{ids}");
    let Some(users) = users else { return vec![message("null")] };
    let mut messages = Vec::new();
    let mut line = String::new();
    for user in users {
        if line.len() > MESSAGE {
            messages.push(message(&format!("[{line}]")));
            line.clear();
        }
        let comma = if line.is_empty() { "" } else { "," };
        line.push_str(&format!("{comma}{}", Value::from(user.as_str())));
    }
    if !line.is_empty() {
        messages.push(message(&format!("[{line}]")));
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_bounded_and_name_everybody() {
        assert_eq!(messages(None), ["penstock-jobs\nnull"]);
        assert_eq!(messages(Some(&[])), [] as [String; 0]);
        let users: Vec<String> = (0..5_000).map(|n| format!("user \"{n}\"")).collect();
        let mut told = Vec::new();
        for message in messages(Some(&users)) {
            assert!(message.len() < 8_000);
            let (by, ids) = message.split_once('\n').unwrap();
            assert_eq!(by, "penstock-jobs");
            told.extend(serde_json::from_str::<Vec<String>>(ids).unwrap());
        }
        assert_eq!(told, users);
    }
}
