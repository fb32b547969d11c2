//! What looking for abuse costs: nanoseconds a request, bytes a client.

use criterion::{Criterion, criterion_group, criterion_main};
use penstock_config::policy::{Abuse, Policy};
use penstock_proxy::admission::Who;
use penstock_proxy::admission::abuse::{Asked, Detector};
use std::hint::black_box;

/// A table full of them is what the defaults allow.
const MANY: u32 = 1_000_000;

/// Who asks the `n`th time, and when: `clients` take turns, and each comes back after ten seconds.
fn turn(n: u32, clients: u32) -> (Who, u64) {
    let pause = 10_000_000_000 / u64::from(clients);
    (Who::Address(n % clients), u64::from(n) * pause)
}

fn look(c: &mut Criterion) {
    let policy = Policy::default().limits.abuse;
    let mut group = c.benchmark_group("abuse");
    let mut bench =
        |name: &str, policy: &Abuse, detector: Detector, clients: u32, asked: &[Asked<'_>]| {
            let mut n = 0_u32;
            group.bench_function(name, |b| {
                b.iter(|| {
                    n = n.wrapping_add(1);
                    let (who, now) = turn(n, clients);
                    let asked = asked[(n / clients) as usize % asked.len()];
                    detector.look(policy, black_box(who), black_box(asked), now)
                });
            });
        };
    let queries: Vec<String> = (0..16).map(|n| format!("laser printer {n}")).collect();
    let queries: Vec<_> = queries.iter().map(|text| Asked::Query(text)).collect();
    let ids: Vec<String> = (0..999_u32).map(|n| format!("SHO-{:05}", n * 7_919 % 20_000)).collect();
    let ids: Vec<_> = ids.iter().map(|id| Asked::Product(id)).collect();
    let off = Abuse { enabled: false, ..policy };
    bench("switched off", &off, Detector::default(), 1_000, &queries);
    bench("other, nobody flagged", &policy, Detector::default(), 1_000, &[Asked::Other]);
    bench("other, one client flagged", &policy, one_flagged(&policy), 1_000, &[Asked::Other]);
    bench("query, 1000 clients", &policy, Detector::default(), 1_000, &queries);
    bench("query, 1000 clients, one flagged", &policy, one_flagged(&policy), 1_000, &queries);
    bench("product, 1000 clients", &policy, Detector::default(), 1_000, &ids);
    // Every client is a new one, and somebody is forgotten for it.
    let flood = full(&policy, Asked::Query("lamp"));
    bench("query, flood of clients", &policy, flood, u32::MAX, &queries);
    let flood = full(&policy, Asked::Product("7"));
    bench("product, flood of clients", &policy, flood, u32::MAX, &ids);
    group.finish();
}

fn one_flagged(policy: &Abuse) -> Detector {
    let detector = Detector::default();
    for _ in 0..21 {
        detector.look(policy, Who::Key([7, 7]), Asked::Query("lamp"), 0);
    }
    assert_eq!(detector.remembered().flagged, 1);
    detector
}

fn full(policy: &Abuse, asked: Asked<'_>) -> Detector {
    let detector = Detector::default();
    for n in 0..MANY {
        detector.look(policy, Who::Network([n, 0]), asked, 0);
    }
    detector
}

/// Resident memory of this process, bytes; `None` where the system does not say.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()? * 1024)
}

fn memory(_: &mut Criterion) {
    let policy = Policy::default().limits.abuse;
    for (what, asked) in
        [("client with products", Asked::Product("7")), ("query of a client", Asked::Query("lamp"))]
    {
        let before = resident();
        let detector = full(&policy, asked);
        if let (Some(before), Some(after)) = (before, resident()) {
            println!("abuse/bytes per {what}: {}", after.saturating_sub(before) / MANY as usize);
        }
        drop(black_box(detector));
    }
}

criterion_group!(benches, memory, look);
criterion_main!(benches);
