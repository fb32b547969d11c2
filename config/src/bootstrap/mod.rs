//! What is read once, when a process starts: addresses, folders, threads, certificates.
//!
//! A file (`penstock.toml`, see `config/defaults/penstock.toml` for every key) overridden by the
//! environment. An environment variable that is empty counts as not set, except where "none" is a
//! value: `PENSTOCK_UPSTREAM`, `PENSTOCK_TRUSTED_PROXIES`, `PENSTOCK_EMBEDDING_MODEL`, `PENSTOCK_REDIS_URL`,
//! `PENSTOCK_DATABASE_URL` and `PENSTOCK_REPLICA_URLS` empty mean none, whatever the file says. Relative paths are relative to the working directory.

mod database;
mod node;
mod parse;
mod redis;
mod secret;
mod server;
mod settings;
#[cfg(test)]
mod tests;

pub use database::{Database, DatabaseTls, DatabaseUrl, PoolSettings, ReadFrom};
pub use node::Node;
pub use redis::{Redis, RedisKind, RedisUrl};
pub use secret::Secret;
pub use server::{Scheme, Server};

use crate::disk;
use crate::problem::{Problem, Problems};
use crate::read::{Document, MAX_FILE_BYTES, Section, closest, text_of};
use ipnet::IpNet;
use settings::Settings;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEFAULTS: &str = include_str!("../../defaults/penstock.toml");

/// The addresses a process listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// Traffic.
    pub public: SocketAddr,
    /// Health, metrics, status, commands of the control plane.
    pub ops: SocketAddr,
    /// The control plane's API and console.
    pub control: SocketAddr,
    /// Whether connections to the public listeners begin with a PROXY header.
    pub proxy_protocol: ProxyProtocol,
}

/// How a balancer that passes connections through says whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// It does not: the peer is who connects.
    Off,
    /// Every connection comes from one of `trusted_proxies` and begins with a PROXY header, version 1
    /// or 2. Others are closed.
    Required,
}

/// The public listener with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Its address.
    pub listen: SocketAddr,
    /// Certificate and chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// The shop's own application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Its servers; none: paths that are not ours are 404.
    pub servers: Vec<Server>,
    /// How a server that is down is found out.
    pub health_check: HealthCheck,
}

/// A question asked of every upstream server again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// `GET` of this path must answer 2xx; `None`: a TCP connection is enough.
    pub path: Option<String>,
    /// Between two questions.
    pub interval: Duration,
}

/// What a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Request line and headers together.
    pub max_header_bytes: usize,
    /// Body of a request to our own endpoints; bodies that pass through have no bound here.
    pub max_body_bytes: usize,
    /// From the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
}

/// The validated settings of a process. Made by [`Bootstrap::load`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// Addresses.
    pub listen: Listen,
    /// TLS, if configured.
    pub tls: Option<Tls>,
    /// The store and the indexes.
    pub data_dir: PathBuf,
    /// The policy files.
    pub policy_dir: PathBuf,
    /// The shop's own application.
    pub upstream: Upstream,
    /// Redis; `None`: embedded.
    pub redis: Option<Redis>,
    /// PostgreSQL; `None`: the store is a file in the data folder.
    pub database: Option<Database>,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// A folder with an embedding model; `None`: what the index says.
    pub embedding_model: Option<PathBuf>,
    /// A file with the token of commands on the operations listener; `None`: `ops.token` in the data
    /// folder, made when it is missing.
    pub ops_token_file: Option<PathBuf>,
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Level or filter directives of the log (`info`, `warn,penstock_engine=debug`).
    pub log: String,
    /// Name of this process in status pages and heartbeats; fit for a file name.
    pub instance: String,
    /// What a client may send.
    pub bounds: Bounds,
    /// How long requests in flight may take after SIGTERM.
    pub drain: Duration,
}

/// Variables among `set` that are no setting and look like one of those that were `asked` for: each with
/// what was probably meant. They would be ignored without a word.
pub fn misspelt<'n>(
    set: impl IntoIterator<Item = &'n str>,
    asked: &BTreeSet<String>,
) -> Vec<(String, String)> {
    const PREFIX: &str = "PENSTOCK_";
    let known: Vec<String> =
        asked.iter().filter_map(|name| Some(name.strip_prefix(PREFIX)?.to_lowercase())).collect();
    let unknown = set.into_iter().filter(|name| !asked.contains(*name));
    unknown
        .filter_map(|name| {
            let near = closest(name.strip_prefix(PREFIX)?, known.iter().map(String::as_str))?;
            Some((name.to_owned(), format!("{PREFIX}{}", near.to_uppercase())))
        })
        .collect()
}

