//! Files that are not ours, disks that are full or read-only, leftovers.

use super::*;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Opening must fail with `Format`, say `words`, and leave every byte of the folder as it is.
fn refused(folder: &TempDir, words: &str) {
    let before = contents(folder.path());
    let error = SqliteStore::in_folder(folder, clock::system()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StoreError::Format(_)), "{text}");
    assert!(text.contains(words), "{text}");
    assert_eq!(contents(folder.path()), before, "{words}");
}

fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .filter(|(name, _)| name != "store.lock")
        .collect();
    all.sort();
    all
}

#[test]
fn what_is_not_a_store_is_refused_and_not_touched() {
    let folder = || tempfile::tempdir().unwrap();
    let put = |folder: &TempDir, bytes: &[u8]| {
        fs::write(folder.path().join(FILE_NAME), bytes).unwrap();
    };
    for bytes in [&b"hello"[..], &[0; 5000], b"SQLite format 3\0garbage garbage"] {
        let folder = folder();
        put(&folder, bytes);
        let error = SqliteStore::in_folder(&folder, clock::system()).unwrap_err();
        assert!(matches!(error, StoreError::Format(_)), "{error}");
        refused(&folder, "");
    }

    let other = folder();
    let database = Connection::open(other.path().join(FILE_NAME)).unwrap();
    database
        .execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)",
        )
        .unwrap();
    refused(&other, "another program");
    drop(database);
    refused(&other, "another program");

    let newer = folder();
    drop(open(&newer));
    let database = Connection::open(newer.path().join(FILE_NAME)).unwrap();
    database.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(database);
    refused(&newer, "newer program");

    let torn = folder();
    let store = open(&torn);
    import(&store, &[product("a", "A")], &[event("1", "u", "a", 1)]);
    drop(store);
    let whole = fs::read(torn.path().join(FILE_NAME)).unwrap();
    put(&torn, &whole[..whole.len() / 2]);
    refused(&torn, "damaged");
    put(&torn, &whole[..50]);
    refused(&torn, "");
    put(&torn, &whole);
    assert_eq!(open(&torn).counts().unwrap().products, 1);
}

/// What a kill in the middle of a checkpoint leaves: the log whole, of its pages only the first copied.
#[test]
fn a_checkpoint_that_died_is_no_damage() {
    const PAGE: usize = 4096;
    let (folder, store) = fresh();
    let products: Vec<Product> = (0..2000).map(|n| product(&format!("p{n}"), "new")).collect();
    let open_elsewhere = open(&folder);
    let database = Connection::open(folder.path().join(FILE_NAME)).unwrap();
    database.execute_batch("BEGIN; SELECT * FROM meta;").unwrap();
    import(&store, &products, &[]);

    let copy = tempfile::tempdir().unwrap();
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let (mut file, log) = (read(FILE_NAME), read("store.sqlite-wal"));
    let mut frames = log[32..].chunks_exact(24 + PAGE);
    let first = frames.rfind(|frame| frame[..4] == 1u32.to_be_bytes()).unwrap();
    file[..PAGE].copy_from_slice(&first[24..]);
    let promised = u32::from_be_bytes(file[28..32].try_into().unwrap()) as usize;
    assert!(promised > file.len() / PAGE, "{promised} pages");
    fs::write(copy.path().join(FILE_NAME), file).unwrap();
    fs::write(copy.path().join("store.sqlite-wal"), log).unwrap();
    assert_eq!(catalogue(&open(&copy)).len(), products.len());
    drop((store, open_elsewhere, database));
}

#[test]
fn a_log_without_its_store_is_not_thrown_away() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("store.sqlite-wal"), "precious").unwrap();
    refused(&folder, "store.sqlite-wal");
}

#[test]
fn an_empty_placeholder_becomes_a_store() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE_NAME), "").unwrap();
    // What a killed creation leaves.
    fs::write(folder.path().join("store.new"), "half made").unwrap();
    fs::write(folder.path().join("store.new-wal"), "half made").unwrap();
    assert_eq!(open(&folder).counts().unwrap(), Counts::default());
    assert!(!folder.path().join("store.new").exists());
}

#[test]
fn odd_paths_work() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a b", "100%", "what?mode=ro", "x#y", "ü", "'; DROP", "deep/er/still"] {
        for _ in 0..2 {
            let store = SqliteStore::in_folder(folder.path().join(name), clock::system()).unwrap();
            import(&store, &[product("a", name)], &[]);
        }
        assert!(folder.path().join(name).join(FILE_NAME).exists());
    }
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = SqliteStore::in_folder(&file, clock::system()).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
}

#[test]
fn leftovers_of_the_dead_are_swept_and_the_living_are_left_alone() {
    let (folder, store) = fresh();
    let session = store.begin_import().unwrap();
    let living = strangers(&folder);
    for dead in ["staging-1-0", "staging-99999-7"] {
        fs::create_dir(folder.path().join(dead)).unwrap();
        fs::write(folder.path().join(dead).join("rows.sqlite"), "rows").unwrap();
    }
    fs::write(folder.path().join("staging-1-0/lock"), "").unwrap();
    fs::write(folder.path().join("mine.txt"), "not the store's").unwrap();
    let _other = open(&folder);
    assert_eq!(strangers(&folder), ["mine.txt".to_owned(), living[0].clone()]);
    drop(session);
    assert_eq!(strangers(&folder), ["mine.txt"]);
}

