//! `cache.toml`: what is remembered, where, and for how long.

mod pages;

pub use pages::{PageQuery, PageRule, Pages};

use crate::read::Section;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What every layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Off: it is not asked and not filled.
    pub enabled: bool,
    /// Most bytes of this process' memory.
    pub memory: u64,
}

/// Layer 1: whole answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Results {
    /// On or off, and how large.
    pub layer: Layer,
    /// How long an answer is as good as new.
    pub ttl: Duration,
    /// … one without products.
    pub empty_ttl: Duration,
    /// … one that was made with less than is loaded.
    pub degraded_ttl: Duration,
    /// Share of a life that chance takes off, in [0, 0.9].
    pub jitter: f64,
    /// Last share of a life in which a hit has it made anew, in [0, 0.9].
    pub refresh_ahead: f64,
    /// Served so long after its life, while it is made anew.
    pub stale_while_revalidate: Duration,
    /// Served so long after its life, where it cannot be made.
    pub stale_if_error: Duration,
    /// Longest wait for another instance that computes the same; zero: nobody waits.
    pub lease: Duration,
}

/// A layer whose values all live as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain {
    /// On or off, and how large.
    pub layer: Layer,
    /// How long a value is good.
    pub ttl: Duration,
}

/// Layer 2: features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// On or off, and how large.
    pub layer: Layer,
    /// How long a feature of a product is good.
    pub product_ttl: Duration,
    /// How long a feature of a user is good.
    pub user_ttl: Duration,
    /// How long a popularity is good.
    pub popularity_ttl: Duration,
}

/// Answers made before they are asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warming {
    /// On or off.
    pub enabled: bool,
    /// When the process starts, too.
    pub at_start: bool,
    /// From one round to the next.
    pub every: Duration,
    /// Queries, those asked most.
    pub queries: usize,
    /// Popular products of each category; 0: none.
    pub products_per_category: usize,
    /// Categories, the largest ones.
    pub categories: usize,
    /// Queries that are counted.
    pub remembered: usize,
    /// Share of one ranking thread's time, in [0.01, 1].
    pub share: f64,
}

/// The validated content of `cache.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Cache {
    /// Off: nothing is remembered.
    pub enabled: bool,
    /// Redis, where there is one, is the second tier.
    pub shared: bool,
    /// Larger values are compressed in Redis, bytes.
    pub compress_above: u64,
    /// Whole answers.
    pub results: Results,
    /// What was found for a query.
    pub candidates: Plain,
    /// Features.
    pub features: Features,
    /// Ranking weights by category.
    pub ranking: Plain,
    /// Popular products.
    pub popular: Plain,
    /// Warming.
    pub warming: Warming,
    /// Answers of the shop's application.
    pub pages: Pages,
}

const WEEK: Duration = Duration::from_hours(7 * 24);
const LIFE: RangeInclusive<Duration> = Duration::from_secs(1)..=WEEK;
const MEMORY: RangeInclusive<u64> = 1 << 20..=1 << 40;
/// All of a life would leave none.
const SHARE: RangeInclusive<f64> = 0.0..=0.9;

pub(super) fn read(file: &Section<'_>) -> Cache {
    Cache {
        enabled: file.flag("enabled"),
        shared: file.flag("shared"),
        compress_above: file.bytes("compress_above", 1_024..=1 << 30),
        results: file.table("results", read_results),
        candidates: file.table("candidates", read_plain),
        features: file.table("features", |section| Features {
            layer: read_layer(section),
            product_ttl: section.duration("product_ttl", LIFE),
            user_ttl: section.duration("user_ttl", LIFE),
            popularity_ttl: section.duration("popularity_ttl", LIFE),
        }),
        ranking: file.table("ranking", read_plain),
        popular: file.table("popular", read_plain),
        warming: file.table("warming", |section| Warming {
            enabled: section.flag("enabled"),
            at_start: section.flag("at_start"),
            every: section.duration("every", Duration::from_secs(10)..=WEEK),
            queries: section.count("queries", 0..=10_000),
            products_per_category: section.count("products_per_category", 0..=100),
            categories: section.count("categories", 0..=100_000),
            remembered: section.count("remembered", 100..=1_000_000),
            share: section.number("share", 0.01..=1.0),
        }),
        pages: file.table("pages", |section| pages::read(section, file.flag("enabled"))),
    }
}

fn read_layer(section: &Section<'_>) -> Layer {
    Layer { enabled: section.flag("enabled"), memory: section.bytes("memory", MEMORY) }
}

fn read_plain(section: &Section<'_>) -> Plain {
    Plain { layer: read_layer(section), ttl: section.duration("ttl", LIFE) }
}

fn read_results(section: &Section<'_>) -> Results {
    let results = Results {
        layer: read_layer(section),
        ttl: section.duration("ttl", LIFE),
        empty_ttl: section.duration("empty_ttl", LIFE),
        degraded_ttl: section.duration("degraded_ttl", LIFE),
        jitter: section.number("jitter", SHARE),
        refresh_ahead: section.number("refresh_ahead", SHARE),
        stale_while_revalidate: section.duration("stale_while_revalidate", Duration::ZERO..=WEEK),
        stale_if_error: section.duration("stale_if_error", Duration::ZERO..=WEEK),
        lease: section.duration("lease", Duration::ZERO..=Duration::from_secs(5)),
    };
    for (key, life) in [("empty_ttl", results.empty_ttl), ("degraded_ttl", results.degraded_ttl)] {
        if life > results.ttl {
            section.warning(key, "is longer than ttl, the life of a whole answer", None);
        }
    }
    results
}
