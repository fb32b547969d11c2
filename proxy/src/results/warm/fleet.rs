//! What instances tell each other of what is asked most: a field each of one hash in Redis.

use super::Warmer;
use crate::results::popular_queries::Asked;
use penstock_config::policy::Policy;
use penstock_engine::redis::{Link, cmd};
use std::collections::HashMap;

/// Queries an instance tells the others of.
const TOLD: usize = 500;
/// What an instance that is gone said is forgotten after so many seconds.
const TOLD_FOR: i64 = 3_600;

/// What an instance tells the others.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Told {
    /// When, seconds since 1970.
    at: i64,
    top: Vec<Asked>,
}

impl Warmer {
    /// Tells the others what is asked most here.
    pub(super) async fn tell(&self, policy: &Policy) {
        let Some(link) = &self.0.link else {
            return;
        };
        let told = Told { at: self.0.clock.unix_seconds(), top: self.0.warming.top(TOLD) };
        let told = serde_json::to_vec(&told).expect("texts and numbers");
        let mut set = cmd("HSET");
        set.arg(told_key(link)).arg(&self.0.settings.instance).arg(told);
        // What is wrong with Redis is told by the link; the next minute is another chance.
        let _ = link.call::<u64>(&policy.resilience, &set).await;
    }

    /// What the others say is asked most.
    pub(super) async fn told(&self, policy: &Policy) -> Vec<Asked> {
        let Some(link) = &self.0.link else {
            return Vec::new();
        };
        let mut get = cmd("HGETALL");
        get.arg(told_key(link));
        let told: HashMap<String, Vec<u8>> =
            link.call(&policy.resilience, &get).await.unwrap_or_default();
        let (mut others, mut gone) = (Vec::new(), Vec::new());
        for (instance, json) in told {
            match serde_json::from_slice::<Told>(&json) {
                _ if instance == self.0.settings.instance => {}
                Ok(told) if self.0.clock.unix_seconds() - told.at < TOLD_FOR => {
                    others.extend(told.top);
                }
                Ok(_) | Err(_) => gone.push(instance),
            }
        }
        if !gone.is_empty() {
            let mut remove = cmd("HDEL");
            remove.arg(told_key(link)).arg(gone);
            let _ = link.call::<u64>(&policy.resilience, &remove).await;
        }
        others
    }
}

fn told_key(link: &Link) -> String {
    link.key("{warming}:queries")
}
