//! Lua scripts, sent by their hash.

use redis::{
    Arg, Cmd, ErrorKind, RedisResult, ServerErrorKind, ToRedisArgs, Value, aio::ConnectionLike,
};
use std::borrow::Cow;

/// A Lua script. Made once and called often: what goes over the wire is its hash.
#[derive(Debug, Clone)]
pub struct Script {
    body: Cow<'static, str>,
    sha1: String,
}

impl Script {
    /// The script `body`. All keys it touches are among those of the call.
    pub fn new(body: impl Into<Cow<'static, str>>) -> Self {
        let body = body.into();
        let sha1 = redis::Script::new(&body).get_hash().to_owned();
        Self { body, sha1 }
    }

    pub(super) fn by_hash<K: AsRef<str>>(&self, keys: &[K], args: impl ToRedisArgs) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.sha1).arg(keys.len());
        for key in keys {
            command.arg(key.as_ref());
        }
        command.arg(args);
        command
    }

    /// Runs what [`Script::by_hash`] made. A server that does not know the script, because it was
    /// restarted, flushed or has just become master, gets its text and knows it from then on.
    pub(super) async fn run(
        &self,
        command: &Cmd,
        connection: &mut (impl ConnectionLike + Send),
    ) -> RedisResult<Value> {
        match command.query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let mut whole = redis::cmd("EVAL");
                whole.arg(&*self.body);
                for arg in command.args_iter().skip(2) {
                    if let Arg::Simple(bytes) = arg {
                        whole.arg(bytes);
                    }
                }
                whole.query_async(connection).await
            }
            result => result,
        }
    }
}

/// What Redis Cluster places a key by: what is between the first `{` and the next `}`, if it is
/// anything; else the whole key.
fn placed_by(key: &str) -> &str {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    tag.filter(|tag| !tag.is_empty()).unwrap_or(key)
}

/// The keys can be used in one call on a cluster.
pub(super) fn are_together<K: AsRef<str>>(keys: &[K]) -> bool {
    let mut tags = keys.iter().map(|key| placed_by(key.as_ref()));
    tags.next().is_none_or(|first| tags.all(|tag| tag == first))
}

#[cfg(test)]
mod tests {
    use super::are_together;

    #[test]
    fn keys_are_together_by_their_tag() {
        let check = |keys: &[&str], expected: bool| {
            assert_eq!(are_together(keys), expected, "{keys:?}");
        };
        check(&[], true);
        check(&["a"], true);
        check(&["a", "b"], false);
        check(&["p:{x}:a", "p:{x}:b"], true);
        check(&["p:{x}:a", "p:{y}:a"], false);
        check(&["p:{}:a", "p:{}:b"], false);
        check(&["a{x", "b{x"], false);
        check(&["{x}{y}", "{x}{z}"], true);
    }
}
