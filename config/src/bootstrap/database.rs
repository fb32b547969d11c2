//! The shop's PostgreSQL: where it is, and how much of it is used.

use super::node::{Node, read_node};
use super::parse::word;
use super::secret::{Secret, decode, shown};
use super::settings::Settings;
use crate::read::{Read, Section, closest, printable};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

const PORT: u16 = 5_432;

/// PostgreSQL, when there is one; else the store is a file in the data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// The server that takes writes, or several of which one does.
    pub url: DatabaseUrl,
    /// Servers that are read from, of one node each; none: everything is read where it is written.
    pub replicas: Vec<DatabaseUrl>,
    /// A file with the password of all of them; read again for every connection, so that it can be changed.
    pub password_file: Option<PathBuf>,
    /// Certificates that are trusted, PEM; `None`: the machine's.
    pub ca_file: Option<PathBuf>,
    /// Bounds of each server's pool.
    pub pool: PoolSettings,
    /// Which replica reads.
    pub read_from: ReadFrom,
    /// A replica that is further behind is not read from.
    pub max_lag: Duration,
    /// Queries that take longer are logged with their plan.
    pub slow_query: Duration,
    /// Months of events that are kept, the current one not counted; `None`: all.
    pub keep_months: Option<u32>,
    /// What may wait on disk to be stored, bytes.
    pub spool_bytes: u64,
}

/// Bounds of a pool of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSettings {
    /// Connections that are kept, at least 1.
    pub connections: usize,
    /// Connections on top while there is much to do.
    pub overflow: usize,
    /// How long a caller waits for one.
    pub wait: Duration,
    /// Callers that may wait; more are told at once.
    pub max_waiting: usize,
    /// After so long a connection is replaced, so that a changed name or balance of servers is followed.
    pub max_age: Duration,
}

/// How a replica is chosen among those that are well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// The one that is least behind; of those that are equally so, the least busy.
    LeastLag,
    /// One after the other.
    RoundRobin,
}

impl Database {
    /// The password to use with `url`: from the file as it is now, else from the URL.
    pub fn password(&self, url: &DatabaseUrl) -> io::Result<Option<Secret>> {
        match &self.password_file {
            Some(path) => Secret::in_file(path),
            None => Ok(url.password.clone()),
        }
    }
}

/// How connections are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseTls {
    /// Not at all.
    Disabled,
    /// Encrypted; anybody may be at the other end.
    Encrypted,
    /// Encrypted, and the server's certificate is of its name.
    Verified,
}

/// A validated URL. Shown (`Display`, `Debug`) without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    /// At least one.
    pub nodes: Vec<Node>,
    /// The role.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// The database.
    pub database: String,
    /// How connections are protected.
    pub tls: DatabaseTls,
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<String> = self.nodes.iter().map(ToString::to_string).collect();
        write!(f, "postgres://{}@{}/{}", self.user, nodes.join(","), self.database)
    }
}

/// A URL as written: what a replica leaves out is as of the primary.
#[derive(Debug, Clone)]
struct Written {
    text: String,
    nodes: Vec<Node>,
    user: Option<String>,
    password: Option<Secret>,
    database: Option<String>,
    tls: Option<DatabaseTls>,
}

impl Written {
    fn complete(self, primary: Option<&DatabaseUrl>) -> Read<DatabaseUrl> {
        let user = self.user.or_else(|| primary.map(|url| url.user.clone()));
        let Some(user) = user else {
            let hint = "write postgres://user@host/database".to_owned();
            return Err((format!("\"{}\": the URL names no user", self.text), Some(hint)));
        };
        let database = self.database.or_else(|| primary.map(|url| url.database.clone()));
        let usual = || match self.nodes.iter().all(is_loopback) {
            true => DatabaseTls::Disabled,
            false => DatabaseTls::Verified,
        };
        let tls = self.tls.unwrap_or_else(usual);
        Ok(DatabaseUrl {
            nodes: self.nodes,
            password: self.password.or_else(|| primary.and_then(|url| url.password.clone())),
            // As every PostgreSQL client has it.
            database: database.unwrap_or_else(|| user.clone()),
            user,
            tls,
        })
    }
}

