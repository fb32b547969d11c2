use super::*;
use crate::network;
use crate::policy::Class;
use proptest::prelude::*;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

const NOW: i64 = 1_770_091_506;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn anywhere() -> IpAddr {
    IpAddr::from([203, 0, 113, 7])
}

fn make(dir: &Path, name: &str) -> Created {
    create(dir, NewKey { name: name.into(), ..NewKey::default() }, NOW).expect("made")
}

fn load(dir: &Path) -> Table {
    Follower::new(dir).load().expect("read")
}

fn judge(table: &Table, key: &str) -> Result<String, Refusal> {
    let presented = Presented::parse(key.as_bytes()).expect("well-formed");
    let judged = table.judge(&presented, anywhere(), NOW);
    judged.map(|key| key.name().to_owned()).map_err(|(why, _)| why)
}

fn append(dir: &Path, bytes: &[u8]) {
    let file = fs::File::options().append(true).create(true).open(dir.join(FILE));
    file.and_then(|mut file| file.write_all(bytes)).expect("appended");
}

/// A line that creates a key, and the key.
fn creation(number: u64) -> (String, KeyId) {
    let id = KeyId::of_bits(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let hash = "ab".repeat(32);
    let line = format!(
        r#"{{"create":{{"id":"{id}","name":"key {number}","hash":"{hash}","created":"2026-02-03T04:05:06Z"}}}}"#
    );
    (line + "\n", id)
}

#[test]
fn keys_have_one_spelling() {
    let id = "abcdefghij27";
    let secret = "0123456789abcdef".repeat(4);
    let good = format!("psk_{id}_{secret}");
    let presented = Presented::parse(good.as_bytes()).expect("well-formed");
    assert_eq!(presented.id.to_string(), id);
    assert!(!format!("{presented:?}").contains("0123"));
    for bad in [
        String::new(),
        "psk_".into(),
        format!("psk-{id}_{secret}"),
        format!("PSK_{id}_{secret}"),
        format!("psk_{id}{secret}"),
        format!("psk_{id}_{}", &secret[1..]),
        format!("psk_{id}_{secret}0"),
        format!("psk_{id}_{}", secret.to_uppercase()),
        format!("psk_Abcdefghij27_{secret}"),
        format!("psk_abcdefghij18_{secret}"),
        format!(" {good}"),
        format!("{good}\n"),
        good.replace("27_", "2é"),
    ] {
        assert!(Presented::parse(bad.as_bytes()).is_none(), "{bad:?}");
    }
}

#[test]
fn a_key_is_made_judged_and_revoked() {
    let dir = folder();
    let dir = dir.path();
    assert!(load(dir).is_empty());
    let (one, two) = (make(dir, "one"), make(dir, "two"));
    assert!(!format!("{one:?}").contains(&one.secret));
    let text = fs::read_to_string(dir.join(FILE)).expect("read");
    let half = one.secret.rsplit('_').next().expect("a secret");
    assert!(!text.contains(half), "only the hash is kept");
    let table = load(dir);
    assert_eq!(judge(&table, &one.secret), Ok("one".into()));
    let (_, other) = two.secret.split_at(4 + KeyId::CHARS);
    let forged = format!("psk_{}{other}", one.id);
    assert_eq!(judge(&table, &forged), Err(Refusal::WrongSecret));
    let stranger = format!("psk_{}{other}", KeyId::of_bits(1));
    assert_eq!(judge(&table, &stranger), Err(Refusal::Unknown));

    assert!(revoke(dir, one.id, "left", NOW).expect("revoked"));
    assert!(!revoke(dir, one.id, "again", NOW).expect("known"));
    let unknown = revoke(dir, KeyId::of_bits(1), "", NOW);
    assert!(matches!(unknown, Err(KeysError::Unknown(_))), "{unknown:?}");
    let table = load(dir);
    assert_eq!(judge(&table, &one.secret), Err(Refusal::Revoked));
    assert_eq!(judge(&table, &forged), Err(Refusal::WrongSecret), "no word about a stranger's key");
    assert_eq!(judge(&table, &two.secret), Ok("two".into()));
    assert_eq!((table.len(), table.bad_lines()), (2, 0));
    let revoked = table.get(one.id).and_then(|key| key.revoked().cloned());
    assert_eq!(revoked, Some(Revoked { when: Some(NOW), why: "left".into() }));
}

#[test]
fn a_key_is_good_for_its_time_its_networks_and_its_limits() {
    let dir = folder();
    let new = NewKey {
        name: "shop".into(),
        expires: Some(NOW + 10),
        networks: vec![network::parse("::ffff:10.0.0.0/104").expect("a network")],
        limits: vec![(Class::Search, 2_000, 3_000)],
        bypass_cache: true,
    };
    let made = create(dir.path(), new, NOW).expect("made");
    let table = load(dir.path());
    assert!(table.get(made.id).expect("a key").may_bypass_cache());
    let check = |address: &str, now: i64, expected: Option<Refusal>| {
        let presented = Presented::parse(made.secret.as_bytes()).expect("well-formed");
        let judged = table.judge(&presented, address.parse().expect("an address"), now);
        assert_eq!(judged.err().map(|(why, _)| why), expected, "{address} {now}");
    };
    check("10.2.3.4", NOW, None);
    check("::ffff:10.2.3.4", NOW + 9, None);
    check("11.2.3.4", NOW, Some(Refusal::Network));
    check("2001:db8::1", NOW, Some(Refusal::Network));
    check("10.2.3.4", NOW + 10, Some(Refusal::Expired));
    let key = table.get(made.id).expect("there");
    assert_eq!((key.created(), key.expires()), (NOW, Some(NOW + 10)));
    let search = key.limits()[Class::Search as usize].expect("a limit");
    assert_eq!((search.per_minute, search.burst), (2_000, 3_000));
    assert_eq!(key.limits()[Class::Events as usize], None);

    let bad = |new: NewKey| assert!(create(dir.path(), new, NOW).is_err());
    bad(NewKey::default());
    bad(NewKey { name: "a\nb".into(), ..NewKey::default() });
    bad(NewKey { name: "x".repeat(101), ..NewKey::default() });
    for (per_minute, burst) in [(0, 10), (100, 105), (70_000, 65_535), (10, 70_000)] {
        let limits = vec![(Class::Search, per_minute, burst)];
        bad(NewKey { name: "x".into(), limits, ..NewKey::default() });
    }
    assert_eq!(load(dir.path()).len(), 1);
}

#[test]
fn a_line_that_breaks_off_is_no_line_until_it_ends() {
    let dir = folder();
    let dir = dir.path();
    let one = make(dir, "one");
    let (line, id) = creation(7);
    let (start, end) = line.split_at(100);
    append(dir, start.as_bytes());
    let mut follower = Follower::new(dir);
    let table = follower.load().expect("read");
    assert_eq!((table.len(), table.bad_lines()), (1, 0));
    assert!(follower.look(&table).expect("seen").is_none());
    append(dir, &end.as_bytes()[..end.len() - 1]);
    assert!(follower.look(&table).expect("seen").is_none(), "complete, but for its end");
    append(dir, b"\n");
    let table = follower.look(&table).expect("seen").expect("changed");
    assert!(table.get(id).is_some());

    // The next writer ends what broke off, and loses nothing.
    append(dir, &line.as_bytes()[..40]);
    let two = make(dir, "two");
    let table = follower.look(&table).expect("seen").expect("changed");
    assert_eq!((table.len(), table.bad_lines()), (3, 1));
    assert_eq!(table.problems()[0].line, Some(3));
    for made in [one, two] {
        assert!(judge(&table, &made.secret).is_ok());
    }
}

#[test]
fn what_cannot_be_read_closes_and_never_opens() {
    let dir = folder();
    let dir = dir.path();
    let (one, two) = (make(dir, "one"), make(dir, "two"));
    let (line, third) = creation(3);
    let lines = [
        // Meant for the first key, whatever it was to say.
        format!("{{\"revoke\":{{\"id\":\"{}\",\"wh", one.id),
        // Named again with another secret: the first creation stands.
        line.replace(&third.to_string(), &two.id.to_string()).trim_end().to_owned(),
        // Fields of a later version may narrow the key.
        line.trim_end().replace("\"created\"", "\"only_for\":\"x\",\"created\""),
        line.trim_end().replace("ab\"", "a\""),
        line.trim_end().replace("key 3", ""),
        "null".into(),
        "\u{1}".into(),
        String::new(),
        "x".repeat(1 << 17),
        format!(r#"{{"revoke":{{"id":"{}","when":"2026-02-03T04:05:06Z"}}}}"#, KeyId::of_bits(5)),
    ];
    append(dir, format!("{}\n", lines.join("\n")).as_bytes());
    append(dir, creation(9).0.as_bytes());
    let table = load(dir);
    assert_eq!(table.bad_lines(), 9, "{:?}", table.problems());
    assert_eq!(judge(&table, &one.secret), Err(Refusal::Revoked));
    assert_eq!(judge(&table, &two.secret), Ok("two".into()));
    assert!(table.get(third).is_none());
    assert!(table.get(creation(9).1).is_some(), "lines after a bad one count");
    let places: Vec<_> = table.problems().iter().filter_map(|problem| problem.line).collect();
    assert_eq!(places, [3, 4, 5, 6, 7, 8, 9, 11, 12]);
    // A key that was revoked before it was made stays so.
    append(dir, creation(3).0.as_bytes());
    assert!(load(dir).get(third).is_none());
}

#[test]
fn a_file_that_grew_is_read_from_where_reading_stopped() {
    let dir = folder();
    let dir = dir.path();
    for number in 0..100 {
        append(dir, creation(number).0.as_bytes());
    }
    let mut follower = Follower::new(dir);
    let before = follower.load().expect("read");
    let last = before.get(creation(1).1).expect("there");
    append(dir, creation(100).0.as_bytes());
    let after = follower.look(&before).expect("seen").expect("changed");
    assert_eq!((before.len(), after.len()), (100, 101));
    let same = after.get(creation(1).1).expect("there");
    assert!(std::sync::Arc::ptr_eq(last, same), "not read again");
    assert!(follower.look(&after).expect("seen").is_none());
}

#[test]
fn a_file_that_was_replaced_is_read_again_when_it_settles() {
    let dir = folder();
    let dir = dir.path();
    append(dir, (creation(1).0 + &creation(2).0).as_bytes());
    let mut follower = Follower::new(dir);
    let mut table = follower.load().expect("read");
    let mut settle = |follower: &mut Follower, what: &str, expected: &[u64]| {
        assert!(follower.look(&table).expect("seen").is_none(), "{what}: not at once");
        table = follower.look(&table).expect("seen").unwrap_or_else(|| panic!("{what}"));
        let found = (0..10).filter(|&n| table.get(creation(n).1).is_some()).collect::<Vec<_>>();
        assert_eq!(found, expected, "{what}");
    };
    let path = dir.join(FILE);
    let aside = dir.join("aside");
    fs::write(&aside, creation(3).0 + &creation(4).0 + &creation(5).0).expect("written");
    fs::rename(&aside, &path).expect("renamed");
    settle(&mut follower, "renamed over", &[3, 4, 5]);
    fs::write(&path, creation(6).0).expect("written");
    settle(&mut follower, "shortened", &[6]);
    fs::write(&path, creation(7).0 + &creation(8).0).expect("written");
    settle(&mut follower, "longer with another beginning", &[7, 8]);
    // As Kubernetes does it: a link to a link that is replaced.
    for (version, number) in [("v1", 1), ("v2", 2)] {
        let folder = dir.join(version);
        fs::create_dir(&folder).expect("made");
        fs::write(folder.join(FILE), creation(number).0).expect("written");
        std::os::unix::fs::symlink(version, dir.join("next")).expect("linked");
        fs::rename(dir.join("next"), dir.join("data")).expect("renamed");
        if number == 1 {
            fs::remove_file(&path).expect("removed");
            std::os::unix::fs::symlink(Path::new("data").join(FILE), &path).expect("linked");
        }
        settle(&mut follower, version, &[number]);
    }
}

#[test]
fn what_was_revoked_stays_so_while_the_file_is_written_in_place() {
    let dir = folder();
    let dir = dir.path();
    let path = dir.join(FILE);
    let (one, two) = (make(dir, "one"), make(dir, "two"));
    revoke(dir, one.id, "left", NOW).expect("revoked");
    append(dir, format!("{{damaged {}}}\n", two.id).as_bytes());
    let text = fs::read_to_string(&path).expect("read");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 4);
    let mut follower = Follower::new(dir);
    let mut table = follower.load().expect("read");
    assert_eq!(judge(&table, &two.secret), Err(Refusal::Revoked), "by the damaged line");

    let mut write = |what: &str, text: &str, aside: bool, expected: [Result<&str, Refusal>; 2]| {
        let to = if aside { dir.join("aside") } else { path.clone() };
        fs::write(&to, text).expect("written");
        if aside {
            fs::rename(to, &path).expect("renamed");
        }
        // A file that grew is seen at the first look, another at the second.
        for _ in 0..2 {
            table = follower.look(&table).expect("seen").unwrap_or_else(|| table.clone());
        }
        for (made, expected) in [&one, &two].into_iter().zip(expected) {
            let found = judge(&table, &made.secret);
            assert_eq!(found, expected.map(str::to_owned), "{what}: {}", made.id);
        }
        assert_eq!(table.bad_lines(), 0, "{what}");
    };
    let (closed, open) = (Err(Refusal::Revoked), Ok("two"));
    let unknown = Err(Refusal::Unknown);
    write("it pauses before the revocation", &lines[..2].concat(), false, [closed, open]);
    write("it pauses earlier still", lines[1], false, [unknown, open]);
    write("empty", "", false, [unknown, unknown]);
    write("once more, and grown since", lines[0], false, [closed, unknown]);
    write("complete, the damaged line repaired", &lines[..3].concat(), false, [closed, open]);
    write("replaced by another file", &lines[..2].concat(), true, [Ok("one"), open]);
}

#[test]
fn a_file_that_is_gone_or_closed_changes_nothing() {
    let dir = folder();
    let dir = dir.path();
    let mut follower = Follower::new(dir);
    let nothing = follower.load().expect("no file is no keys");
    assert!(follower.look(&nothing).expect("still none").is_none());
    let made = make(dir, "one");
    assert!(follower.look(&nothing).expect("seen").is_none(), "it may be half written");
    let table = follower.look(&nothing).expect("seen").expect("changed");
    assert!(judge(&table, &made.secret).is_ok());
    let text = fs::read(dir.join(FILE)).expect("read");
    fs::remove_file(dir.join(FILE)).expect("removed");
    assert!(matches!(follower.look(&table), Err(FollowError::Gone)));
    fs::create_dir(dir.join(FILE)).expect("made");
    assert!(matches!(follower.look(&table), Ok(None) | Err(FollowError::Unreadable(_))));
    assert!(matches!(follower.look(&table), Err(FollowError::Unreadable(_))));
    fs::remove_dir(dir.join(FILE)).expect("removed");
    fs::write(dir.join(FILE), text).expect("written");
    let mut again = || follower.look(&table).expect("seen");
    assert!(again().or_else(again).is_some_and(|table| table.len() == 1));
}

#[test]
fn a_disk_that_refuses_leaves_the_file_as_it_was() {
    let dir = folder();
    let missing = create(&dir.path().join("absent"), new_key(), NOW);
    assert!(matches!(missing, Err(KeysError::Disk { .. })), "{missing:?}");
    fs::create_dir(dir.path().join("..data")).expect("made");
    let managed = create(dir.path(), new_key(), NOW);
    assert!(matches!(managed, Err(KeysError::Managed)), "{managed:?}");
    fs::remove_dir(dir.path().join("..data")).expect("removed");
    // A device that is always full stands in for a disk that is.
    if Path::new("/dev/full").exists() {
        std::os::unix::fs::symlink("/dev/full", dir.path().join(FILE)).expect("linked");
        let full = create(dir.path(), new_key(), NOW).expect_err("full");
        let said = full.to_string();
        assert!(said.contains("No space left") && said.contains("nothing was changed"), "{said}");
    }
}

fn new_key() -> NewKey {
    NewKey { name: "x".into(), ..NewKey::default() }
}

#[test]
fn writers_take_turns() {
    let dir = folder();
    let names = |writer: usize| (0..20).map(move |number| format!("{writer}-{number}"));
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let dir = dir.path();
            scope.spawn(move || names(writer).for_each(|name| drop(make(dir, &name))));
        }
    });
    let table = load(dir.path());
    assert_eq!((table.len(), table.bad_lines()), (80, 0));
}

