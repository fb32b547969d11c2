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

use super::node::{Node, read_credentials, read_node};
use super::secret::{Secret, shown};
use crate::read::{Read, closest, printable};
use std::fmt;
use std::io;
use std::path::PathBuf;

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
        Secret::in_file(path)
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

/// A validated URL. Shown (`Display`, `Debug`) without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// How the nodes belong together.
    pub kind: RedisKind,
    /// Connections are TLS.
    pub tls: bool,
    /// At least one; exactly one of a single server.
    pub nodes: Vec<Node>,
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
        hosts.split(',').map(|host| read_node(host.trim(), usual_port(*shape))).collect();
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

fn usual_port(shape: Shape) -> u16 {
    if shape == Shape::Sentinel { 26_379 } else { 6_379 }
}
