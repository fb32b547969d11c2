use super::*;
use crate::clock;
use crate::policy::install_defaults;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        install_defaults(dir.path()).expect("installed");
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn version(&self) -> String {
        Policy::load(self.path()).expect("valid").0.version
    }

    fn publish(&self, edit: &Edit) -> Result<Published, PublishError> {
        publish(self.path(), edit, &clock::System)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).expect("readable")
    }

    /// Names in the folder that a publication may leave behind only while it runs.
    fn litter(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).expect("listed").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names
            .filter(|name| {
                name.starts_with(".pending") || name.contains(".tmp") || name == ".staged"
            })
            .collect()
    }
}

/// An edit that puts `number` into all three files.
fn numbered(number: usize) -> Edit {
    let file = |name: &str, text: String| (name.to_owned(), Some(text));
    Edit {
        files: BTreeMap::from([
            file("ranking.toml", format!("[weights]\nsearch = {number}\n")),
            file("query.toml", format!("max_chars = {number}\n")),
            file("resilience.toml", format!("[engine]\nmax_queue = {number}\n")),
        ]),
        who: "tester".into(),
        why: format!("number {number}"),
        ..Edit::default()
    }
}

/// The number in force; a mixture of two is a failure.
fn number_in_force(dir: &Path) -> usize {
    let (policy, _) = Policy::load(dir).expect("valid");
    let search = policy.ranking.weights.search as usize;
    let all = [search, policy.query.max_chars, policy.resilience.max_queue];
    assert!(all.iter().all(|number| *number == search), "half applied: {all:?}");
    search
}

#[test]
fn what_is_published_is_in_force_and_in_the_history() {
    let folder = Folder::new();
    let start = folder.version();
    let first = folder.publish(&numbered(7)).expect("published");
    assert_eq!(first.previous, start);
    assert_eq!(first.version, folder.version());
    assert_eq!(number_in_force(folder.path()), 7);
    assert_eq!(folder.read("query.toml"), "max_chars = 7\n");
    let second = folder.publish(&numbered(8)).expect("published");

    let lines = history(folder.path());
    let shown = lines.iter().map(|line| (line.seq, line.version.as_str(), line.why.as_str()));
    let shown: Vec<_> = shown.collect();
    assert_eq!(
        shown,
        [
            (3, second.version.as_str(), "number 8"),
            (2, first.version.as_str(), "number 7"),
            (1, start.as_str(), "found in the folder"),
        ]
    );
    assert_eq!(folder.litter(), Vec::<String>::new());

    // Publishing what is in force is no new version.
    let same = folder.publish(&numbered(8)).expect("nothing to do");
    assert_eq!(same.version, same.previous);
    assert_eq!(history(folder.path()).len(), 3);
}

#[test]
fn a_rollback_brings_every_file_back() {
    let folder = Folder::new();
    let start = folder.version();
    // An edit by hand and a removal, neither of them published.
    fs::write(folder.path().join("query.toml"), "max_chars = 99\n").expect("written");
    fs::remove_file(folder.path().join("resilience.toml")).expect("removed");
    let by_hand = folder.version();
    folder.publish(&numbered(7)).expect("published");

    let back = rollback(folder.path(), &by_hand, Edit::default(), &clock::System);
    assert_eq!(back.expect("rolled back").version, by_hand);
    assert_eq!(folder.read("query.toml"), "max_chars = 99\n");
    assert!(!folder.path().join("resilience.toml").exists());

    let unknown = rollback(folder.path(), &start, Edit::default(), &clock::System);
    assert!(matches!(unknown, Err(PublishError::UnknownVersion(version)) if version == start));
    // A rollback is an edit like any other: it can be stale.
    let stale = Edit { expected_version: Some(start), ..Edit::default() };
    let stale = rollback(folder.path(), &by_hand, stale, &clock::System);
    assert!(matches!(stale, Err(PublishError::Stale { current }) if current == by_hand));
}

