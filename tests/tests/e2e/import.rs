//! Files become a catalogue, whole or not at all.

use parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use penstock_config::clock;
use penstock_tests::binaries::{control_started, text};
use penstock_tests::items::ids;
use penstock_tests::{Penstock, Shop};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const HEADER: &str = "id,name,description,category,brand,price,created_at\n";
const EVENTS_HEADER: &str = "user_id,product_id,event_type,timestamp\n";

/// `count` products whose names all have the word `generation` in them.
fn products(generation: &str, count: usize) -> String {
    let mut csv = HEADER.to_owned();
    for n in 0..count {
        writeln!(
            csv,
            "p{n},\"{generation} lamp {n}\",\"A lamp, number {n}\",Home > Lamps,Brand{},{}.50,2026-01-02T03:04:05Z",
            n % 7,
            n % 90 + 1
        )
        .unwrap();
    }
    csv
}

fn events(count: usize) -> String {
    let mut csv = EVENTS_HEADER.to_owned();
    for n in 0..count {
        let second = n % 60;
        writeln!(csv, "u{},p{},view,2026-11-01T10:{:02}:{second:02}Z", n % 50, n % 40, n / 60 % 60)
            .unwrap();
    }
    csv
}

fn products_stored(shop: &Shop) -> i64 {
    shop.count("SELECT count(*) FROM products")
}

#[tokio::test]
async fn csv_and_json_lines_plain_and_gzip() {
    let csv = products("first", 30);
    let jsonl: String = (0..30).fold(String::new(), |mut lines, n| {
        let product = serde_json::json!({
            "id": format!("p{n}"), "name": format!("first lamp {n}"), "category": "Home > Lamps",
            "brand": "B", "price": 3.5, "created_at": "2026-01-02T03:04:05Z",
        });
        writeln!(lines, "{product}").unwrap();
        lines
    });
    for (name, content, zipped) in [
        ("products.csv", &csv, false),
        ("products.csv.gz", &csv, true),
        ("products.jsonl", &jsonl, false),
        ("products.jsonl.gz", &jsonl, true),
    ] {
        let shop = Shop::empty();
        let plain = shop.write(&format!("in/{}", name.trim_end_matches(".gz")), content);
        let file = if zipped { gzip(&plain) } else { plain };
        shop.import(&file, None);
        assert_eq!(products_stored(&shop), 30, "{name}");
        let penstock = Penstock::over(shop).start().await;
        let product = penstock.get("/products/p7").await.expect(200).json();
        assert_eq!(product["name"], "first lamp 7", "{name}");
    }
}

fn gzip(path: &Path) -> PathBuf {
    let done = Command::new("gzip").arg(path).status().expect("gzip is on every Debian");
    assert!(done.success());
    path.with_added_extension("gz")
}

/// Three products with two columns as a Parquet file.
fn parquet(path: &Path) {
    let schema = "message products { required binary id (UTF8); required binary title (UTF8); \
                  optional double price; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut rows = writer.next_row_group().unwrap();
    for texts in [["p1", "p2", "p7"], ["a", "b", "first lamp 7"]] {
        let mut column = rows.next_column().unwrap().unwrap();
        let texts = texts.map(ByteArray::from);
        column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
        column.close().unwrap();
    }
    let mut column = rows.next_column().unwrap().unwrap();
    let (prices, present) = ([1.5, 2.5], [1, 0, 1]);
    column.typed::<DoubleType>().write_batch(&prices, Some(&present), None).unwrap();
    column.close().unwrap();
    rows.close().unwrap();
    writer.close().unwrap();
}

#[tokio::test]
async fn parquet_with_its_own_column_names() {
    let shop = Shop::empty();
    let file = shop.write("in/products.parquet", "");
    parquet(&file);
    let map = ["import", "--products", text(&file), "--map", "name=title"];
    drop(shop.control(&map).ok());
    assert_eq!(products_stored(&shop), 3);
    let penstock = Penstock::over(shop).start().await;
    let product = penstock.get("/products/p7").await.expect(200).json();
    assert_eq!((&product["name"], &product["price"]), (&"first lamp 7".into(), &2.5.into()));
    let product = penstock.get("/products/p2").await.expect(200).json();
    assert!(product["price"].is_null(), "{product}");
}

#[tokio::test]
async fn importing_again_updates() {
    let shop = Shop::of(&products("first", 30), &events(100));
    let events_before = shop.count("SELECT count(*) FROM events");
    let changed = shop.write("in/products.csv", products("second", 40));
    let again = shop.data().join("incoming/events.csv");
    shop.import(&changed, Some(&again));
    assert_eq!(products_stored(&shop), 40);
    assert_eq!(shop.count("SELECT count(*) FROM events"), events_before);
    shop.index();
    let penstock = Penstock::over(shop).start().await;
    let product = penstock.get("/products/p7").await.expect(200).json();
    assert_eq!(product["name"], "second lamp 7");
    let found = penstock.items("/search?q=second%20lamp%2039").await;
    assert_eq!(ids(&found)[0], "p39");
}

