//! The job `feature_snapshot`: all stored features as Parquet files, for training.
//!
//! `<data folder>/features/<date>/` has one file per kind of entity and a `manifest.json`, which is written last: a
//! folder without one is not whole. Rows are in the order of their ids, so the same values give the same bytes.

mod table;

use super::{Context, JobError, affinity};
use crate::features::{AFFINITY, Affinity, Entity, PopularityBuilder, feature};
use penstock_config::clock::Clock;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use table::{Cell, Column, Kind, Table};
use time::{Date, OffsetDateTime};

/// The folder of snapshots in the data folder.
pub const FOLDER: &str = "features";
/// Grows when files of a snapshot are other than before.
const FORMAT: u32 = 1;

/// The day it is, in UTC, as folders are named: `2026-01-31`.
pub fn today(clock: &dyn Clock) -> String {
    let now = OffsetDateTime::from_unix_timestamp(clock.unix_seconds());
    now.map_or_else(|_| "1970-01-01".to_owned(), |now| now.date().to_string())
}

/// Whether a folder may have this name.
pub fn is_date(text: &str) -> bool {
    parse_date(text).is_some()
}

fn parse_date(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let month = time::Month::try_from(month.parse::<u8>().ok()?).ok()?;
    let date = Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
    (date.to_string() == text && parts.next().is_none()).then_some(date)
}

/// Writes the folder of this date with the values there are now, in place of one that is there; gives its manifest.
pub fn write(context: &Context<'_>, date: &str) -> Result<Value, JobError> {
    let root = context.data_dir.join(FOLDER);
    let folder = root.join(date);
    fs::create_dir_all(&folder).map_err(|error| failed(&folder, error))?;
    let revision = context.store.catalog_revision()?;
    let products = finish(products(context, &folder)?, "products")?;
    let users = finish(users(context, &folder)?, "users")?;
    let mut files = Map::new();
    files.insert("products".into(), products);
    files.insert("users".into(), users);
    let manifest = json!({
        "format": FORMAT,
        "date": date,
        "made_at": penstock_config::units::rfc3339_seconds(context.clock.unix_seconds()),
        "store_id": context.store.store_id()?,
        "catalog_revision": revision,
        "popularity": context.store.popularity_made()?.map(|made| made.number),
        "policy": context.policy.version.as_str(),
        "files": files,
    });
    let bytes = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    put(&folder.join("manifest.json"), &bytes).map_err(|error| failed(&folder, error))?;
    let pruned = prune(&root, context.keep_days);
    Ok(
        json!({"folder": folder.display().to_string(), "files": manifest["files"], "removed": pruned}),
    )
}

fn failed(path: &Path, error: impl std::fmt::Display) -> JobError {
    JobError::File { path: path.to_owned(), why: error.to_string() }
}

/// Temporary file, synchronised, renamed: there is the old file or the whole new one.
fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn finish(table: Table, name: &str) -> Result<Value, JobError> {
    let path = table.path().to_owned();
    let done = table.finish().map_err(|error| failed(&path, error))?;
    let columns: BTreeMap<&str, Value> = done
        .nulls
        .iter()
        .map(|(column, nulls)| {
            let rate = if done.rows == 0 { 0.0 } else { *nulls as f64 / done.rows as f64 };
            let version = feature(column).map(|info| info.version);
            (*column, json!({"nulls": nulls, "null_rate": rate, "version": version}))
        })
        .collect();
    Ok(json!({
        "file": format!("{name}.parquet"), "rows": done.rows, "bytes": done.bytes,
        "sha256": done.sha256, "columns": columns,
    }))
}

const PRODUCTS: &[Column] = &[
    Column { name: "product_id", kind: Kind::Text },
    Column { name: "category", kind: Kind::Text },
    Column { name: "brand", kind: Kind::Text },
    Column { name: "price", kind: Kind::Double },
    Column { name: "created_at", kind: Kind::Moment },
    Column { name: "popularity_figure", kind: Kind::Double },
    Column { name: "popularity_log2", kind: Kind::Double },
    Column { name: "popularity", kind: Kind::Double },
    Column { name: "freshness", kind: Kind::Double },
];

