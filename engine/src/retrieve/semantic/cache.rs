//! Query embeddings that were made lately.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

type Embedding = Option<Arc<[f32]>>;

/// Keeps between half of its capacity and all of it, the recently used ones: what was not asked for
/// since the last half-full point goes (two generations, so that a hit costs one lookup and no
/// bookkeeping).
#[derive(Debug)]
pub(super) struct QueryCache {
    half: usize,
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Box<str>, Embedding>,
    old: HashMap<Box<str>, Embedding>,
}

impl QueryCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { half: (capacity / 2).max(1), generations: Mutex::default() }
    }

    /// The embedding of `text`, made by `make` outside the lock when it is not there. A failure is
    /// not kept.
    pub(super) fn get_or_make<E>(
        &self,
        text: &str,
        make: impl FnOnce() -> Result<Embedding, E>,
    ) -> Result<Embedding, E> {
        if let Some(found) = self.get(text) {
            return Ok(found);
        }
        let made = make()?;
        self.put(text, made.clone());
        Ok(made)
    }

    fn get(&self, text: &str) -> Option<Embedding> {
        let mut generations = self.lock();
        if let Some(found) = generations.young.get(text) {
            return Some(found.clone());
        }
        let (key, found) = generations.old.remove_entry(text)?;
        self.insert(&mut generations, key, found.clone());
        Some(found)
    }

    fn put(&self, text: &str, embedding: Embedding) {
        self.insert(&mut self.lock(), text.into(), embedding);
    }

    fn insert(&self, generations: &mut Generations, key: Box<str>, embedding: Embedding) {
        if generations.young.len() >= self.half {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(key, embedding);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        // A panic elsewhere cannot leave the maps half changed.
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::QueryCache;
    use std::sync::Arc;

    #[test]
    fn what_is_used_stays_and_memory_is_bounded() {
        let cache = QueryCache::new(10);
        let mut made = 0;
        let mut ask = |text: &str| {
            let vector: Arc<[f32]> = Arc::from([text.len() as f32]);
            let found = cache.get_or_make::<()>(text, || {
                made += 1;
                Ok(Some(vector.clone()))
            });
            assert_eq!(found, Ok(Some(vector)));
        };
        for round in 0..100 {
            ask("mug");
            ask(&"x".repeat(round));
        }
        assert_eq!(made, 101, "the word asked for every time was made once");
        let generations = cache.lock();
        assert!(generations.young.len() + generations.old.len() <= 10);
        drop(generations);

        assert_eq!(cache.get_or_make("bad", || Err("no")), Err("no"));
        assert_eq!(cache.get_or_make::<()>("bad", || Ok(None)), Ok(None), "failures are not kept");
        assert_eq!(cache.get_or_make("bad", || Err("no")), Ok(None), "no embedding is kept");
    }
}
