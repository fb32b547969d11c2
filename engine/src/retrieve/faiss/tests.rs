use super::super::exact::Exact;
use super::super::vectors::{Owners, Positions, VectorError, VectorIndex};
use super::super::{Allowed, Ordinal};
use super::Hnsw;
use crate::model::embedding::to_unit;

const DIMS: usize = 48;

/// Numbers in [-1, 1) from a small generator (splitmix64), so that the test needs no crate.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Unit vectors that have most of their length in `rank` common directions, like text embeddings.
fn low_rank(count: usize, rank: usize, seed: u64) -> Vec<f32> {
    let mut directions = Numbers(42);
    let directions: Vec<f32> = (0..rank * DIMS).map(|_| directions.next()).collect();
    let mut numbers = Numbers(seed);
    let mut values = Vec::with_capacity(count * DIMS);
    for _ in 0..count {
        let mut row: Vec<f32> = (0..DIMS).map(|_| 0.1 * numbers.next()).collect();
        for direction in directions.chunks(DIMS) {
            let weight = numbers.next();
            row.iter_mut().zip(direction).for_each(|(x, d)| *x += weight * d);
        }
        values.extend(to_unit(row).unwrap());
    }
    values
}

fn build(values: &[f32]) -> Hnsw {
    Hnsw::build(DIMS, values, 2, &|_| {}).unwrap()
}

/// Every product has a vector of its own.
fn owners(ordinals: Vec<u32>) -> Owners {
    let count = ordinals.len();
    Owners::new(ordinals, (0..count as u32).collect(), count).unwrap()
}

fn recall(found: &[super::Hit], expected: &[super::Hit]) -> f64 {
    let hits = expected.iter().filter(|e| found.iter().any(|f| f.position == e.position)).count();
    hits as f64 / expected.len() as f64
}

#[test]
fn the_graph_finds_what_a_scan_finds() {
    let values = low_rank(8_000, 16, 1);
    let (graph, scan) = (build(&values), Exact::new(DIMS, values).unwrap());
    let queries = low_rank(200, 16, 2);
    let check = |k: usize, at_least: f64| {
        let mut sum = 0.0;
        for query in queries.chunks(DIMS) {
            let found = graph.search(query, k, None).unwrap();
            let expected = scan.search(query, k, None).unwrap();
            assert_eq!(found.len(), k);
            assert!(found.is_sorted_by(|a, b| a.order(b).is_lt()));
            sum += recall(&found, &expected);
        }
        let mean = sum / 200.0;
        assert!(mean >= at_least, "recall@{k} {mean}");
    };
    check(10, 0.95);
    check(100, 0.95);
    // Further than the graph looks: scanned.
    check(1_000, 1.0);
}

#[test]
fn filters_are_obeyed_whichever_way_is_taken() {
    let count = 6_000;
    let values = low_rank(count, 16, 3);
    let (graph, scan) = (build(&values), Exact::new(DIMS, values).unwrap());
    let owners = owners((0..count as u32).map(|at| at * 3).collect());
    let queries = low_rank(20, 16, 4);
    let check = |keep: &dyn Fn(u32) -> bool| {
        let kept = (0..count as u32).filter(|at| keep(*at)).map(|at| Ordinal(at * 3));
        let among = Positions::of(&Allowed::from_ordinals(kept), &Allowed::default(), &owners);
        assert!(among.iter().eq((0..count as u32).filter(|at| keep(*at))));
        for query in queries.chunks(DIMS) {
            let found = graph.search(query, 10, Some(&among)).unwrap();
            let expected = scan.search(query, 10, Some(&among)).unwrap();
            assert!(found.iter().all(|hit| keep(hit.position)));
            assert_eq!(found.len(), expected.len());
            assert!(expected.is_empty() || recall(&found, &expected) >= 0.8);
        }
    };
    check(&|_| true);
    check(&|at| at % 2 == 0);
    check(&|at| at % 11 == 5);
    check(&|at| at > 5_000);
    check(&|at| at == 777);
    check(&|_| false);
}

