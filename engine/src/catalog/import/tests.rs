use super::*;
use crate::catalog::{EventKind, Product, UserEvent};
use crate::store::{Bulk, SqliteStore};
use flate2::Compression;
use flate2::write::GzEncoder;
use penstock_config::clock;
use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

mod events;
mod faults;
mod formats;
mod layouts;
mod parquet_file;
mod products;
mod shared;

/// 2026-05-01T09:00:00Z
const NOW: i64 = 1_777_626_000_000_000;

/// A store and a folder for the files that are imported into it.
struct Shop {
    folder: TempDir,
    store: SqliteStore,
    bad: RefCell<Vec<String>>,
}

impl Shop {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::in_folder(&folder, clock::system()).unwrap();
        Self { folder, store, bad: RefCell::default() }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A plan for files by name: `events…` are events, everything else products.
    fn plan(&self, names: &[&str]) -> Plan {
        let source = |name: &&str| Source {
            path: self.folder.path().join(name),
            entity: if name.starts_with("events") { Entity::Events } else { Entity::Products },
            format: None,
        };
        Plan {
            sources: names.iter().map(source).collect(),
            layout: None,
            mapping: Mapping::default(),
            events: EventRules::default(),
            max_errors: MaxErrors::default(),
            refuse_all_bad: false,
            now_micros: NOW,
            scratch: self.folder.path().to_path_buf(),
        }
    }

    /// Runs a plan; bad rows are kept as text without the folder's name.
    fn run(&self, plan: Plan) -> Result<Summary, ImportError> {
        self.bad.borrow_mut().clear();
        let folder = format!("{}/", self.folder.path().display());
        run(&self.store, plan, &|progress| {
            if let Progress::Bad(row) = progress {
                self.bad.borrow_mut().push(row.to_string().replace(&folder, ""));
            }
        })
    }

