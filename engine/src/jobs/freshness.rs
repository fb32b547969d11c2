//! The job `freshness`: how new each product is today, stored for training. Requests compute it themselves.

use super::{Context, JobError};
use crate::features::{Entity, feature, freshness};
use crate::store::StoreError;
use serde_json::{Value, json};

/// Values stored at once.
const PAGE: usize = 5_000;
/// Digits after the point; more would be those of single precision.
const DIGITS: f64 = 1e6;

pub(super) fn store(context: &Context<'_>) -> Result<Value, JobError> {
    let store = context.store;
    let now = context.clock.unix_seconds();
    let half_life = context.policy.ranking.freshness_half_life;
    let version = feature("freshness").map_or(1, |info| info.version);
    let mut page: Vec<(String, Value)> = Vec::with_capacity(PAGE);
    let (mut products, mut unknown, mut changed) = (0_u64, 0_u64, 0_u64);
    let mut failed: Option<StoreError> = None;
    let put = |page: &mut Vec<(String, Value)>| {
        let put = store.put_features(Entity::Product, "freshness", version, page);
        page.clear();
        put
    };
    store.scan_products(&mut |stored| {
        if failed.is_some() {
            return;
        }
        products += 1;
        let created_at = stored.product.created_at;
        unknown += u64::from(created_at.is_none());
        let value = created_at.map(|_| f64::from(freshness(created_at, now, half_life)));
        page.push((stored.product.id, json!(value.map(|v| (v * DIGITS).round() / DIGITS))));
        if page.len() == PAGE {
            match put(&mut page) {
                Ok(others) => changed += others,
                Err(error) => failed = Some(error),
            }
            (context.progress)("products", products);
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    changed += put(&mut page)?;
    Ok(json!({"products": products, "without_date": unknown, "changed": changed}))
}