fn is_loopback(node: &Node) -> bool {
    node.host == "localhost" || node.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// `[database]`; `None` where no URL is given.
pub(super) fn read(section: &Section<'_>, settings: &Settings<'_>) -> Option<Database> {
    let url = settings.optional(section, "url", "PENSTOCK_DATABASE_URL", parse_optional);
    let written = settings.list(section, "replica_urls", "PENSTOCK_REPLICA_URLS", parse_replica);
    let password_file =
        settings.optional_path(section, "password_file", "PENSTOCK_DATABASE_PASSWORD_FILE");
    let ca_file = settings.optional_path(section, "ca_file", "PENSTOCK_DATABASE_CA_FILE");
    let number = |key, variable, range| settings.number(section, key, variable, range);
    let pool = PoolSettings {
        connections: number("connections", "PENSTOCK_DATABASE_CONNECTIONS", 1..=1_000) as usize,
        overflow: number("overflow", "PENSTOCK_DATABASE_OVERFLOW", 0..=1_000) as usize,
        wait: Duration::from_millis(number("wait_ms", "PENSTOCK_DATABASE_WAIT_MS", 1..=60_000)),
        max_waiting: number("max_waiting", "PENSTOCK_DATABASE_MAX_WAITING", 0..=100_000) as usize,
        max_age: Duration::from_secs(number(
            "max_age_seconds",
            "PENSTOCK_DATABASE_MAX_AGE_SECONDS",
            1..=604_800,
        )),
    };
    let read_from = settings.text(section, "read_from", "PENSTOCK_READ_FROM", read_from);
    let max_lag = number("max_lag_seconds", "PENSTOCK_MAX_LAG_SECONDS", 1..=3_600);
    let slow = number("slow_query_ms", "PENSTOCK_SLOW_QUERY_MS", 1..=3_600_000);
    let months = number("keep_months", "PENSTOCK_KEEP_MONTHS", 0..=1_200) as u32;
    let spool_bytes = number("spool_bytes", "PENSTOCK_SPOOL_BYTES", 1 << 20..=1 << 50);
    let Some(written_url) = url.flatten() else {
        if !written.is_empty() {
            let message = "there are replicas and no database.url to write to";
            settings.cross("database.replica_urls", message.into());
        }
        return None;
    };
    let fault = |key: &str, (message, hint): (String, Option<String>)| {
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        settings.cross(key, format!("{message}{hint}"));
    };
    let said = written_url.tls;
    let url = written_url.complete(None).map_err(|why| fault("database.url", why)).ok()?;
    if url.password.is_some() && password_file.is_some() {
        let message = "the URL has a password, too; keep one of the two";
        settings.cross("database.password_file", message.to_owned());
    }
    let replica = |written: Written| {
        // What is said of the primary holds; what is only usual for where it is does not.
        let written = Written { tls: written.tls.or(said), ..written };
        let complete = written.complete(Some(&url));
        complete.map_err(|why| fault("database.replica_urls", why)).ok()
    };
    let replicas = written.into_iter().filter_map(replica).collect();
    Some(Database {
        url,
        replicas,
        password_file,
        ca_file,
        pool,
        read_from: read_from?,
        max_lag: Duration::from_secs(max_lag),
        slow_query: Duration::from_millis(slow),
        keep_months: (months > 0).then_some(months),
        spool_bytes,
    })
}

fn read_from(text: &str) -> Read<ReadFrom> {
    word(text, &[("least-lag", ReadFrom::LeastLag), ("round-robin", ReadFrom::RoundRobin)])
}

fn parse_optional(text: &str) -> Read<Option<Written>> {
    if text.trim().is_empty() { Ok(None) } else { parse(text.trim()).map(Some) }
}

fn parse_replica(text: &str) -> Read<Written> {
    let written = parse(text)?;
    if written.nodes.len() == 1 {
        return Ok(written);
    }
    let message = format!("\"{}\": a replica is one server", written.text);
    Err((message, Some("write one URL for each".into())))
}

fn parse(text: &str) -> Read<Written> {
    let shown = printable(&shown(text));
    let fail = |why: &str, hint: Option<String>| Err((format!("\"{shown}\": {why}"), hint));
    let rest = match text.split_once("://") {
        Some(("postgres" | "postgresql", rest)) => rest,
        Some((scheme, _)) => {
            let near = closest(scheme, ["postgres", "postgresql"]).is_some();
            let hint = if near { "did you mean postgres://?" } else { "write postgres://" };
            return fail("the scheme is not known", Some(hint.into()));
        }
        None => {
            return fail("the URL has no scheme", Some(format!("write \"postgres://{shown}\"")));
        }
    };
    let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
    let (credentials, rest) = match rest.rsplit_once('@') {
        Some((credentials, rest)) => (credentials, rest),
        None => ("", rest),
    };
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
    let some = |text: String| (!text.is_empty()).then_some(text);
    let decoded = (decode(user), decode(password), decode(database));
    let (Some(user), Some(password), Some(database)) = decoded else {
        let hint = "write %25 for % and %40 for @, or use database.password_file";
        return fail("the user, password or database is not percent-encoded", Some(hint.into()));
    };
    if rest.contains('#') || database.contains('/') {
        return fail("behind the host is only the name of the database", None);
    }
    let nodes: Read<Vec<Node>> =
        hosts.split(',').map(|host| read_node(host.trim(), PORT)).collect();
    let nodes = match nodes {
        Ok(nodes) => nodes,
        Err((why, hint)) => return fail(&why, hint),
    };
    let mut tls = None;
    for option in options.split('&').filter(|option| !option.is_empty()) {
        tls = match option {
            "sslmode=disable" => Some(DatabaseTls::Disabled),
            "sslmode=require" => Some(DatabaseTls::Encrypted),
            "sslmode=verify-full" => Some(DatabaseTls::Verified),
            // The server that takes writes is looked for anyway.
            "target_session_attrs=read-write" => tls,
            _ => {
                let hint = "sslmode is disable, require or verify-full; there is no other option";
                let why = format!("\"{}\" is not an option", printable(option));
                return fail(&why, Some(hint.into()));
            }
        };
    }
    Ok(Written {
        text: shown.clone(),
        nodes,
        user: some(user),
        password: some(password).map(Secret::new),
        database: some(database),
        tls,
    })
}