#[test]
fn what_would_hang_or_be_dropped_is_refused() {
    let values = low_rank(300, 8, 5);
    let graph = build(&values);
    let check = |vector: &[f32], expected: &VectorError| {
        assert_eq!(graph.search(vector, 5, None).as_ref(), Err(expected));
        let mut bad = values.clone();
        bad.splice(..vector.len().min(DIMS), vector.iter().copied());
        if vector.len() == DIMS {
            assert_eq!(Hnsw::build(DIMS, &bad, 1, &|_| {}).err().as_ref(), Some(expected));
            assert_eq!(Exact::new(DIMS, bad).as_ref(), Err(expected));
        }
    };
    let with = |x: f32| [vec![0.1; DIMS - 1], vec![x]].concat();
    check(&with(f32::NAN), &VectorError::NotFinite);
    check(&with(f32::INFINITY), &VectorError::NotFinite);
    check(&with(f32::NEG_INFINITY), &VectorError::NotFinite);
    let length = |found| VectorError::Length { found, expected: DIMS };
    check(&[], &length(0));
    check(&[0.5; DIMS - 1], &length(DIMS - 1));
    check(&[0.5; DIMS + 1], &length(DIMS + 1));
    assert!(Hnsw::build(DIMS, &values[1..], 1, &|_| {}).is_err());
    assert!(Hnsw::build(0, &values, 1, &|_| {}).is_err());
    assert_eq!(graph.search(&values[..DIMS], 0, None), Ok(vec![]));
    assert!(graph.copy(300, &mut [0.0; DIMS]).is_err());
    assert!(graph.copy(0, &mut [0.0; DIMS - 1]).is_err());
}

#[test]
fn what_was_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors.faiss");
    let values = low_rank(500, 8, 6);
    let graph = build(&values);
    graph.write(&path).unwrap();
    let read = Hnsw::read(&path, DIMS, 500).unwrap();
    let mut row = [0.0; DIMS];
    for (vector, position) in values.chunks(DIMS).zip(0..) {
        read.copy(position, &mut row).unwrap();
        assert_eq!(row, vector);
        assert_eq!(read.search(vector, 10, None), graph.search(vector, 10, None));
    }
    for (dims, len) in [(DIMS, 499), (DIMS + 1, 500)] {
        assert!(Hnsw::read(&path, dims, len).unwrap_err().to_string().contains("500 × 48"));
    }
    assert!(Hnsw::read(&folder.path().join("none"), DIMS, 500).is_err());
    assert!(graph.write(&folder.path().join("no/such/folder")).is_err());
    let text = folder.path().join("text");
    std::fs::write(&text, "not an index").unwrap();
    assert!(Hnsw::read(&text, DIMS, 500).is_err());
}

#[test]
fn many_threads_find_what_one_finds() {
    let values = low_rank(6_000, 16, 7);
    let graph = build(&values);
    let owners = owners((0..6_000).collect());
    let half = Allowed::from_ordinals((0..3_000).map(Ordinal));
    let among = Positions::of(&half, &Allowed::default(), &owners);
    let queries = low_rank(300, 16, 8);
    let all = || -> Vec<_> {
        queries
            .chunks(DIMS)
            .map(|query| (graph.search(query, 20, None), graph.search(query, 20, Some(&among))))
            .collect()
    };
    let alone = all();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(all)).collect();
        for thread in threads {
            assert!(thread.join().unwrap() == alone);
        }
    });
}

/// Vectors that are all but equal must not wall off the rest of the graph. (Exact twins would: they
/// are stored once, see [`Owners`].)
#[test]
fn near_twins_hide_nothing() {
    let mut values = low_rank(4_000, 16, 9);
    let twin = values[..DIMS].to_vec();
    let mut noise = Numbers(11);
    for row in values.chunks_mut(DIMS).skip(2_000).take(1_500) {
        let near: Vec<f32> = twin.iter().map(|x| x + 1e-4 * noise.next()).collect();
        row.copy_from_slice(&to_unit(near).unwrap());
    }
    let (graph, scan) = (build(&values), Exact::new(DIMS, values).unwrap());
    let queries = low_rank(200, 16, 10);
    let mut sum = 0.0;
    for query in queries.chunks(DIMS) {
        let expected = scan.search(query, 10, None).unwrap();
        sum += recall(&graph.search(query, 10, None).unwrap(), &expected);
    }
    assert!(sum / 200.0 >= 0.95, "{}", sum / 200.0);
}
