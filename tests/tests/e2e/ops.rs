//! The operations listener.

use penstock_tests::{Penstock, Shop, Upstream, until};
use std::time::Duration;

/// Fails the test unless `text` is Prometheus' text format, line by line.
fn assert_prometheus(text: &str) {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
    };
    assert!(text.ends_with('\n'));
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name, rest) = (words.next(), words.next(), words.next());
            assert!(name.is_some_and(is_name), "{line}");
            match kind {
                Some("HELP") => assert!(rest.is_some_and(|help| !help.is_empty()), "{line}"),
                Some("TYPE") => assert!(
                    matches!(rest, Some("counter" | "gauge" | "histogram" | "summary" | "untyped")),
                    "{line}"
                ),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let number = value.trim_start_matches('+').replace("Inf", "inf");
        assert!(number.parse::<f64>().is_ok(), "{line}");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        assert!(is_name(name), "{line}");
        assert!(labels.ends_with('}'), "{line}");
        let labels = labels.trim_end_matches('}');
        if !labels.is_empty() {
            assert!(labels.contains("=\"") && labels.ends_with('"'), "{line}");
        }
    }
}

#[tokio::test]
async fn probes_say_alive_and_ready() {
    let penstock = Penstock::demo().await;
    penstock.ops("/livez").await.expect(200);
    penstock.ops("/readyz").await.expect(200);
    penstock.get("/health").await.expect(200);
    penstock.ops("/no-such-page").await.expect(404);
    // What operators read is not for traffic.
    for path in ["/metrics", "/status", "/livez", "/readyz"] {
        penstock.get(path).await.expect(404);
    }
}

#[tokio::test]
async fn metrics_are_prometheus_text_and_count() {
    let penstock = Penstock::demo().await;
    for _ in 0..5 {
        penstock.items("/popular").await;
        penstock.get("/search").await.expect(400);
    }
    let reply = penstock.ops("/metrics").await.expect(200);
    assert!(reply.header("content-type").starts_with("text/plain"));
    let text = String::from_utf8(reply.body.to_vec()).unwrap();
    assert_prometheus(&text);
    assert!(text.contains("penstock_"), "{text}");
}

#[tokio::test]
async fn status_says_what_runs() {
    let penstock = Penstock::demo().await;
    let status = penstock.status().await;
    let text = status.to_string();
    let version = penstock.get("/popular").await.header("x-policy-version").to_owned();
    assert!(text.contains(&version), "{status:#}");
    let index = penstock.shop.current_index();
    let index = index.file_name().unwrap().to_str().unwrap();
    assert!(text.contains(index), "{status:#}");
    assert!(text.contains(&penstock_tests::shop::DEMO_PRODUCTS.to_string()), "{status:#}");
}

#[tokio::test]
async fn a_decision_can_be_fetched_by_its_trace_id() {
    let penstock = Penstock::demo().await;
    let reply = penstock.get("/popular?k=3").await.expect(200);
    let trace = reply.header("x-trace-id");
    // It is written down once the answer is out.
    let decision = until("the decision", Duration::from_secs(5), async || {
        let kept = penstock.ops(&format!("/decisions/{trace}")).await;
        (kept.status == 200).then(|| kept.json())
    })
    .await;
    let text = decision.to_string();
    for part in [trace, reply.header("x-policy-version"), reply.header("x-penstock-mode")] {
        assert!(text.contains(part), "{part} in {decision:#}");
    }
    penstock.ops("/decisions/00000000000000000000000000000001").await.expect(404);
}

#[tokio::test]
async fn every_request_leaves_one_line_of_json_in_the_access_log() {
    let penstock = Penstock::over(Shop::empty()).start().await;
    let mut traces = Vec::new();
    for path in ["/popular", "/search", "/nowhere"] {
        let reply = penstock.get(path).await;
        traces.push((path, reply.status, reply.header("x-trace-id").to_owned()));
    }
    for (path, status, trace) in traces {
        let line = until(path, Duration::from_secs(5), async || {
            let logs = penstock.logs();
            let line = logs.lines().find(|line| line.contains(&trace));
            line.map(str::to_owned)
        })
        .await;
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let text = line.to_string();
        assert!(text.contains(&status.to_string()) && text.contains(path), "{line:#}");
    }
}

#[tokio::test]
async fn parameters_of_the_application_are_written_down_without_their_values() {
    let upstream = Upstream::http1().await;
    let penstock = Penstock::before(&[upstream.address]).await;
    let ours = penstock.get("/popular?k=7").await.header("x-trace-id").to_owned();
    let theirs = penstock.get("/reset?token=s3cret&next=1").await.header("x-trace-id").to_owned();
    for (trace, target) in [(&ours, "/popular?k=7"), (&theirs, "/reset?token=*&next=*")] {
        until(target, Duration::from_secs(5), async || {
            penstock.logs().contains(trace.as_str()).then_some(())
        })
        .await;
        let decision = penstock.ops(&format!("/decisions/{trace}")).await.expect(200).json();
        assert_eq!(decision[0]["target"], target);
    }
    assert!(!penstock.logs().contains("s3cret"), "{}", penstock.logs());
    assert_eq!(upstream.only_request().uri, "/reset?token=s3cret&next=1");
}
