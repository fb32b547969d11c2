//! The link to Redis: one per process, for everything that instances share.
//!
//! Nobody waits for Redis. The link is made without a connection; connections are made, watched
//! and replaced in the background ([`keeper`]) on threads of the link's own, so that callers may be
//! on any runtime. Every call has a deadline and goes through the breaker, and what becomes of it
//! is an answer or a [`Trouble`] that names what the caller goes on without. An answer that comes
//! after its deadline finds nobody waiting and holds up nobody.
//!
//! A connection is shared: requests are pipelined on it, so a thousand concurrent callers cost one
//! connection (on a cluster one per node).

mod board;
mod dial;
mod keeper;
mod lists;
mod script;
mod sentinel;
mod status;
mod subscription;
mod trouble;

pub use board::{Board, Revision, Rows};
pub use lists::{ListsRead, SharedLists, SharedListsError};
pub use script::Script;
pub use status::{Counters, Status};
pub use subscription::{Event, Subscription};
pub use trouble::Trouble;

/// The crate beneath, for commands, pipelines and the conversion of answers.
pub use redis::{Cmd, FromRedisValue, Pipeline, ToRedisArgs, Value, cmd, pipe};

use crate::resilience::Breaker;
use dial::{Connection, Dialler};
use penstock_config::bootstrap::Redis;
use penstock_config::clock::SharedClock;
use penstock_config::policy::Resilience;
use redis::{ErrorKind, RedisResult, ServerErrorKind};
use status::Shared;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// See the module.
pub struct Link {
    settings: Redis,
    shared: Arc<Shared>,
    /// `Some` until the link is dropped.
    runtime: Option<tokio::runtime::Runtime>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("url", &self.settings.url).finish_non_exhaustive()
    }
}