#[test]
fn a_broken_hand_edit_is_no_version() {
    let folder = Folder::new();
    let in_force = folder.publish(&numbered(7)).expect("published").version;
    fs::write(folder.path().join("ranking.toml"), "[weights]\nsearch = -1\n").expect("written");
    let mut edit = Edit { expected_version: Some(in_force), ..numbered(8) };
    let refused = folder.publish(&edit);
    assert!(matches!(refused, Err(PublishError::BrokenFolder { .. })), "{refused:?}");
    edit.expected_version = None;
    folder.publish(&edit).expect("published");
    let whys: Vec<_> = history(folder.path()).into_iter().map(|line| line.why).collect();
    assert_eq!(whys, ["number 8", "number 7", "found in the folder"]);
}

#[test]
fn a_refused_edit_changes_nothing() {
    let folder = Folder::new();
    folder.publish(&numbered(7)).expect("published");
    let version = folder.version();
    let check = |edit: Edit, expected: &str| {
        let error = folder.publish(&edit).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(folder.version(), version);
        assert_eq!(history(folder.path()).len(), 2);
        assert_eq!(folder.litter(), Vec::<String>::new());
    };
    check(
        Edit { expected_version: Some("000000000000".into()), ..numbered(8) },
        &format!("version {version} is in force"),
    );
    let one = |name: &str, text: &str| Edit {
        files: BTreeMap::from([(name.to_owned(), Some(text.to_owned()))]),
        ..Edit::default()
    };
    check(one("ranking.toml", "[weights]\nsearch = -1\n"), "must be at least 0");
    check(one("rankin.toml", ""), "did you mean ranking.toml?");
    check(one("../evil.toml", ""), "reads no policy file of this name");
    // The rest of the folder counts too.
    fs::write(folder.path().join("query.toml"), "max_chars = 0\n").expect("written");
    let error = folder.publish(&one("ranking.toml", "")).expect_err("query.toml is broken");
    assert!(error.to_string().contains("query.toml:1:1: max_chars"), "{error}");
    assert_eq!(folder.read("query.toml"), "max_chars = 0\n");
}

#[test]
fn folders_that_are_not_ours_to_write_say_so() {
    let folder = Folder::new();
    fs::create_dir(folder.path().join("..data")).expect("made");
    let error = folder.publish(&numbered(7)).expect_err("managed").to_string();
    assert!(error.contains("ConfigMap"), "{error}");
    let error = publish(Path::new("/proc/sys/kernel"), &numbered(7), &clock::System);
    let error = error.expect_err("cannot be written").to_string();
    assert!(error.starts_with("locking the policy folder: "), "{error}");
}

#[test]
fn a_linked_file_is_written_where_it_leads() {
    let folder = Folder::new();
    let elsewhere = tempfile::tempdir().expect("a folder");
    let target = elsewhere.path().join("q.toml");
    fs::rename(folder.path().join("query.toml"), &target).expect("moved");
    std::os::unix::fs::symlink(&target, folder.path().join("query.toml")).expect("linked");
    folder.publish(&numbered(7)).expect("published");
    assert!(folder.path().join("query.toml").is_symlink());
    assert_eq!(fs::read_to_string(target).expect("read"), "max_chars = 7\n");
}

