//! `penstock-control import` and `demo` as an operator meets them: words and exit codes.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, text: &str) -> &Self {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// Runs a command in the folder, with the data in `data` there.
    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_penstock-control"))
            .args(arguments)
            .current_dir(self.0.path())
            .env_remove("PENSTOCK_DATA_DIR")
            .env_remove("PENSTOCK_LOG")
            .output()
            .unwrap()
    }

    /// The exit code must be `code`, and every one of `words` must be said.
    fn check(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let done = self.run(arguments);
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{arguments:?} does not say `{word}`: {said}");
        }
    }

    fn data(&self) -> std::path::PathBuf {
        self.0.path().join("data")
    }
}

const PRODUCTS: &str = "id,name,unit cost\n1,Sofa,10\n2,Lamp,x\n3,Chair,30\n";
const EVENTS: &str = "user_id,product_id,event_type\nu,1,view\nu,3,wish\nu,9,buy\n";

#[test]
fn a_folder_is_imported_and_again_changes_nothing() {
    let place = Place::new();
    place.put("shop/products.csv", PRODUCTS).put("shop/events.csv", EVENTS);
    let first = [
        "products.csv: 3 rows, 1 bad, skipped",
        "skipped: shop/products.csv, line 3: `price` \"x\" is not a number",
        "skipped: shop/events.csv, line 3: `event_type` \"wish\" is not known",
        "products: 2 added, 0 updated, 0 unchanged",
        "events: 2 added, 0 already there",
        "1 of the added events are of products that are not in the catalogue",
        "2 products, 2 events, catalogue revision 1",
    ];
    let import = ["import", "shop", "--map", "price=unit cost"];
    place.check(&import, 0, &first);
    assert!(place.data().join("store.sqlite").exists());
    let again = [
        "products: 0 added, 0 updated, 2 unchanged",
        "events: 0 added, 2 already there",
        "catalogue revision 1",
    ];
    place.check(&import, 0, &again);
    place.check(
        &["import", "shop", "--map", "price=unit cost", "--event", "wish=add_to_cart"],
        0,
        &["events: 1 added, 2 already there"],
    );
}

#[test]
fn files_are_named_one_by_one() {
    let place = Place::new();
    place
        .put("a.csv", "id,name\n1,A\n")
        .put("b.jsonl", "{\"id\": 2, \"name\": \"B\"}\n")
        .put("c.txt", "user_id,product_id,rating\nu,1,5\nu,2,3\n");
    place.check(
        &["import", "--products", "a.csv", "--products", "b.jsonl", "--data-dir", "data"],
        0,
        &["products: 2 added"],
    );
    let events = ["import", "--events", "c.txt", "--format", "csv", "--default-event", "rating"];
    place.check(&events, 0, &["events: 1 added", "no file of products"]);
    let lower = [&events[..], &["--min-value", "3"]].concat();
    place.check(&lower, 0, &["events: 1 added, 1 already there"]);
}

#[test]
fn a_published_set_is_recognised_and_can_be_named() {
    let place = Place::new();
    place
        .put("ml/movies.csv", "movieId,title,genres\n1,Heat (1995),Crime|Thriller\n")
        .put("ml/ratings.csv", "userId,movieId,rating,timestamp\n7,1,4.5,964982703\n8,1,3.5,1\n");
    let seen = [
        "ml: a set as movielens is published (--layout movielens)",
        "ratings.csv: 2 rows, 1 without a preference, skipped",
        "products: 1 added",
        "events: 1 added",
    ];
    place.check(&["import", "ml"], 0, &seen);
    let lower = ["import", "ml", "--layout", "movielens", "--min-value", "3.5"];
    place.check(&lower, 0, &["products: 0 added", "events: 1 added, 1 already there"]);
    let wrong = ["import", "ml", "--layout", "olist"];
    place.check(&wrong, 1, &["there is no olist_products_dataset.csv", "nothing was imported"]);
    place.check(&["import", "ml", "--layout", "netflix"], 2, &["olist, retailrocket, movielens"]);
    let mapped = ["import", "ml", "--layout", "movielens", "--map", "id=x"];
    place.check(&mapped, 2, &["cannot be used with"]);
    let alone = ["import", "--products", "ml/movies.csv", "--layout", "movielens"];
    place.check(&alone, 2, &["cannot be used with"]);
    place.check(&["import", "--layout", "movielens"], 2, &["FOLDER"]);
}

