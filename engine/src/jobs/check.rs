//! Whether stored features are as good as the registry says: how old, how many are missing, what range.
//!
//! The age of a feature is that of the last run of its job that was done: of a user who does nothing the value does not
//! change, and is right all the same.

use super::Context;
use crate::features::{AFFINITY, Affinity, Entity, FEATURES, FeatureInfo, MadeBy};
use crate::store::StoreError;
use serde_json::Value;

/// What is found of one feature.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Checked {
    /// Which.
    pub name: &'static str,
    /// Of what.
    pub entity: Entity,
    /// Products or users that could have a value.
    pub entities: u64,
    /// Those without one.
    pub nulls: u64,
    /// Share of them; 0 where there are no entities.
    pub null_rate: f64,
    /// Least and greatest number.
    pub range: Option<(f64, f64)>,
    /// Since its job was done last; `None`: it has no job, or that never was.
    pub age_seconds: Option<i64>,
    /// What is not as it should be.
    pub problems: Vec<String>,
}

#[derive(Debug, Default)]
struct Seen {
    entities: u64,
    values: u64,
    range: Option<(f64, f64)>,
}

impl Seen {
    fn number(&mut self, value: Option<f64>) {
        self.entities += 1;
        let Some(value) = value else { return };
        self.values += 1;
        let (least, greatest) = self.range.unwrap_or((value, value));
        self.range = Some((least.min(value), greatest.max(value)));
    }
}

/// Looks at every feature that is stored or that the shop gives.
pub fn check(context: &Context<'_>) -> Result<Vec<Checked>, StoreError> {
    let stored = FEATURES.iter().filter(|info| info.lineage.made_by != MadeBy::Request);
    stored.map(|info| one(info, context)).collect()
}

fn one(info: &'static FeatureInfo, context: &Context<'_>) -> Result<Checked, StoreError> {
    let seen = look(info, context)?;
    let mut problems = Vec::new();
    let nulls = seen.entities.saturating_sub(seen.values);
    let null_rate = if seen.entities == 0 { 0.0 } else { nulls as f64 / seen.entities as f64 };
    let most = info.limits.most_nulls;
    if null_rate > most {
        problems.push(format!(
            "{:.1} % have no value; at most {:.1} % may",
            null_rate * 100.0,
            most * 100.0
        ));
    }
    if let (Some((least, greatest)), Some((low, high))) = (seen.range, info.limits.range)
        && (least < low || greatest > high)
    {
        problems
            .push(format!("values from {least} to {greatest}; they must be in [{low}, {high}]"));
    }
    let age_seconds = match info.job() {
        Some(job) => age(job, context)?,
        None => None,
    };
    if let Some(job) = info.job() {
        match age_seconds {
            None => problems.push(format!("the job {job} was never done")),
            Some(age) if age > i64::from(info.staleness_seconds) => problems.push(format!(
                "{age} s old; at most {} s: the job {job} does not run, or fails",
                info.staleness_seconds
            )),
            Some(_) => {}
        }
    }
    let (name, entity, entities) = (info.name, info.entity, seen.entities);
    let range = seen.range;
    Ok(Checked { name, entity, entities, nulls, null_rate, range, age_seconds, problems })
}

fn age(job: &str, context: &Context<'_>) -> Result<Option<i64>, StoreError> {
    let runs = context.store.runs(Some(job), usize::MAX >> 1)?;
    let done = runs.iter().find(|run| run.outcome.as_deref() == Some("done"));
    let finished = done.and_then(|run| run.finished_micros);
    Ok(finished.map(|at| (context.clock.unix_micros() - at).max(0) / 1_000_000))
}

fn look(info: &FeatureInfo, context: &Context<'_>) -> Result<Seen, StoreError> {
    let store = context.store;
    let mut seen = Seen::default();
    match info.name {
        "price" => store.scan_products(&mut |stored| seen.number(stored.product.price))?,
        "popularity_figure" => {
            store.scan_products(&mut |stored| seen.number(stored.product.popularity))?;
        }
        "popularity" => {
            if let Some(made) = store.popularity_made()? {
                store.scan_popularity(&made, &mut |_, _| seen.values += 1)?;
            }
            seen.entities = store.counts()?.products;
        }
        AFFINITY => store.scan_features(info.entity, info.name, &mut |_, value| {
            seen.entities += 1;
            let affinity = serde_json::from_value::<Affinity>(value);
            seen.values += u64::from(affinity.is_ok_and(|all| !all.categories.is_empty()));
        })?,
        _ => {
            let number = |value: Value| value.as_f64();
            store.scan_features(info.entity, info.name, &mut |_, v| seen.number(number(v)))?;
            if info.entity == Entity::Product {
                // Products that came after the job.
                seen.entities = seen.entities.max(store.counts()?.products);
            }
        }
    }
    Ok(seen)
}
