//! `kill -9` at any point. The victim is this test executable, started again with a job in its
//! environment; `victim` below is where it begins.

use super::*;
use crate::store::ProductChange;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const JOB: &str = "PENSTOCK_TEST_STORE_JOB";
const FOLDER: &str = "PENSTOCK_TEST_STORE_FOLDER";

/// Rows of the import that is killed.
const ROWS: i64 = 6000;
/// Every so many rows the victim says how far it is.
const SAY_EVERY: i64 = 200;

fn start(job: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["store::sqlite::tests::killed::victim", "--exact", "--ignored", "--nocapture"])
        .args(["--test-threads", "1"])
        .env(JOB, job)
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

#[test]
#[ignore = "started by the tests of this file, as a process to kill"]
fn victim() {
    let (Ok(job), Ok(folder)) = (std::env::var(JOB), std::env::var(FOLDER)) else {
        return;
    };
    say("");
    let store = SqliteStore::in_folder(folder, clock::system()).unwrap();
    match &*job {
        "import" => {
            let mut session = store.begin_import().unwrap();
            for n in 0..ROWS {
                session.put_product(product(&format!("p{n}"), "new")).unwrap();
                session.put_event(event(&format!("e{n}"), "new", "p1", n)).unwrap();
                if n % SAY_EVERY == 0 {
                    say("staged");
                }
            }
            say("merging");
            session.commit().unwrap();
            say("merged");
        }
        "change" => {
            for n in 0.. {
                let both =
                    ["left", "right"].map(|id| ProductChange::Put(product(id, &n.to_string())));
                store.change_products(both.into()).unwrap();
                say(&format!("acknowledged {n}"));
            }
        }
        "open" => say(&store.store_id().unwrap()),
        "append" => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap()
            .block_on(append_until_killed(Arc::new(store))),
        other => panic!("no job {other}"),
    }
}

async fn append_until_killed(store: Arc<SqliteStore>) {
    let callers = (0..8).map(|caller| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..1_000_000 {
                let id = format!("{caller}-{n}");
                let stored = store.append_events(vec![event(&id, "u", &id, n)]).await;
                assert_eq!(stored.unwrap(), [true]);
                say(&format!("acknowledged {id}"));
            }
        })
    });
    futures::future::join_all(callers).await;
}

/// Reads what the victim says up to a line, or to its end. `true` when the line came.
fn wait_for(lines: &mut BufReader<ChildStdout>, wanted: &str) -> bool {
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        if line.trim_end() == wanted {
            return true;
        }
        line.clear();
    }
    false
}

/// Where the victim dies.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// After it has said so many times that rows are staged.
    Staged(i64),
    /// This long after the merge began.
    Merging(Duration),
}

