//! A small map in Redis that every instance keeps a copy of, and hears of when it changes.
//!
//! For what is read with every request and changed by hand: lists, verdicts about clients. Readers
//! never ask Redis; they follow ([`Board::changes`]) and read it whole when something happened.

use super::{Link, Script, Subscription, Trouble, cmd};
use penstock_config::policy::Resilience;
use std::collections::HashMap;
use std::sync::Arc;

/// KEYS: the map. ARGV: the channel, then fields to set with their values, after the number of fields to
/// remove first and those. Returns how many were removed.
const CHANGE: &str = "
local removed, count = 0, tonumber(ARGV[2])
for i = 3, 2 + count do removed = removed + redis.call('HDEL', KEYS[1], ARGV[i]) end
for i = 3 + count, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('PUBLISH', ARGV[1], 'changed')
return removed";

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
        self.link.script(policy, &self.change, &[self.key()], &args).await
    }

    /// Everything on it.
    pub async fn read(&self, policy: &Resilience) -> Result<HashMap<String, String>, Trouble> {
        let mut command = cmd("HGETALL");
        command.arg(self.key());
        self.link.call(policy, &command).await
    }

    /// A message whenever it changed.
    pub fn changes(&self) -> Subscription {
        self.link.subscribe(self.name)
    }

    fn key(&self) -> String {
        self.link.key(&format!("board:{}", self.name))
    }
}
