//! Leaving: SIGTERM drains and goes, SIGQUIT hands the sockets to a new process and drains, SIGINT
//! goes at once, and so does either of SIGINT and SIGTERM during a drain.
//!
//! Pingora sleeps through its whole grace period, however soon the last request is done. Here a task
//! watches the open connections and ends the process when there are none, or when the time is over.

use super::handover;
use crate::app::App;
use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Between two looks at the open connections.
const LOOK: Duration = Duration::from_millis(20);
/// From accepting a connection to counting it. With TLS the handshake lies between.
const SETTLE: Duration = Duration::from_millis(100);
const SETTLE_TLS: Duration = Duration::from_secs(1);
/// After SIGQUIT Pingora keeps accepting this long, until the new process has settled.
const HANDOVER: Duration = Duration::from_secs(5);
/// For the last lines of the access log.
const FLUSH: Duration = Duration::from_secs(1);

/// Waits for a signal on Pingora's behalf.
pub(super) struct Signals {
    app: Arc<App>,
    /// Where a new process waits for the sockets.
    meeting_place: String,
}

impl Signals {
    pub(super) fn new(app: Arc<App>, meeting_place: String) -> Self {
        Self { app, meeting_place }
    }

    /// Goes on beside Pingora, which only sleeps from here on, and listens to no signal.
    fn leave(&self, signals: [Option<Signal>; 2], after: Duration) {
        tokio::spawn(leave(self.app.clone(), signals, after));
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let mut terminate = catch(SignalKind::terminate());
        let mut quit = catch(SignalKind::quit());
        let mut interrupt = catch(SignalKind::interrupt());
        loop {
            tokio::select! {
                () = arrives(&mut terminate) => {
                    self.app.drain.begin();
                    tracing::info!(connections = self.app.drain.connections(), "SIGTERM: draining");
                    self.leave([terminate, interrupt], Duration::ZERO);
                    return ShutdownSignal::GracefulTerminate;
                }
                () = arrives(&mut quit) => {
                    if !handover::somebody_waits(&self.meeting_place).await {
                        tracing::error!(
                            meeting_place = self.meeting_place,
                            "SIGQUIT, but no new process waits for the sockets: start it with \
                             `penstock run --upgrade` first; serving on"
                        );
                        continue;
                    }
                    tracing::info!("SIGQUIT: handing the sockets to the new process");
                    self.app.drain.hand_over();
                    self.leave([terminate, interrupt], HANDOVER);
                    return ShutdownSignal::GracefulUpgrade;
                }
                () = arrives(&mut interrupt) => {
                    self.app.keys.write_used();
                    self.app.access_log.flush(FLUSH);
                    return ShutdownSignal::FastShutdown;
                }
            }
        }
    }
}

fn catch(kind: SignalKind) -> Option<Signal> {
    signal(kind).map_err(|error| tracing::error!(%error, "a signal cannot be caught")).ok()
}

async fn arrives(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Ends the process: when nobody is being served any more, when the drain's time is over, or when
/// it is told a second time.
async fn leave(app: Arc<App>, signals: [Option<Signal>; 2], after: Duration) {
    let [mut terminate, mut interrupt] = signals;
    let served = async {
        tokio::time::sleep(after).await;
        until_served(&app).await;
    };
    tokio::select! {
        () = served => {}
        () = arrives(&mut terminate) => tracing::warn!("SIGTERM again: not waiting for the rest"),
        () = arrives(&mut interrupt) => tracing::warn!("SIGINT: not waiting for the rest"),
    }
    let left = app.drain.connections();
    if left > 0 {
        tracing::warn!(connections = left, "closing what is left");
    }
    app.keys.write_used();
    app.access_log.flush(FLUSH);
    tracing::info!("stopped");
    std::process::exit(0);
}

/// Returns when no connection is open, or when the time to drain is over.
async fn until_served(app: &App) {
    let deadline = app.clock.now() + app.settings.drain;
    // Pingora closes the listeners and idle connections now; what it accepted last still counts.
    let settle = if app.settings.tls.is_some() { SETTLE_TLS } else { SETTLE };
    tokio::time::sleep(settle.min(app.settings.drain)).await;
    while app.drain.connections() > 0 && app.clock.now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
}
