use super::*;
use crate::results::Body;
use penstock_engine::serve::Answer;
use std::sync::Arc;

/// A decision about `GET /search?q=mug` from 1.2.3.4, as a test's starting point.
pub(crate) fn decision() -> Decision {
    let address = "1.2.3.4".parse().unwrap();
    Decision {
        client: Client::at(address),
        method: "GET".into(),
        target: "/search?q=mug".into(),
        host: "shop.example".into(),
        protocol: "HTTP/1.1",
        route: Endpoint::Search,
        status: 200,
        bytes_sent: 2,
        duration_micros: 150,
        ..Decision::begin(Trace::begin(1.0), 1_700_000_000_123_456, "builtin".into())
    }
}

#[test]
fn serialises_what_was_decided_and_leaves_out_what_was_not() {
    let mut decision = decision();
    decision.stage("route", Duration::from_micros(3));
    let json = serde_json::to_value(&decision).unwrap();
    assert_eq!(json["time"], "2023-11-14T22:13:20.123456Z");
    assert_eq!(json["trace_id"], decision.trace.trace_id.to_string());
    assert_eq!(json["client"]["address"], "1.2.3.4");
    assert_eq!(json["route"], "search");
    assert_eq!(json["verdicts"], serde_json::json!([]));
    assert_eq!(json["cache"]["outcome"], "bypass");
    assert_eq!(json["stages"], serde_json::json!([{"name": "route", "micros": 3}]));
    for absent in ["mode", "upstream", "problem", "error", "parent_span_id", "index_version"] {
        assert!(json.get(absent).is_none(), "{absent}");
    }
}

#[test]
fn takes_over_the_engines_part() {
    let mut decision = decision();
    let mut answer = Answer { mode: Mode::KeywordOnly, ..Answer::default() };
    answer.trace.index_version = "v7".into();
    answer.trace.degraded = vec!["no vectors".into()];
    answer.trace.stages = vec![penstock_engine::serve::Stage { name: "rank", micros: 9 }];
    let body = Body::of(&answer, bytes::Bytes::from_static(b"[]"));
    let cache = Cache { outcome: CacheOutcome::Miss, why: "" };
    let trace = Some(Arc::new(answer.trace));
    let mut served = Served { body, cache, trace, stale: false };
    decision.answered(&served);
    let json = serde_json::to_value(&decision).unwrap();
    assert_eq!(json["mode"], "keyword_only");
    assert_eq!(json["index_version"], "v7");
    assert_eq!(json["degraded"], serde_json::json!(["no vectors"]));
    assert_eq!(json["stages"], serde_json::json!([{"name": "engine_rank", "micros": 9}]));
    assert_eq!(json["results"], 0);
    assert_eq!(json["cache"], serde_json::json!({"outcome": "miss"}));

    // What is past its life is so whatever it was made as.
    served.stale = true;
    decision.answered(&served);
    assert_eq!(decision.mode, Some(Mode::Stale));
}

#[test]
fn text_is_bounded_and_never_broken() {
    assert_eq!(bounded_text(b"/a?b"), "/a?b");
    assert_eq!(bounded_text(b"/\xff"), "/\u{fffd}");
    let long = bounded_text("x".repeat(100_000).as_bytes());
    assert_eq!(long.chars().count(), MAX_TEXT_BYTES + 1);
    assert!(long.ends_with('…'));
}

#[test]
fn the_ring_keeps_the_latest_and_finds_by_trace() {
    let ring = Ring::new(2);
    let records: Vec<_> = (0..3).map(|_| Arc::new(decision())).collect();
    for record in &records {
        ring.push(record.clone());
    }
    let found = |at: usize| ring.find(records[at].trace.trace_id).len();
    assert_eq!((found(0), found(1), found(2)), (0, 1, 1));
}

#[test]
fn requests_of_one_trace_come_in_their_order() {
    let ring = Ring::new(8);
    let first = decision();
    let mut second = first.clone();
    second.began_unix_micros += 1;
    ring.push(Arc::new(second.clone()));
    ring.push(Arc::new(first.clone()));
    let times: Vec<_> =
        ring.find(first.trace.trace_id).iter().map(|d| d.began_unix_micros).collect();
    assert_eq!(times, [first.began_unix_micros, second.began_unix_micros]);
}

#[test]
fn values_of_the_applications_parameters_are_masked() {
    let check = |target: &str, expected: &str| {
        assert_eq!(masked_target(target.as_bytes()), expected, "{target}");
    };
    check("/cart", "/cart");
    check("/reset?token=s3cret&user=7", "/reset?token=*&user=*");
    check("/reset?token=a=b;c=d&flag&e=", "/reset?token=*&c=*&flag&e=*");
    check("/?", "/?");
    check("/?=s3cret?more=1", "/?=*");
    check("http://shop.example/a?b=c", "http://shop.example/a?b=*");
    check("*", "*");
}

#[test]
fn keys_are_not_kept() {
    let check = |text: &str, kept: &str| assert_eq!(super::without_keys(text), kept);
    check("/popular?k=1", "/popular?k=1");
    check("/popular?key=psk_abc_0123&k=1", "/popular?key=psk_*&k=1");
    check("/search?q=psk_a+psk_b", "/search?q=psk_*+psk_*");
    check("", "");
}
