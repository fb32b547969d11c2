use super::*;
use crate::clock;
use std::fs;
use std::time::Instant;

/// A folder with the default files, watched.
struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        crate::policy::install_defaults(dir.path()).expect("installed");
        Self { dir }
    }

    fn watch(&self, options: WatchOptions) -> Watcher {
        Watcher::start(self.dir.path(), options, clock::system()).expect("valid")
    }

    /// As editors do: a temporary file, renamed over.
    fn replace(&self, name: &str, text: &str) {
        let temporary = self.dir.path().join(format!("{name}~new"));
        fs::write(&temporary, text).expect("written");
        fs::rename(temporary, self.dir.path().join(name)).expect("renamed");
    }
}

/// Waits until `done`, at most ten seconds, and says how long it took.
fn wait_for(what: &str, done: impl Fn() -> bool) -> Duration {
    let start: Instant = clock::now();
    while !done() {
        let waited = clock::now().saturating_duration_since(start);
        assert!(waited < Duration::from_secs(10), "{what}: not within 10 s");
        std::thread::sleep(Duration::from_millis(1));
    }
    clock::now().saturating_duration_since(start)
}

fn search(value: f32) -> String {
    format!("[weights]\nsearch = {value}\n")
}

#[test]
fn a_rename_is_in_force_within_250_ms() {
    let folder = Folder::new();
    let watcher = folder.watch(WatchOptions::default());
    let handle = watcher.handle();
    let mut slowest = Duration::ZERO;
    for round in 1..=20_u8 {
        let weight = f32::from(round);
        folder.replace("ranking.toml", &search(weight));
        let took = wait_for("rename", || {
            handle.current().ranking.weights.search == weight
        });
        slowest = slowest.max(took);
    }
    println!("rename to in force: slowest of 20: {slowest:?}");
    assert!(slowest < Duration::from_millis(250), "{slowest:?}");
    let status = watcher.status();
    assert_eq!(
        status.reloads,
        Reloads {
            accepted: 20,
            rejected: 0
        }
    );
    assert_eq!(status.watcher, WatcherKind::Events);
    assert!(status.in_sync);
}