#[test]
fn an_import_that_is_killed_changes_nothing() {
    let (folder, store) = fresh();
    let old: Vec<Product> = (0..300).map(|n| product(&format!("p{n}"), "old")).collect();
    let events: Vec<Event> = (0..300).map(|n| event(&format!("old{n}"), "old", "p1", n)).collect();
    import(&store, &old, &events);
    drop(store);
    let before = (catalogue(&open(&folder)), history(&open(&folder)));

    // How long a merge takes here, so that the points fall inside it.
    let trial = tempfile::tempdir().unwrap();
    let mut victim = start("import", trial.path());
    let mut lines = BufReader::new(victim.stdout.take().unwrap());
    assert!(wait_for(&mut lines, "merging"));
    let began = clock::now();
    assert!(wait_for(&mut lines, "merged"));
    let merge = clock::now() - began;
    victim.wait().unwrap();

    let mut points: Vec<Point> = (0..6).map(|n| Point::Staged(1 + n * 5)).collect();
    points.extend((0..10).map(|n| Point::Merging(merge * n / 9)));
    let mut in_the_merge = 0;
    for point in points {
        // Each victim gets the old install, also after one whose commit came before its death.
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(folder.path().join(FILE_NAME), copy.path().join(FILE_NAME)).unwrap();
        let mut victim = start("import", copy.path());
        let mut lines = BufReader::new(victim.stdout.take().unwrap());
        match point {
            Point::Staged(times) => {
                for _ in 0..times {
                    assert!(wait_for(&mut lines, "staged"));
                }
            }
            Point::Merging(after) => {
                assert!(wait_for(&mut lines, "merging"));
                let began = clock::now();
                while clock::now() - began < after {
                    std::hint::spin_loop();
                }
            }
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        let merged = wait_for(&mut lines, "merged");

        let store = open(&copy);
        assert_eq!(strangers(&copy), [] as [String; 0], "{point:?}");
        if (catalogue(&store), history(&store)) == before {
            assert!(!merged, "{point:?}: it said that it was done");
            in_the_merge += i32::from(matches!(point, Point::Merging(_)));
        } else {
            assert!(matches!(point, Point::Merging(_)), "{point:?}: half an import is visible");
            whole(&store);
        }
        // The install works: the same import goes through.
        drop(store);
        let again = start("import", copy.path()).wait_with_output().unwrap();
        assert!(again.status.success());
        whole(&open(&copy));
        assert_eq!(strangers(&copy), [] as [String; 0]);
    }
    println!("{in_the_merge} of 10 kills fell into the merge");
    assert!(in_the_merge >= 2, "only {in_the_merge} kills fell into the merge");
}

/// All of the import and all of what was there before.
fn whole(store: &SqliteStore) {
    let products = catalogue(store);
    assert_eq!(products.len(), ROWS as usize);
    assert!(products.iter().all(|(_, p)| p.name == "new"));
    assert_eq!(history(store).len(), ROWS as usize + 300);
}

#[test]
fn acknowledged_events_survive() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 1..=10 {
        let mut victim = start("append", folder.path());
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let mut fresh = 0;
        let mut said = |line: std::io::Result<String>| {
            if let Some(id) = line.unwrap().strip_prefix("acknowledged ") {
                acknowledged.push(id.to_owned());
                return 1;
            }
            0
        };
        while fresh < round * 23 {
            fresh += said(lines.next().expect("the victim ended by itself"));
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        // What it had said before it died; the last line may be torn.
        let mut rest = Vec::new();
        while let Some(Ok(line)) = lines.next() {
            rest.push(line);
        }
        rest.pop();
        for line in rest {
            said(Ok(line));
        }
        let store = open(&folder);
        let stored: std::collections::HashSet<String> =
            history(&store).into_iter().map(|(_, product, _)| product).collect();
        for id in &acknowledged {
            assert!(stored.contains(id), "round {round}: {id} was acknowledged and is gone");
        }
        // The next victim counts from the start: its ids must be new.
        drop(store);
        std::fs::remove_file(folder.path().join(FILE_NAME)).unwrap();
        for sidecar in ["store.sqlite-wal", "store.sqlite-shm"] {
            let _ = std::fs::remove_file(folder.path().join(sidecar));
        }
        acknowledged.clear();
    }
}

#[test]
fn changes_of_products_are_there_whole_or_not_at_all_and_acknowledged_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=10_usize {
        let mut victim = start("change", folder.path());
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let mut acknowledged = -1;
        let mut said = |line: std::io::Result<String>| {
            let number = line.unwrap().strip_prefix("acknowledged ").and_then(|n| n.parse().ok());
            acknowledged = number.unwrap_or(acknowledged);
        };
        for _ in 0..round * 7 {
            said(lines.next().expect("the victim ended by itself"));
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        // The last line may be torn.
        let rest: Vec<_> = lines.map_while(Result::ok).collect();
        rest.iter().rev().skip(1).rev().for_each(|line| said(Ok(line.clone())));

        let store = open(&folder);
        let [(_, left), (_, right)] = catalogue(&store).try_into().unwrap();
        assert_eq!(left.name, right.name, "half a change is visible");
        assert!(left.name.parse::<i64>().unwrap() >= acknowledged, "{} {acknowledged}", left.name);
        // The list of changes has what the catalogue has.
        let revision = store.catalog_revision().unwrap();
        let last = store.changes_since(revision - 1, 9).unwrap().unwrap();
        assert_eq!((last.revision, last.products.len()), (revision, 2));
    }
}

#[test]
fn processes_that_create_a_store_at_once_agree() {
    for _ in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let mut children: Vec<Child> = (0..4).map(|_| start("open", folder.path())).collect();
        let expected = open(&folder).store_id().unwrap();
        for child in &mut children {
            let mut said = String::new();
            child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
            assert!(child.wait().unwrap().success(), "{said}");
            assert!(said.contains(&expected), "{said}");
        }
    }
}
