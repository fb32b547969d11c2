//! Looks after every server once a second: does it answer, is it still the one we think, how far is it behind.
//!
//! Lag is told from positions in the write-ahead log and from our own clock alone. Every second the primary says how
//! far its log goes; we keep that with the moment before we asked, so that everything committed before that moment is
//! within. A replica that has replayed to a position has all that was committed before the moment that belongs to
//! it. Clocks of servers do not come into it, and an idle shop shows no lag, because the heartbeat moves the log.
//!
//! While the primary does not answer nothing new is stored, so replicas do not fall behind.

use super::fault::Fault;
use super::query::{BEAT, FOLLOWS};
use super::server::Server;
use super::servers::Servers;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// A server that takes longer is not well.
const PATIENCE: Duration = Duration::from_millis(900);
/// Positions of the primary that are remembered: what is older is further behind than any replica may be.
const POSITIONS: usize = 4_096;
/// Beats by which another instance may be ahead of what we saw.
const BEATS: i64 = 3;

/// What a look found out beside how everybody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A server that was not well is well again.
    Recovered,
    /// The primary answers, and replicas that may be too old were read from while it did not.
    PrimaryAgain,
    /// Another server is primary than before, with a history of its own.
    AnotherPrimary,
}

/// Where the primary's log was.
#[derive(Debug, Clone, Copy)]
struct Position {
    /// Everything committed before is below `log`.
    at: Instant,
    log: u64,
}

/// What is known of the primary.
#[derive(Debug, Default)]
struct Primary {
    positions: VecDeque<Position>,
    timeline: Option<i32>,
    beat: i64,
    /// It was another one before.
    another: bool,
}

impl Primary {
    fn note(&mut self, at: Instant, log: u64, timeline: Option<i32>, beat: i64) {
        // Another primary may have lost what the one before had: its positions are not comparable.
        if self.timeline != timeline || self.positions.back().is_some_and(|last| last.log > log) {
            self.positions.clear();
            self.another |= self.timeline.is_some();
            self.timeline = timeline;
        }
        if self.positions.len() >= POSITIONS {
            self.positions.pop_front();
        }
        self.positions.push_back(Position { at, log });
        self.beat = beat;
    }

    /// Until when a server has everything that has replayed up to `log`.
    fn reached(&self, log: u64) -> Option<Instant> {
        let below = self.positions.partition_point(|position| position.log <= log);
        below.checked_sub(1).map(|last| self.positions[last].at)
    }

    /// How far behind is who has everything until `moment`; 0 while it is as far as the last look at the primary. `None`:
    /// further than is remembered, which right after a start is not far.
    fn lag(&self, moment: Option<Instant>) -> Option<Duration> {
        Some(self.positions.back()?.at.saturating_duration_since(moment?))
    }
}

/// The first look, so that the first who ask find somebody to be asked.
pub(super) async fn look_first(servers: Arc<Servers>) {
    look(&servers, &mut Primary::default()).await;
}

/// Runs until it is dropped; tells what it finds.
pub(super) async fn watch(servers: Arc<Servers>, found: impl Fn(Found)) {
    let mut known = Primary::default();
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let before = well(&servers);
        look(&servers, &mut known).await;
        if well(&servers).iter().zip(before).any(|(now, before)| *now && !before) {
            found(Found::Recovered);
        }
        if std::mem::take(&mut known.another) {
            found(Found::AnotherPrimary);
        }
        if servers.primary.health().well && servers.read_too_old.swap(false, Ordering::AcqRel) {
            found(Found::PrimaryAgain);
        }
    }
}

fn well(servers: &Servers) -> Vec<bool> {
    let all = servers.replicas.iter().chain([&servers.primary]);
    all.map(|server| server.health().well).collect()
}

/// One look at all of them.
async fn look(servers: &Arc<Servers>, known: &mut Primary) {
    // At once: a primary that is silent must not keep replicas from being looked at.
    let following = futures::future::join_all(servers.replicas.iter().map(follows));
    let ((), seen) = tokio::join!(look_at_primary(servers, known), following);
    for (replica, seen) in servers.replicas.iter().zip(seen) {
        note(replica, known, seen);
        replica.pool.tidy();
    }
    servers.primary.pool.tidy();
}

