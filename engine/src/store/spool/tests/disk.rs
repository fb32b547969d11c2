//! Disks that are full or read-only.

use super::*;
use std::process::Command;

/// A file system of its own, unmounted on drop. `None` without the right to mount.
struct Mount(TempDir);

impl Mount {
    fn tmpfs(options: &str) -> Option<Self> {
        let mount = Self(tempfile::tempdir().unwrap());
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

macro_rules! mount {
    ($options:literal) => {
        match Mount::tmpfs($options) {
            Some(disk) => disk,
            None => {
                println!("skipped: needs the right to mount a file system");
                return;
            }
        }
    };
}

/// Appends until it is refused several times; the ids that were acknowledged.
async fn fill(spool: &Spool, name: &str) -> HashSet<String> {
    let mut acknowledged = HashSet::new();
    let mut refused = 0;
    for n in 0..20_000 {
        let mut some = events(&format!("{name}-{n}"), 100);
        for event in &mut some {
            event.source = "x".repeat(500);
        }
        let ids: Vec<String> = some.iter().map(|e| e.event_id.clone()).collect();
        match spool.append(some).await {
            Ok(new) => {
                assert_eq!(new, [true; 100]);
                acknowledged.extend(ids);
            }
            Err(StoreError::Full(text)) => {
                assert!(text.contains("full"), "{text}");
                refused += 1;
                if refused == 3 {
                    return acknowledged;
                }
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the disk never filled up");
}

#[tokio::test]
async fn on_a_full_disk_shipping_goes_on_and_then_appending() {
    let disk = mount!("size=6m");
    let spool = open_with(&disk.0, Settings { batch: 500, ..settings() });
    let sink = Recorder::default();
    let mut all = HashSet::new();
    for round in 0..3 {
        let acknowledged = fill(&spool, &format!("round {round}")).await;
        assert!(acknowledged.len() > 500, "{}", acknowledged.len());
        assert!(spool.status().full);
        assert_eq!(spool.status().waiting as usize, acknowledged.len());
        all.extend(acknowledged);
        drain(&spool, &sink).await;
        assert_eq!(sink.once(), all);
        until("there is room again", || {
            let again = futures::executor::block_on(spool.append(vec![event("again", "u", 1)]));
            again.is_ok()
        })
        .await;
        all.insert("again".into());
        drain(&spool, &sink).await;
        assert!(!spool.status().full);
    }
    let once = sink.once();
    assert_eq!(once, all);
}

#[tokio::test]
async fn a_spool_on_a_full_disk_opens_and_ships() {
    let disk = mount!("size=6m");
    let spool = open(&disk.0);
    let acknowledged = fill(&spool, "a").await;
    drop(spool);
    // Not a byte is left.
    let mut size = 1 << 20;
    let mut number = 0;
    while size > 0 {
        number += 1;
        let name = disk.0.path().join(format!("others{number}"));
        if std::fs::write(&name, vec![1; size]).is_err() {
            size /= 2;
        }
    }
    let spool = open(&disk.0);
    // A call that heard an error may be found in the log.
    assert!(spool.status().waiting as usize >= acknowledged.len());
    // What the log has room for is taken still.
    match spool.append(vec![event("one", "u", 1)]).await {
        Ok(new) => assert_eq!(new, [true]),
        Err(error) => assert!(matches!(error, StoreError::Full(_)), "{error}"),
    }
    let sink = Recorder::default();
    drain(&spool, &sink).await;
    assert!(sink.once().is_superset(&acknowledged));
    assert_eq!(spool.status().waiting, 0);
}

#[tokio::test]
async fn a_full_file_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open_with(&folder, Settings { max_pages: Some(500), ..settings() });
    let acknowledged = fill(&spool, "a").await;
    let sink = Recorder::default();
    drain(&spool, &sink).await;
    assert_eq!(sink.once(), acknowledged);
    until("there is room again", || {
        futures::executor::block_on(spool.append(vec![event("again", "u", 1)])).is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_read_only_disk_is_an_error_that_names_it() {
    let disk = mount!("size=16m");
    let spool = open(&disk.0);
    spool.append(events("a", 10)).await.unwrap();
    drop(spool);
    assert!(disk.run("mount", &["-o", "remount,ro"]));
    let error = Spool::open(&disk.0, settings(), clock::system()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StoreError::Unavailable(_)), "{text}");
    assert!(text.to_lowercase().contains("read-only"), "{text}");
    assert!(text.contains(disk.0.path().to_str().unwrap()), "{text}");
    assert!(disk.run("mount", &["-o", "remount,rw"]));
    assert_eq!(open(&disk.0).status().waiting, 10);
}
