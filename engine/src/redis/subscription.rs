//! A channel to listen on that survives the connection.

use super::dial::Dialler;
use super::keeper::{Backoff, Doubt, until_lost};
use penstock_config::clock::SharedClock;
use redis::{PushInfo, PushKind, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Messages a subscriber may be behind before it is told that it missed some.
const BEHIND: usize = 4_096;

/// What a subscriber learns, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody published this.
    Message(Vec<u8>),
    /// From about now (at most two seconds ago, when a connection fell silent) messages are
    /// missed.
    Interrupted,
    /// From now on none is missed; also said when listening begins. What was published before may
    /// have been missed: ask for what it would have changed.
    Resubscribed,
}

/// A subscription; ends when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    events: mpsc::Receiver<Event>,
    /// The subscriber was too slow and messages were thrown away.
    missed: Arc<AtomicBool>,
    /// `missed` was reported as an interruption; the subscription itself is whole.
    resume: bool,
    task: tokio::task::AbortHandle,
}

impl Subscription {
    pub(super) fn new(
        runtime: &tokio::runtime::Handle,
        clock: SharedClock,
        dialler: Dialler,
        channel: String,
    ) -> Self {
        let (sender, events) = mpsc::channel(BEHIND);
        let missed = Arc::new(AtomicBool::new(false));
        let listener = Listener { clock, channel, sender, missed: Arc::clone(&missed) };
        let task = runtime.spawn(listener.run(dialler)).abort_handle();
        Self { events, missed, resume: false, task }
    }

    /// The next event; `None` when the link is gone. May be called on any runtime, and dropped
    /// while it waits without losing anything.
    pub async fn next(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.resume) {
            return Some(Event::Resubscribed);
        }
        if self.missed.swap(false, Ordering::AcqRel) {
            self.resume = true;
            return Some(Event::Interrupted);
        }
        self.events.recv().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Listener {
    clock: SharedClock,
    channel: String,
    sender: mpsc::Sender<Event>,
    missed: Arc<AtomicBool>,
}

impl Listener {
    async fn run(self, mut dialler: Dialler) {
        let mut backoff = Backoff::new();
        loop {
            let started = self.clock.now();
            match self.listen(&mut dialler).await {
                Ok(why) => {
                    tracing::warn!(channel = self.channel, reason = why, "subscription lost");
                    if self.sender.send(Event::Interrupted).await.is_err() {
                        return;
                    }
                }
                Err(why) => {
                    tracing::debug!(channel = self.channel, reason = why, "cannot subscribe");
                }
            }
            backoff.wait(self.clock.now().saturating_duration_since(started)).await;
        }
    }

    /// Listens until the connection is lost, and says why it was; or why there was none.
    async fn listen(&self, dialler: &mut Dialler) -> Result<String, String> {
        let doubt = Arc::new(Doubt::default());
        let (connection, server) = dialler.one(self.receiver(Arc::clone(&doubt))).await?;
        let mut connection = connection;
        let subscribing = connection.subscribe(&self.channel);
        tokio::time::timeout(Duration::from_secs(2), subscribing)
            .await
            .map_err(|_| "no answer to the subscription".to_owned())?
            .map_err(|error| error.to_string())?;
        if self.sender.send(Event::Resubscribed).await.is_err() {
            return Ok("the subscriber is gone".to_owned());
        }
        Ok(until_lost(dialler, &mut connection, &server.to_string(), &doubt).await)
    }

    /// Called by the connection; never waits.
    fn receiver(&self, doubt: Arc<Doubt>) -> Arc<dyn Fn(PushInfo) + Send + Sync> {
        let sender = self.sender.clone();
        let missed = Arc::clone(&self.missed);
        Arc::new(move |info: PushInfo| match info.kind {
            PushKind::Disconnection => doubt.raise(),
            PushKind::Message => {
                // Channel, then payload.
                if let Some(Value::BulkString(payload)) = info.data.into_iter().nth(1)
                    && sender.try_send(Event::Message(payload)).is_err()
                {
                    missed.store(true, Ordering::Release);
                }
            }
            _ => {}
        })
    }
}
