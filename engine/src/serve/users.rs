//! What is known of the user who asks: the latest events and the long-term affinity. One look at what is remembered,
//! one read of what is not.

use super::caches::{Caches, Feature, is_as_new};
use super::remembered::as_history;
use super::run::{HISTORY, Run};
use crate::cache::{Entry, Hit, Key, Lives, Mark, Tags};
use crate::catalog::UserEvent;
use crate::features::{AFFINITY, Affinity, Entity};
use crate::resilience::Mode;
use crate::store::StoreError;
use serde_json::Value;

impl Run<'_> {
    /// The user's latest events, newest first, and long-term affinity; none, and a lesser mode, when the store is late
    /// or failing. Who has no events has no affinity: such users all get the same answer.
    pub async fn user(&mut self, user_id: &str) -> (Vec<UserEvent>, Affinity) {
        let (events, affinity) = self.read_user(user_id).await.unwrap_or_else(|why| {
            self.degrade(Mode::Unpersonalised, format!("history: {why}"));
            (Vec::new(), Affinity::default())
        });
        self.stage("history");
        let affinity = if events.is_empty() { Affinity::default() } else { affinity };
        (events, affinity)
    }

    async fn read_user(&self, user_id: &str) -> Result<(Vec<UserEvent>, Affinity), String> {
        let Some(caches) = self.caches() else {
            let (events, affinity) = self.read(self.ask_store(user_id, true)).await?;
            return Ok((events, affinity.unwrap_or_default()));
        };
        let keys = [self.feature_key(user_id, "history"), self.feature_key(user_id, AFFINITY)];
        let shared = self.engine.store().is_shared();
        let mut hits = if shared {
            caches.features.get_many(&self.policy, &keys).await.into_iter()
        } else {
            let hits = keys.iter().map(|key| caches.features.get_local(&self.policy, key));
            hits.collect::<Vec<_>>().into_iter()
        };
        let events = hits.next().flatten().and_then(as_history);
        let affinity = hits.next().flatten().and_then(as_affinity);
        let mark = self.mark(caches);
        let [history_key, affinity_key] = &keys;
        let remember = |key: &Key, value: Feature| self.keep(caches, key, value, user_id, mark);
        match (events, affinity) {
            (Some(events), Some(affinity)) => Ok((events, affinity)),
            (Some(events), None) => {
                // Late or failing, it is as if there were none: the events say enough.
                let read = self.read(self.long_term(user_id)).await;
                if let Ok(affinity) = &read {
                    remember(affinity_key, Feature::Affinity(affinity.clone()));
                }
                Ok((events, read.unwrap_or_default()))
            }
            (None, affinity) => {
                let missing = affinity.is_none();
                let (events, read) = self.read(self.ask_store(user_id, missing)).await?;
                remember(history_key, Feature::History(events.clone()));
                if let (true, Some(read)) = (missing, &read) {
                    remember(affinity_key, Feature::Affinity(read.clone()));
                }
                Ok((events, affinity.or(read).unwrap_or_default()))
            }
        }
    }

    /// Both at once. Without an affinity the events are still worth an answer.
    async fn ask_store(
        &self,
        user_id: &str,
        affinity: bool,
    ) -> Result<(Vec<UserEvent>, Option<Affinity>), StoreError> {
        let events = self.engine.store().recent_events(user_id.to_owned(), HISTORY);
        if !affinity {
            return Ok((events.await?, None));
        }
        let (events, affinity) = futures::future::join(events, self.long_term(user_id)).await;
        Ok((events?, affinity.ok()))
    }

    async fn long_term(&self, user_id: &str) -> Result<Affinity, StoreError> {
        let store = self.engine.store();
        let read = store.features(Entity::User, user_id.to_owned(), vec![AFFINITY]);
        let value: Option<Value> = read.await?.pop().flatten();
        // What cannot be read is of a version to come.
        Ok(value.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default())
    }

    fn keep(&self, caches: &Caches, key: &Key, value: Feature, user_id: &str, mark: Mark) {
        let entry = Entry {
            value,
            lives: Lives::plain(caches.now_millis(), self.policy.cache.features.user_ttl),
            tags: Tags::of([], Some(user_id)),
            mark,
        };
        caches.features.put(&self.policy, key, entry, self.engine.store().is_shared());
    }
}

fn as_affinity(hit: Hit<Feature>) -> Option<Affinity> {
    match &hit.entry.value {
        Feature::Affinity(affinity) if is_as_new(hit.freshness) => Some(affinity.clone()),
        _ => None,
    }
}
