use super::*;
use http::HeaderValue;
use penstock_config::clock::Stepped;
use penstock_config::keys::{FILE, NewKey, create, revoke};
use std::net::Ipv4Addr;

const NOW: i64 = 1_770_091_506;

struct House {
    folder: tempfile::TempDir,
    clock: Arc<Stepped>,
}

impl House {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: Stepped::at(NOW * 1_000_000) }
    }

    fn open(&self) -> Keys {
        Keys::open(self.folder.path(), self.folder.path(), self.clock.clone())
    }

    /// A key that expires in `seconds`: its id and its text.
    fn make(&self, seconds: Option<i64>) -> (KeyId, String) {
        let expires = seconds.map(|seconds| NOW + seconds);
        let new = NewKey { name: "shop".into(), expires, ..NewKey::default() };
        let made = create(self.folder.path(), new, NOW).unwrap();
        (made.id, made.secret)
    }
}

fn judge(keys: &Keys, text: &str) -> Credential {
    let mut headers = HeaderMap::new();
    headers.append("x-api-key", HeaderValue::from_bytes(text.as_bytes()).unwrap());
    keys.judge(&headers, true, IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn why(keys: &Keys, text: &str) -> Option<Why> {
    match judge(keys, text) {
        Credential::Refused(refused) => Some(refused.why),
        Credential::Valid(_) => None,
        Credential::None => panic!("a key was presented"),
    }
}

#[test]
fn what_a_key_is_worth() {
    let house = House::new();
    let (id, good) = house.make(None);
    let (_, short_lived) = house.make(Some(10));
    let keys = house.open();
    assert!(matches!(judge(&keys, &good), Credential::Valid(key) if key.id() == id));
    for (text, expected) in [
        (good.as_str(), None),
        (&short_lived, None),
        ("", Some(Why::Malformed)),
        ("psk_", Some(Why::Malformed)),
        (&good[..good.len() - 1], Some(Why::Malformed)),
        (&good.replace(&id.to_string(), "aaaaaaaaaaaa"), Some(Why::Unknown)),
        (&format!("{}{}", &good[..17], &short_lived[17..]), Some(Why::WrongSecret)),
    ] {
        assert_eq!(why(&keys, text), expected, "{text}");
    }
    house.clock.step(Duration::from_secs(10));
    assert_eq!(why(&keys, &short_lived), Some(Why::Expired));
    revoke(house.folder.path(), id, "", NOW).unwrap();
    assert_eq!(why(&keys, &good), None, "not read yet");
    keys.look();
    assert_eq!(why(&keys, &good), Some(Why::Revoked));
    let nobody = keys.judge(&HeaderMap::new(), true, IpAddr::V4(Ipv4Addr::LOCALHOST));
    assert_eq!(nobody, Credential::None);
}

#[test]
fn who_guesses_learns_nothing() {
    let said = |why| {
        let problem = RefusedKey::of(why).problem();
        (problem.kind.status(), problem.detail)
    };
    assert_eq!(said(Why::Unknown), said(Why::WrongSecret));
    assert_eq!(said(Why::Unknown).0, 401);
    assert_eq!(said(Why::Network).0, 403);
    let house = House::new();
    let (_, good) = house.make(None);
    let keys = house.open();
    let Credential::Valid(key) = judge(&keys, &good) else { panic!("it is good") };
    let shown = format!("{key:?} {} {keys:?}", serde_json::to_string(&key).unwrap());
    assert!(shown.contains("shop") && !shown.contains(&good[18..]), "{shown}");
}

#[test]
fn a_file_that_is_gone_is_told_and_changes_nothing() {
    let house = House::new();
    let (_, good) = house.make(None);
    let keys = house.open();
    std::fs::remove_file(house.folder.path().join(FILE)).unwrap();
    keys.look();
    assert_eq!(why(&keys, &good), None);
    let status = keys.status();
    assert!(status.error.is_some_and(|error| error.contains("is gone")));
    assert_eq!(status.keys, 1);
    let (_, other) = house.make(None);
    keys.look();
    keys.look();
    assert_eq!(why(&keys, &other), None);
    assert_eq!(keys.status().error, None);
}

#[test]
fn the_last_use_survives_a_changed_file_and_a_restart() {
    let house = House::new();
    let (id, good) = house.make(None);
    let keys = house.open();
    let last_used = |keys: &Keys| keys.table.load().get(id).unwrap().last_used();
    assert_eq!(last_used(&keys), None);
    house.clock.step(Duration::from_secs(5));
    assert_eq!(why(&keys, &good), None);
    let path = house.folder.path().join(FILE);
    let text = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, [&b"\n"[..], &text].concat()).unwrap();
    keys.look();
    keys.look();
    assert_eq!(last_used(&keys), Some(NOW + 5));
    keys.write_used();
    let written = std::fs::metadata(house.folder.path().join(USED_FILE)).unwrap();
    keys.write_used();
    let again = std::fs::metadata(house.folder.path().join(USED_FILE)).unwrap();
    assert_eq!(written.modified().unwrap(), again.modified().unwrap(), "nothing changed");
    assert_eq!(last_used(&house.open()), Some(NOW + 5));
}
