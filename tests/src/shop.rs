//! Throwaway data folders.

use crate::binaries::{self, control, text};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Products of the demo shop of the tests.
pub const DEMO_PRODUCTS: usize = 1_500;
/// Events of the demo shop of the tests.
pub const DEMO_EVENTS: usize = 20_000;

/// Deadlines that a loaded machine with unoptimised binaries keeps: what a test does not mean to be
/// late is not late.
const PATIENT: &str = "\
[deadlines]
retrieve = \"10s\"
store = \"10s\"
request = \"30s\"
";

/// A data folder of its own, removed with the value.
#[derive(Debug)]
pub struct Shop {
    folder: TempDir,
}

impl Shop {
    /// No catalogue in it; deadlines that nothing misses, no limits.
    pub fn empty() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("penstock-")
            .tempdir()
            .expect("the folder for temporary files is writable");
        let shop = Self { folder };
        shop.write("policy/resilience.toml", PATIENT);
        shop.write("policy/limits.toml", "enabled = false\n");
        shop
    }

    /// The demo shop with its index: made once per build, copied for each test.
    pub fn demo() -> Self {
        let shop = Self::empty();
        copy_tree(&prepared_demo(), shop.data());
        shop
    }

    /// A copy of this folder as it is now; nothing may be writing to it.
    pub fn copy(&self) -> Self {
        let copy = Self::empty();
        copy_tree(self.data(), copy.data());
        copy
    }

    /// The demo shop without an index.
    pub fn demo_without_index() -> Self {
        let shop = Self::demo();
        fs::remove_dir_all(shop.indexes()).expect("the demo shop has an index");
        shop
    }

    /// A shop of these files (`id,name,…` and `user_id,product_id,…`), imported, not indexed.
    pub fn imported(products_csv: &str, events_csv: &str) -> Self {
        let shop = Self::empty();
        let products = shop.write("incoming/products.csv", products_csv);
        let events = shop.write("incoming/events.csv", events_csv);
        shop.import(&products, Some(&events));
        shop
    }

    /// A shop of these files, imported and indexed.
    pub fn of(products_csv: &str, events_csv: &str) -> Self {
        let shop = Self::imported(products_csv, events_csv);
        shop.index();
        shop
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        self.folder.path()
    }

    /// The store's file.
    pub fn store(&self) -> PathBuf {
        self.data().join("store.sqlite")
    }

    /// The folder of index versions.
    pub fn indexes(&self) -> PathBuf {
        self.data().join("indexes")
    }

    /// The folder of the index version in force.
    pub fn current_index(&self) -> PathBuf {
        let name = fs::read_to_string(self.indexes().join("CURRENT")).expect("there is an index");
        self.indexes().join(name.trim())
    }

    /// The policy folder.
    pub fn policy(&self) -> PathBuf {
        self.data().join("policy")
    }

    /// Writes a file below the data folder and returns its path.
    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.data().join(relative);
        let parent = path.parent().expect("a file has a folder");
        fs::create_dir_all(parent).expect("the data folder is writable");
        fs::write(&path, content).expect("the data folder is writable");
        path
    }

    /// Replaces a policy file the way editors do: a new file beside it, then a rename over it.
    pub fn rename_policy(&self, file: &str, content: &str) {
        let temporary = self.write(&format!("policy/.{file}.new"), content);
        fs::rename(temporary, self.policy().join(file)).expect("the policy folder is writable");
    }

    /// A policy file as it is now.
    pub fn read_policy(&self, file: &str) -> String {
        fs::read_to_string(self.policy().join(file))
            .unwrap_or_else(|error| panic!("policy file {file}: {error}"))
    }

    /// Runs `penstock-control` on this folder.
    pub fn control(&self, args: &[&str]) -> binaries::Ran {
        control(self.data(), args)
    }

    /// Imports files that must be fine.
    pub fn import(&self, products: &Path, events: Option<&Path>) {
        let mut args = vec!["import", "--products", text(products)];
        if let Some(events) = events {
            args.extend(["--events", text(events)]);
        }
        drop(self.control(&args).ok());
    }

    /// Builds an index version and puts it in force.
    pub fn index(&self) {
        drop(self.control(&["index"]).ok());
    }

    /// One number from the store, read from outside.
    pub fn count(&self, sql: &str) -> i64 {
        rusqlite::Connection::open(self.store())
            .and_then(|store| store.query_row(sql, [], |row| row.get(0)))
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

/// Copies a folder's content into a folder that exists.
pub fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("the folder is readable") {
        let entry = entry.expect("the folder is readable");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).expect("the copy's folder is writable");
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("the copy's folder is writable");
        }
    }
}

/// The demo shop that all tests of this build copy. Tests are processes of their own: the first
/// one makes it under a lock, the others wait.
fn prepared_demo() -> PathBuf {
    let scratch = binaries::scratch();
    let lock = File::create(scratch.join("demo-shop.lock")).expect("target is writable");
    lock.lock().expect("files in target can be locked");
    let ready = scratch.join(format!("demo-shop-{:016x}", build_fingerprint()));
    if ready.is_dir() {
        return ready;
    }
    let making = tempfile::Builder::new()
        .prefix("demo-shop-making-")
        .tempdir_in(&scratch)
        .expect("target is writable");
    let (products, events) = (DEMO_PRODUCTS.to_string(), DEMO_EVENTS.to_string());
    drop(control(making.path(), &["demo", "--products", &products, "--events", &events]).ok());
    drop(control(making.path(), &["index"]).ok());
    fs::rename(making.keep(), &ready).expect("target is writable");
    ready
}

/// Another build of the control program gets another demo shop.
fn build_fingerprint() -> u64 {
    let metadata = binaries::path("penstock-control").metadata().expect("the program is there");
    let mut hasher = DefaultHasher::new();
    metadata.len().hash(&mut hasher);
    metadata.modified().ok().hash(&mut hasher);
    (DEMO_PRODUCTS, DEMO_EVENTS).hash(&mut hasher);
    hasher.finish()
}