fn products(context: &Context<'_>, folder: &Path) -> Result<Table, JobError> {
    let store = context.store;
    let catalog = affinity::catalogue(context)?;
    let ranking = &context.policy.ranking;
    let mut builder =
        PopularityBuilder::new(catalog.columns(), ranking.events, ranking.popularity_half_life);
    let mut log2: HashMap<u32, f64> = HashMap::new();
    let made = store.popularity_made()?;
    if let Some(made) = &made {
        let newest = made.newest_micros.map(|at| at as f64 / 1e6 / made.half_life.as_secs_f64());
        builder.as_of(newest.unwrap_or(f64::NEG_INFINITY));
        store.scan_popularity(made, &mut |ordinal, score| {
            builder.set(ordinal, score);
            log2.insert(ordinal.0, score);
        })?;
    }
    let popularity = builder.finish(&catalog);
    let mut freshness: HashMap<String, f64> = HashMap::new();
    store.scan_features(Entity::Product, "freshness", &mut |id, value| {
        freshness.extend(value.as_f64().map(|value| (id.to_owned(), value)));
    })?;
    let mut rows: Vec<_> = catalog.iter().collect();
    rows.sort_by(|a, b| a.1.id.cmp(&b.1.id));
    let path = folder.join("products.parquet");
    let mut table = Table::new(&path, PRODUCTS).map_err(|error| failed(&path, error))?;
    for (count, (ordinal, row)) in rows.into_iter().enumerate() {
        let text = |text: &str| (!text.is_empty()).then(|| Cell::Text(text.to_owned()));
        let score = f64::from(popularity.score(ordinal));
        let cells = vec![
            Some(Cell::Text(row.id.to_string())),
            text(&row.category),
            text(&row.brand),
            row.price.map(Cell::Double),
            row.created_at.map(|at| Cell::Moment(at.saturating_mul(1_000_000))),
            row.popularity.map(Cell::Double),
            log2.get(&ordinal.0).copied().map(Cell::Double),
            made.map(|_| Cell::Double(score)),
            freshness.get(&*row.id).copied().map(Cell::Double),
        ];
        table.push(cells).map_err(|error| failed(&path, error))?;
        if count % 10_000 == 0 {
            (context.progress)("products", count as u64);
        }
    }
    Ok(table)
}

const USERS: &[Column] = &[
    Column { name: "user_id", kind: Kind::Text },
    Column { name: "events", kind: Kind::Whole },
    Column { name: "top_category", kind: Kind::Text },
    Column { name: AFFINITY, kind: Kind::Text },
];

fn users(context: &Context<'_>, folder: &Path) -> Result<Table, JobError> {
    let path = folder.join("users.parquet");
    let mut table = Table::new(&path, USERS).map_err(|error| failed(&path, error))?;
    let mut wrong = None;
    let mut count = 0;
    context.store.scan_features(Entity::User, AFFINITY, &mut |user, value| {
        let affinity: Affinity = serde_json::from_value(value).unwrap_or_default();
        let top = affinity.categories.first().map(|(path, _)| Cell::Text(path.clone()));
        let all = top.as_ref().map(|_| {
            let all: Map<String, Value> = affinity
                .categories
                .iter()
                .map(|(path, share)| (path.clone(), json!(share)))
                .collect();
            Cell::Text(Value::Object(all).to_string())
        });
        let events = Cell::Whole(affinity.events.cast_signed());
        let cells = vec![Some(Cell::Text(user.to_owned())), Some(events), top, all];
        if let Err(error) = table.push(cells) {
            wrong.get_or_insert(error);
        }
        count += 1;
        if count % 10_000 == 0 {
            (context.progress)("users", count);
        }
    })?;
    match wrong {
        Some(error) => Err(failed(&path, error)),
        None => Ok(table),
    }
}

/// Removes all but the latest `keep` folders; those that are gone. What has no date for a name is not ours.
fn prune(root: &Path, keep: usize) -> Vec<String> {
    let names = fs::read_dir(root).into_iter().flatten().flatten();
    let mut dates: Vec<String> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_date(name))
        .collect();
    dates.sort_unstable_by(|a, b| b.cmp(a));
    let old = dates.into_iter().skip(keep.max(1));
    let path = |date: &String| -> PathBuf { root.join(date) };
    old.filter(|date| fs::remove_dir_all(path(date)).is_ok()).collect()
}
