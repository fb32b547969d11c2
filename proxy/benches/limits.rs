//! What a limit costs: nanoseconds for a decision in this process, next to the governor crate alone;
//! microseconds for one of Redis (its own redis-server, on the loopback); bytes a client.

use criterion::{Criterion, criterion_group, criterion_main};
use governor::{Quota, RateLimiter};
use penstock_config::bootstrap::Bootstrap;
use penstock_config::clock;
use penstock_config::policy::{Class, Limits, Policy};
use penstock_engine::redis::Link;
use penstock_proxy::admission::{Admission, Asked, Verdict, Who};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Clients that take turns.
const CLIENTS: u32 = 100_000;
/// Clients whose memory is measured.
const MANY: u32 = 1_000_000;
/// Decisions of Redis that are timed.
const ASKED: usize = 20_000;

fn asked(limits: &Limits, client: u32) -> Asked<'_> {
    Asked {
        limits,
        class: Class::Search,
        method: "GET",
        path: String::new(),
        who: Who::Address(client),
        own_limits: Default::default(),
        cost: 1,
    }
}

/// A decision that waits for nobody.
fn judge(admission: &Admission, policy: &Policy, client: u32, now: Instant) -> Vec<Verdict> {
    let asked = asked(&policy.limits, client);
    let judging = pin!(admission.judge(&asked, &policy.resilience, now));
    match judging.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(verdicts) => verdicts,
        Poll::Pending => unreachable!("there is no Redis"),
    }
}

fn here(c: &mut Criterion) {
    let policy = Policy::default();
    let began = clock::now();
    let mut group = c.benchmark_group("limit");
    group.bench_function("one client, refused", |b| {
        let admission = Admission::new(began, None);
        b.iter(|| black_box(judge(&admission, &policy, 1, began)));
    });
    group.bench_function("100,000 clients, admitted", |b| {
        let admission = Admission::new(began, None);
        let mut n = 0;
        b.iter(|| {
            n += 1;
            let now = began + Duration::from_micros(u64::from(n) * 10);
            black_box(judge(&admission, &policy, n % CLIENTS, now))
        });
    });
    let quota = Quota::per_minute(NonZeroU32::new(100).expect("100"));
    group.bench_function("governor, 100,000 clients", |b| {
        let governor = RateLimiter::keyed(quota);
        let mut n = 0_u32;
        b.iter(|| {
            n += 1;
            black_box(governor.check_key(&(n % CLIENTS)))
        });
    });
    group.finish();

    let before = resident();
    let admission = Admission::new(began, None);
    (0..MANY).for_each(|client| drop(judge(&admission, &policy, client, began)));
    println!("memory/limits: {} bytes a client", (resident() - before) / u64::from(MANY));
    let before = resident();
    let governor = RateLimiter::keyed(quota);
    (0..MANY).for_each(|client| drop(governor.check_key(&client)));
    println!("memory/governor: {} bytes a client", (resident() - before) / u64::from(MANY));
    drop((admission, governor));
}

/// Bytes in memory.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}

fn redis(_: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    runtime.block_on(async {
        let server = penstock_tests::RedisServer::start().await;
        let url = server.url();
        let env = |name: &str| (name == "PENSTOCK_REDIS_URL").then(|| url.clone());
        let settings = Bootstrap::parse("penstock.toml", b"", &env).expect("a good URL");
        let link = Link::new(settings.redis.expect("a URL"), clock::system()).expect("a thread");
        let link = Arc::new(link);
        while !link.is_connected() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut policy = Policy::default();
        policy.resilience.redis.timeout = Duration::from_secs(1);
        let began = clock::now();
        let admission = Admission::new(began, Some(link));
        let mut took = Vec::with_capacity(ASKED);
        for n in 0..ASKED {
            let asked = asked(&policy.limits, n as u32 % 1_000);
            let begun = clock::now();
            black_box(admission.judge(&asked, &policy.resilience, begun).await);
            took.push(clock::now() - begun);
        }
        took.sort();
        println!(
            "limit/redis, 1,000 clients: p50 {:?}, p99 {:?}",
            took[ASKED / 2],
            took[ASKED * 99 / 100]
        );
    });
}

criterion_group!(benches, here, redis);
criterion_main!(benches);
