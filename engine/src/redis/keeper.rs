//! The task that keeps the link connected: connects, looks after the connection, connects again.
//!
//! Callers never connect and never wait for it. A connection that breaks says so at once; one that
//! falls silent (a frozen server, a cable pulled) is found out by a ping, every second and whenever
//! a call had trouble.

use super::dial::{Connection, Dialler, PING};
use super::status::Shared;
use rand::Rng;
use redis::aio::ConnectionLike;
use redis::{PushInfo, PushKind, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Between two pings.
const CHECK: Duration = Duration::from_secs(1);
/// Trouble comes in floods: pings do not.
const PAUSE: Duration = Duration::from_millis(50);
const SHORTEST: Duration = Duration::from_millis(50);
/// A server that comes back is used again within this.
const LONGEST: Duration = Duration::from_secs(2);
/// A connection that lived so long was no failure to connect.
const LIVED: Duration = Duration::from_secs(5);

/// What makes the keeper look at a connection before the next ping is due.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    raised: Notify,
    demoted: AtomicBool,
}

impl Doubt {
    /// A call had trouble, or the connection ended.
    pub fn raise(&self) {
        self.raised.notify_one();
    }

    /// The server answers that it is read-only: the one to write to is another, which sentinels, a
    /// name that leads elsewhere or the cluster's map tell on connecting.
    pub fn demoted(&self) {
        self.demoted.store(true, Ordering::Release);
        self.raise();
    }
}

/// Time between attempts: doubling, with half of it by chance so that a fleet does not come at once.
pub(super) struct Backoff(Duration);

impl Backoff {
    pub fn new() -> Self {
        Self(SHORTEST)
    }

    fn next(&mut self) -> Duration {
        let wait = self.0.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.0 = (self.0 * 2).min(LONGEST);
        wait
    }

    /// Waits before the next attempt; `lived` is how long the last connection did.
    pub async fn wait(&mut self, lived: Duration) {
        if lived >= LIVED {
            self.0 = SHORTEST;
        }
        tokio::time::sleep(self.next()).await;
    }
}

/// Runs for as long as the link does.
pub(super) async fn keep(shared: Arc<Shared>, mut dialler: Dialler) {
    let mut backoff = Backoff::new();
    loop {
        let doubt = Arc::clone(&shared.doubt);
        let pushed = move |info: PushInfo| {
            if info.kind == PushKind::Disconnection {
                doubt.raise();
            }
        };
        let started = shared.clock.now();
        match dialler.for_commands(Arc::new(pushed)).await {
            Ok((mut connection, server)) => {
                tracing::info!(%server, "connected to Redis");
                shared.connected(connection.clone(), &server);
                let why = until_lost(&mut dialler, &mut connection, &server, &shared.doubt).await;
                tracing::warn!(%server, reason = why, "connection to Redis lost");
                // What still works of a cluster serves on until there is a new view of it.
                if !matches!(connection, Connection::Cluster(_)) {
                    shared.disconnected();
                }
                shared.failed(why);
            }
            Err(why) => {
                if shared.disconnected() || !shared.tried.load(Ordering::Relaxed) {
                    tracing::warn!(reason = why, "cannot connect to Redis; trying on");
                }
                shared.failed(why);
            }
        }
        shared.tried.store(true, Ordering::Relaxed);
        backoff.wait(shared.clock.now().saturating_duration_since(started)).await;
    }
}

/// Ends when the connection is of no more use, and says why.
pub(super) async fn until_lost(
    dialler: &mut Dialler,
    connection: &mut (impl ConnectionLike + Send),
    server: &str,
    doubt: &Doubt,
) -> String {
    let ping = redis::cmd("PING");
    loop {
        tokio::select! {
            () = tokio::time::sleep(CHECK) => {}
            () = doubt.raised.notified() => {}
        }
        if doubt.demoted.swap(false, Ordering::AcqRel) {
            return "the server is read-only".to_owned();
        }
        match tokio::time::timeout(PING, ping.query_async::<Value>(connection)).await {
            Err(_) => return format!("no answer to a ping within {PING:?}"),
            Ok(Err(error)) => return error.to_string(),
            Ok(Ok(_)) => {}
        }
        if dialler.has_moved(server).await {
            return "another server is master now".to_owned();
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_become_rarer_and_stay_bounded() {
        let mut backoff = Backoff::new();
        let mut bound = SHORTEST;
        for attempt in 0..20 {
            let wait = backoff.next();
            assert!(wait >= bound / 2 && wait <= bound, "attempt {attempt}: {wait:?}");
            bound = (bound * 2).min(LONGEST);
        }
        assert_eq!(bound, LONGEST);
    }
}