impl Bootstrap {
    /// Settings from the file at `path` (if given; it must exist), `env`, and the defaults; or
    /// everything that is wrong with them. Files and folders they name must exist, except the
    /// data and policy folders, which are made on first use.
    pub fn load(
        path: Option<&Path>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Problems> {
        let (file, bytes) = match path {
            None => ("penstock.toml".to_owned(), Vec::new()),
            Some(path) => {
                let name = path.display().to_string();
                let bytes = disk::read_bounded(path, MAX_FILE_BYTES)
                    .map_err(|error| Problem::of_file(&name, format!("cannot be read: {error}")))?;
                (name, bytes)
            }
        };
        let bootstrap = Self::parse(&file, &bytes, env)?;
        let missing = bootstrap.missing_files();
        if missing.is_empty() { Ok(bootstrap) } else { Err(Problems(missing)) }
    }

    /// As [`Bootstrap::load`] for content already read, without looking whether the files it names
    /// exist. `file` is the name problems are reported under.
    pub fn parse(
        file: &str,
        content: &[u8],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Problems> {
        let text = text_of(file, content)?;
        let defaults = Document::parse("penstock.toml", DEFAULTS);
        let document = Document::parse(file, text);
        let settings = Settings::new(env);
        let bootstrap = document.read(Some(&defaults), |section| read(section, &settings));
        let mut problems = document.into_findings().problems;
        problems.extend(settings.into_problems());
        if problems.is_empty() { Ok(bootstrap) } else { Err(Problems(problems)) }
    }

    fn missing_files(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut need = |key: &str, variable: &str, path: &Path, folder: bool| {
            let there = if folder { path.is_dir() } else { path.is_file() };
            if !there {
                let kind = if folder { "folder" } else { "file" };
                let mut problem = Problem::of_file(
                    path.display().to_string(),
                    format!("there is no such {kind}"),
                );
                key.clone_into(&mut problem.key);
                problems.push(problem.suggest(format!("set in the file or by {variable}")));
            }
        };
        if let Some(tls) = &self.tls {
            need("tls.cert", "PENSTOCK_TLS_CERT", &tls.cert, false);
            need("tls.key", "PENSTOCK_TLS_KEY", &tls.key, false);
        }
        if let Some(model) = &self.embedding_model {
            need("embedding_model", "PENSTOCK_EMBEDDING_MODEL", model, true);
        }
        if let Some(file) = self.redis.as_ref().and_then(|redis| redis.password_file.as_ref()) {
            need("redis.password_file", "PENSTOCK_REDIS_PASSWORD_FILE", file, false);
        }
        if let Some(database) = &self.database {
            if let Some(file) = &database.password_file {
                need("database.password_file", "PENSTOCK_DATABASE_PASSWORD_FILE", file, false);
            }
            if let Some(file) = &database.ca_file {
                need("database.ca_file", "PENSTOCK_DATABASE_CA_FILE", file, false);
            }
        }
        problems
    }
}

fn read(file: &Section<'_>, settings: &Settings<'_>) -> Bootstrap {
    let listen = file.table("listen", |s| Listen {
        public: settings.address(s, "public", "PENSTOCK_LISTEN"),
        ops: settings.address(s, "ops", "PENSTOCK_OPS_LISTEN"),
        control: settings.address(s, "control", "PENSTOCK_CONTROL_LISTEN"),
        proxy_protocol: settings
            .text(s, "proxy_protocol", "PENSTOCK_PROXY_PROTOCOL", parse::proxy_protocol)
            .unwrap_or(ProxyProtocol::Off),
    });
    let trusted_proxies =
        settings.list(file, "trusted_proxies", "PENSTOCK_TRUSTED_PROXIES", parse::network);
    if listen.proxy_protocol == ProxyProtocol::Required && trusted_proxies.is_empty() {
        let message = "no connection would be taken: name the balancers in trusted_proxies";
        settings.cross("listen.proxy_protocol", message.into());
    }
    let tls = file.table("tls", |s| read_tls(s, settings));
    let data_dir = settings
        .path(file, "data_dir", "PENSTOCK_DATA_DIR")
        .unwrap_or_else(|| PathBuf::from("data"));
    let policy_dir = settings
        .path(file, "policy_dir", "PENSTOCK_POLICY_DIR")
        .unwrap_or_else(|| data_dir.join("policy"));
    let upstream = file.table("upstream", |s| Upstream {
        servers: settings.list(s, "urls", "PENSTOCK_UPSTREAM", server::parse),
        health_check: s.table("health_check", |s| HealthCheck {
            path: settings.text(s, "path", "PENSTOCK_HEALTH_CHECK_PATH", parse::url_path).flatten(),
            interval: Duration::from_secs(settings.number(
                s,
                "interval_seconds",
                "PENSTOCK_HEALTH_CHECK_INTERVAL_SECONDS",
                1..=3_600,
            )),
        }),
    });
    check_addresses(settings, &listen, tls.as_ref(), &upstream);
    let instance = settings
        .text(file, "instance", "PENSTOCK_INSTANCE", parse::file_name)
        .unwrap_or_else(|| format!("{}-{}", parse::host_name(), listen.public.port()));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Bootstrap {
        listen,
        tls,
        data_dir,
        policy_dir,
        upstream,
        redis: file.table("redis", |s| read_redis(s, settings)),
        database: file.table("database", |s| database::read(s, settings)),
        trusted_proxies,
        embedding_model: settings.optional_path(
            file,
            "embedding_model",
            "PENSTOCK_EMBEDDING_MODEL",
        ),
        ops_token_file: settings.optional_path(file, "ops_token_file", "PENSTOCK_OPS_TOKEN_FILE"),
        workers: settings
            .optional_number(file, "workers", "PENSTOCK_WORKERS", 1..=1_024)
            .map_or(cores, |workers| workers as usize),
        log: settings.text(file, "log", "PENSTOCK_LOG", parse::log_filter).unwrap_or_default(),
        instance,
        bounds: file.table("bounds", |s| Bounds {
            max_header_bytes: settings.number(
                s,
                "max_header_bytes",
                "PENSTOCK_MAX_HEADER_BYTES",
                1_024..=1 << 20,
            ) as usize,
            max_body_bytes: settings.number(
                s,
                "max_body_bytes",
                "PENSTOCK_MAX_BODY_BYTES",
                1_024..=1 << 30,
            ) as usize,
            header_timeout: Duration::from_secs(settings.number(
                s,
                "header_timeout_seconds",
                "PENSTOCK_HEADER_TIMEOUT_SECONDS",
                1..=3_600,
            )),
        }),
        drain: file.table("shutdown", |s| {
            Duration::from_secs(settings.number(
                s,
                "drain_seconds",
                "PENSTOCK_DRAIN_SECONDS",
                0..=3_600,
            ))
        }),
    }
}

fn read_redis(section: &Section<'_>, settings: &Settings<'_>) -> Option<Redis> {
    let url = settings.optional(section, "url", "PENSTOCK_REDIS_URL", redis::parse_optional);
    let password_file =
        settings.optional_path(section, "password_file", "PENSTOCK_REDIS_PASSWORD_FILE");
    let namespace =
        settings.text(section, "namespace", "PENSTOCK_REDIS_NAMESPACE", redis::namespace);
    let redis = Redis { url: url.flatten()?, password_file, namespace: namespace? };
    if redis.url.password.is_some() && redis.password_file.is_some() {
        let message = "the URL has a password, too; keep one of the two";
        settings.cross("redis.password_file", message.to_owned());
    }
    Some(redis)
}

fn read_tls(section: &Section<'_>, settings: &Settings<'_>) -> Option<Tls> {
    let listen = settings.text(section, "listen", "PENSTOCK_TLS_LISTEN", parse::address);
    let cert = settings.path(section, "cert", "PENSTOCK_TLS_CERT");
    let key = settings.path(section, "key", "PENSTOCK_TLS_KEY");
    match (listen, cert, key) {
        (Some(listen), Some(cert), Some(key)) => Some(Tls { listen, cert, key }),
        (None, None, None) => None,
        (listen, cert, key) => {
            let parts =
                [("listen", listen.is_none()), ("cert", cert.is_none()), ("key", key.is_none())];
            for (name, _) in parts.iter().filter(|(name, absent)| *absent && !section.has(name)) {
                let hint = format!("set tls.{name} or PENSTOCK_TLS_{}", name.to_uppercase());
                section.problem(name, "TLS needs listen, cert and key", Some(hint));
            }
            None
        }
    }
}

/// Two listeners on one address fail at start with a message that names neither; a proxy that is
/// its own upstream answers every request with itself.
fn check_addresses(
    settings: &Settings<'_>,
    listen: &Listen,
    tls: Option<&Tls>,
    upstream: &Upstream,
) {
    let mut all = vec![
        ("listen.public", listen.public),
        ("listen.ops", listen.ops),
        ("listen.control", listen.control),
    ];
    all.extend(tls.map(|tls| ("tls.listen", tls.listen)));
    for (i, (name, address)) in all.iter().enumerate() {
        for (other, taken) in &all[..i] {
            let same_ip = address.ip() == taken.ip()
                || address.ip().is_unspecified()
                || taken.ip().is_unspecified();
            if same_ip && address.port() == taken.port() && address.port() != 0 {
                settings.cross(name, format!("{address} is taken by {other} ({taken})"));
            }
        }
    }
    for server in &upstream.servers {
        let itself = server.host.parse().is_ok_and(|ip: std::net::IpAddr| {
            let ours = listen.public.ip();
            ip == ours || (ours.is_unspecified() && ip.is_loopback())
        });
        if (itself || server.host == "localhost") && server.port == listen.public.port() {
            settings.cross("upstream.urls", format!("{server} is this proxy's own address"));
        }
    }
}
