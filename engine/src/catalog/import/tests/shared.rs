//! The real sets of ../shared/data.

use super::*;

fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("PENSTOCK_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let data = folder.join("data");
    if !data.is_dir() {
        println!("skipped: needs ../shared ({} is absent)", data.display());
        return None;
    }
    Some(data)
}

/// (set, file of products, file of events) → (products, events stored, without a preference)
#[test]
fn every_real_set_imports_without_a_bad_row() {
    let Some(data) = shared() else { return };
    let check = |set: &str, files: &[&str], expected: (u64, u64, u64)| {
        let shop = Shop::new();
        let mut plan = shop.plan(files);
        for source in &mut plan.sources {
            let name = source.path.file_name().unwrap().to_owned();
            source.path = data.join(set).join(name);
        }
        plan.max_errors = MaxErrors::Rows(0);
        let summary = shop.run(plan.clone()).unwrap();
        let no_preference = summary.files.iter().map(|f| f.no_preference).sum();
        let counts = shop.store.counts().unwrap();
        assert_eq!((counts.products, counts.events, no_preference), expected, "{set}");
        if set != "movielens_small" {
            return;
        }
        let again = shop.run(plan).unwrap().imported;
        assert_eq!((again.products_added, again.products_updated), (0, 0), "{set}");
        assert_eq!((again.products_unchanged, again.events_added), (expected.0, 0), "{set}");
    };
    check("online_retail", &["products.csv", "events.csv.gz"], (3791, 182_930, 0));
    check("icecat", &["products.csv.gz"], (19_406, 0, 0));
    check("homedepot", &["products.csv.gz"], (54_667, 0, 0));
    check("bestbuy", &["products.csv"], (1651, 0, 0));
    check("instacart", &["products.csv.gz"], (49_688, 0, 0));
    check("movielens_small", &["products.csv.gz", "events.csv.gz"], (9125, 51_568, 48_436));
    check("amazon_beauty", &["events.csv.gz"], (0, 198_502, 0));
}

/// Sets that are there as they were published, whatever their folders are called.
#[test]
fn every_published_set_imports_without_a_bad_row() {
    let Some(data) = shared() else { return };
    let folders = std::fs::read_dir(&data).unwrap().flatten().map(|entry| entry.path());
    let laid_out: Vec<(Layout, PathBuf)> =
        folders.filter_map(|path| Some((Layout::of_folder(&path)?, path))).collect();
    if laid_out.is_empty() {
        println!("skipped: no set in {} is there as it was published", data.display());
    }
    for (layout, folder) in laid_out {
        let shop = Shop::new();
        let mut plan = shop.plan(&[]);
        layout.rules(&mut plan.events);
        plan.layout = Some((layout, folder.clone()));
        plan.max_errors = MaxErrors::Rows(0);
        let first = shop.run(plan.clone()).unwrap().imported;
        assert!(first.products_added > 0 && first.events_added > 0, "{}", folder.display());
        let again = shop.run(plan).unwrap().imported;
        assert_eq!((again.products_added, again.products_updated, again.events_added), (0, 0, 0));
    }
}
