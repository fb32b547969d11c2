//! One computation of what many ask for at the same time.
//!
//! The first who asks leads; who asks while it is under way joins and is given what the leader made. A leader
//! that ends without an answer (it panicked, its task was dropped) lets everybody go: one of them leads next.
//! Nobody waits longer than it chooses to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Locks; a power of two.
const PARTS: usize = 16;

type Answer<T> = Option<T>;
type Part<T> = Mutex<HashMap<Arc<str>, watch::Receiver<Answer<T>>>>;

/// Computations under way, by key.
#[derive(Debug)]
pub struct Flights<T> {
    parts: Arc<[Part<T>; PARTS]>,
}

impl<T> Clone for Flights<T> {
    fn clone(&self) -> Self {
        Self { parts: self.parts.clone() }
    }
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self { parts: Arc::new(std::array::from_fn(|_| Mutex::default())) }
    }
}

/// What somebody who asks is.
#[derive(Debug)]
pub enum Boarding<T> {
    /// The one who computes.
    Lead(Leader<T>),
    /// One who is given what another computes.
    Join(Joined<T>),
}

impl<T: Clone> Flights<T> {
    /// Leads the computation of `key`, or joins the one that is under way.
    pub fn board(&self, key: &Arc<str>) -> Boarding<T> {
        let mut part = self.part(key);
        if let Some(under_way) = part.get(key) {
            return Boarding::Join(Joined(under_way.clone()));
        }
        let (answer, receiver) = watch::channel(None);
        part.insert(key.clone(), receiver);
        Boarding::Lead(Leader { flights: self.clone(), key: key.clone(), answer })
    }

    /// Leads, unless it is under way: for work that nobody waits for.
    pub fn lead(&self, key: &Arc<str>) -> Option<Leader<T>> {
        match self.board(key) {
            Boarding::Lead(leader) => Some(leader),
            Boarding::Join(_) => None,
        }
    }

    /// How many are under way.
    pub fn under_way(&self) -> usize {
        self.parts.iter().map(|part| lock(part).len()).sum()
    }
}

impl<T> Flights<T> {
    fn part(&self, key: &str) -> MutexGuard<'_, HashMap<Arc<str>, watch::Receiver<Answer<T>>>> {
        lock(&self.parts[super::entry::tag(key) as usize % PARTS])
    }
}

fn lock<T>(part: &Part<T>) -> MutexGuard<'_, HashMap<Arc<str>, watch::Receiver<Answer<T>>>> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Computes for all who join.
#[derive(Debug)]
pub struct Leader<T> {
    flights: Flights<T>,
    key: Arc<str>,
    answer: watch::Sender<Answer<T>>,
}

impl<T> Leader<T> {
    /// Gives `answer` to all who joined. Who comes from now on finds it remembered, or leads anew.
    pub fn land(self, answer: T) {
        // Before the flight ends: whoever holds a receiver sees it.
        self.answer.send_replace(Some(answer));
    }
}

impl<T> Drop for Leader<T> {
    fn drop(&mut self) {
        self.flights.part(&self.key).remove(&self.key);
    }
}

/// Waits for what another computes.
#[derive(Debug)]
pub struct Joined<T>(watch::Receiver<Answer<T>>);

/// What became of a flight for who joined it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival<T> {
    /// Its answer.
    Landed(T),
    /// It ended without one: somebody else leads next.
    Gone,
    /// It goes on, and who joined has no more patience.
    Late,
}

impl<T: Clone> Joined<T> {
    /// Waits, at most for `patience`.
    pub async fn answer(mut self, patience: Duration) -> Arrival<T> {
        let landed = self.0.wait_for(Option::is_some);
        match tokio::time::timeout(patience, landed).await {
            Ok(Ok(answer)) => answer.clone().map_or(Arrival::Gone, Arrival::Landed),
            Ok(Err(_)) => Arrival::Gone,
            Err(_) => Arrival::Late,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn lead(flights: &Flights<u32>, key: &Arc<str>) -> Leader<u32> {
        flights.lead(key).expect("nobody leads")
    }

    fn join(flights: &Flights<u32>, key: &Arc<str>) -> Joined<u32> {
        match flights.board(key) {
            Boarding::Join(joined) => joined,
            Boarding::Lead(_) => panic!("somebody leads"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_are_given_what_one_computes() {
        let (flights, key) = (Flights::default(), Arc::from("mug"));
        let leader = lead(&flights, &key);
        let waiting: Vec<_> =
            (0..1_000).map(|_| tokio::spawn(join(&flights, &key).answer(PATIENCE))).collect();
        assert!(flights.lead(&Arc::from("pan")).is_some());
        assert_eq!(flights.under_way(), 1);
        tokio::task::yield_now().await;
        leader.land(7);
        for one in waiting {
            assert_eq!(one.await.unwrap(), Arrival::Landed(7));
        }
        assert_eq!(flights.under_way(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_joined_late_is_given_it_too() {
        let (flights, key) = (Flights::default(), Arc::from("mug"));
        let leader = lead(&flights, &key);
        let joined = join(&flights, &key);
        leader.land(7);
        assert_eq!(joined.answer(PATIENCE).await, Arrival::Landed(7));
        assert!(flights.lead(&key).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_is_gone_lets_everybody_go() {
        let (flights, key) = (Flights::default(), Arc::from("mug"));
        let leader = lead(&flights, &key);
        let joined = join(&flights, &key);
        drop(leader);
        assert_eq!(joined.answer(PATIENCE).await, Arrival::Gone);
        assert!(flights.lead(&key).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_it_chooses_to() {
        let (flights, key) = (Flights::<u32>::default(), Arc::from("mug"));
        let _leader = lead(&flights, &key);
        let began = tokio::time::Instant::now();
        assert_eq!(join(&flights, &key).answer(Duration::from_millis(50)).await, Arrival::Late);
        assert_eq!(began.elapsed(), Duration::from_millis(50));
    }
}
