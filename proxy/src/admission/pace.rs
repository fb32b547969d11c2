//! Refusals at a bounded pace. Refusing costs little, but a client that asks again the moment it is
//! refused makes it the machine's main work: it gets its first refusals of a second at once and the
//! others one after the other, each after a pause, so that its own connections hold it up.
//!
//! A virtual schedule per client (GCRA, as limits have it: ITU-T I.371), with a bounded debt: nobody
//! waits longer than the longest pause, and who stops for that long starts anew.

use super::table::{Entry, Table};
use super::who::{Counted, Who};
use penstock_config::policy::Refusals;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// When the next refusal of a client is due at its pace, microseconds.
#[derive(Debug, Default)]
struct Due(u64);

impl Entry for Due {
    fn worth(&self) -> u64 {
        self.0
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Pace {
    clients: Table<Due>,
    paused: AtomicUsize,
}

/// A request that waits for its refusal; it ends with this.
#[derive(Debug)]
pub struct Paused<'p> {
    paused: &'p AtomicUsize,
    /// How long to wait.
    pub pause: Duration,
}

impl Pace {
    /// The pause before the answer to a request of `who` that is refused `now`, if there is one. At most
    /// `most` clients are remembered.
    pub fn pause(&self, policy: &Refusals, who: Who, most: usize, now: u64) -> Option<Paused<'_>> {
        let pause = self.clients.with(Counted { who, rule: 0 }, most, |due| due.next(policy, now));
        // Who waits holds a connection and its memory.
        let room = |paused: usize| (paused < policy.max_paused).then_some(paused + 1);
        let entered = !pause.is_zero()
            && self.paused.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok();
        entered.then(|| Paused { paused: &self.paused, pause })
    }

    /// Requests that wait for their refusal.
    pub fn paused(&self) -> usize {
        self.paused.load(Ordering::Relaxed)
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.paused.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Due {
    fn next(&mut self, policy: &Refusals, now: u64) -> Duration {
        let longest = policy.longest_pause.as_micros() as u64;
        let ahead = self.0.saturating_sub(now) + 1_000_000 / u64::from(policy.per_second);
        // One second's worth is answered at once.
        let ahead = ahead.min(1_000_000 + longest);
        self.0 = now + ahead;
        Duration::from_micros(ahead.saturating_sub(1_000_000).min(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 100_000;
    const POLICY: Refusals =
        Refusals { per_second: 50, longest_pause: Duration::from_millis(400), max_paused: 100 };

    fn client(address: u32) -> Who {
        Who::Address(address)
    }

    /// `connections` that each ask again when they are answered, for `seconds`; how many answers there are.
    fn flood(pace: &Pace, connections: usize, seconds: u64) -> usize {
        /// From an answer to the next question.
        const ROUND_TRIP: u64 = 100;
        let mut next = vec![0; connections];
        let mut answers = 0;
        loop {
            let asking = (0..connections).min_by_key(|&at| next[at]).unwrap();
            let now = next[asking];
            if now >= seconds * 1_000_000 {
                return answers;
            }
            let paused = pace.pause(&POLICY, client(1), MOST, now);
            let pause = paused.map_or(Duration::ZERO, |paused| paused.pause);
            next[asking] = now + pause.as_micros() as u64 + ROUND_TRIP;
            answers += 1;
        }
    }

    #[test]
    fn a_flood_gets_its_pace_however_many_connections_it_has() {
        // 50 at once, then 50 a second.
        for connections in [1, 4, 16] {
            let answers = flood(&Pace::default(), connections, 10);
            assert!((490..=600).contains(&answers), "{answers} answers on {connections}");
        }
        // Beyond what the longest pause can hold up, a connection's answers are that far apart.
        let answers = flood(&Pace::default(), 200, 10);
        assert!((4_000..=5_400).contains(&answers), "{answers} answers");
    }

    #[test]
    fn who_is_refused_now_and_then_does_not_wait() {
        let pace = Pace::default();
        for second in 0..100 {
            for n in 0..50 {
                let now = second * 1_000_000 + n * 100;
                assert!(pace.pause(&POLICY, client(1), MOST, now).is_none(), "{second} s, {n}");
            }
        }
    }

    #[test]
    fn one_client_does_not_hold_up_another() {
        let pace = Pace::default();
        let waits = |who| pace.pause(&POLICY, who, MOST, 7).is_some();
        assert_eq!((0..100).filter(|_| waits(client(1))).count(), 50);
        assert!(!waits(client(2)));
    }

    #[test]
    fn only_so_many_wait() {
        let pace = Pace::default();
        let waiting: Vec<_> =
            (0..500).filter_map(|_| pace.pause(&POLICY, client(1), MOST, 0)).collect();
        assert_eq!((waiting.len(), pace.paused()), (100, 100));
        drop(waiting);
        assert_eq!(pace.paused(), 0);
        assert!(pace.pause(&POLICY, client(1), MOST, 0).is_some());
    }

    #[test]
    fn no_pause_is_no_pause() {
        let policy = Refusals { longest_pause: Duration::ZERO, ..POLICY };
        let pace = Pace::default();
        assert!((0..1_000).all(|_| pace.pause(&policy, client(1), MOST, 0).is_none()));
    }
}
