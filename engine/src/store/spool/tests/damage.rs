//! Files that are damaged, in every way a disk knows, and files that are not ours.

use super::*;
use rusqlite::Connection;
use std::fs;

/// A spool with events in it, closed, and its bytes.
async fn filled(folder: &TempDir, count: usize) -> Vec<u8> {
    let spool = open(folder);
    spool.append(events("e", count)).await.unwrap();
    let path = spool.path().to_owned();
    drop(spool);
    fs::read(path).unwrap()
}

fn moved(folder: &TempDir) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".damaged-"))
        .collect();
    names.sort();
    names
}

/// Everything that is shipped now.
async fn shipped(spool: &Arc<Spool>) -> HashSet<String> {
    let sink = Recorder::default();
    drain(spool, &sink).await;
    sink.once()
}

#[tokio::test]
async fn garbage_is_moved_aside_and_a_new_spool_works() {
    let large = vec![7; 100_000];
    for bytes in [&b"hello"[..], &[0; 5000], b"SQLite format 3\0garbage garbage", &large] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE_NAME), bytes).unwrap();
        let spool = open(&folder);
        let status = spool.status();
        assert_eq!((status.waiting, status.damaged_files), (0, 1));
        let kept = moved(&folder);
        assert_eq!(fs::read(folder.path().join(&kept[0])).unwrap(), bytes);
        assert_eq!(spool.append(events("new", 3)).await.unwrap(), [true; 3]);
        drop(spool);
        let spool = open(&folder);
        assert_eq!((spool.status().waiting, moved(&folder).len()), (3, 1), "once is enough");
    }
}

#[tokio::test]
async fn another_programs_file_and_a_newer_ones_are_not_touched() {
    let refused = |folder: &TempDir, words: &str| {
        let path = folder.path().join(FILE_NAME);
        let before = fs::read(&path).unwrap();
        let error = Spool::open(folder, settings(), clock::system()).unwrap_err();
        assert!(matches!(error, StoreError::Format(_)), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(moved(folder), [] as [String; 0]);
    };
    let theirs = tempfile::tempdir().unwrap();
    let database = Connection::open(theirs.path().join(FILE_NAME)).unwrap();
    database.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").unwrap();
    drop(database);
    refused(&theirs, "another program");

    let newer = tempfile::tempdir().unwrap();
    filled(&newer, 3).await;
    let database = Connection::open(newer.path().join(FILE_NAME)).unwrap();
    database.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(database);
    refused(&newer, "newer program");

    let log_alone = tempfile::tempdir().unwrap();
    fs::write(log_alone.path().join("spool.sqlite-wal"), "precious").unwrap();
    let error = Spool::open(&log_alone, settings(), clock::system()).unwrap_err();
    assert!(error.to_string().contains("its log"), "{error}");
}

#[tokio::test]
async fn of_a_truncated_file_the_rest_is_salvaged() {
    let folder = tempfile::tempdir().unwrap();
    let whole = filled(&folder, 2_000).await;
    for cut in [whole.len() / 2, whole.len() - 1, whole.len() - 4096, 4096, 600, 50] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE_NAME), &whole[..cut]).unwrap();
        let spool = open(&folder);
        let status = spool.status();
        // Of a page that lacks a byte the rest is good.
        assert_eq!(status.damaged_files, u64::from(cut != whole.len() - 1), "{cut}");
        // Half of the file is indexes.
        if cut >= whole.len() / 2 {
            assert!(status.waiting > 500, "{cut}: {status:?}");
        }
        assert!(status.waiting + status.damaged >= 2_000 || cut <= 4096, "{cut}: {status:?}");
        let got = shipped(&spool).await.len() as u64;
        assert!(got == status.waiting || got + spool.status().damaged >= 2_000, "{cut}: {got}");
        if status.damaged_files == 0 {
            continue;
        }
        assert_eq!(fs::read(folder.path().join(&moved(&folder)[0])).unwrap(), whole[..cut]);
    }
}