/// Stops a publication of number 8 over number 7 after each of its steps.
#[test]
fn every_step_may_be_the_last() {
    type Step = fn(&Lock, &Meta, &FileSet);
    let stage: Step = |lock, meta, files| {
        let staged = lock.path().join(".staged");
        history::write(&staged, meta, files).expect("staged");
    };
    let torn_stage: Step = |lock, _, _| {
        let staged = lock.path().join(".staged");
        fs::create_dir(&staged).expect("made");
        fs::write(staged.join("ranking.toml"), "[weig").expect("written");
    };
    let commit: Step = |lock, meta, files| journal::commit(lock, meta, files).expect("committed");
    let one_file: Step = |lock, meta, files| {
        journal::commit(lock, meta, files).expect("committed");
        let content = files.get("query.toml").expect("there");
        crate::disk::replace(&lock.path().join("query.toml"), content).expect("replaced");
        fs::write(lock.path().join(".ranking.toml.1-1.tmp"), "[wei").expect("a torn temporary");
    };
    let all_files: Step = |lock, meta, files| {
        journal::commit(lock, meta, files).expect("committed");
        for (name, content) in files.iter() {
            crate::disk::replace(&lock.path().join(name), content).expect("replaced");
        }
    };
    for (name, step, expected) in [
        ("torn stage", torn_stage, 7),
        ("stage", stage, 7),
        ("commit", commit, 8),
        ("one file", one_file, 8),
        ("all files", all_files, 8),
    ] {
        let folder = Folder::new();
        folder.publish(&numbered(7)).expect("published");
        let lock = Lock::take(folder.path()).expect("free");
        let base = FileSet::collect(folder.path()).expect("readable");
        let mut wanted = base.clone();
        for (name, text) in numbered(8).files {
            wanted.set(&name, text.map(String::into_bytes)).expect("known");
        }
        let meta = Meta::of(3, &wanted, &base, &base.version(), "", "tester", "number 8");
        step(&lock, &meta, &wanted);

        assert_eq!(number_in_force(folder.path()), expected, "{name}: for a reader");
        recover(folder.path());
        assert_eq!(number_in_force(folder.path()), expected, "{name}: the publisher lives");
        drop(lock);
        recover(folder.path());
        assert!(!folder.path().join(".pending").exists(), "{name}");
        assert_eq!(number_in_force(folder.path()), expected, "{name}: finished");
        assert_eq!(history(folder.path())[0].version, folder.version(), "{name}");
        folder.publish(&numbered(9)).expect("the next one works");
        assert_eq!(number_in_force(folder.path()), 9, "{name}: the next one");
    }
}

#[test]
fn an_edit_by_hand_after_a_crash_is_kept() {
    let folder = Folder::new();
    folder.publish(&numbered(7)).expect("published");
    let base = FileSet::collect(folder.path()).expect("readable");
    let mut wanted = base.clone();
    for (name, text) in numbered(8).files {
        wanted.set(&name, text.map(String::into_bytes)).expect("known");
    }
    let lock = Lock::take(folder.path()).expect("free");
    let meta = Meta::of(3, &wanted, &base, &base.version(), "", "", "");
    journal::commit(&lock, &meta, &wanted).expect("committed");
    drop(lock);
    fs::write(folder.path().join("query.toml"), "max_chars = 99\n").expect("written");
    recover(folder.path());
    assert_eq!(folder.read("query.toml"), "max_chars = 99\n");
    assert_eq!(folder.read("ranking.toml"), "[weights]\nsearch = 8\n");
}

#[test]
fn a_corrupt_history_is_refused_by_its_checksum() {
    let folder = Folder::new();
    let version = folder.publish(&numbered(7)).expect("published").version;
    folder.publish(&numbered(8)).expect("published");
    let entry = folder.path().join(".history").join(format!("000002-{version}"));
    fs::write(entry.join("query.toml"), "max_chars = 6\n").expect("damaged");
    let error = rollback(folder.path(), &version, Edit::default(), &clock::System);
    let error = error.expect_err("damaged").to_string();
    assert!(error.contains("query.toml does not have its checksum"), "{error}");
    // A meta.json that names files elsewhere is not followed.
    let meta = fs::read_to_string(entry.join("meta.json")).expect("read");
    let evil = meta.replacen("query.toml", "../../query.toml", 1);
    fs::write(entry.join("meta.json"), evil).expect("damaged");
    let error = rollback(folder.path(), &version, Edit::default(), &clock::System);
    assert!(error.expect_err("damaged").to_string().contains("names the file"));
    assert_eq!(number_in_force(folder.path()), 8);
}

const CHILD_DIR: &str = "PENSTOCK_TEST_PUBLISH_DIR";
const CHILD_FROM: &str = "PENSTOCK_TEST_PUBLISH_FROM";

/// The body of the child processes below, which run this very test binary.
#[test]
#[ignore = "runs only as the child process of other tests"]
fn publish_until_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let from: usize = std::env::var(CHILD_FROM).expect("set").parse().expect("a number");
    for number in from.. {
        match publish(Path::new(&dir), &numbered(number), &clock::System) {
            Ok(_) => println!("\npublished {number}"),
            Err(error) => {
                println!("\nrefused {error}");
                return;
            }
        }
    }
}