async fn look_at_primary(servers: &Arc<Servers>, known: &mut Primary) {
    let at = servers.clock.now();
    let seen = async {
        let row = servers.primary.ask_apart(&BEAT, PATIENCE).await?;
        let log: String = row.try_get(0)?;
        Ok::<_, Fault>((log.parse().unwrap_or(0), row.try_get(2)?, row.try_get(3)?))
    };
    let seen: Result<(u64, Option<i32>, i64), String> =
        seen.await.map_err(|fault| fault.to_string());
    match seen {
        Ok((log, timeline, beat)) => {
            known.note(at, log, timeline, beat);
            let mut health = servers.primary.health();
            health.well = true;
            health.why = None;
            health.lag = Some(Duration::ZERO);
        }
        Err(why) => {
            let mut health = servers.primary.health();
            if health.well || health.why.is_none() {
                tracing::warn!(server = servers.primary.name, why, "the database does not answer");
            }
            health.well = false;
            health.why = Some(why);
            drop(health);
            // Idle connections may lead to a server that is gone, or takes no writes any more.
            servers.primary.pool.forget();
        }
    }
}

/// What a replica says: how far it has replayed (`None`: it is no replica), and the last beat it has.
async fn follows(replica: &Arc<Server>) -> Result<(Option<u64>, i64), String> {
    let asked = async {
        let row = replica.ask_apart(&FOLLOWS, PATIENCE).await?;
        let replayed: Option<String> = row.try_get(1)?;
        Ok::<_, Fault>((replayed.and_then(|log| log.parse().ok()), row.try_get(2)?))
    };
    asked.await.map_err(|fault| fault.to_string())
}

fn note(replica: &Server, known: &Primary, seen: Result<(Option<u64>, i64), String>) {
    let mut health = replica.health();
    let before = health.well;
    match seen {
        Ok((Some(replayed), _)) => {
            health.has_all_until = known.reached(replayed);
            health.lag = known.lag(health.has_all_until);
            health.well = true;
            health.why = None;
        }
        // It is a primary: ours, after a promotion, if it has our heartbeats.
        Ok((None, beat)) if beat + BEATS >= known.beat && !known.positions.is_empty() => {
            health.has_all_until = known.positions.back().map(|position| position.at);
            health.lag = Some(Duration::ZERO);
            health.well = true;
            health.why = None;
        }
        Ok((None, _)) => {
            health.well = false;
            health.why = Some("it takes writes and is not the database we write to".into());
        }
        Err(why) => {
            health.well = false;
            health.why = Some(why);
            drop(health);
            replica.pool.forget();
            health = replica.health();
        }
    }
    if before && !health.well {
        let why = health.why.as_deref().unwrap_or_default();
        tracing::warn!(replica = replica.name, why, "not read from any more");
    } else if !before && health.well {
        tracing::info!(replica = replica.name, lag = ?health.lag, "read from");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_config::clock;

    #[test]
    fn lag_is_the_age_of_what_is_missing() {
        let begin = clock::now();
        let second = |n| begin + Duration::from_secs(n);
        let mut primary = Primary::default();
        assert_eq!(primary.lag(None), None);
        for n in 0..10 {
            primary.note(second(n), 100 + n * 10, Some(1), 0);
        }
        let check = |replayed: u64, reached: Option<u64>, lag: u64| {
            assert_eq!(primary.reached(replayed), reached.map(second), "{replayed}");
            let expected = Some(Duration::from_secs(lag));
            assert_eq!(primary.lag(primary.reached(replayed)), expected, "{replayed}");
        };
        check(190, Some(9), 0);
        check(500, Some(9), 0);
        check(189, Some(8), 1);
        check(100, Some(0), 9);
        // Further behind than anything that is remembered.
        assert_eq!((primary.reached(99), primary.lag(None)), (None, None));
    }

    #[test]
    fn another_primary_begins_anew() {
        let begin = clock::now();
        let mut primary = Primary::default();
        primary.note(begin, 1_000, Some(1), 0);
        primary.note(begin + Duration::from_secs(1), 900, Some(2), 0);
        assert_eq!(primary.reached(1_000), Some(begin + Duration::from_secs(1)));
        assert_eq!(primary.reached(899), None);
    }
}