    fn import(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<Summary, ImportError> {
        self.put(name, bytes.as_ref());
        self.run(self.plan(&[name]))
    }

    fn bad(&self) -> Vec<String> {
        self.bad.borrow().clone()
    }

    fn products(&self) -> Vec<Product> {
        let mut all = Vec::new();
        self.store.scan_products(&mut |stored| all.push(stored.product)).unwrap();
        all
    }

    fn events(&self) -> Vec<(String, UserEvent)> {
        let mut all = Vec::new();
        self.store.scan_events(&mut |user, event| all.push((user.to_owned(), event))).unwrap();
        all
    }

    /// Nothing is in the store, and nothing is left beside it but the files given.
    fn is_untouched(&self) {
        assert_eq!(self.store.counts().unwrap().products, 0);
        assert_eq!(self.store.counts().unwrap().events, 0);
        for entry in std::fs::read_dir(&self.folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.starts_with("staging"), "{name} is left behind");
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn ids(products: &[Product]) -> Vec<&str> {
    products.iter().map(|p| &*p.id).collect()
}

#[test]
fn budgets() {
    let check = |text: &str, expected: Option<MaxErrors>| {
        assert_eq!(text.parse::<MaxErrors>().ok(), expected, "{text}");
    };
    check("0", Some(MaxErrors::Rows(0)));
    check("100", Some(MaxErrors::Rows(100)));
    check("1%", Some(MaxErrors::Share(0.01)));
    check(" 0.5 % ", Some(MaxErrors::Share(0.005)));
    check("100%", Some(MaxErrors::Share(1.0)));
    for wrong in ["", "%", "-1", "101%", "-1%", "NaN%", "many", "1.5"] {
        check(wrong, None);
    }
}

/// `good` good rows, then one bad one, so often.
fn mixed(good: usize, times: usize) -> String {
    let mut text = "id,name,price\n".to_owned();
    for n in 0..times {
        for k in 0..good {
            text.push_str(&format!("g{n}-{k},fine,1\n"));
        }
        text.push_str(&format!("b{n},bad,cheap\n"));
    }
    text
}

#[test]
fn the_budget_for_bad_rows() {
    // (good rows before each bad one, bad rows, budget) → the row at which it stops, or none.
    let check = |good: usize, times: usize, budget: &str, stops_at: Option<u64>| {
        let shop = Shop::new();
        shop.put("products.csv", mixed(good, times).as_bytes());
        let mut plan = shop.plan(&["products.csv"]);
        plan.max_errors = budget.parse().unwrap();
        match (shop.run(plan), stops_at) {
            (Ok(summary), None) => {
                assert_eq!(summary.files[0].bad, times as u64);
                assert_eq!(summary.imported.products_added, (good * times) as u64);
            }
            (Err(ImportError::TooManyBad { bad, rows, last, .. }), Some(at)) => {
                assert_eq!((rows, bad), (at, shop.bad().len() as u64), "{budget}");
                // The header is line 1.
                assert_eq!(last.place.number, at + 1);
                shop.is_untouched();
            }
            (got, expected) => panic!("{good} {times} {budget}: {got:?}, not {expected:?}"),
        }
    };
    check(9, 3, "3", None);
    check(9, 3, "2", Some(30));
    check(9, 3, "0", Some(10));
    check(0, 100, "100", None);
    check(0, 101, "100", Some(101));
    // A share is judged from the thousandth row on, and at the end.
    check(9, 3, "10%", None);
    check(9, 3, "9%", Some(30));
    check(9, 300, "9%", Some(1000));
    check(99, 20, "1%", None);
    check(0, 5, "100%", None);
}

#[test]
fn a_summary_says_what_happened() {
    let shop = Shop::new();
    shop.put("products.csv", b"id,name,colour,price\na,A,red,1\na,A2,red,2\nb,,red,1\nc,C,red,3\n");
    shop.put(
        "events.csv",
        b"user_id,product_id,event_type,value\nu,a,rating,5\nu,c,rating,1\nu,x,view,\n",
    );
    let plan = shop.plan(&["products.csv", "events.csv"]);
    let summary = shop.run(plan.clone()).unwrap();
    let [products, events] = &summary.files[..] else {
        panic!("two files");
    };
    assert_eq!((products.rows, products.bad), (4, 1));
    assert_eq!(products.ignored, ["colour"]);
    assert_eq!((events.rows, events.bad, events.no_preference, events.undated), (3, 0, 1, 2));
    assert_eq!(summary.products_repeated, 1);
    let done = summary.imported;
    assert_eq!((done.products_added, done.events_added, done.events_adrift), (2, 2, 1));
    assert_eq!(shop.bad(), [r#"products.csv, line 4: product "b" has no name"#]);

    let again = shop.run(plan).unwrap();
    assert_eq!((again.imported.products_unchanged, again.imported.events_known), (2, 2));
    assert_eq!((again.imported.products_added, again.imported.events_added), (0, 0));
    assert_eq!(shop.store.catalog_revision().unwrap(), 1);
}

#[test]
fn progress_grows_to_the_end_of_the_file() {
    let shop = Shop::new();
    let rows: String = (0..7000).map(|n| format!("p{n},name {n}\n")).collect();
    let text = format!("id,name\n{rows}");
    for (name, bytes) in [("p.csv", text.clone().into_bytes()), ("q.csv.gz", gzip(text.as_bytes()))]
    {
        let path = shop.put(name, &bytes);
        let seen = RefCell::new(Vec::new());
        let told = |progress: Progress<'_>| {
            let mut seen = seen.borrow_mut();
            match progress {
                Progress::Opened { file, bytes } => seen.push((file == path, bytes)),
                Progress::Read { bytes, rows } => seen.push((rows % 2000 == 0, bytes)),
                Progress::Done(file) => seen.push((file.rows == 7000, 0)),
                Progress::Merging => seen.push((true, 1)),
                Progress::Bad(row) => panic!("{row}"),
            }
        };
        run(&shop.store, shop.plan(&[name]), &told).unwrap();
        let seen = seen.into_inner();
        assert!(seen.iter().all(|(right, _)| *right));
        assert_eq!(seen.len(), 6);
        assert_eq!(seen[0].1, bytes.len() as u64);
        assert!(seen[1].1 <= seen[2].1 && seen[2].1 <= seen[3].1 && seen[3].1 <= seen[0].1);
        assert_eq!((seen[4].1, seen[5].1), (0, 1));
    }
}

#[test]
fn times() {
    let check = |text: &str, expected: Option<i64>| {
        assert_eq!(parse_micros(text), expected, "{text}");
    };
    const DAY: i64 = 1_714_521_600_000_000; // 2024-05-01
    const NOON: i64 = DAY + 43_200_000_000;
    for noon in [
        "2024-05-01T12:00:00Z",
        " 2024-05-01T12:00:00Z ",
        "2024-05-01t12:00:00z",
        "2024-05-01T14:00:00+02:00",
        "2024-05-01T10:30:00-01:30",
        "2024-05-01 12:00:00",
        "2024-05-01 12:00",
        "2024-05-01T12:00Z",
        "2024-05-01T12:00:00",
        "2024-05-01 12:00:00 +00:00",
        "1714564800",
        "1714564800.0",
        "1714564800000",
        "1714564800000000",
        "1714564800000000000",
    ] {
        check(noon, Some(NOON));
    }
    check("2024-05-01T12:00:00.123456Z", Some(NOON + 123_456));
    check("2024-05-01T12:00:00.123456789Z", Some(NOON + 123_456));
    check("1714564800.25", Some(NOON + 250_000));
    check("2024-05-01", Some(DAY));
    check("20240501", Some(DAY));
    check("0", Some(0));
    check("-86400", Some(-86_400_000_000));
    check("1969-12-31", Some(-86_400_000_000));
    check("99999999", Some(99_999_999_000_000));
    check("20241301", Some(20_241_301_000_000));
    for wrong in [
        "",
        " ",
        "-",
        ".",
        "now",
        "2024-13-01",
        "2024-02-30",
        "2024-5-1",
        "01/05/2024",
        "2024-05-01T",
        "2024-05-01T25:00:00Z",
        "2024-05-01X12:00:00Z",
        "1e9",
        "1.2.3",
        "2024-05",
        "٢٠٢٤-٠٥-٠١",
        "99999999999999999999",
        "2024-05-01T12:00:00+99:00",
        "999999999999.5",
    ] {
        check(wrong, None);
    }
}
