//! The job `user_category_affinity`: what users care for in the long run.
//!
//! Only users with events since the last run are computed, each from all of their events, so that a run which is
//! repeated gives the same. The mark moves on when everything is stored: a run that is killed is done again.

use super::{Context, JobError};
use crate::catalog::Catalog;
use crate::features::{AFFINITY, AffinityBuilder, Entity, feature};
use crate::store::StoreError;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Users whose events are read at once.
const PAGE: usize = 500;
/// Users who are named to those who remember their features; more, and all are meant.
const NAMED: usize = 5_000;

pub(super) fn store(context: &Context<'_>) -> Result<Value, JobError> {
    let store = context.store;
    let weights = context.policy.ranking.events;
    let version = feature(AFFINITY).map_or(1, |info| info.version);
    let how = format!("{weights:?} {version}");
    let before = store.job_state(AFFINITY)?.unwrap_or_default();
    let mark = before["mark"].as_str().filter(|_| !context.full && before["how"] == how);
    let catalog = catalogue(context)?;
    let mut users = Vec::new();
    let next = store.users_since(mark, &mut |user| users.push(user))?;
    let mut changed = 0;
    for (page, ids) in users.chunks(PAGE).enumerate() {
        let mut builders: HashMap<&str, AffinityBuilder<'_>> = HashMap::new();
        let builder = || AffinityBuilder::new(&catalog, weights);
        ids.iter().for_each(|id| drop(builders.insert(id, builder())));
        store.histories(ids, &mut |user, event| {
            if let Some(builder) = builders.get_mut(user) {
                builder.add(&event);
            }
        })?;
        let mut values: Vec<(String, Value)> = builders
            .into_iter()
            .map(|(user, builder)| (user.to_owned(), json!(builder.finish())))
            .collect();
        values.sort_by(|a, b| a.0.cmp(&b.0));
        changed += store.put_features(Entity::User, AFFINITY, version, &values)?;
        (context.progress)("users", (page * PAGE + ids.len()) as u64);
    }
    if changed > 0 {
        let named = (users.len() <= NAMED).then_some(&users[..]);
        store.tell_users(named)?;
    }
    store.set_job_state(AFFINITY, &json!({"mark": next, "how": how}))?;
    Ok(json!({"users": users.len(), "changed": changed, "full": mark.is_none()}))
}

pub(super) fn catalogue(context: &Context<'_>) -> Result<Catalog, StoreError> {
    let mut catalog = Catalog::new(context.store.catalog_revision()?);
    context.store.scan_products(&mut |stored| catalog.push(stored.ordinal, &stored.product))?;
    Ok(catalog)
}