#[tokio::test]
async fn bad_rows_are_reported_and_skipped_up_to_the_budget() {
    let mut csv = products("first", 50);
    for bad in [
        ",no id,,Home,B,1.00,\n",
        "x1,a price that is none,,Home,B,cheap,\n",
        "x2,a negative price,,Home,B,-3,\n",
        "x3,a date that is none,,Home,B,1.00,yesterday\n",
    ] {
        csv += bad;
    }
    let shop = Shop::empty();
    let file = shop.write("in/products.csv", &csv);
    let within =
        shop.control(&["import", "--products", text(&file), "--max-errors", "10"]).ok().text();
    assert_eq!(products_stored(&shop), 50);
    for line in ["52", "53", "54", "55"] {
        assert!(within.contains(&format!("products.csv, line {line}")), "line {line}:\n{within}");
    }
    // One more than the budget, and nothing of the file is there.
    let shop = Shop::empty();
    let file = shop.write("in/products.csv", &csv);
    let beyond =
        shop.control(&["import", "--products", text(&file), "--max-errors", "3"]).refused().text();
    assert!(beyond.contains("products.csv"), "{beyond}");
    let stored = if shop.store().exists() { products_stored(&shop) } else { 0 };
    assert_eq!(stored, 0);
}

#[tokio::test]
async fn files_that_are_none_are_refused_and_change_nothing() {
    let shop = Shop::imported(&products("first", 30), &events(10));
    let rows: [(&str, Vec<u8>); 6] = [
        ("empty.csv", Vec::new()),
        ("no-columns.csv", b"a,b,c\n1,2,3\n".to_vec()),
        ("bytes.csv", (0..=255).cycle().take(5_000).collect()),
        ("broken.csv.gz", b"\x1f\x8b\x08\x00 and then no more".to_vec()),
        ("broken.parquet", b"PAR1 is how it starts".to_vec()),
        ("products.xlsx", b"PK".to_vec()),
    ];
    for (name, content) in rows {
        let file = shop.write(&format!("in/{name}"), content);
        let said = shop.control(&["import", "--products", text(&file)]).refused().text();
        assert!(said.contains(name), "{name}: {said}");
        assert_eq!(products_stored(&shop), 30, "{name}");
    }
    let said = shop.control(&["import", "--products", "/no/such/file.csv"]).refused().text();
    assert!(said.contains("/no/such/file.csv"), "{said}");
}

#[tokio::test]
async fn an_import_that_is_killed_leaves_the_old_catalogue() {
    let old = Shop::imported(&products("first", 200), &events(500));
    let large = old.write("in/products.csv", products("second", 20_000));
    let many = old.write("in/events.csv", events(60_000));
    let args = ["import", "--products", text(&large), "--events", text(&many)];
    // How long a whole one takes decides where the kills fall: everywhere, its end included.
    let started = clock::now();
    drop(old.copy().control(&args).ok());
    let whole_takes = started.elapsed();
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut shop = old.copy();
    let mut killed = 0;
    for round in 0..12 {
        let mut import = control_started(shop.data(), &args);
        tokio::time::sleep(whole_takes.mul_f64(random.random_range(0.0..1.0))).await;
        killed += usize::from(import.try_wait().unwrap().is_none());
        import.kill().unwrap();
        import.wait().unwrap();
        let named = |word: &str| {
            shop.count(&format!("SELECT count(*) FROM products WHERE name LIKE '{word}%'"))
        };
        let (first, second) = (named("first"), named("second"));
        let faults = "SELECT count(*) FROM pragma_quick_check WHERE quick_check <> 'ok'";
        assert_eq!(shop.count(faults), 0, "round {round}");
        match (first, second) {
            // What the killed ones left behind is still there for the next round.
            (200, 0) => {}
            (0, 20_000) => shop = old.copy(),
            _ => panic!("round {round}: {first} old and {second} new products"),
        }
    }
    println!("{killed} imports killed half way; a whole one takes {whole_takes:?}");
    assert!(killed >= 8, "{killed}");
    let penstock = Penstock::over(shop).start().await;
    assert_eq!(penstock.items("/popular").await.len(), 10);
    let product = penstock.get("/products/p7").await.expect(200).json();
    assert_eq!(product["name"], "first lamp 7");
    drop(old.copy().control(&args).ok());
}

#[tokio::test]
async fn an_index_build_that_is_killed_leaves_the_old_index() {
    let shop = Shop::demo();
    let started = clock::now();
    shop.copy().index();
    let whole_takes = started.elapsed();
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let mut killed = 0;
    for _ in 0..6 {
        let mut build = control_started(shop.data(), &["index"]);
        tokio::time::sleep(whole_takes.mul_f64(random.random_range(0.0..1.0))).await;
        killed += usize::from(build.try_wait().unwrap().is_none());
        build.kill().unwrap();
        build.wait().unwrap();
        assert!(shop.current_index().join("manifest.json").is_file());
    }
    println!("{killed} builds killed half way; a whole one takes {whole_takes:?}");
    assert!(killed >= 4, "{killed}");
    let penstock = Penstock::over(shop).start().await;
    let reply = penstock.get("/search?q=a").await.expect(200);
    assert_eq!(reply.header("x-penstock-mode"), "full");
    // A build that is let finish is taken, and what the killed ones left does not pile up.
    penstock.shop.index();
    let versions = std::fs::read_dir(penstock.shop.indexes()).unwrap().count();
    assert!(versions <= 5, "{versions} entries");
}
