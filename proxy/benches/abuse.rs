//! What looking for abuse costs: nanoseconds a request, bytes a client.

use criterion::{Criterion, criterion_group, criterion_main};
use penstock_config::policy::{Abuse, Policy};
use penstock_proxy::admission::abuse::{Asked, Detector};
use std::hint::black_box;

/// Clients that take turns.
const CLIENTS: u32 = 100_000;
/// Between two requests, nanoseconds: a client comes back after ten seconds.
const PAUSE: u64 = 100_000;

fn look(c: &mut Criterion) {
    let policy = Policy::default().limits.abuse;
    let mut group = c.benchmark_group("abuse");
    let mut bench = |name: &str, policy: Abuse, detector: Detector, asked: &[Asked<'_>]| {
        let mut n = 0_u32;
        group.bench_function(name, |b| {
            b.iter(|| {
                n = n.wrapping_add(1);
                let who = Who::Address(n % CLIENTS);
                let asked = asked[n as usize / 7 % asked.len()];
                detector.look(&policy, black_box(who), black_box(asked), u64::from(n) * PAUSE)
            });
        });
    };
    let queries: Vec<String> = (0..1_000).map(|n| format!("laser printer {n}")).collect();
    let queries: Vec<_> = queries.iter().map(|text| Asked::Query(text)).collect();
    let ids: Vec<String> =
        (0..20_000_u32).map(|n| format!("SHO-{:05}", n * 7_919 % 20_000)).collect();
    let ids: Vec<_> = ids.iter().map(|id| Asked::Product(id)).collect();
    bench("query", policy, Detector::default(), &queries);
    bench("product", policy, Detector::default(), &ids);
    bench("other, nobody flagged", policy, Detector::default(), &[Asked::Other]);
    bench("other, one client flagged", policy, one_flagged(&policy), &[Asked::Other]);
    bench("query, one client flagged", policy, one_flagged(&policy), &queries);
    bench("switched off", Abuse { enabled: false, ..policy }, Detector::default(), &queries);
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

/// Resident memory of this process, bytes; `None` where the system does not say.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()? * 1024)
}

fn memory(_: &mut Criterion) {
    const MANY: u32 = 1_000_000;
    let policy = Policy::default().limits.abuse;
    let fill = |what: &str, asked: Asked<'_>| {
        let detector = Detector::default();
        let before = resident();
        for n in 0..MANY {
            detector.look(&policy, Who::Address(n), asked, 0);
        }
        if let (Some(before), Some(after)) = (before, resident()) {
            println!("abuse/bytes per {what}: {}", after.saturating_sub(before) / MANY as usize);
        }
        black_box(&detector);
    };
    fill("client of whom a product was asked", Asked::Product("SHO-01144"));
    fill("query of a client", Asked::Query("laser printer"));
}

criterion_group!(benches, memory, look);
criterion_main!(benches);