#[test]
fn a_failed_import_says_what_to_do_and_changes_nothing() {
    let place = Place::new();
    place.put("shop/products.csv", PRODUCTS).put("shop/events.csv", EVENTS);
    place.check(
        &["import", "shop", "--map", "price=unit cost", "--max-errors", "0"],
        1,
        &[
            "error: stopped: 1 of 2 rows are bad and 0 are allowed; nothing was imported",
            "--max-errors",
            "shop/products.csv, line 3",
        ],
    );
    place.check(&["import", "--products", "absent.csv"], 1, &["absent.csv", "cannot open"]);
    place.check(
        &["import", "--products", "shop/events.csv"],
        1,
        &["--map name=COLUMN", "nothing was imported"],
    );
    place.put("data/store.sqlite", "this is not a store");
    let words = ["cannot use the data folder", "not a database", "not touched"];
    place.check(&["import", "shop"], 1, &words);
    let text = std::fs::read_to_string(place.data().join("store.sqlite")).unwrap();
    assert_eq!(text, "this is not a store");
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let place = Place::new();
    place
        .put("twice/products.csv", PRODUCTS)
        .put("twice/products.jsonl.gz", "")
        .put("empty/readme.txt", "");
    let check = |arguments: &[&str], word: &str| place.check(arguments, 2, &[word]);
    check(&[], "Usage");
    check(&["fly"], "fly");
    check(&["import"], "say what to import");
    check(&["import", "absent"], "cannot list absent");
    check(&["import", "empty"], "has no products.csv");
    check(&["import", "twice"], "choose with --products FILE");
    check(&["import", "twice", "--products", "x.csv"], "cannot be used with");
    check(&["import", "twice", "--map", "price"], "NAME=VALUE");
    check(&["import", "--products", "x.csv", "--map", "colour=x"], "the fields are");
    check(&["import", "--events", "x.csv", "--event", "a=b"], "add_to_cart");
    check(&["import", "--events", "x.csv", "--default-event", "b"], "add_to_cart");
    check(&["import", "--events", "x.csv", "--max-errors", "some"], "1%");
    check(&["import", "--events", "x.csv", "--format", "xls"], "parquet");
    check(&["demo", "--products", "0"], "0");
    check(&["demo", "--as-of", "soon"], "2026-05-01");
    check(&["demo", "--log", "a=b=c"], "--log");
    assert!(!place.data().exists(), "nothing was done");
}

#[test]
fn a_small_demo_shop() {
    let place = Place::new();
    let demo = ["demo", "--products", "50", "--events", "200", "--users", "5"];
    let demo = [&demo[..], &["--as-of", "2026-05-01"]].concat();
    place.check(&demo, 0, &["products: 50 added", "events: 200 added", "revision 1"]);
    place.check(&demo, 0, &["50 unchanged", "200 already there", "revision 1"]);
    let leftovers: Vec<_> = std::fs::read_dir(place.data())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !name(path).starts_with("store."))
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

#[test]
fn keys_are_made_listed_and_revoked() {
    let place = Place::new();
    let make = ["keys", "create", "--name", "the shop", "--expires", "30d"];
    let make = [&make[..], &["--network", "10.1.2.3/8", "--limit", "search=2000/3000"]].concat();
    let made = place.run(&[&make[..], &["--json"]].concat());
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert!(key.starts_with(&format!("psk_{id}_")), "{made}");
    place.check(&make, 0, &["key  psk_", "shown this once", "curl -H 'Authorization: Bearer psk_"]);
    place.check(&["keys", "list"], 0, &[id, "the shop", "10.0.0.0/8", "never", "active"]);
    let listed = place.run(&["keys", "list", "--json"]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.contains("\"burst\": 3000") && !text.contains(&key[17..]), "{text}");
    let used = format!("{{\"id\":\"{id}\",\"last_used\":\"2026-02-03T04:05:06Z\"}}\n");
    place.put("data/keys-used.jsonl", &used);
    place.check(&["keys", "list"], 0, &["2026-02-03T04:05:06Z"]);
    place.check(&["keys", "revoke", id, "--reason", "left"], 0, &["is revoked"]);
    place.check(&["keys", "revoke", id], 0, &["was revoked already"]);
    place.check(&["keys", "list", "--all", "--json"], 0, &["\"why\": \"left\""]);
    let listed = place.run(&["keys", "list"]);
    assert!(!String::from_utf8_lossy(&listed.stdout).contains(id));
    place.check(&["keys", "revoke", "aaaaaaaaaaaa"], 1, &["there is no key aaaaaaaaaaaa"]);

    let check = |arguments: &[&str], word: &str| {
        place.check(&[&["keys", "create", "--name", "x"], arguments].concat(), 2, &[word]);
    };
    check(&["--expires", "soon"], "write how long");
    check(&["--expires", "2020-01-01T00:00:00Z"], "must be to come");
    check(&["--network", "shop"], "is not a network");
    check(&["--limit", "search=10"], "CLASS=PER_MINUTE/BURST");
    check(&["--limit", "serch=10/20"], "search, recommend");
    check(&["--limit", "search=100/100"], "106 or more");
    place.check(&["keys", "revoke", "shop"], 2, &["12 characters"]);
    place.check(&["keys", "list", "--policy-dir", "absent"], 2, &["no policy folder at absent"]);
}

#[test]
fn lists_are_changed_and_the_file_stays_readable() {
    let place = Place::new();
    let deny = ["lists", "deny", "203.0.113.9/24", "--reason", "scraper", "--expires", "1h"];
    place.check(&deny, 0, &["deny 203.0.113.0/24 until", "is in ./data/policy"]);
    place.check(&["lists", "allow", "203.0.113.7"], 0, &["allow 203.0.113.7"]);
    place.check(&["lists", "show"], 0, &["deny   203.0.113.0/24", "scraper", "for ever"]);
    place.check(&["lists", "show", "--json"], 0, &["\"address\": \"203.0.113.7\""]);
    place.check(&["policy", "history"], 0, &["deny 203.0.113.0/24 until", ": scraper"]);
    place.check(&["lists", "deny", "203.0.113.7"], 0, &["deny 203.0.113.7"]);
    place.check(&["lists", "remove", "203.0.113.7"], 0, &["remove 203.0.113.7"]);
    place.check(&["lists", "remove", "203.0.113.7"], 1, &["neither list has 203.0.113.7"]);
    place.check(&["lists", "prune"], 0, &["0 expired entries removed", "nothing changed"]);
    place.check(&["lists", "deny", "shop"], 2, &["no address, network or id"]);
    let text = std::fs::read_to_string(place.data().join("policy/access.toml")).unwrap();
    assert!(text.starts_with("# access.toml"), "{text}");
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}
