//! Where Redis is, from its URL.
//!
//! ```text
//! redis://[user:password@]host[:port][/db]              one server
//! redis+sentinel://[user:password@]host[:port],…/service[/db]   the master that sentinels name
//! redis+cluster://[user:password@]host[:port],…         a cluster, from some of its nodes
//! ```
//!
//! With `rediss` in place of `redis`: over TLS. User and password are those of the servers;
//! sentinels are asked without.

use super::secret::{Secret, decode, shown};
use super::server::{is_name, write_host};
use crate::disk;
use crate::read::{Read, closest, printable};
use std::fmt;
use std::io;
use std::net::Ipv6Addr;
use std::path::PathBuf;

/// Longer than any password, shorter than a file named by mistake.
const MAX_PASSWORD_BYTES: usize = 4_096;

/// Redis, when there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// Where it is.
    pub url: RedisUrl,
    /// A file with the password; read again for every connection, so that it can be changed.
    pub password_file: Option<PathBuf>,
    /// What every key and channel begins with; 1 to 64 letters, digits, dots, dashes, underscores.
    pub namespace: String,
}

impl Redis {
    /// The password: from the file as it is now, else from the URL.
    pub fn password(&self) -> io::Result<Option<Secret>> {
        let Some(path) = &self.password_file else {
            return Ok(self.url.password.clone());
        };
        let bytes = disk::read_bounded(path, MAX_PASSWORD_BYTES)?;
        if bytes.len() > MAX_PASSWORD_BYTES {
            return Err(io::Error::other("this is too long to be a password"));
        }
        let text =
            String::from_utf8(bytes).map_err(|_| io::Error::other("the password is not UTF-8"))?;
        let text = text.trim_end_matches(['\n', '\r']);
        Ok((!text.is_empty()).then(|| Secret::new(text.to_owned())))
    }
}

/// How the servers belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisKind {
    /// One server.
    Single,
    /// The nodes are sentinels; the server is whoever they say is master of this service.
    Sentinel {
        /// As the sentinels call it.
        service: String,
    },
    /// The nodes are some of a cluster.
    Cluster,
}

impl RedisKind {
    /// As in status pages and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Sentinel { .. } => "sentinel",
            Self::Cluster => "cluster",
        }
    }
}

/// A node's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisNode {
    /// DNS name or IP address (IPv6 without brackets).
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for RedisNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host(f, &self.host)?;
        write!(f, ":{}", self.port)
    }
}

/// A validated URL. Shown (`Display`, `Debug`) without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// How the nodes belong together.
    pub kind: RedisKind,
    /// Connections are TLS.
    pub tls: bool,
    /// At least one; exactly one of a single server.
    pub nodes: Vec<RedisNode>,
    /// ACL user; `None`: the default user.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// Number of the database; 0 of a cluster.
    pub db: u32,
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let kind = match self.kind {
            RedisKind::Single => "",
            RedisKind::Sentinel { .. } => "+sentinel",
            RedisKind::Cluster => "+cluster",
        };
        write!(f, "{scheme}{kind}://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        for (i, node) in self.nodes.iter().enumerate() {
            write!(f, "{}{node}", if i > 0 { "," } else { "" })?;
        }
        if let RedisKind::Sentinel { service } = &self.kind {
            write!(f, "/{service}")?;
        }
        if self.db > 0 { write!(f, "/{}", self.db) } else { Ok(()) }
    }
}

