use super::*;
use crate::clock;
use crate::policy::Policy;
use crate::publish::history;

fn entry(list: List, target: &str) -> Entry {
    let target = Target::parse(target).expect("a target");
    Entry { list, target, reason: String::new(), expires: None }
}

fn put(list: List, target: &str) -> Change {
    Change::Put(entry(list, target))
}

/// What the policy makes of a text: `deny 10.0.0.0/8`, …
fn entries(text: &str) -> Vec<String> {
    let files = FileSet::of([(FILE, text)]);
    let (policy, _) = Policy::from_files(&files).unwrap_or_else(|problems| panic!("{problems}"));
    let shown = |entry: &Entry| format!("{} {}", entry.list.name(), entry.target);
    policy.access.entries.iter().map(shown).collect()
}

#[test]
fn changes_leave_everything_else_as_it_was() {
    const TEXT: &str = "\
# Ours.

[[deny]] # the first
address = \"10.0.0.0/8\"
reason = \"a\" # why

# The second.
[[deny]]
address = '10.1.0.0/16'
expires = 2026-01-01T00:00:00Z

[[allow]]
key = \"abcdefghij27\"
# The end.
";
    let check = |change: Change, gone: usize, expected: &[&str]| {
        let (text, found) = edit(TEXT, &change).expect("edited");
        assert_eq!(
            (found, entries(&text)),
            (gone, expected.iter().map(|&e| e.into()).collect()),
            "{text}"
        );
        for comment in ["# Ours.", "# the first", "# why", "# The end."] {
            assert!(text.contains(comment), "{comment}: {text}");
        }
        text
    };
    let rest = ["deny 10.0.0.0/8", "deny 10.1.0.0/16"];
    check(
        put(List::Allow, "192.0.2.1"),
        0,
        &["allow abcdefghij27", "allow 192.0.2.1", rest[0], rest[1]],
    );
    check(
        put(List::Allow, "10.1.2.3/16"),
        1,
        &["allow abcdefghij27", "allow 10.1.0.0/16", rest[0]],
    );
    check(put(List::Deny, "abcdefghij27"), 1, &[rest[0], rest[1], "deny abcdefghij27"]);
    check(
        Change::Remove(Target::parse("::ffff:10.1.0.0/112").expect("a network")),
        1,
        &["allow abcdefghij27", rest[0]],
    );
    check(Change::Prune(1_767_225_600), 1, &["allow abcdefghij27", rest[0]]);
    assert_eq!(
        check(Change::Prune(1_767_225_599), 0, &["allow abcdefghij27", rest[0], rest[1]]),
        TEXT
    );
}

#[test]
fn a_file_of_comments_takes_its_first_entry() {
    for (text, comment) in [("", ""), ("# Ours.\n", "# Ours."), ("\n# Ours.", "# Ours.")] {
        let (text, _) = edit(text, &put(List::Deny, "10.0.0.0/8")).expect("edited");
        assert!(text.starts_with(comment) || text.trim_start().starts_with(comment), "{text:?}");
        assert_eq!(entries(&text), ["deny 10.0.0.0/8"]);
        let (text, _) = edit(&text, &put(List::Deny, "10.0.0.1")).expect("edited");
        assert_eq!(entries(&text), ["deny 10.0.0.0/8", "deny 10.0.0.1"], "{text}");
    }
    let inline = "deny = [{ address = \"10.0.0.0/8\" }]\n";
    let (text, _) = edit(inline, &put(List::Deny, "10.0.0.1")).expect("edited");
    assert_eq!(entries(&text), ["deny 10.0.0.0/8", "deny 10.0.0.1"], "{text}");
    let mut full = entry(List::Deny, "2001:db8::/32");
    full.reason = "a \"quoted\"\nreason".into();
    full.expires = Some(1_770_091_506);
    let (text, _) = edit("", &Change::Put(full.clone())).expect("edited");
    let files = FileSet::of([(FILE, text.as_str())]);
    let (policy, _) = Policy::from_files(&files).expect("valid");
    assert_eq!(policy.access.entries, [full]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let check = |text: &str, change: &Change, expected: &str| {
        let error = edit(text, change).expect_err(expected).to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    };
    let add = put(List::Deny, "10.0.0.1");
    check("[[deny]", &add, "not valid");
    check("deny = 1", &add, "deny is not a list");
    check("", &Change::Remove(add_target()), "neither list has 10.0.0.1");
    for (text, expected) in [("shop", "no address"), ("psk_abcdefghij27_00", "12 characters after")]
    {
        let error = Target::parse(text).expect_err("refused");
        assert!(error.contains(expected), "{error}");
    }
}

fn add_target() -> Target {
    Target::parse("10.0.0.1").expect("an address")
}

#[test]
fn a_change_is_a_publication() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    crate::policy::install_defaults(dir).expect("installed");
    let clock = clock::system();
    let (gone, first) =
        change(dir, &put(List::Deny, "10.0.0.1"), "me", "scraper", &*clock).expect("published");
    assert_eq!(gone, 0);
    assert_ne!(first.version, first.previous);
    let (policy, _) = Policy::load(dir).expect("valid");
    assert_eq!((policy.version, policy.access.entries.len()), (first.version.clone(), 1));
    let newest = history(dir).remove(0);
    assert_eq!((newest.who.as_str(), newest.why.as_str()), ("me", "scraper"));
    let text = std::fs::read_to_string(dir.join(FILE)).expect("read");
    assert!(text.starts_with("# access.toml"), "{text}");
    let (gone, _) =
        change(dir, &Change::Remove(add_target()), "me", "", &*clock).expect("published");
    assert_eq!(gone, 1);
    let (policy, _) = Policy::load(dir).expect("valid");
    assert!(policy.access.entries.is_empty());
}

#[test]
fn an_entry_has_a_form_in_json() {
    let check = |json: &str, expected: Result<&str, &str>| {
        let read = serde_json::from_str::<Entry>(json);
        match (read, expected) {
            (Ok(entry), Ok(expected)) => {
                assert_eq!(serde_json::to_string(&entry).expect("written"), expected);
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("{json}: {found:?}, expected {expected:?}"),
        }
    };
    let plain = r#"{"list":"deny","address":"10.0.0.0/8"}"#;
    check(plain, Ok(plain));
    check(
        r#"{"list":"deny","address":"::ffff:10.0.0.1"}"#,
        Ok(r#"{"list":"deny","address":"10.0.0.1"}"#),
    );
    let full =
        r#"{"list":"allow","key":"abcdefghij27","reason":"r","expires":"2026-02-03T04:05:06Z"}"#;
    check(full, Ok(full));
    check(r#"{"list":"deny"}"#, Err("either an address or a key"));
    check(r#"{"list":"deny","address":"x"}"#, Err("not a network"));
    check(r#"{"list":"deny","adress":"10.0.0.1"}"#, Err("unknown field"));
}