/// Every event is shipped as it was, or counted as damaged; wherever a byte changes.
#[tokio::test]
async fn a_changed_byte_anywhere_costs_only_what_it_hits() {
    let folder = tempfile::tempdir().unwrap();
    let whole = filled(&folder, 400).await;
    let expected: HashSet<String> = events("e", 400).into_iter().map(|e| e.event_id).collect();
    for round in 0..150 {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone();
        // The first hundred bytes say whose file it is.
        let at = rand::random_range(100..bytes.len());
        let length = if round % 3 == 0 { rand::random_range(1..600) } else { 1 };
        for byte in bytes.iter_mut().skip(at).take(length) {
            *byte ^= rand::random_range(1..=255_u8);
        }
        fs::write(folder.path().join(FILE_NAME), &bytes).unwrap();
        let spool = match Spool::open(&folder, settings(), clock::system()) {
            Ok(spool) => spool,
            Err(error) => panic!("{length} bytes at {at}: {error}"),
        };
        let got = shipped(&spool).await;
        let status = spool.status();
        assert!(got.is_subset(&expected), "{length} bytes at {at}: an event was changed");
        let lost = 400 - got.len() as u64;
        // Where the counts are hit as well, only gaps are counted; that there is damage is said all the same.
        let said = if length == 1 {
            lost <= status.damaged
        } else {
            lost == 0 || status.damaged > 0 || status.damaged_files > 0
        };
        assert!(said, "{length} bytes at {at}: {lost} lost, {status:?}");
        assert!(lost <= 150, "{length} bytes at {at}: {lost} lost");
        // It goes on as if nothing had been.
        assert_eq!(spool.append(events("more", 20)).await.unwrap(), [true; 20]);
        assert_eq!(shipped(&spool).await.len(), 20, "{length} bytes at {at}");
    }
}

/// A text changes in the table and not in the indexes, as a disk does it: SQLite's check sees nothing.
#[tokio::test]
async fn a_row_that_changed_is_set_aside_and_the_queue_goes_on() {
    let (before, after) = ("e-3user 3product of e-3", ["X-3", "Xser 3", "Xroduct of e-3"]);
    let whole = filled(&tempfile::tempdir().unwrap(), 10).await;
    let at = whole.windows(before.len()).position(|part| part == before.as_bytes()).unwrap();
    for (offset, text) in [0, 3, 9].into_iter().zip(after) {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone();
        bytes[at + offset..][..text.len()].copy_from_slice(text.as_bytes());
        fs::write(folder.path().join(FILE_NAME), bytes).unwrap();
        let spool = open(&folder);
        assert_eq!((spool.status().waiting, spool.status().damaged_files), (10, 0));
        // Right or not at all: what an index has is read from there.
        let found = spool.waiting_of("user 3", 9).await.unwrap();
        assert!(found.is_empty() || found == [event("e-3", "user 3", 3)], "{found:?}");
        let got = shipped(&spool).await;
        let status = spool.status();
        assert_eq!((got.len(), got.contains("e-3")), (9, false));
        assert_eq!((status.damaged, status.set_aside, status.waiting), (1, 1, 0), "{text}");
        // Its client sends it again: that is no event that is known.
        assert_eq!(spool.append(events("e", 4)).await.unwrap(), [true; 4], "{text}");
        assert_eq!(shipped(&spool).await.len(), 4);
    }
}

/// A spool as a killed process leaves it: everything in the log.
async fn with_log(folder: &TempDir) -> (Vec<u8>, Vec<u8>) {
    let spool = open_with(folder, Settings::default());
    for n in 0..30 {
        spool.append(events(&format!("{n}"), 10)).await.unwrap();
    }
    let path = spool.path().to_owned();
    let bytes = (fs::read(&path).unwrap(), fs::read(path.with_extension("sqlite-wal")).unwrap());
    drop(spool);
    bytes
}

