//! A request's use of what the engine remembers.

use super::caches::{Caches, Feature, is_as_new};
use super::candidates::Pool;
use super::run::Run;
use super::{Outcome, RetrieverReport};
use crate::cache::{CacheKind, Entry, Hit, Key, Lives, Mark, PRICES, Tags, Versions, digest};
use crate::catalog::{Product, UserEvent};
use crate::query::Filter;
use crate::retrieve::Ask;
use std::sync::Arc;

/// A question whose candidates may be remembered.
pub(super) struct Question {
    key: Key,
    mark: Mark,
    user: Option<String>,
    priced: bool,
}

impl Run<'_> {
    pub(super) fn caches(&self) -> Option<&Caches> {
        self.engine.caches().filter(|_| !self.anew)
    }

    /// For work that begins now.
    pub(super) fn mark(&self, caches: &Caches) -> Mark {
        caches.candidates.mark(self.snapshot.catalog.revision())
    }

    /// What was found for this question before. `parts` say what is asked beside the text, `user` whose history it
    /// depends on.
    pub async fn candidates(
        &mut self,
        parts: &[&str],
        ask: &Ask,
        filter: &Filter,
        user: Option<&str>,
    ) -> (Option<Question>, Option<Arc<Entry<Pool>>>) {
        let Some(caches) = self.caches().filter(|caches| caches.candidates.is_on(&self.policy))
        else {
            return (None, None);
        };
        let mark = self.mark(caches);
        let policy = &self.policy;
        // Of the same index, but with other retrievers, others are found.
        let (keyword, semantic) = super::search::asked_now(self);
        let asked = match (keyword, semantic) {
            (true, true) => "ks",
            (true, false) => "k",
            (false, true) => "s",
            (false, false) => "",
        };
        let versions = Versions::of([
            ('s', self.engine.store_tag()),
            ('i', self.snapshot.index.version.as_str()),
            ('r', asked),
            ('q', policy.retrieval.as_str()),
        ]);
        let wide = ask.k.max(policy.query.keyword.candidates.min(policy.query.semantic.candidates));
        let asked = [ask.text.clone(), filter.canonical(), wide.to_string()];
        let asked = digest(asked.iter().map(String::as_str).chain(parts.iter().copied()));
        let name = ["candidates", parts[0], &asked, user.unwrap_or_default()];
        let key = Key::new(CacheKind::Candidates, &versions, name);
        let hit = if self.may_share(user) {
            caches.candidates.get(policy, &key).await
        } else {
            caches.candidates.get_local(policy, &key)
        };
        let hit = hit.filter(|hit| is_as_new(hit.freshness));
        let (user, priced) = (user.map(str::to_owned), filter.limits_price());
        let question = Question { key, mark, user, priced };
        match hit {
            Some(hit) => {
                self.trace.candidates = Some(hit.tier);
                (Some(question), Some(hit.entry))
            }
            None => (Some(question), None),
        }
    }

    /// Remembers what was found, if everybody who was asked answered.
    pub fn remember(&self, question: Option<Question>, pool: &Arc<Pool>) {
        let whole = |report: &RetrieverReport| matches!(report.outcome, Outcome::Found { .. });
        let (Some(question), Some(caches)) = (question, self.caches()) else {
            return;
        };
        if !self.trace.retrievers.iter().all(whole) {
            return;
        }
        let catalog = &self.snapshot.catalog;
        let rows = pool.matches.iter().filter_map(|(ordinal, _)| catalog.row(*ordinal));
        let ids = rows.map(|row| &*row.id).chain(question.priced.then_some(PRICES));
        let tags = Tags::of(ids, question.user.as_deref());
        let lives = Lives::plain(caches.now_millis(), self.policy.cache.candidates.ttl);
        let entry = Entry { value: Pool::clone(pool), lives, tags, mark: question.mark };
        let share = self.may_share(question.user.as_deref());
        caches.candidates.put(&self.policy, &question.key, entry, share);
    }

    /// What was made from a user's history is good for others who have the same history.
    fn may_share(&self, user: Option<&str>) -> bool {
        user.is_none() || self.engine.shares_histories()
    }

    /// A user's latest events, newest first: as remembered, else from the store; or in words why not. Only the store
    /// is under its deadline and its breaker.
    pub async fn read_history(
        &self,
        user_id: &str,
        limit: usize,
    ) -> Result<Vec<UserEvent>, String> {
        let store = self.engine.store();
        let Some(caches) = self.caches() else {
            return self.read(store.recent_events(user_id.to_owned(), limit)).await;
        };
        let key = self.feature_key(user_id, "history");
        let hit = if store.is_shared() {
            caches.features.get(&self.policy, &key).await
        } else {
            caches.features.get_local(&self.policy, &key)
        };
        if let Some(events) = hit.and_then(as_history) {
            return Ok(events);
        }
        let mark = self.mark(caches);
        let events = self.read(store.recent_events(user_id.to_owned(), limit)).await?;
        let entry = Entry {
            value: Feature::History(events.clone()),
            lives: Lives::plain(caches.now_millis(), self.policy.cache.features.user_ttl),
            tags: Tags::of([], Some(user_id)),
            mark,
        };
        caches.features.put(&self.policy, &key, entry, store.is_shared());
        Ok(events)
    }

    /// A user's latest events, if they are remembered here.
    pub fn remembered_history(&self, user_id: &str) -> Option<Vec<UserEvent>> {
        let key = self.feature_key(user_id, "history");
        as_history(self.caches()?.features.get_local(&self.policy, &key)?)
    }

    /// Products in the order of `ids`: as remembered, with one round trip for all of them, and the others from the
    /// store, with one query; or in words why not.
    pub async fn read_products(&self, ids: Vec<String>) -> Result<Vec<Option<Product>>, String> {
        let store = self.engine.store();
        let Some(caches) = self.caches() else {
            return self.read(store.products(ids)).await;
        };
        let keys: Vec<Key> = ids.iter().map(|id| self.feature_key(id, "fields")).collect();
        let hits = if store.is_shared() {
            caches.features.get_many(&self.policy, &keys).await
        } else {
            keys.iter().map(|key| caches.features.get_local(&self.policy, key)).collect()
        };
        let mut products: Vec<Option<Product>> = hits
            .into_iter()
            .map(|hit| match &hit.filter(|hit| is_as_new(hit.freshness))?.entry.value {
                Feature::Fields(product) => Some(product.clone()),
                Feature::History(_) | Feature::Affinity(_) => None,
            })
            .collect();
        let missing: Vec<usize> = (0..ids.len()).filter(|&at| products[at].is_none()).collect();
        if missing.is_empty() {
            return Ok(products);
        }
        let mark = self.mark(caches);
        let asked = missing.iter().map(|&at| ids[at].clone()).collect();
        let read = self.read(store.products(asked)).await?;
        for (at, product) in missing.into_iter().zip(read) {
            let Some(product) = product else { continue };
            let entry = Entry {
                value: Feature::Fields(product.clone()),
                lives: Lives::plain(caches.now_millis(), self.policy.cache.features.product_ttl),
                tags: Tags::of([product.id.as_str()], None),
                mark,
            };
            caches.features.put(&self.policy, &keys[at], entry, store.is_shared());
            products[at] = Some(product);
        }
        Ok(products)
    }

    /// `feature:{id}:{name}`. Features depend on the store alone.
    pub(super) fn feature_key(&self, id: &str, name: &str) -> Key {
        // A history of another length is another value.
        let length = super::run::HISTORY.to_string();
        let versions = Versions::of([('s', self.engine.store_tag()), ('h', length.as_str())]);
        Key::new(CacheKind::Features, &versions, ["feature", id, name])
    }
}

pub(super) fn as_history(hit: Hit<Feature>) -> Option<Vec<UserEvent>> {
    match &hit.entry.value {
        Feature::History(events) if is_as_new(hit.freshness) => Some(events.clone()),
        _ => None,
    }
}