impl std::str::FromStr for RedisUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).map_err(|(message, hint)| match hint {
            Some(hint) => format!("{message}; {hint}"),
            None => message,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Single,
    Sentinel,
    Cluster,
}

const SCHEMES: [(&str, Shape, bool); 6] = [
    ("redis", Shape::Single, false),
    ("rediss", Shape::Single, true),
    ("redis+sentinel", Shape::Sentinel, false),
    ("rediss+sentinel", Shape::Sentinel, true),
    ("redis+cluster", Shape::Cluster, false),
    ("rediss+cluster", Shape::Cluster, true),
];

/// As [`parse`]; empty: none.
pub(super) fn parse_optional(text: &str) -> Read<Option<RedisUrl>> {
    if text.trim().is_empty() { Ok(None) } else { parse(text.trim()).map(Some) }
}

fn parse(text: &str) -> Read<RedisUrl> {
    let fail = |why: String, hint: Option<String>| {
        Err((format!("\"{}\": {why}", printable(&shown(text))), hint))
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        let hint = format!("write \"redis://{}\"", printable(&shown(text)));
        return fail("the URL has no scheme".into(), Some(hint));
    };
    let known = SCHEMES.iter().find(|(name, ..)| *name == scheme.to_lowercase());
    let Some((_, shape, tls)) = known else {
        let near = closest(scheme, SCHEMES.iter().map(|(name, ..)| *name));
        let hint = match near {
            Some(near) => format!("did you mean {near}://?"),
            None => {
                "write redis://, redis+sentinel:// or redis+cluster://, or rediss… for TLS".into()
            }
        };
        return fail("the scheme is not known".into(), Some(hint));
    };
    let (credentials, rest) = match rest.rsplit_once('@') {
        Some((credentials, rest)) => (Some(credentials), rest),
        None => (None, rest),
    };
    let (user, password) = match credentials.map(read_credentials) {
        None => (None, None),
        Some(Some(read)) => read,
        Some(None) => {
            let hint = "write %25 for % and %40 for @, or use redis.password_file";
            return fail("the user or password is not percent-encoded".into(), Some(hint.into()));
        }
    };
    if rest.contains(['?', '#']) {
        let hint = "TLS is rediss://, a database is /1 behind the host".to_owned();
        return fail("the URL takes no options".into(), Some(hint));
    }
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let nodes: Result<Vec<_>, _> =
        hosts.split(',').map(|host| read_node(host.trim(), *shape)).collect();
    let nodes = match nodes {
        Ok(nodes) => nodes,
        Err((why, hint)) => return fail(why, hint),
    };
    if *shape == Shape::Single && nodes.len() > 1 {
        let hint = "write redis+sentinel:// or redis+cluster:// for several".to_owned();
        return fail("this is more than one server".into(), Some(hint));
    }
    let path = path.trim_end_matches('/');
    let (kind, db) = match (shape, path.split_once('/')) {
        (Shape::Single, None) => (RedisKind::Single, path),
        (Shape::Sentinel, None) if path.is_empty() => {
            let hint = "write the name the sentinels know it by behind the hosts, as in /mymaster";
            return fail("sentinels need the name of the service".into(), Some(hint.into()));
        }
        (Shape::Sentinel, None) => (RedisKind::Sentinel { service: path.to_owned() }, ""),
        (Shape::Sentinel, Some((service, db))) => {
            (RedisKind::Sentinel { service: service.to_owned() }, db)
        }
        (Shape::Cluster, _) if path.is_empty() || path == "0" => (RedisKind::Cluster, ""),
        (Shape::Cluster, _) => {
            let hint = Some("remove what follows the hosts".to_owned());
            return fail("a Redis Cluster has only database 0".into(), hint);
        }
        (Shape::Single, Some(_)) => {
            return fail("behind the host is at most the number of a database".into(), None);
        }
    };
    let db = match db {
        "" => 0,
        digits => match digits.parse::<u16>() {
            Ok(db) => u32::from(db),
            Err(_) => {
                let why = format!("\"{}\" is not the number of a database", printable(digits));
                return fail(why, Some("write 0 to 15, unless the server has more".into()));
            }
        },
    };
    Ok(RedisUrl { kind, tls: *tls, nodes, user, password, db })
}

/// `user:password`, `:password`, or as `redis-cli` takes it too, `password` alone.
fn read_credentials(text: &str) -> Option<(Option<String>, Option<Secret>)> {
    let (user, password) = text.split_once(':').unwrap_or(("", text));
    let some = |text: String| (!text.is_empty()).then_some(text);
    Some((some(decode(user)?), some(decode(password)?).map(Secret::new)))
}

fn read_node(text: &str, shape: Shape) -> Read<RedisNode> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let bracketed = text.starts_with('[');
    let good_host = if bracketed { host.parse::<Ipv6Addr>().is_ok() } else { is_name(host) };
    if !good_host {
        let hint = (!bracketed && text.parse::<Ipv6Addr>().is_ok())
            .then(|| format!("write IPv6 addresses in brackets: [{text}]"));
        let why = format!("\"{}\" is not a name and not an address", printable(host));
        return Err((why, hint));
    }
    let usual = if shape == Shape::Sentinel { 26_379 } else { 6_379 };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => usual,
        Some(digits) => match digits.parse() {
            Ok(port) if port > 0 => port,
            _ => {
                let why =
                    format!("the port of \"{}\" is not a number from 1 to 65535", printable(host));
                return Err((why, None));
            }
        },
        None => return Err(("there is something between a host and its port".into(), None)),
    };
    Ok(RedisNode { host: host.to_ascii_lowercase(), port })
}

/// The namespace: no braces (Redis Cluster places keys by what is between them), no colon.
pub(super) fn namespace(text: &str) -> Read<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=64).contains(&text.len()) && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    let message = format!("\"{}\" cannot begin the keys in Redis", printable(text));
    let hint = "write 1 to 64 letters, digits, dots, dashes or underscores";
    Err((message, Some(hint.into())))
}
