//! Channels that survive what happens to Redis, and tell.

use super::{PATIENCE, connected, link, patient, recovered};
use penstock_engine::redis::{Event, Subscription};
use penstock_tests::RedisServer;

pub(super) async fn next(subscription: &mut Subscription) -> Event {
    let next = tokio::time::timeout(PATIENCE, subscription.next()).await;
    next.expect("an event in time").expect("the link is there")
}

pub(super) fn message(text: &str) -> Event {
    Event::Message(text.as_bytes().to_vec())
}

#[tokio::test]
async fn messages_come_in_order_and_a_gap_is_told() {
    let mut server = RedisServer::start().await;
    let link = connected(&server.url()).await;
    let mut subscription = link.subscribe("news");
    assert_eq!(next(&mut subscription).await, Event::Resubscribed);
    for text in ["a", "b", "\0\u{ff}"] {
        link.publish(&patient(), "news", text.as_bytes()).await.expect("published");
        link.publish(&patient(), "other", b"not for us").await.expect("published");
    }
    for text in ["a", "b", "\0\u{ff}"] {
        assert_eq!(next(&mut subscription).await, message(text));
    }
    server.kill();
    assert_eq!(next(&mut subscription).await, Event::Interrupted);
    server.restart().await;
    assert_eq!(next(&mut subscription).await, Event::Resubscribed);
    recovered(&link).await;
    link.publish(&patient(), "news", b"c").await.expect("published");
    assert_eq!(next(&mut subscription).await, message("c"));
}

#[tokio::test]
async fn a_silent_connection_is_an_interruption() {
    let server = RedisServer::start().await;
    let link = connected(&server.url()).await;
    let mut subscription = link.subscribe("news");
    assert_eq!(next(&mut subscription).await, Event::Resubscribed);
    server.freeze();
    assert_eq!(next(&mut subscription).await, Event::Interrupted);
    server.thaw();
    assert_eq!(next(&mut subscription).await, Event::Resubscribed);
}

#[tokio::test]
async fn a_subscriber_that_is_too_slow_is_told_and_costs_bounded_memory() {
    let server = RedisServer::start().await;
    let link = connected(&server.url()).await;
    let mut subscription = link.subscribe("news");
    assert_eq!(next(&mut subscription).await, Event::Resubscribed);
    for _ in 0..200 {
        let mut many = penstock_engine::redis::pipe();
        for _ in 0..100 {
            many.cmd("PUBLISH").arg(link.key("news")).arg("x");
        }
        let _: Vec<u64> = link.pipeline(&patient(), &many).await.expect("published");
    }
    // Five times what is kept for a subscriber who does not listen.
    let mut held = 0;
    let mut interrupted = 0;
    link.publish(&patient(), "news", b"last").await.expect("published");
    loop {
        match tokio::time::timeout(std::time::Duration::from_secs(1), subscription.next()).await {
            Ok(Some(Event::Message(_))) => held += 1,
            Ok(Some(Event::Interrupted)) => {
                interrupted += 1;
                assert_eq!(next(&mut subscription).await, Event::Resubscribed);
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => break,
        }
    }
    assert!(interrupted >= 1 && held < 20_000, "{held} messages, {interrupted} interruptions");
}

#[tokio::test]
async fn a_subscription_waits_for_redis_and_ends_with_the_link() {
    let mut server = RedisServer::prepare(None, &[]);
    let link = link(&server.url());
    let mut subscription = link.subscribe("news");
    let mut dropped = link.subscribe("news");
    server.restart().await;
    assert_eq!(next(&mut subscription).await, Event::Resubscribed);
    assert_eq!(next(&mut dropped).await, Event::Resubscribed);
    drop(dropped);
    drop(link);
    let last = tokio::time::timeout(PATIENCE, subscription.next()).await.expect("in time");
    assert_eq!(last, None);
}
