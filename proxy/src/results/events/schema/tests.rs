use super::*;
use proptest::prelude::*;
use serde_json::json;

/// 2024-05-01T12:00:00Z
const NOW: i64 = 1_714_564_800_000_000;

fn parsed(body: &Value) -> Result<Vec<Event>, Problem> {
    parse(body.to_string().as_bytes(), NOW)
}

#[test]
fn one_event_or_many() {
    let one = json!({"user_id": "u", "product_id": "p", "event_type": "add_to_cart", "event_id": "e", "source": "web", "extra": 1});
    let expected = Event {
        event_id: "e".into(),
        user_id: "u".into(),
        product_id: "p".into(),
        kind: EventKind::AddToCart,
        at_micros: NOW,
        source: "web".into(),
    };
    assert_eq!(parsed(&one).unwrap(), std::slice::from_ref(&expected));
    assert_eq!(parsed(&json!([one, one])).unwrap(), [expected.clone(), expected]);
    let full: Vec<_> = (0..MAX_EVENTS).map(|_| one.clone()).collect();
    assert_eq!(parsed(&json!(full)).unwrap().len(), MAX_EVENTS);
}

#[test]
fn an_event_without_id_gets_its_own() {
    let one = json!({"user_id": "u", "product_id": "p", "event_type": "view", "event_id": null});
    let events = parsed(&json!([one, one])).unwrap();
    assert_eq!(events[0].event_id.len(), 32);
    assert_ne!(events[0].event_id, events[1].event_id);
}

#[test]
fn times() {
    let check = |value: Value, expected: Option<i64>| {
        assert_eq!(timestamp(&value, NOW).ok(), expected, "{value}");
    };
    check(json!("2024-05-01T12:00:00Z"), Some(NOW));
    check(json!("2024-05-01T14:00:00.000001+02:00"), Some(NOW + 1));
    check(json!(NOW / 1_000_000), Some(NOW));
    check(json!(NOW / 1_000), Some(NOW));
    check(json!(1_714_564_800.5), Some(NOW + 500_000));
    check(json!(0), Some(0));
    check(json!("2024-05-02T11:59:59Z"), Some(NOW + 86_399_000_000));
    check(json!("2024-05-02T12:00:01Z"), None);
    check(json!("1969-12-31T23:59:59Z"), None);
    check(json!(-1), None);
    check(json!(1e300), None);
    check(json!("yesterday"), None);
    check(json!("2024-05-01"), None);
    check(json!(true), None);
    check(json!([1]), None);
}

#[test]
fn every_fault_is_named() {
    let check = |body: Value, status: u16, expected: &[(usize, &str, &str)]| {
        let problem = parsed(&body).expect_err(&body.to_string());
        assert_eq!(problem.kind.status(), status, "{body}");
        assert_eq!(problem.errors.len(), expected.len(), "{body}: {:?}", problem.errors);
        for (error, (index, field, says)) in problem.errors.iter().zip(expected) {
            assert_eq!((error.index, error.field), (*index, *field), "{body}");
            assert!(error.message.contains(says), "{body}: {}", error.message);
        }
    };
    let good = json!({"user_id": "u", "product_id": "p", "event_type": "view"});
    check(
        json!({}),
        400,
        &[(0, "user_id", "missing"), (0, "product_id", "missing"), (0, "event_type", "missing")],
    );
    check(json!([good, 7]), 400, &[(1, "", "not a number")]);
    check(json!("x"), 400, &[(0, "", "not a string")]);
    check(json!(null), 400, &[(0, "", "not null")]);
    check(
        json!([good, {"user_id": 7, "product_id": " ", "event_type": "buy"}]),
        400,
        &[
            (1, "user_id", "must be a string, not a number"),
            (1, "product_id", "is empty"),
            (1, "event_type", "not \"buy\""),
        ],
    );
    check(
        json!({"user_id": "u", "product_id": "x".repeat(257), "event_type": "view", "event_id": "", "source": "s".repeat(65), "timestamp": "soon"}),
        400,
        &[
            (0, "product_id", "257 bytes"),
            (0, "timestamp", "RFC 3339"),
            (0, "source", "65 bytes"),
            (0, "event_id", "is empty"),
        ],
    );
    check(
        json!({"user_id": "u\0", "product_id": "p", "event_type": "view"}),
        400,
        &[(0, "user_id", "zero character")],
    );
    check(json!([]), 400, &[]);
    check(json!(vec![good; MAX_EVENTS + 1]), 413, &[]);
    let bad: Vec<_> = (0..MAX_EVENTS).map(|_| json!(1)).collect();
    let problem = parsed(&json!(bad)).unwrap_err();
    assert_eq!(problem.errors.len(), MAX_ERRORS);
    assert!(problem.detail.contains("1000 of 1000"), "{}", problem.detail);
}

#[test]
fn broken_json_is_located() {
    let check = |body: &str, says: &str| {
        let problem = parse(body.as_bytes(), NOW).expect_err(body);
        assert_eq!(problem.kind, Kind::BadJson);
        assert!(problem.detail.contains(says), "{body}: {}", problem.detail);
    };
    check("", "empty");
    check("  \n", "empty");
    check("{\"user_id\":\n  oops}", "line 2 column 3");
    check("[1,]", "line 1 column 4");
    check("{} {}", "line 1");
    check(&"[".repeat(100_000), "recursion limit");
    assert_eq!(parse(b"\"\xff\"", NOW).unwrap_err().kind, Kind::BadJson);
}

proptest! {
    #[test]
    fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&body, NOW);
    }

    #[test]
    fn a_time_that_is_taken_is_possible(number in any::<f64>()) {
        if let Ok(micros) = timestamp(&json!(number), NOW) {
            prop_assert!((0..=NOW + AHEAD_MICROS).contains(&micros));
        }
    }
}
