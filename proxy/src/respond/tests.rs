use super::*;
use crate::decision::tests::decision;
use penstock_engine::resilience::Mode;
use penstock_engine::store::StoreError;

fn answer(problem: Problem) -> (ResponseHeader, serde_json::Value) {
    let mut decision = decision();
    let reply = Reply::problem(&problem, &mut decision);
    assert_eq!(decision.problem, Some(problem.kind.slug()));
    let body = serde_json::from_slice(&reply.body).unwrap();
    (reply.header(&decision).unwrap(), body)
}

fn value<'h>(head: &'h ResponseHeader, name: &str) -> &'h str {
    head.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[test]
fn the_table_holds() {
    for kind in Kind::ALL.iter().copied() {
        let fault_fits = match kind.fault() {
            Fault::Client => (400..500).contains(&kind.status()),
            Fault::Penstock | Fault::Upstream => (500..600).contains(&kind.status()),
        };
        assert!(fault_fits, "{kind:?}");
        assert!(kind.slug().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{kind:?}");
        let same = Kind::ALL.iter().filter(|other| other.slug() == kind.slug()).count();
        assert_eq!(same, 1, "{kind:?}");
    }
}

#[test]
fn every_error_has_its_status() {
    let check = |problem: Problem, status: u16, slug: &str, retry_after: &str| {
        let (head, body) = answer(problem);
        assert_eq!(head.status, status, "{slug}");
        assert_eq!(body["type"], format!("/problems/{slug}"));
        assert_eq!(body["status"], status);
        assert_eq!(value(&head, "retry-after"), retry_after, "{slug}");
        assert_eq!(value(&head, "content-type"), "application/problem+json");
        assert_eq!(value(&head, "cache-control"), "no-store");
        let length = serde_json::to_vec(&body).unwrap().len();
        assert_eq!(value(&head, "content-length"), length.to_string());
        assert_eq!(body["trace_id"], value(&head, "x-trace-id"));
        assert!(body["detail"].as_str().unwrap().len() > 3, "{slug}");
    };
    let q = BadParameter { parameter: "q", detail: "q is missing".into() };
    check(q.into(), 400, "bad-parameter", "");
    check(Refused::Path("the id cannot be read".into()).into(), 400, "bad-path", "");
    check(EngineError::BadAsk("no terms".into()).into(), 400, "bad-parameter", "");
    check(EngineError::UnknownProduct("p".into()).into(), 404, "unknown-product", "");
    check(EngineError::NotReady("empty".into()).into(), 503, "not-ready", "5");
    let after = |millis| EngineError::Overloaded { retry_after: Duration::from_millis(millis) };
    check(after(1).into(), 503, "overloaded", "1");
    check(after(0).into(), 503, "overloaded", "1");
    check(after(1_001).into(), 503, "overloaded", "2");
    let store = EngineError::Store(StoreError::Unavailable("disk".into()));
    check(store.into(), 503, "store-unavailable", "5");
    let full = EngineError::Store(StoreError::Full("1 GiB waits".into()));
    check(full.into(), 503, "store-full", "15");
}

#[test]
fn what_broke_inside_is_told_inside() {
    let store = StoreError::Unavailable("/var/lib/penstock/store.sqlite: disk I/O error".into());
    for error in [
        EngineError::Store(store),
        EngineError::NotReady("/var/lib/penstock/store.sqlite: permission denied".into()),
    ] {
        let text = error.to_string();
        let mut decision = decision();
        let reply = Reply::problem(&error.into(), &mut decision);
        let body = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(!body.contains("sqlite"), "{body}");
        assert_eq!(decision.error, Some(text));
    }
}

#[test]
fn a_refused_method_says_what_is_allowed() {
    let (head, body) = answer(Refused::Method { allow: "GET" }.into());
    assert_eq!((head.status.as_u16(), value(&head, "allow")), (405, "GET"));
    assert_eq!(body["fault"], "client");
}

#[test]
fn the_parameter_and_the_items_at_fault_are_named() {
    let (_, body) = answer(BadParameter { parameter: "k", detail: "k is odd".into() }.into());
    assert_eq!(body["parameter"], "k");
    assert!(body.get("errors").is_none());
    let mut problem = Problem::new(Kind::InvalidEvents, "1 of 2");
    problem.errors.push(ItemError { index: 1, field: "user_id", message: "is missing".into() });
    let (_, body) = answer(problem);
    assert_eq!(
        body["errors"],
        serde_json::json!([{"index": 1, "field": "user_id", "message": "is missing"}])
    );
}

#[test]
fn the_decision_is_in_the_headers() {
    let mut decision = decision();
    let head = Reply::json(200, &[1]).header(&decision).unwrap();
    assert_eq!(value(&head, "x-cache"), "bypass");
    assert_eq!(value(&head, "x-policy-version"), "builtin");
    assert_eq!(value(&head, "x-trace-id"), decision.trace.trace_id.to_string());
    assert_eq!(value(&head, "x-penstock-mode"), "");
    assert_eq!(value(&head, "content-length"), "3");
    assert_eq!(value(&head, "cache-control"), "private, no-cache");
    decision.mode = Some(Mode::KeywordOnly);
    let head = Reply::json(200, &[1]).header(&decision).unwrap();
    assert_eq!(value(&head, "x-penstock-mode"), "keyword_only");
}

#[test]
fn options_has_no_body() {
    let head = Reply::options("GET").header(&decision()).unwrap();
    assert_eq!((head.status.as_u16(), value(&head, "allow")), (204, "GET"));
    assert!(!head.headers.contains_key("content-length"));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up() {
    let stuck = in_time(Duration::from_millis(10), std::future::pending()).await.unwrap_err();
    assert_eq!((stuck.esource().as_str(), stuck.etype().as_str()), ("Downstream", "WriteTimedout"));
    assert!(in_time(Duration::from_secs(10), async { Ok(()) }).await.is_ok());
}