#[test]
fn the_last_use_is_kept() {
    let dir = folder();
    let path = dir.path().join(USED_FILE);
    assert!(read_used(&path).expect("none").is_empty());
    let made = make(dir.path(), "one");
    let table = load(dir.path());
    let key = table.get(made.id).expect("there");
    assert_eq!(key.last_used(), None);
    assert!(key.use_at(NOW));
    assert!(!key.use_at(NOW) && !key.use_at(NOW - 1));
    write_used(&path, [(made.id, NOW)].into_iter()).expect("written");
    fs::File::options()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(b"{\"id\""))
        .expect("torn");
    assert_eq!(read_used(&path).expect("read"), [(made.id, NOW)].into());
}

/// In the development profile; a release build is some twenty times as fast.
#[test]
fn fifty_thousand_keys_are_read_in_seconds_and_one_more_at_once() {
    let dir = folder();
    let mut text = String::new();
    for number in 0..50_000 {
        text.push_str(&creation(number).0);
    }
    append(dir.path(), text.as_bytes());
    let mut follower = Follower::new(dir.path());
    let began = crate::clock::now();
    let table = follower.load().expect("read");
    let all = began.elapsed();
    assert_eq!((table.len(), table.bad_lines()), (50_000, 0));
    append(dir.path(), creation(50_000).0.as_bytes());
    let began = crate::clock::now();
    let table = follower.look(&table).expect("seen").expect("changed");
    let one = began.elapsed();
    assert_eq!(table.len(), 50_001);
    assert!(all < Duration::from_secs(20) && one < Duration::from_millis(250), "{all:?} {one:?}");
}