/// Fills a store until it refuses, then checks that nothing half done is there and that it goes on
/// when there is room again.
async fn fill_up(store: &SqliteStore, make_room: impl FnOnce() -> SqliteStore) {
    import(store, &[product("a", "A")], &[event("0", "u", "a", 0)]);
    let (catalogue_before, revision) = (catalogue(store), store.catalog_revision().unwrap());

    let mut session = store.begin_import().unwrap();
    let text = "x".repeat(2000);
    let mut staged = Ok(());
    for n in 0..3000 {
        let mut product = product(&format!("p{n}"), "new");
        product.description.clone_from(&text);
        staged = session.put_product(product);
        if staged.is_err() {
            break;
        }
    }
    let error = match staged {
        Ok(()) => session.commit().unwrap_err(),
        Err(error) => {
            drop(session);
            error
        }
    };
    assert!(error.to_string().contains("full"), "{error}");
    assert_eq!(catalogue(store), catalogue_before);
    assert_eq!(store.catalog_revision().unwrap(), revision);

    let mut acknowledged = vec![0];
    let mut refused = 0;
    for n in 1..20_000 {
        let events = (0..100).map(|k| event(&format!("{n}-{k}"), &text, "a", n)).collect();
        match store.append_events(events).await {
            Ok(_) => acknowledged.extend([n; 100]),
            Err(StoreError::Unavailable(text)) => {
                assert!(text.contains("full"), "{text}");
                refused += 1;
                if refused == 3 {
                    break;
                }
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(refused, 3, "the disk never filled up");
    let stored = |store: &SqliteStore| -> Vec<i64> {
        let mut times: Vec<i64> = history(store).into_iter().map(|(_, _, at)| at).collect();
        times.sort_unstable();
        times
    };
    assert_eq!(stored(store), acknowledged);
    assert_eq!(store.recent_events("u".into(), 5).await.unwrap().len(), 1);

    let store = make_room();
    assert_eq!(stored(&store), acknowledged);
    let fresh = store.append_events(vec![event("room", "u", "a", 99_999)]).await;
    assert_eq!(fresh.unwrap(), [true]);
    assert_eq!(import(&store, &[product("b", "B")], &[]).products_added, 1);
}

#[tokio::test]
async fn a_full_file_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let limited = Settings { max_pages: Some(500), ..Settings::default() };
    let path = folder.path().join(FILE_NAME);
    let store = SqliteStore::open_with(&path, clock::system(), limited).unwrap();
    fill_up(&store, || open(&folder)).await;
    assert_eq!(strangers(&folder), [] as [String; 0]);
}

/// A file system of its own, unmounted on drop. `None` without the right to mount.
struct Mount(TempDir);

impl Mount {
    fn tmpfs(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Self(folder);
        mount.run("mount", &["-t", "tmpfs", "-o", options, "tmpfs"]).then_some(mount)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> bool {
        let done = Command::new(program).args(arguments).arg(self.0.path()).output();
        done.is_ok_and(|done| done.status.success())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.run("umount", &[]);
    }
}

#[tokio::test]
async fn a_full_disk_loses_nothing() {
    let Some(disk) = Mount::tmpfs("size=4m") else {
        println!("skipped: needs the right to mount a file system");
        return;
    };
    let store = open(&disk.0);
    fill_up(&store, || {
        assert!(disk.run("mount", &["-o", "remount,size=64m"]));
        open(&disk.0)
    })
    .await;
    assert_eq!(strangers(&disk.0), [] as [String; 0]);
    drop(store);
}

#[tokio::test]
async fn a_read_only_disk_is_an_error_and_loses_nothing() {
    let Some(disk) = Mount::tmpfs("size=16m") else {
        println!("skipped: needs the right to mount a file system");
        return;
    };
    let store = open(&disk.0);
    import(&store, &[product("a", "A")], &[event("1", "u", "a", 1)]);
    drop(store);
    assert!(disk.run("mount", &["-o", "remount,ro"]));
    let error = SqliteStore::in_folder(&disk.0, clock::system()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StoreError::Unavailable(_)), "{text}");
    assert!(text.to_lowercase().contains("read-only"), "{text}");
    assert!(disk.run("mount", &["-o", "remount,rw"]));
    let store = open(&disk.0);
    assert_eq!(store.counts().unwrap(), Counts { products: 1, events: 1 });
}

#[test]
fn many_open_a_new_store_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let folder = &folder;
                scope.spawn(move || {
                    let store = open(folder);
                    import(&store, &[product(&format!("p{n}"), "one each")], &[]);
                    store.store_id().unwrap()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(open(&folder).counts().unwrap().products, 8);
}
