//! The job `feature_snapshot`, and the checks.

use super::{Shop, of_every_store};
use crate::stores::{event, import, product};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use penstock_config::clock::{self, Clock};
use penstock_engine::catalog::Product;
use penstock_engine::jobs::check::check;
use penstock_engine::jobs::{Job, snapshot};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

of_every_store! {
    what_is_written_is_read_back_and_null_rates_are_right;
    the_same_values_are_the_same_bytes_and_old_days_go;
    what_is_too_old_or_missing_is_found;
}

fn stock(shop: &Shop) {
    let now = clock::unix_micros();
    let mug = Product { category: "Home > Mugs".into(), ..product("mug", "M") };
    let mug = Product { created_at: Some(now / 1_000_000), ..mug };
    let pan =
        Product { price: None, created_at: None, brand: String::new(), ..product("pan", "P") };
    import(
        &*shop.store,
        &[pan, mug],
        &[event("1", "ann", "mug", now), event("2", "bob", "gone", now)],
    );
    for job in [Job::Popularity, Job::Freshness, Job::Affinity] {
        shop.run(job, false).unwrap();
    }
}

fn rows(path: &Path) -> Vec<BTreeMap<String, Field>> {
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap();
    rows.map(|row| row.unwrap().into_columns().into_iter().collect()).collect()
}

async fn what_is_written_is_read_back_and_null_rates_are_right(shop: &Shop) {
    stock(shop);
    shop.run(Job::Snapshot, false).unwrap();
    let folder = shop.data().join("features").join(snapshot::today(&clock::System));
    let products = rows(&folder.join("products.parquet"));
    let text = |text: &str| Field::Str(text.into());
    let ids: Vec<&Field> = products.iter().map(|row| &row["product_id"]).collect();
    assert_eq!(ids, [&text("mug"), &text("pan")]);
    let [mug, pan] = &products[..] else { panic!() };
    assert_eq!((&mug["category"], &mug["brand"]), (&text("Home > Mugs"), &text("Acme")));
    assert_eq!((&mug["price"], &mug["popularity"]), (&Field::Double(9.5), &Field::Double(1.0)));
    assert!(matches!(mug["created_at"], Field::TimestampMicros(at) if at > 0));
    let nulls =
        ["brand", "price", "created_at", "popularity_log2", "freshness", "popularity_figure"];
    assert!(nulls.iter().all(|name| pan[*name] == Field::Null), "{pan:?}");
    assert_eq!(pan["popularity"], Field::Double(0.0));

    let users = rows(&folder.join("users.parquet"));
    assert_eq!(users[0]["top_category"], text("Home > Mugs"));
    assert_eq!(users[0]["user_category_affinity"], text("{\"Home > Mugs\":1.0}"));
    assert_eq!((&users[0]["events"], &users[1]["events"]), (&Field::Long(1), &Field::Long(0)));
    assert_eq!(users[1]["top_category"], Field::Null);

    let manifest = std::fs::read(folder.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let of = |file: &str, column: &str| {
        (
            manifest["files"][file]["rows"].clone(),
            manifest["files"][file]["columns"][column]["null_rate"].clone(),
        )
    };
    assert_eq!(of("products", "price"), (json!(2), json!(0.5)));
    assert_eq!(of("products", "popularity_figure"), (json!(2), json!(1.0)));
    assert_eq!(of("users", "user_category_affinity"), (json!(2), json!(0.5)));
    assert_eq!(manifest["files"]["products"]["columns"]["freshness"]["version"], 1);
    assert_eq!(manifest["store_id"], json!(shop.store.store_id().unwrap()));
}

async fn the_same_values_are_the_same_bytes_and_old_days_go(shop: &Shop) {
    stock(shop);
    let data = shop.data();
    let context = || penstock_engine::jobs::Context { keep_days: 2, ..shop.context(&data, false) };
    let write = |date: &str| snapshot::write(&context(), date).unwrap();
    let sums = |done: &Value| {
        ["products", "users"].map(|file| done["files"][file]["sha256"].as_str().unwrap().to_owned())
    };
    let first = write("2026-01-01");
    std::fs::create_dir(data.join("features/mine")).unwrap();
    assert_eq!(sums(&write("2026-01-02")), sums(&first));
    assert_eq!(sums(&write("2026-01-02")), sums(&first));
    assert_eq!(write("2026-01-03")["removed"], json!(["2026-01-01"]));
    let mut left: Vec<_> = std::fs::read_dir(data.join("features"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["2026-01-02", "2026-01-03", "mine"]);
    for (text, expected) in
        [("2026-02-28", true), ("2026-02-30", false), ("26-1-1", false), ("..", false)]
    {
        assert_eq!(snapshot::is_date(text), expected, "{text}");
    }
}

/// A clock that is so many seconds ahead.
#[derive(Debug)]
struct Ahead(i64);

impl Clock for Ahead {
    fn now(&self) -> std::time::Instant {
        clock::now()
    }

    fn unix_micros(&self) -> i64 {
        clock::unix_micros() + self.0 * 1_000_000
    }
}

async fn what_is_too_old_or_missing_is_found(shop: &Shop) {
    let data = shop.data();
    let problems = |ahead: i64| -> BTreeMap<&'static str, String> {
        let clock = Arc::new(Ahead(ahead));
        let context = penstock_engine::jobs::Context { clock, ..shop.context(&data, false) };
        let found = check(&context).unwrap();
        let bad = found.into_iter().filter(|found| !found.problems.is_empty());
        bad.map(|found| (found.name, found.problems.join("; "))).collect()
    };
    let never = problems(0);
    let names: Vec<&str> = never.keys().copied().collect();
    assert_eq!(names, ["freshness", "popularity", "user_category_affinity"]);
    assert!(never["freshness"].contains("was never done"));
    stock(shop);
    // Half of them may have none.
    assert_eq!(problems(0), BTreeMap::new());
    let late = problems(3_600);
    assert_eq!(late.keys().collect::<Vec<_>>(), [&"popularity"]);
    assert!(late["popularity"].contains("s old"), "{late:?}");
    assert_eq!(problems(2 * 86_400).len(), 3);
    let bare = Product { price: None, created_at: None, ..product("pot", "P") };
    import(&*shop.store, &[bare], &[]);
    let missing = problems(0);
    assert_eq!(missing.keys().collect::<Vec<_>>(), [&"freshness", &"price"]);
    assert!(missing["price"].contains("66.7 % have no value"), "{missing:?}");
    let wrong = [("mug".to_owned(), json!(1.5))];
    shop.store
        .put_features(penstock_engine::features::Entity::Product, "freshness", 1, &wrong)
        .unwrap();
    assert!(problems(0)["freshness"].contains("must be in [0, 1]"));
}
