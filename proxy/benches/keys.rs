//! A million API keys: reading them, and judging one that is presented.
//!
//! `cargo bench --bench keys`

#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{Criterion, criterion_group, criterion_main};
use penstock_config::clock;
use penstock_config::keys::{FILE, Follower, KeyId, NewKey, Presented, create};
use std::hint::black_box;
use std::io::Write;

const KEYS: u64 = 1_000_000;

fn keys(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let mut file =
        std::io::BufWriter::new(std::fs::File::create(folder.path().join(FILE)).unwrap());
    let hash = "ab".repeat(32);
    for number in 0..KEYS {
        // Spread over all ids, as random ones are.
        let id = KeyId::of_bits(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        writeln!(
            file,
            r#"{{"create":{{"id":"{id}","name":"shop {number}","hash":"{hash}","created":"2026-02-03T04:05:06Z"}}}}"#
        )
        .unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();

    let mut follower = Follower::new(folder.path());
    let began = clock::now();
    let table = follower.load().unwrap();
    println!("{} keys read in {:?}", table.len(), began.elapsed());
    let new = NewKey { name: "one more".into(), ..NewKey::default() };
    let made = create(folder.path(), new, 0).unwrap();
    let began = clock::now();
    let table = follower.look(&table).unwrap().unwrap();
    println!("one more in {:?}", began.elapsed());

    let address = "192.0.2.1".parse().unwrap();
    let presented = Presented::parse(made.secret.as_bytes()).unwrap();
    assert!(table.judge(&presented, address, 0).is_ok());
    let mut number = 0_u64;
    c.bench_function("look one of a million up", |b| {
        b.iter(|| {
            number = (number + 7_919) % KEYS;
            table
                .get(black_box(KeyId::of_bits(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))))
                .is_some()
        });
    });
    c.bench_function("judge a key that is presented", |b| {
        b.iter(|| table.judge(black_box(&presented), address, 0).is_ok());
    });
}

criterion_group!(benches, keys);
criterion_main!(benches);
