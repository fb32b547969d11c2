//! From settings to a connection: one server, the master that sentinels name, or a cluster.

use super::sentinel::Sentinels;
use penstock_config::bootstrap::{Node, Redis, RedisKind};
use rand::seq::SliceRandom;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    Pipeline, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisFuture, RedisResult, Value,
};
use std::time::Duration;

/// TCP, TLS and the handshake: of a healthy server milliseconds.
pub(super) const CONNECT: Duration = Duration::from_secs(2);
/// A healthy connection answers a ping in well under a millisecond.
pub(super) const PING: Duration = Duration::from_secs(1);
/// Longer than any deadline of a caller, so that the caller's ends first.
const RESPONSE: Duration = Duration::from_secs(3);
/// Requests a connection takes before callers wait for room: more than a flood has in flight.
const PIPELINE: usize = 4_096;

/// What a connection calls with what was not asked for.
pub(super) type Pushed = std::sync::Arc<dyn Fn(PushInfo) + Send + Sync>;

/// A connection that many callers share: requests are pipelined, answers find their caller.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(one) => one.req_packed_command(cmd),
            Self::Cluster(cluster) => cluster.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(one) => one.req_packed_commands(pipeline, offset, count),
            Self::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(one) => one.get_db(),
            Self::Cluster(cluster) => cluster.get_db(),
        }
    }
}

/// Makes connections.
pub(super) struct Dialler {
    settings: Redis,
    sentinels: Option<Sentinels>,
}

impl Dialler {
    pub fn new(settings: Redis) -> Self {
        let sentinels = match &settings.url.kind {
            RedisKind::Sentinel { service } => {
                Some(Sentinels::new(service, &settings.url.nodes, settings.url.tls))
            }
            RedisKind::Single | RedisKind::Cluster => None,
        };
        if settings.url.tls {
            // The process has one provider; whoever installs it first decides, and all are ring.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        Self { settings, sentinels }
    }

    /// A connection for commands and the server it leads to.
    pub async fn for_commands(&mut self, pushed: Pushed) -> Result<(Connection, String), String> {
        if self.settings.url.kind == RedisKind::Cluster {
            let connected = tokio::time::timeout(CONNECT, self.cluster(pushed)).await;
            let cluster = connected.map_err(|_| late(CONNECT))??;
            return Ok((Connection::Cluster(cluster), "the cluster".to_owned()));
        }
        let (one, node) = self.one(pushed).await?;
        Ok((Connection::One(one), node.to_string()))
    }

    /// A connection to one server, to listen on; in a cluster any node hears everything.
    pub async fn one(&mut self, pushed: Pushed) -> Result<(MultiplexedConnection, Node), String> {
        let mut nodes = match &mut self.sentinels {
            None => self.settings.url.nodes.clone(),
            Some(sentinels) => vec![sentinels.master().await?],
        };
        // So that a fleet does not listen on one node of a cluster.
        nodes.shuffle(&mut rand::rng());
        let mut why = String::new();
        for node in nodes {
            match self.open(&node, std::sync::Arc::clone(&pushed)).await {
                Ok(connection) => return Ok((connection, node)),
                Err(error) => why = format!("{node}: {error}"),
            }
        }
        Err(why)
    }

    /// The sentinels name another master than `server`.
    pub async fn has_moved(&mut self, server: &str) -> bool {
        match &mut self.sentinels {
            None => false,
            // Sentinels that are gone say nothing about the master.
            Some(sentinels) => {
                sentinels.master().await.is_ok_and(|master| master.to_string() != server)
            }
        }
    }

    async fn open(&self, node: &Node, pushed: Pushed) -> Result<MultiplexedConnection, String> {
        let login = self.login()?;
        let info = address(node, self.settings.url.tls)
            .into_connection_info()
            .map(|info| info.set_redis_settings(login))
            .map_err(text)?;
        let mut connection = connect(info, Some(pushed)).await?;
        if self.sentinels.is_some() {
            let role: Vec<Value> =
                redis::cmd("ROLE").query_async(&mut connection).await.map_err(text)?;
            let role = role.into_iter().next().and_then(|role| redis::from_redis_value(role).ok());
            let role: String = role.unwrap_or_default();
            if role != "master" {
                return Err(format!("the sentinels call it master, it calls itself {role}"));
            }
        }
        Ok(connection)
    }

    async fn cluster(&self, pushed: Pushed) -> Result<ClusterConnection, String> {
        let url = &self.settings.url;
        let nodes: RedisResult<Vec<ConnectionInfo>> =
            url.nodes.iter().map(|node| address(node, url.tls).into_connection_info()).collect();
        let mut builder = ClusterClientBuilder::new(nodes.map_err(text)?)
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(PING)
            .response_timeout(RESPONSE)
            // Redirections are followed; waiting is not ours to do, the caller's deadline is short.
            .retries(3)
            .min_retry_wait(5)
            .max_retry_wait(20)
            .push_sender(sender(pushed));
        if let Some(user) = &url.user {
            builder = builder.username(user);
        }
        if let Some(password) = self.password()? {
            builder = builder.password(password);
        }
        builder.build().map_err(text)?.get_async_connection().await.map_err(text)
    }

    fn login(&self) -> Result<RedisConnectionInfo, String> {
        let mut login = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_db(i64::from(self.settings.url.db));
        if let Some(user) = &self.settings.url.user {
            login = login.set_username(user);
        }
        if let Some(password) = self.password()? {
            login = login.set_password(password);
        }
        Ok(login)
    }

    fn password(&self) -> Result<Option<String>, String> {
        let password = self.settings.password();
        let password = password
            .map_err(|error| format!("the file with the password cannot be read: {error}"))?;
        Ok(password.map(|password| password.expose().to_owned()))
    }
}

/// Opens a connection; never longer than [`CONNECT`].
pub(super) async fn connect(
    info: ConnectionInfo,
    pushed: Option<Pushed>,
) -> Result<MultiplexedConnection, String> {
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(RESPONSE))
        .set_pipeline_buffer_size(PIPELINE);
    if let Some(pushed) = pushed {
        config = config.set_push_sender(sender(pushed));
    }
    let client = Client::open(info).map_err(text)?;
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    // The crate's own timeout is for the same; this one is for what it may forget.
    tokio::time::timeout(CONNECT, connecting).await.map_err(|_| late(CONNECT))?.map_err(text)
}

pub(super) fn address(node: &Node, tls: bool) -> ConnectionAddr {
    let (host, port) = (node.host.clone(), node.port);
    if tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}

fn sender(pushed: Pushed) -> impl Fn(PushInfo) -> Result<(), redis::aio::SendError> {
    move |info| {
        pushed(info);
        Ok(())
    }
}

fn late(after: Duration) -> String {
    format!("no answer within {after:?}")
}

pub(super) fn text(error: redis::RedisError) -> String {
    error.to_string()
}
