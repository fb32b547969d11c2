//! Calls, pipelines, scripts; one healthy server.

use super::{NO_ARGS, connected, link, patient, policy, recovered, settings, trouble};
use penstock_config::clock;
use penstock_engine::redis::{Link, Script, Trouble, Value, cmd, pipe};
use penstock_engine::resilience::breaker::{Forced, State, Trip};
use penstock_tests::RedisServer;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn commands_and_pipelines_are_answered_in_their_type() {
    let server = RedisServer::start().await;
    let link = connected(&server.url()).await;
    let key = link.key("a");
    assert_eq!(key, "test:a");
    let set: () = link.call(&patient(), cmd("SET").arg(&key).arg(7)).await.expect("set");
    assert_eq!(set, ());
    let got: Option<u64> = link.call(&patient(), cmd("GET").arg(&key)).await.expect("got");
    assert_eq!(got, Some(7));
    let none: Option<u64> =
        link.call(&patient(), cmd("GET").arg(link.key("b"))).await.expect("asked");
    assert_eq!(none, None);
    let mut both = pipe();
    both.cmd("INCR").arg(&key).cmd("APPEND").arg(link.key("c")).arg("xyz");
    let both: (u64, u64) = link.pipeline(&patient(), &both).await.expect("answered");
    assert_eq!(both, (8, 3));
    assert_eq!(server.ask(&["GET", "test:a"]), "8");
    let status = link.status();
    assert_eq!((status.kind, status.address), ("single", server.url()));
    assert_eq!(status.server, Some(server.address.to_string()));
    assert_eq!((status.calls[0], status.connects), (("ok", 4), 1));
}

#[tokio::test]
async fn a_fault_of_ours_is_not_held_against_redis() {
    let server = RedisServer::start().await;
    let link = connected(&server.url()).await;
    let key = link.key("a");
    let _: () = link.call(&patient(), cmd("SET").arg(&key).arg("text")).await.expect("set");
    let broken = Script::new("return redis.call('INCR', KEYS[1])");
    let own_code = Script::new("return redis.error_reply('MYCODE no')");
    for _ in 0..10 {
        let rejected = [
            link.call::<u64>(&patient(), cmd("INCR").arg(&key)).await.map(|_| ()),
            link.call::<u64>(&patient(), cmd("LPUSH").arg(&key).arg(1)).await.map(|_| ()),
            link.call::<u64>(&patient(), cmd("NOSUCH").arg(&key)).await.map(|_| ()),
            link.call::<u64>(&patient(), cmd("GET").arg(&key)).await.map(|_| ()),
            link.script::<u64, _>(&patient(), &broken, &[&key], NO_ARGS).await.map(|_| ()),
            link.script::<u64, _>(&patient(), &own_code, &[&key], NO_ARGS).await.map(|_| ()),
        ];
        for result in rejected {
            let trouble = result.expect_err("it makes no sense");
            assert!(matches!(trouble, Trouble::Rejected(_)), "{trouble:?}");
            assert!(!trouble.is_its_fault());
        }
    }
    let status = link.status();
    assert_eq!((status.breaker.state, status.breaker.counts.failures), (State::Closed, 0));
}

#[tokio::test]
async fn a_script_costs_one_round_trip_and_survives_being_forgotten() {
    let mut server = RedisServer::start().await;
    let link = connected(&server.url()).await;
    let script = Script::new("return {redis.call('INCRBY', KEYS[1], ARGV[1]), ARGV[2]}");
    let keys = [link.key("{a}:n")];
    let run = async || {
        let args = (2, "x");
        link.script::<(u64, String), _>(&patient(), &script, &keys, args).await.expect("it runs")
    };
    for call in 1..=10 {
        assert_eq!(run().await, (2 * call, "x".to_owned()));
    }
    let calls = |name: &str| {
        let stats = server.ask(&["INFO", "commandstats"]);
        let line = stats.lines().find_map(|line| {
            line.strip_prefix(&format!("cmdstat_{name}:calls=")).map(str::to_owned)
        });
        line.and_then(|line| line.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    assert_eq!((calls("evalsha"), calls("eval")), (10, 1));
    server.ask(&["SCRIPT", "FLUSH"]);
    assert_eq!(run().await, (22, "x".to_owned()));
    server.restart().await;
    recovered(&link).await;
    assert_eq!(run().await, (2, "x".to_owned()));
}

#[tokio::test]
async fn callers_may_be_on_any_runtime_and_there_may_be_many() {
    let server = RedisServer::start().await;
    let link = Arc::new(connected(&server.url()).await);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let link = Arc::clone(&link);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(async {
                    let calls = (0..500).map(|_| {
                        let link = Arc::clone(&link);
                        tokio::spawn(async move {
                            let key = link.key("n");
                            link.call::<u64>(&patient(), cmd("INCR").arg(key))
                                .await
                                .expect("counted")
                        })
                    });
                    for call in calls.collect::<Vec<_>>() {
                        call.await.expect("it does not panic");
                    }
                });
            })
        })
        .collect();
    tokio::task::spawn_blocking(move || {
        for thread in threads {
            thread.join().expect("it does not panic");
        }
    })
    .await
    .expect("joined");
    assert_eq!(server.ask(&["GET", "test:n"]), "2000");
    let clients = server.ask(&["CLIENT", "LIST", "TYPE", "normal"]);
    assert_eq!(clients.lines().filter(|line| line.contains("flags=N")).count(), 2, "{clients}");
}

#[tokio::test]
async fn an_operator_can_take_redis_away() {
    let server = RedisServer::start().await;
    let link = connected(&server.url()).await;
    link.breaker().force(Some(Forced::Open));
    let refused = trouble(&link, "open").await;
    assert!(matches!(refused, Trouble::Open { trip: Trip::Forced, .. }), "{refused:?}");
    assert_eq!(link.counters().open.load(Ordering::Relaxed), 1);
    link.breaker().force(None);
    super::ping(&link).await.expect("given back");
}

#[tokio::test]
async fn callers_who_go_away_are_not_held_against_redis() {
    let server = RedisServer::start().await;
    let link = connected(&server.url()).await;
    server.freeze();
    for _ in 0..20 {
        let mut policy = policy();
        policy.redis.timeout = std::time::Duration::from_secs(10);
        let ping = cmd("PING");
        let call = link.call::<Value>(&policy, &ping);
        let left = tokio::time::timeout(std::time::Duration::from_millis(1), call).await;
        assert!(left.is_err());
    }
    assert_eq!(link.breaker().state(), State::Closed);
    server.thaw();
}

#[test]
fn a_link_needs_no_runtime_and_no_redis_to_be_made_and_dropped() {
    let link = link("redis://127.0.0.1:1");
    let shown = format!("{link:?}");
    assert!(shown.contains("Link"), "{shown}");
    drop(link);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        drop(Link::new(settings("redis://127.0.0.1:1"), clock::system()));
    });
}