proptest! {
    #[test]
    fn an_id_reads_back(bits in any::<u64>()) {
        let id = KeyId::of_bits(bits);
        prop_assert_eq!(KeyId::parse(id.to_string().as_bytes()), Some(id));
    }

    #[test]
    fn nothing_but_an_id_is_one(text in "[a-z2-7]{0,14}|\\PC{0,14}") {
        let read = KeyId::parse(text.as_bytes()).map(|id| id.to_string());
        prop_assert!(read.is_none_or(|read| read == text));
    }

    /// Bytes cut off at any place, and any bytes after them: what was whole before is in force.
    #[test]
    fn a_torn_file_loses_nothing_that_was_whole(cut in 0_usize..900, more in proptest::collection::vec(any::<u8>(), 0..60)) {
        let dir = folder();
        let lines: Vec<_> = (0..5).map(creation).collect();
        let text: String = lines.iter().map(|(line, _)| line.as_str()).collect();
        let cut = cut.min(text.len());
        let whole = text[..cut].matches('\n').count();
        append(dir.path(), &text.as_bytes()[..cut]);
        append(dir.path(), &more);
        let table = load(dir.path());
        for (_, id) in &lines[..whole] {
            prop_assert!(table.get(*id).is_some());
        }
        make(dir.path(), "after");
        prop_assert!(load(dir.path()).iter().any(|key| key.name() == "after"));
    }
}
