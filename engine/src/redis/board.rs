//! A small map in Redis that every instance keeps a copy of, and hears of when it changes.
//!
//! For what is read with every request and changed by hand: lists, verdicts about clients. Readers
//! never ask Redis in a request; they follow ([`Board::changes`]) and read it when something happened.
//!
//! A board may hold a hundred thousand rows, which no deadline of a request allows for: it is read in
//! pieces, each with a deadline of its own, past the breaker of the requests. In pieces, because the
//! connection is shared: a whole board on it would make the calls behind it late.

use super::{Link, Script, Subscription, Trouble, cmd};
use penstock_config::policy::Resilience;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// For a piece of a board; nobody waits for it but a follower and an operator.
const DEADLINE: Duration = Duration::from_secs(2);
/// Rows of a piece, more or less: some hundred kilobytes, a millisecond of Redis.
const PIECE: usize = 1_000;
/// A board that changes while it is read in pieces is read again so often; then at once.
const ATTEMPTS: usize = 3;

/// KEYS: the map, its revision. ARGV: the channel, then fields to set with their values, after the number of
/// fields to remove first and those. Returns how many were removed.
const CHANGE: &str = "
local removed, count = 0, tonumber(ARGV[2])
for i = 3, 2 + count do removed = removed + redis.call('HDEL', KEYS[1], ARGV[i]) end
for i = 3 + count, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('INCR', KEYS[2])
redis.call('PUBLISH', ARGV[1], 'changed')
return removed";

/// The rows of a board: values by field.
pub type Rows = HashMap<String, String>;

/// Which state of a board was read. Two that are equal are the same state, unless Redis lost data: read a
/// board again once in a while even so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    changes: u64,
    rows: usize,
}

impl Revision {
    /// Nothing was ever written there: the board is new, or Redis lost it.
    pub fn is_first(self) -> bool {
        self.changes == 0 && self.rows == 0
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Board {
    link: Arc<Link>,
    name: &'static str,
    change: Script,
}

impl Board {
    /// The map of this name.
    pub fn new(link: Arc<Link>, name: &'static str) -> Self {
        Self { link, name, change: Script::new(CHANGE) }
    }

    /// Removes fields, sets others, and tells everybody, as one step. How many were removed.
    pub async fn change(
        &self,
        policy: &Resilience,
        remove: &[String],
        put: &[(String, String)],
    ) -> Result<usize, Trouble> {
        let mut args = vec![self.link.key(self.name), remove.len().to_string()];
        args.extend_from_slice(remove);
        args.extend(put.iter().flat_map(|(field, value)| [field.clone(), value.clone()]));
        let keys = [self.key(), self.revision_key()];
        self.link.script(policy, &self.change, &keys, &args).await
    }

    /// Everything on it. The deadline is `policy`'s or two seconds for each piece, whichever is longer.
    pub async fn read(&self, policy: &Resilience) -> Result<Rows, Trouble> {
        let revision = self.revision(policy).await?;
        Ok(self.read_at(policy, revision).await?.1)
    }

    /// As [`Board::read`], with the revision of what was read; `None`: it still is at `known`.
    pub async fn read_since(
        &self,
        policy: &Resilience,
        known: Option<Revision>,
    ) -> Result<Option<(Revision, Rows)>, Trouble> {
        let revision = self.revision(policy).await?;
        if known == Some(revision) {
            return Ok(None);
        }
        self.read_at(policy, revision).await.map(Some)
    }

    /// A message whenever it changed.
    pub fn changes(&self) -> Subscription {
        self.link.subscribe(self.name)
    }

    async fn read_at(
        &self,
        policy: &Resilience,
        mut revision: Revision,
    ) -> Result<(Revision, Rows), Trouble> {
        for _ in 0..ATTEMPTS {
            let rows = self.scan(policy).await?;
            let after = self.revision(policy).await?;
            // A row that was replaced while the pieces were read may be in none of them; after a
            // failover the pieces may be those of two servers.
            if after == revision && rows.len() == after.rows {
                return Ok((revision, rows));
            }
            revision = after;
        }
        let mut all = cmd("HGETALL");
        all.arg(self.key());
        let rows = self.link.call_patiently(deadline(policy), &all).await?;
        Ok((revision, rows))
    }

    /// All rows that are there from the first piece to the last, and some of the others.
    async fn scan(&self, policy: &Resilience) -> Result<Rows, Trouble> {
        let mut rows = Rows::new();
        let mut cursor = 0;
        loop {
            let mut piece = cmd("HSCAN");
            piece.arg(self.key()).arg(cursor).arg("COUNT").arg(PIECE);
            let (next, piece): (u64, Vec<(String, String)>) =
                self.link.call_patiently(deadline(policy), &piece).await?;
            rows.extend(piece);
            if next == 0 {
                return Ok(rows);
            }
            cursor = next;
        }
    }

    async fn revision(&self, policy: &Resilience) -> Result<Revision, Trouble> {
        let mut changes = cmd("GET");
        changes.arg(self.revision_key());
        let mut rows = cmd("HLEN");
        rows.arg(self.key());
        let changes: Option<u64> = self.link.call_patiently(deadline(policy), &changes).await?;
        let rows = self.link.call_patiently(deadline(policy), &rows).await?;
        Ok(Revision { changes: changes.unwrap_or(0), rows })
    }

    fn key(&self) -> String {
        self.link.key(&format!("{{board:{}}}", self.name))
    }

    fn revision_key(&self) -> String {
        format!("{}:revision", self.key())
    }
}

fn deadline(policy: &Resilience) -> Duration {
    policy.redis.timeout.max(DEADLINE)
}