fn put(folder: &TempDir, (file, log): (&[u8], &[u8])) {
    fs::write(folder.path().join(FILE_NAME), file).unwrap();
    fs::write(folder.path().join("spool.sqlite-wal"), log).unwrap();
}

#[tokio::test]
async fn a_torn_end_of_the_log_costs_what_was_in_it_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let (file, log) = with_log(&folder).await;
    assert!(log.len() > 30 * 4096, "{}", log.len());
    for cut in [1, 100, 4096, 5000, 20_000] {
        let folder = tempfile::tempdir().unwrap();
        put(&folder, (&file, &log[..log.len() - cut]));
        let spool = open(&folder);
        assert_eq!(moved(&folder), [] as [String; 0], "{cut}: that is no damage");
        let waiting = spool.status().waiting;
        // A call's events are several pages; of those that are whole the rows are found.
        assert!((240..=300).contains(&waiting), "{cut}: {waiting}");
        assert_eq!(shipped(&spool).await.len() as u64, waiting);
    }
}

/// SQLite would take all that follows for a torn end.
#[tokio::test]
async fn a_changed_byte_in_the_log_costs_nothing_that_is_readable() {
    let folder = tempfile::tempdir().unwrap();
    let (file, log) = with_log(&folder).await;
    for round in 0..40 {
        let folder = tempfile::tempdir().unwrap();
        let mut changed = log.clone();
        let at = if round < 32 { round } else { rand::random_range(0..changed.len()) };
        changed[at] ^= rand::random_range(1..=255_u8);
        put(&folder, (&file, &changed));
        let spool = open(&folder);
        let got = shipped(&spool).await;
        assert!(got.len() >= 299, "byte {at}: {} of 300", got.len());
    }
}

#[tokio::test]
async fn a_lost_file_beside_a_whole_log_is_salvaged() {
    let folder = tempfile::tempdir().unwrap();
    let (file, log) = with_log(&folder).await;
    for rest in [&[][..], &file[..100], &[9; 9000]] {
        let folder = tempfile::tempdir().unwrap();
        put(&folder, (rest, &log));
        let spool = open(&folder);
        assert_eq!(shipped(&spool).await.len(), 300);
        let kept = moved(&folder);
        assert_eq!(fs::read(folder.path().join(&kept[0])).unwrap(), rest);
        assert_eq!(fs::read(folder.path().join(&kept[1])).unwrap(), log);
    }
}

#[tokio::test]
async fn salvaging_that_was_killed_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let whole = filled(&folder, 100).await;
    let salvaged = |folder: &TempDir| folder.path().join("spool.salvaged");
    // Killed before anything was moved, after the log was, after both were.
    for (file, log) in [(true, true), (true, false), (false, false)] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(salvaged(&folder), &whole).unwrap();
        if file {
            fs::write(folder.path().join(FILE_NAME), "damaged").unwrap();
        }
        if log {
            fs::write(folder.path().join("spool.sqlite-wal"), "damaged, too").unwrap();
        }
        let spool = open(&folder);
        assert_eq!(shipped(&spool).await.len(), 100);
        assert!(!salvaged(&folder).exists());
        assert_eq!(moved(&folder).len(), usize::from(file) + usize::from(log));
    }
    // Killed before the new file was complete.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("spool.new"), "half made").unwrap();
    fs::write(folder.path().join(FILE_NAME), &whole[..whole.len() - 4096]).unwrap();
    let status = open(&folder).status();
    assert!(status.damaged_files == 1 && status.waiting + status.damaged >= 100, "{status:?}");
}

#[tokio::test]
async fn a_damaged_spool_that_another_process_has_open_is_left_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let whole = filled(&folder, 100).await;
    let spool = open(&folder);
    let path = spool.path().to_owned();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = Spool::open(&folder, settings(), clock::system()).unwrap_err();
    assert!(error.to_string().contains("another process has it open"), "{error}");
    assert_eq!(moved(&folder), [] as [String; 0]);
}
