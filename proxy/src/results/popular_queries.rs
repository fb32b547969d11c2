//! What is asked most, in bounded memory: the Space-Saving sketch (Metwally, Agrawal, El Abbadi: "Efficient
//! Computation of Frequent and Top-k Elements in Data Streams", ICDT 2005).
//!
//! It keeps so many queries with a counter each. One that is not among them takes the place of the one with the
//! smallest counter, and its count from there: a count is too high by at most the error that is kept beside it,
//! never too low, and whatever is asked more often than once in `capacity` requests is among them. Counts are
//! halved once in a while, so that last month's bestseller makes room.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// A query and how often it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The canonical target it is asked by: `/search?q=mug&k=10`.
    pub target: String,
    /// At most so often.
    pub count: u64,
    /// Of that, so many may have been others.
    #[serde(default)]
    pub error: u64,
}

#[derive(Debug, Clone, Copy)]
struct Counter {
    count: u64,
    error: u64,
    /// In the heap.
    at: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Sketch {
    capacity: usize,
    counters: HashMap<Box<str>, Counter>,
    /// Targets, the least asked first: a binary heap whose places the counters know.
    heap: Vec<Box<str>>,
}

impl Sketch {
    /// An empty one that keeps `capacity` queries, at least one.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), counters: HashMap::new(), heap: Vec::new() }
    }

    /// Another bound, from now on.
    pub fn resize(&mut self, capacity: usize) {
        self.capacity = capacity.max(1);
        while self.heap.len() > self.capacity {
            self.take_least();
        }
    }

    /// `target` was asked.
    pub fn count(&mut self, target: &str) {
        self.add(target, 1, 0);
    }

    /// `target` was asked `count` times, by what another sketch (this one's before a restart, another instance's)
    /// says.
    pub fn add(&mut self, target: &str, count: u64, error: u64) {
        if let Some(counter) = self.counters.get_mut(target) {
            counter.count = counter.count.saturating_add(count);
            counter.error = counter.error.saturating_add(error);
            let at = counter.at;
            self.sink(at);
            return;
        }
        let least = if self.heap.len() >= self.capacity { self.take_least() } else { 0 };
        let counter = Counter { count: count + least, error: error + least, at: self.heap.len() };
        self.counters.insert(target.into(), counter);
        self.heap.push(target.into());
        self.rise(self.heap.len() - 1);
    }

    /// Halves every count; what is asked no more goes.
    pub fn age(&mut self) {
        let kept: Vec<Asked> = self.top(usize::MAX);
        *self = Self::new(self.capacity);
        for Asked { target, count, error } in kept.iter().filter(|asked| asked.count > 1) {
            self.add(target, count / 2, error / 2);
        }
    }

    /// Those asked most, most first; ties by target.
    pub fn top(&self, most: usize) -> Vec<Asked> {
        let mut all: Vec<Asked> = self
            .counters
            .iter()
            .map(|(target, counter)| Asked {
                target: target.to_string(),
                count: counter.count,
                error: counter.error,
            })
            .collect();
        all.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.target.cmp(&b.target)));
        all.truncate(most);
        all
    }

    /// Removes the least asked; how often it was.
    fn take_least(&mut self) -> u64 {
        let least = self.heap.swap_remove(0);
        let counter = self.counters.remove(&least).expect("what is in the heap has a counter");
        if !self.heap.is_empty() {
            self.place(0);
            self.sink(0);
        }
        counter.count
    }

    fn count_at(&self, at: usize) -> u64 {
        self.counters[&self.heap[at]].count
    }

    /// Tells the counter of what is at `at` where it is.
    fn place(&mut self, at: usize) {
        self.counters.get_mut(&self.heap[at]).expect("what is in the heap has a counter").at = at;
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.place(a);
        self.place(b);
    }

    fn rise(&mut self, mut at: usize) {
        while at > 0 && self.count_at(at) < self.count_at((at - 1) / 2) {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let children = [2 * at + 1, 2 * at + 2].into_iter().filter(|&c| c < self.heap.len());
            let Some(least) = children.min_by_key(|&child| self.count_at(child)) else {
                return;
            };
            if self.count_at(at) <= self.count_at(least) {
                return;
            }
            self.swap(at, least);
            at = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn counts_are_never_too_low_and_too_high_by_the_error_at_most(
            stream in proptest::collection::vec(0_u8..40, 0..600),
            capacity in 1_usize..20,
        ) {
            let mut sketch = Sketch::new(capacity);
            let mut exact: HashMap<String, u64> = HashMap::new();
            for query in &stream {
                let target = query.to_string();
                sketch.count(&target);
                *exact.entry(target).or_default() += 1;
            }
            prop_assert!(sketch.heap.len() <= capacity);
            let top = sketch.top(usize::MAX);
            for asked in &top {
                let exact = exact[&asked.target];
                prop_assert!(asked.count >= exact && asked.count - asked.error <= exact, "{asked:?} {exact}");
            }
            // Whatever is asked more often than once in `capacity` requests is there.
            for (target, count) in &exact {
                if *count > stream.len() as u64 / capacity as u64 {
                    prop_assert!(top.iter().any(|asked| asked.target == *target), "{target}");
                }
            }
            prop_assert!(top.is_sorted_by(|a, b| a.count >= b.count));
        }
    }

    #[test]
    fn what_is_asked_no_more_makes_room() {
        let mut sketch = Sketch::new(10);
        (0..100).for_each(|_| sketch.count("old"));
        sketch.count("once");
        for _ in 0..4 {
            sketch.age();
            (0..20).for_each(|_| sketch.count("new"));
        }
        let top = sketch.top(10);
        assert_eq!(top.iter().map(|a| a.target.as_str()).collect::<Vec<_>>(), ["new", "old"]);
        assert_eq!(top[1].count, 6);
    }

    #[test]
    fn a_smaller_bound_keeps_those_asked_most() {
        let mut sketch = Sketch::new(100);
        for n in 0..50_u64 {
            sketch.add(&n.to_string(), n, 0);
        }
        sketch.resize(3);
        let kept: Vec<_> = sketch.top(9).into_iter().map(|asked| asked.target).collect();
        assert_eq!(kept, ["49", "48", "47"]);
    }
}
