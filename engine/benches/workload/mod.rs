//! What a bench asks: queries made of the catalogue's own words, its users, drawn by Zipf's law as
//! shoppers draw them. The same folder and seed give the same workload.

use penstock_engine::store::Bulk;
use penstock_engine::store::sqlite::SqliteStore;
use std::collections::BTreeSet;
use std::path::Path;

/// Distinct queries of a workload.
const QUERIES: usize = 1_000;
/// Distinct users of a workload.
const USERS: usize = 1_000;
/// Every so many products one is read for its name.
const NAMES: usize = 2_000;

/// What can be asked of a catalogue.
pub struct Workload {
    /// One to three neighbouring words of product names; most popular first.
    pub queries: Vec<String>,
    /// Users with events; empty when the catalogue came without any.
    pub users: Vec<String>,
    /// Products in the catalogue.
    pub products: u64,
}

impl Workload {
    /// Reads the store in `data`.
    pub fn read(data: &Path, seed: u64) -> anyhow::Result<Self> {
        let store = SqliteStore::in_folder(data, penstock_config::clock::system())?;
        let products = store.counts()?.products;
        let every = (products as usize / NAMES).max(1);
        let mut names = Vec::new();
        let mut row = 0;
        store.scan_products(&mut |stored| {
            if row % every == 0 {
                names.push(stored.product.name);
            }
            row += 1;
        })?;
        let mut users = BTreeSet::new();
        store.scan_events(&mut |user, _| {
            if !users.contains(user) {
                users.insert(user.to_owned());
            }
        })?;

        let mut random = Random(seed);
        let mut users: Vec<String> = users.into_iter().collect();
        shuffle(&mut users, &mut random);
        users.truncate(USERS);
        let mut queries = BTreeSet::new();
        for _ in 0..QUERIES * 4 {
            if names.is_empty() || queries.len() == QUERIES {
                break;
            }
            let words: Vec<&str> = names[random.below(names.len())].split_whitespace().collect();
            if words.is_empty() {
                continue;
            }
            let length = (1 + random.below(3)).min(words.len());
            let first = random.below(words.len() - length + 1);
            queries.insert(words[first..first + length].join(" "));
        }
        let mut queries: Vec<String> = queries.into_iter().collect();
        shuffle(&mut queries, &mut random);
        Ok(Self { queries, users, products })
    }
}

/// As many different queries as there are, at most `most`: one to four neighbouring words of product names, in an
/// order of chance.
#[allow(dead_code)] // not every bench asks so many
pub fn windows(data: &Path, most: usize, seed: u64) -> anyhow::Result<Vec<String>> {
    let store = SqliteStore::in_folder(data, penstock_config::clock::system())?;
    let mut queries = BTreeSet::new();
    store.scan_products(&mut |stored| {
        let words: Vec<&str> = stored.product.name.split_whitespace().collect();
        for length in 1..=4.min(words.len()) {
            queries.extend(words.windows(length).map(|words| words.join(" ")));
        }
    })?;
    let mut queries: Vec<String> = queries.into_iter().collect();
    shuffle(&mut queries, &mut Random(seed));
    queries.truncate(most);
    Ok(queries)
}

/// `count` draws from `items`, the first drawn most: rank r with weight 1/r.
pub fn zipf(items: &[String], count: usize, seed: u64) -> Vec<&str> {
    let mut random = Random(seed);
    let mut total = 0.0;
    let cumulated: Vec<f64> = (1..=items.len())
        .map(|rank| {
            total += 1.0 / rank as f64;
            total
        })
        .collect();
    (0..count)
        .map(|_| {
            let at = random.fraction() * total;
            let rank = cumulated.partition_point(|sum| *sum <= at);
            items[rank.min(items.len() - 1)].as_str()
        })
        .collect()
}

fn shuffle(items: &mut [String], random: &mut Random) {
    for last in (1..items.len()).rev() {
        items.swap(last, random.below(last + 1));
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In [0, 1).
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.fraction() * bound as f64) as usize
    }
}
