//! Redis Cluster.

use super::subscription::{message, next};
use super::{NO_ARGS, PATIENCE, connected, patient};
use penstock_engine::redis::{Event, Link, Script, cmd};
use penstock_tests::wait::until_true;
use penstock_tests::{RedisCluster, RedisServer};

const COUNT: &str = "return redis.call('INCR', KEYS[1]) + redis.call('INCR', KEYS[2])";

/// Runs the script for a hundred clients, whose keys are everywhere; how many succeeded.
async fn count_everywhere(link: &Link, script: &Script) -> usize {
    let mut succeeded = 0;
    for client in 0..100 {
        let keys = [link.key(&format!("{{{client}}}:a")), link.key(&format!("{{{client}}}:b"))];
        let counted = link.script::<u64, _>(&patient(), script, &keys, NO_ARGS).await;
        succeeded += usize::from(counted.is_ok());
    }
    succeeded
}

fn keys_of(nodes: &[RedisServer]) -> Vec<usize> {
    nodes.iter().map(|node| node.ask(&["DBSIZE"]).parse().expect("a number")).collect()
}

#[tokio::test]
async fn keys_go_where_they_belong_and_follow_their_slots() {
    let cluster = RedisCluster::start(3).await;
    let link = connected(&cluster.url()).await;
    let script = Script::new(COUNT);
    assert_eq!(count_everywhere(&link, &script).await, 100);
    let keys = keys_of(&cluster.masters);
    assert_eq!(keys.iter().sum::<usize>(), 200);
    assert!(keys.iter().all(|keys| *keys > 0), "{keys:?}");
    // A slot moves to another node: who asks the old one is sent on.
    let tag = "somebody";
    let slot = cluster.masters[0].ask(&["CLUSTER", "KEYSLOT", tag]);
    let owner = slot.parse::<usize>().expect("a number") * 3 / 16_384;
    let id = cluster.masters[(owner + 1) % 3].ask(&["CLUSTER", "MYID"]);
    let new_first = (0..3).map(|at| (owner + 1 + at) % 3);
    for at in new_first {
        let moved = cluster.masters[at].ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]);
        assert_eq!(moved, "OK");
    }
    let keys = [link.key("{somebody}:a"), link.key("{somebody}:b")];
    let counted: u64 = link.script(&patient(), &script, &keys, NO_ARGS).await.expect("sent on");
    assert_eq!(counted, 2);
    let status = link.status();
    assert_eq!((status.kind, status.server.as_deref()), ("cluster", Some("the cluster")));
}

#[tokio::test]
async fn a_dead_master_is_replaced_and_the_others_serve_on() {
    let mut cluster = RedisCluster::with_replicas(3).await;
    let link = connected(&cluster.url()).await;
    let mut subscription = link.subscribe("news");
    assert_eq!(next(&mut subscription).await, Event::Resubscribed);
    let script = Script::new(COUNT);
    assert_eq!(count_everywhere(&link, &script).await, 100);
    cluster.masters[1].kill();
    cluster.wait_failover(1).await;
    until_true("every key works again", PATIENCE, async || {
        count_everywhere(&link, &script).await == 100
    })
    .await;
    // Published anywhere, heard everywhere.
    until_true("the channel works", PATIENCE, async || {
        let published = link.publish(&patient(), "news", b"x").await;
        published.is_ok()
    })
    .await;
    let heard = loop {
        match next(&mut subscription).await {
            Event::Message(text) => break Event::Message(text),
            Event::Interrupted | Event::Resubscribed => {
                let _ = link.publish(&patient(), "news", b"x").await;
            }
        }
    };
    assert_eq!(heard, message("x"));
}

#[tokio::test]
async fn a_frozen_master_is_replaced_too() {
    let cluster = RedisCluster::with_replicas(3).await;
    let link = connected(&cluster.url()).await;
    let script = Script::new(COUNT);
    assert_eq!(count_everywhere(&link, &script).await, 100);
    cluster.masters[2].freeze();
    until_true("the replica takes over", PATIENCE, async || {
        cluster.replicas[2].ask(&["ROLE"]).contains("master")
    })
    .await;
    let quick = super::policy();
    until_true("every key works again", PATIENCE, async || {
        let mut all = true;
        for client in 0..30 {
            let key = link.key(&format!("{{{client}}}:a"));
            all &= link.call::<u64>(&quick, cmd("INCR").arg(key)).await.is_ok();
        }
        all
    })
    .await;
    cluster.masters[2].thaw();
}

#[tokio::test]
async fn a_cluster_that_is_gone_comes_back() {
    let mut cluster = RedisCluster::start(3).await;
    let link = connected(&cluster.url()).await;
    for master in &mut cluster.masters {
        master.kill();
    }
    super::trouble(&link, "not_connected").await;
    for master in &mut cluster.masters {
        master.restart().await;
    }
    super::recovered(&link).await;
}