impl Link {
    /// A link that connects in the background. Fails only when the machine has no more threads.
    pub fn new(settings: Redis, clock: SharedClock) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("redis-link")
            .enable_all()
            .build()?;
        let shared = Arc::new(Shared::new(clock));
        runtime.spawn(keeper::keep(Arc::clone(&shared), Dialler::new(settings.clone())));
        Ok(Self { settings, shared, runtime: Some(runtime) })
    }

    /// The name of a key or channel: `name` behind the namespace, `penstock:name`. On a cluster,
    /// keys that are used in one call have the same tag in braces: `limit:{client}:search`.
    pub fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.settings.namespace)
    }

    /// Runs a command. Its keys are from [`Link::key`].
    pub async fn call<T: FromRedisValue>(
        &self,
        policy: &Resilience,
        command: &Cmd,
    ) -> Result<T, Trouble> {
        let work = |mut connection: Connection| async move {
            command.query_async::<Value>(&mut connection).await
        };
        self.within(policy, work).await
    }

    /// Runs a command that no request waits for, within `deadline` and past the breaker: it is made
    /// where that is open, and what becomes of it says nothing about calls with the deadline of a request.
    pub async fn call_patiently<T: FromRedisValue>(
        &self,
        deadline: Duration,
        command: &Cmd,
    ) -> Result<T, Trouble> {
        let shared = &self.shared;
        let connection =
            shared.connected.load().as_ref().map(|connected| connected.connection.clone());
        let result = match connection {
            Some(mut connection) => {
                let result = self.timed(deadline, command.query_async(&mut connection)).await;
                result.inspect_err(|trouble| self.note(trouble))
            }
            None => Err(self.not_connected()),
        };
        let result = result.and_then(|value| redis::from_redis_value(value).map_err(unexpected));
        shared.counters.count(&result);
        result
    }

    /// Runs several commands in one round trip. On a cluster their keys share a slot.
    pub async fn pipeline<T: FromRedisValue>(
        &self,
        policy: &Resilience,
        commands: &Pipeline,
    ) -> Result<T, Trouble> {
        let work = |mut connection: Connection| async move {
            commands.query_async::<Value>(&mut connection).await
        };
        self.within(policy, work).await
    }

    /// Runs a script: one round trip, two when the server does not know it yet. On a cluster all
    /// `keys` share a slot.
    pub async fn script<T: FromRedisValue, K: AsRef<str>>(
        &self,
        policy: &Resilience,
        script: &Script,
        keys: &[K],
        args: impl ToRedisArgs,
    ) -> Result<T, Trouble> {
        debug_assert!(
            script::are_together(keys),
            "the keys of one call have one tag in braces, or a cluster refuses them"
        );
        let command = script.by_hash(keys, args);
        let command = &command;
        let work =
            |mut connection: Connection| async move { script.run(command, &mut connection).await };
        self.within(policy, work).await
    }

    /// Publishes to the subscribers of `channel` (without namespace), everywhere.
    pub async fn publish(
        &self,
        policy: &Resilience,
        channel: &str,
        payload: &[u8],
    ) -> Result<(), Trouble> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(self.key(channel)).arg(payload);
        self.call::<Value>(policy, &command).await.map(|_| ())
    }

    /// Listens on `channel` (without namespace) over a connection of its own.
    pub fn subscribe(&self, channel: &str) -> Subscription {
        let runtime = self.runtime.as_ref().expect("there until the link is dropped").handle();
        let dialler = Dialler::new(self.settings.clone());
        let clock = Arc::clone(&self.shared.clock);
        Subscription::new(runtime, clock, dialler, self.key(channel))
    }

    /// There is a connection.
    pub fn is_connected(&self) -> bool {
        self.shared.connected.load().is_some()
    }

    /// The breaker, to be forced or looked at.
    pub fn breaker(&self) -> &Breaker {
        &self.shared.breaker
    }

    /// For metrics.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// For the status page.
    pub fn status(&self) -> Status {
        let shared = &self.shared;
        let server = shared.connected.load().as_ref().map(|connected| connected.server.clone());
        Status {
            kind: self.settings.url.kind.name(),
            address: self.settings.url.to_string(),
            server,
            breaker: shared.breaker.status(shared.clock.now()),
            calls: shared.counters.by_result(),
            connects: shared.counters.connects.load(Ordering::Relaxed),
            last_error: shared.last_error().map(|text| text.to_string()),
        }
    }

    /// Does `work` under the deadline and through the breaker.
    async fn within<T: FromRedisValue, F>(
        &self,
        policy: &Resilience,
        work: impl FnOnce(Connection) -> F,
    ) -> Result<T, Trouble>
    where
        F: Future<Output = RedisResult<Value>>,
    {
        let shared = &self.shared;
        let connection =
            shared.connected.load().as_ref().map(|connected| connected.connection.clone());
        let result = match connection {
            Some(connection) => self.ask(policy, work(connection)).await,
            // Before the first attempt is over nothing is known against Redis.
            None if !shared.tried.load(Ordering::Relaxed) => Err(self.not_connected()),
            None => self.ask_nobody(policy),
        };
        let result = result.and_then(|value| redis::from_redis_value(value).map_err(unexpected));
        shared.counters.count(&result);
        result
    }

    async fn ask(
        &self,
        policy: &Resilience,
        work: impl Future<Output = RedisResult<Value>>,
    ) -> Result<Value, Trouble> {
        let shared = &self.shared;
        let timed = self.timed(policy.redis.timeout, work);
        let clock = &*shared.clock;
        let asked = shared.breaker.call(&policy.breaker, clock, timed, Trouble::is_its_fault).await;
        let result = asked?;
        result.inspect_err(|trouble| self.note(trouble))
    }

    async fn timed(
        &self,
        after: Duration,
        work: impl Future<Output = RedisResult<Value>>,
    ) -> Result<Value, Trouble> {
        match tokio::time::timeout(after, work).await {
            Ok(Err(error)) => {
                if error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) {
                    self.shared.doubt.demoted();
                }
                Err(Trouble::from(error))
            }
            Ok(Ok(value)) => Ok(value),
            Err(_) => Err(Trouble::Late { after }),
        }
    }

    /// Has the keeper look at the connection if the trouble speaks against it.
    fn note(&self, trouble: &Trouble) {
        if trouble.is_its_fault() {
            self.shared.failed(trouble.to_string());
            self.shared.doubt.raise();
        }
    }

    /// No connection is a failure like any other, and costs nothing to find out.
    fn ask_nobody(&self, policy: &Resilience) -> Result<Value, Trouble> {
        let now = self.shared.clock.now();
        self.shared.breaker.permit(&policy.breaker, now)?.failed(now);
        Err(self.not_connected())
    }

    fn not_connected(&self) -> Trouble {
        let why = self.shared.last_error().unwrap_or_else(|| "still connecting".into());
        Trouble::NotConnected { why }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for threads is not allowed where a link may be dropped: on a runtime.
            runtime.shutdown_background();
        }
    }
}

fn unexpected(error: redis::ParsingError) -> Trouble {
    Trouble::Rejected(format!("the answer is of another type: {error}"))
}
