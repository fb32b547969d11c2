//! A service that sentinels watch.

use super::subscription::{message, next};
use super::{NO_ARGS, PATIENCE, connected, link, patient, ping, recovered};
use penstock_engine::redis::{Event, Script, Trouble, cmd};
use penstock_tests::Sentinels;
use penstock_tests::wait::{until, until_true};

#[tokio::test]
async fn a_dead_master_is_followed_by_the_next() {
    let mut service = Sentinels::start().await;
    let link = connected(&service.url()).await;
    assert_eq!(link.status().server, Some(service.master.address.to_string()));
    let mut subscription = link.subscribe("news");
    assert_eq!(next(&mut subscription).await, Event::Resubscribed);
    let script = Script::new("return redis.call('INCR', KEYS[1])");
    let keys = [link.key("n")];
    let counted: u64 = link.script(&patient(), &script, &keys, NO_ARGS).await.expect("counted");
    assert_eq!(counted, 1);
    service.master.kill();
    assert_eq!(next(&mut subscription).await, Event::Interrupted);
    recovered(&link).await;
    assert_eq!(link.status().server, Some(service.replica.address.to_string()));
    let counted: Result<u64, _> = link.script(&patient(), &script, &keys, NO_ARGS).await;
    counted.expect("the new master learns the script");
    assert_eq!(next(&mut subscription).await, Event::Resubscribed);
    link.publish(&patient(), "news", b"x").await.expect("published");
    assert_eq!(next(&mut subscription).await, message("x"));
}

#[tokio::test]
async fn a_master_that_steps_down_is_left() {
    let mut service = Sentinels::start().await;
    // The sentinel that would be asked first is gone; the others know as well.
    service.sentinels[0].kill();
    let link = connected(&service.url()).await;
    until_true("the failover begins", PATIENCE, async || {
        service.sentinels[1].ask(&["SENTINEL", "FAILOVER", "shop"]) == "OK"
    })
    .await;
    until_true("the link writes to the new master", PATIENCE, async || {
        let written: Result<(), _> =
            link.call(&patient(), cmd("SET").arg(link.key("a")).arg("x")).await;
        written.is_ok() && link.status().server == Some(service.replica.address.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_service_nobody_knows_is_named() {
    let service = Sentinels::start().await;
    let link = link(&service.url().replace("/shop", "/shoop"));
    let why = until("the reason", PATIENCE, async || match ping(&link).await {
        Err(Trouble::NotConnected { why }) if why.contains("service") => Some(why),
        _ => None,
    })
    .await;
    assert!(why.contains("knows no service \"shoop\""), "{why}");
}