fn child(command: &mut Command, dir: &Path, from: usize) -> Child {
    command
        .args(["--exact", "publish::tests::publish_until_killed", "--ignored", "--nocapture"])
        .env(CHILD_DIR, dir)
        .env(CHILD_FROM, from.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started")
}

/// The last number the child said it had published before its output ended.
fn last_published(lines: impl Iterator<Item = std::io::Result<String>>) -> Option<usize> {
    let lines = lines.map_while(Result::ok);
    lines.filter_map(|line| line.strip_prefix("published ")?.parse().ok()).last()
}

#[test]
fn kill_9_leaves_exactly_one_valid_version() {
    const KILLS: u32 = 60;
    let folder = Folder::new();
    folder.publish(&numbered(1)).expect("published");
    let this = std::env::current_exe().expect("known");
    let mut in_force = 1;
    let mut unfinished = 0;
    for kill in 0..KILLS {
        let mut child = child(&mut Command::new(&this), folder.path(), in_force + 1);
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        // At work: from here on any moment is as good as another.
        let started = lines.find(|line| line.as_ref().is_ok_and(|l| l.starts_with("published")));
        let started = started.expect("a line").expect("readable");
        std::thread::sleep(Duration::from_micros(u64::from(kill * 27_919 % 80_021)));
        child.kill().expect("killed");
        child.wait().expect("ended");
        let first = last_published([Ok(started)].into_iter()).expect("a number");
        let promised = last_published(lines).unwrap_or(first);

        unfinished += u32::from(folder.path().join(".pending").exists());
        in_force = number_in_force(folder.path());
        // Said to be published means in force; at most one more was on its way.
        assert!((promised..=promised + 1).contains(&in_force), "{promised}: {in_force}");
        if kill % 2 == 0 {
            recover(folder.path());
            assert_eq!(number_in_force(folder.path()), in_force);
        }
    }
    println!("{KILLS} kills, {in_force} versions, {unfinished} left a publication to finish");
    folder.publish(&numbered(in_force + 1)).expect("the next one works");
    assert_eq!(folder.litter().iter().filter(|name| !name.contains(".tmp")).count(), 0);
    let lines = history(folder.path());
    assert!(lines.windows(2).all(|pair| pair[0].seq == pair[1].seq + 1), "a gap in the history");
}

/// Readers see no mixture while publications follow each other as fast as the disk allows.
#[test]
fn readers_never_see_half_a_publication() {
    let folder = Folder::new();
    folder.publish(&numbered(1)).expect("published");
    let mut child =
        child(&mut Command::new(std::env::current_exe().expect("known")), folder.path(), 2);
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut seen = 0;
    let mut reads = 0;
    for line in lines.map_while(Result::ok) {
        let Some(number) = line.strip_prefix("published ") else {
            continue;
        };
        for _ in 0..20 {
            let now = number_in_force(folder.path());
            assert!(now >= seen, "{now} after {seen}");
            seen = now;
            reads += 1;
        }
        if number.parse::<usize>().expect("a number") >= 60 {
            break;
        }
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(seen >= 60 && reads >= 1_000, "{seen}, {reads}");
}

/// A limit on the size of files stands in for a full disk: writing fails half way.
#[test]
fn a_disk_that_is_full_changes_nothing() {
    let folder = Folder::new();
    folder.publish(&numbered(1)).expect("published");
    let version = folder.version();
    let this = std::env::current_exe().expect("known");
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\" | cat"]).arg(this);
    let mut child = child(&mut shell, folder.path(), 2);
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let refused: Vec<_> = lines
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("refused ").map(str::to_owned))
        .collect();
    child.wait().expect("ended");
    assert!(refused.len() == 1 && refused[0].contains("File too large"), "{refused:?}");
    assert_eq!(folder.version(), version);
    assert_eq!(folder.litter(), Vec::<String>::new());
    folder.publish(&numbered(2)).expect("with room again it works");
}
