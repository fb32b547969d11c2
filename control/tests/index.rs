//! `penstock-control index` as a process: what it says, and that killing it at any moment leaves the
//! index that was in force.
#![allow(clippy::unwrap_used)]

use penstock_config::clock;
use penstock_engine::catalog::Product;
use penstock_engine::model::manifest::Part;
use penstock_engine::model::versions;
use penstock_engine::retrieve::keyword::KeywordIndex;
use penstock_engine::retrieve::semantic::SemanticIndex;
use penstock_engine::store::{Bulk, SqliteStore};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

fn import(data_dir: &Path, from: usize, to: usize) {
    let store = SqliteStore::in_folder(data_dir, clock::system()).unwrap();
    let mut import = store.begin_import().unwrap();
    for n in from..to {
        let word = |n: usize| ["red", "mug", "tea", "lamp", "oak", "wool", "iron"][n % 7];
        let product = Product {
            id: format!("p{n}"),
            name: format!("{} {} {}", word(n), word(n / 7), word(n / 49)),
            description: format!("made of x{} and y{}", n % 101, n / 101),
            ..Product::default()
        };
        import.put_product(product).unwrap();
    }
    import.commit().unwrap();
}

fn index(data_dir: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock-control"));
    command
        .args(["index", "--data-dir"])
        .arg(data_dir)
        .args(more)
        .env_remove("PENSTOCK_EMBEDDING_MODEL")
        .stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Name of the version in force, all of it proven whole and opened.
fn in_force(data_dir: &Path) -> String {
    let version = versions::current(data_dir).unwrap().unwrap();
    for part in [Part::Keyword, Part::Vectors, Part::Embedding] {
        version.verify(part).unwrap();
    }
    KeywordIndex::open(&version.folder.join("keyword")).unwrap();
    SemanticIndex::open(&version, None).unwrap();
    version.name
}

fn entries(data_dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(data_dir.join("indexes"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn it_builds_when_needed_and_says_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    import(folder.path(), 0, 300);
    let run = |more: &[&str]| {
        let output = index(folder.path(), more).output().unwrap();
        (output.status.code(), said(&output))
    };
    let (code, text) = run(&["--if-needed"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("is in force after") && text.contains("300 with embeddings"), "{text}");
    assert!(text.contains("learn: done") && text.contains("publish: done"), "{text}");
    let first = in_force(folder.path());

    let (code, text) = run(&["--if-needed"]);
    assert_eq!(code, Some(0));
    assert!(text.contains(&format!("{first} is up to date")), "{text}");
    assert_eq!(in_force(folder.path()), first);

    // An empty variable is none.
    let output = index(folder.path(), &["--if-needed"])
        .env("PENSTOCK_EMBEDDING_MODEL", "")
        .output()
        .unwrap();
    assert!(said(&output).contains("is up to date"), "{}", said(&output));

    let (code, text) = run(&["--embedding-model", "/no/such/model"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("/no/such/model: there is no such folder"), "{text}");
    let (code, text) = run(&["--dims", "0"]);
    assert_eq!(code, Some(2), "{text}");
    assert_eq!(in_force(folder.path()), first);

    let (code, text) = run(&["--if-needed", "--dims", "16"]);
    assert!(code == Some(0) && text.contains("16 dimensions"), "{text}");
    assert_ne!(in_force(folder.path()), first);
}

#[test]
fn an_empty_data_folder_gets_an_empty_index() {
    let folder = tempfile::tempdir().unwrap();
    let output = index(&folder.path().join("new"), &[]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("0 products"), "{}", said(&output));
    let version = versions::current(&folder.path().join("new")).unwrap().unwrap();
    KeywordIndex::open(&version.verify(Part::Keyword).unwrap()).unwrap();
}

/// When a build is killed.
enum Moment {
    /// So long after its start.
    Since(Duration),
    /// So long after it began to publish.
    Publishing(Duration),
}

impl Moment {
    /// Half as late: for a build that was done before.
    fn sooner(&self) -> Self {
        match self {
            Self::Since(time) => Self::Since(*time / 2),
            Self::Publishing(time) => Self::Publishing(*time / 2),
        }
    }

    fn wait(&self, child: &mut Child) {
        let time = match self {
            Self::Since(time) => time,
            Self::Publishing(time) => {
                let lines = BufReader::new(child.stderr.take().unwrap()).lines();
                assert!(lines.map_while(Result::ok).any(|line| line == "index: done"));
                time
            }
        };
        let begun = clock::now();
        while clock::now().saturating_duration_since(begun) < *time
            && child.try_wait().unwrap().is_none()
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn killed_at_any_moment_it_leaves_what_was_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path();
    // More vectors than are scanned, so that a graph is built too.
    import(data_dir, 0, 5_400);
    let started = clock::now();
    assert!(index(data_dir, &[]).output().unwrap().status.success());
    let whole = clock::now().saturating_duration_since(started);
    let mut in_force_before = in_force(data_dir);

    let mut moments: Vec<Moment> =
        (0..6).map(|n| Moment::Since(whole.mul_f64((f64::from(n) + 0.37) / 7.0))).collect();
    // The last step is short, and the one where it matters.
    moments.extend((0..8).map(|n| Moment::Publishing(Duration::from_millis(4 * n))));
    let (mut kill, mut killed) = (0, 0);
    let wanted = moments.len();
    while let Some(moment) = moments.pop() {
        import(data_dir, 5_400 + kill, 5_401 + kill);
        let mut child = index(data_dir, &[]).stderr(Stdio::piped()).spawn().unwrap();
        moment.wait(&mut child);
        child.kill().unwrap();
        let finished = child.wait().unwrap().success();
        killed += usize::from(!finished);
        if finished && kill < 2 * wanted {
            moments.push(moment.sooner());
        }
        let now = in_force(data_dir);
        // Whole either way; another one only if it came so far as to put it into force.
        if now != in_force_before {
            let products = versions::current(data_dir).unwrap().unwrap().manifest.products;
            assert_eq!(products, 5_401 + kill as u64);
        }
        in_force_before = now;
        kill += 1;
    }
    assert!(killed >= wanted / 2, "only {killed} were killed before they were done");

    let output = index(data_dir, &[]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_ne!(in_force(data_dir), in_force_before);
    let left = entries(data_dir);
    assert!(left.iter().all(|name| !name.starts_with(".building")), "{left:?}");
    assert!(left.len() <= 5, "CURRENT, the lock and three versions: {left:?}");
}

/// A file size limit stands in for a full disk: writing fails in the middle of a file.
#[test]
fn a_full_disk_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    import(folder.path(), 0, 2_000);
    assert!(index(folder.path(), &[]).output().unwrap().status.success());
    let before = in_force(folder.path());
    import(folder.path(), 2_000, 2_001);
    // The largest file, the vectors, has a megabyte; half of that is written (blocks of 512 bytes).
    let limited = "trap '' XFSZ; ulimit -f 1024; exec \"$0\" index --data-dir \"$1\"";
    let output = Command::new("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_penstock-control")])
        .arg(folder.path())
        .env_remove("PENSTOCK_EMBEDDING_MODEL")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("File too large"), "{}", said(&output));
    assert_eq!(in_force(folder.path()), before);
    assert!(entries(folder.path()).iter().all(|name| !name.starts_with(".building")));
}
