//! Files that end early, are damaged or are something else: an error, and nothing is imported.

use super::parquet_file::{Column, parquet};
use super::*;

fn fails(name: &str, bytes: &[u8], words: &str) {
    let shop = Shop::new();
    let error = shop.import(name, bytes).unwrap_err().to_string();
    assert!(error.contains(words), "{name}: {error}");
    assert!(error.contains("nothing was imported"), "{name}: {error}");
    assert!(error.contains(name), "{name}: {error}");
    shop.is_untouched();
}

fn csv(rows: usize) -> String {
    let rows: String = (0..rows).map(|n| format!("p{n},name {}\n", n * 7919 % 1000)).collect();
    format!("id,name\n{rows}")
}

#[test]
fn torn_gzips() {
    let packed = gzip(csv(8000).as_bytes());
    for cut in [3, 12, 20, packed.len() / 2, packed.len() - 9, packed.len() - 1] {
        fails("p.csv.gz", &packed[..cut], "");
    }
    let mut damaged = packed.clone();
    damaged[packed.len() - 5] ^= 0x40; // the checksum
    fails("p.csv.gz", &damaged, "corrupt");
    let lines = gzip("{\"id\":\"1\",\"name\":\"a\"}\n".repeat(9000).as_bytes());
    fails("p.jsonl.gz", &lines[..lines.len() - 4], "");
    let columnar = gzip(&many_rows());
    fails("p.parquet.gz", &columnar[..columnar.len() - 4], "gzip is torn");
}

fn many_rows() -> Vec<u8> {
    let ids: Vec<String> = (0..1000).map(|n| format!("id-{n}")).collect();
    let ids: Vec<Option<&str>> = ids.iter().map(|id| Some(&**id)).collect();
    parquet(
        "message m { optional binary id (UTF8); optional binary name (UTF8); }",
        &[Column::Text(&ids), Column::Text(&ids)],
    )
}

#[test]
fn torn_and_damaged_parquet() {
    let whole = many_rows();
    for cut in [4, 100, whole.len() / 2, whole.len() - 1] {
        fails("p.parquet", &whole[..cut], "not a sound Parquet file");
    }
    fails("p.parquet", b"id,name\n1,a\n", "not a sound Parquet file");
    // Damage anywhere is an error or goes unseen (pages have no checksums here); it is never a
    // crash, and never half an import.
    let mut errors = 0;
    for at in (0..whole.len()).step_by(whole.len() / 80) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        let shop = Shop::new();
        match shop.import("p.parquet", &damaged) {
            Ok(summary) => assert_eq!(summary.files[0].rows, 1000),
            Err(_) => {
                errors += 1;
                shop.is_untouched();
            }
        }
    }
    assert!(errors > 10, "{errors}");
}

#[test]
fn what_is_not_what_it_should_be() {
    fails("p.csv", b"", "the file is empty");
    fails("p.csv.gz", &gzip(b""), "the file is empty");
    fails("p.csv", b"\xff\xfei\0d\0", "UTF-16");
    fails("p.csv.gz", &gzip(b"\xfe\xff\0i\0d"), "UTF-16");
    fails("p.xlsx", b"PK\x03\x04", "--format");
    fails("p.csv", &[b"id,name\n1,\"".as_slice(), &vec![b'x'; 6_000_000]].concat(), "quote");

    let shop = Shop::new();
    let error = shop.run(shop.plan(&["absent.csv"])).unwrap_err().to_string();
    assert!(error.contains("absent.csv") && error.contains("cannot open"), "{error}");
    std::fs::create_dir(shop.folder.path().join("p.csv")).unwrap();
    let error = shop.run(shop.plan(&["p.csv"])).unwrap_err().to_string();
    assert!(error.contains("folder"), "{error}");

    // A header alone is a file without rows.
    let shop = Shop::new();
    assert_eq!(shop.import("p.csv", "id,name").unwrap().files[0].rows, 0);
    assert_eq!(shop.import("p.jsonl", "").unwrap().files[0].rows, 0);
}

#[test]
fn the_second_file_fails_and_the_first_is_not_imported() {
    let shop = Shop::new();
    shop.put("products.csv", csv(3000).as_bytes());
    let packed = gzip(b"user_id,product_id,event_type\nu,p1,view\n".repeat(500).as_slice());
    shop.put("events.csv.gz", &packed[..packed.len() - 6]);
    shop.run(shop.plan(&["products.csv", "events.csv.gz"])).unwrap_err();
    shop.is_untouched();
    // A header that does not fit is seen before anything is read.
    shop.put("events.csv", b"who,what\n1,2\n");
    let opened = RefCell::new(0);
    let plan = shop.plan(&["products.csv", "events.csv"]);
    run(&shop.store, plan, &|_| *opened.borrow_mut() += 1).unwrap_err();
    assert_eq!(opened.into_inner(), 0);
    shop.is_untouched();
}

/// Old content stays exactly as it is when an import fails.
#[test]
fn a_failed_import_leaves_what_was_there() {
    let shop = Shop::new();
    shop.import("products.csv", "id,name\np1,old\n").unwrap();
    let before = shop.products();
    let mut text = csv(500);
    text.push_str(&"bad\n".repeat(101));
    assert!(matches!(
        shop.import("products.csv", text),
        Err(ImportError::TooManyBad { bad: 101, .. })
    ));
    assert_eq!(shop.products(), before);
    assert_eq!(shop.store.catalog_revision().unwrap(), 1);
    assert_eq!(shop.import("products.csv", csv(500)).unwrap().imported.products_updated, 1);
}

#[test]
fn a_quote_left_open_imports_nothing() {
    let why = "a quote is left open in the row that begins at line";
    // In the last column the number of fields is right.
    fails("a.csv", b"id,name,description\n1,Mug,\"blue\n2,Cup,red\n3,Pan,black\n", why);
    fails("b.csv", b"id,name,description\n1,Mug,blue\n2,\"Cup,red\n3,Pan,black", why);
    let whole = Shop::new().import("whole.csv", "id,name,description\n1,Mug,\"blue\n2\"\n");
    assert_eq!(whole.unwrap().imported.products_added, 1);
}

#[test]
fn a_file_without_a_good_row_can_be_refused() {
    let shop = Shop::new();
    let import = |rows: &str| {
        shop.put("p.csv", format!("id,name,price\n{rows}").as_bytes());
        shop.run(Plan { refuse_all_bad: true, ..shop.plan(&["p.csv"]) })
    };
    let error = import("1,Mug,cheap\n2,Cup,dear\n").unwrap_err().to_string();
    assert!(error.contains("no row of") && error.contains("nothing was imported"), "{error}");
    shop.is_untouched();
    assert_eq!(import("").unwrap().imported.products_added, 0);
    assert_eq!(import("1,Mug,cheap\n2,Cup,5\n").unwrap().imported.products_added, 1);
}
