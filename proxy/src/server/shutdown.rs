//! Leaving: SIGTERM drains and goes, SIGQUIT hands the sockets to a new process and drains, SIGINT
//! goes at once.
//!
//! Pingora sleeps through its whole grace period, however soon the last request is done. Here a
//! thread watches the open connections and ends the process when there are none, or when the time
//! is over.

use super::handover;
use crate::app::App;
use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Between two looks at the open connections.
const LOOK: Duration = Duration::from_millis(20);
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

    fn leave(&self, after: Duration) {
        let app = self.app.clone();
        let leaving = std::thread::Builder::new().name("leaving".into()).spawn(move || {
            std::thread::sleep(after);
            end_when_served(&app);
        });
        if let Err(error) = leaving {
            tracing::error!(%error, "no thread to watch the drain; waiting the whole grace period");
        }
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let catch = |kind| {
            signal(kind).map_err(|error| tracing::error!(%error, "a signal cannot be caught"))
        };
        let mut terminate = catch(SignalKind::terminate()).ok();
        let mut quit = catch(SignalKind::quit()).ok();
        let mut interrupt = catch(SignalKind::interrupt()).ok();
        loop {
            tokio::select! {
                () = arrives(&mut terminate) => {
                    self.app.drain.begin();
                    tracing::info!(connections = self.app.drain.connections(), "SIGTERM: draining");
                    self.leave(Duration::ZERO);
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
                    self.leave(HANDOVER);
                    return ShutdownSignal::GracefulUpgrade;
                }
                () = arrives(&mut interrupt) => {
                    self.app.access_log.flush(FLUSH);
                    return ShutdownSignal::FastShutdown;
                }
            }
        }
    }
}

async fn arrives(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Ends the process when nobody is being served any more, or when the drain's time is over.
fn end_when_served(app: &App) {
    let deadline = app.clock.now() + app.settings.drain;
    // Pingora closes the listeners and idle connections now; what it accepted last still counts.
    std::thread::sleep(LOOK * 5);
    while app.drain.connections() > 0 && app.clock.now() < deadline {
        std::thread::sleep(LOOK);
    }
    let left = app.drain.connections();
    if left > 0 {
        tracing::warn!(connections = left, "the time to drain is over; closing what is left");
    }
    app.access_log.flush(FLUSH);
    tracing::info!("stopped");
    std::process::exit(0);
}
