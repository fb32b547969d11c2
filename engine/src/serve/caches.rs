//! What the engine remembers: candidates, features, weights. The layers themselves are of one type,
//! [`Tiered`]; here is which there are, and who is told when something changed.

use super::candidates::Pool;
use crate::cache::{
    CacheKind, Cached, Change, Entry, Freshness, Key, Ledger, Lives, Log, Observe, Reason, Tags,
    Tiered, Versions,
};
use crate::catalog::{Product, UserEvent};
use crate::features::Affinity;
use crate::redis::Link;
use crate::store::UsersChanged;
use penstock_config::clock::SharedClock;
use penstock_config::policy::{Policy, Weights};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Of what is made from no catalogue: no change of one makes it older.
const NO_CATALOGUE: u64 = u64::MAX;

/// A feature of a product or a user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Feature {
    /// `history` of a user: the latest events, newest first.
    History(Vec<UserEvent>),
    /// `fields` of a product, as the store has them.
    Fields(Product),
    /// `user_category_affinity` of a user, as the job stored it; empty where there is none.
    Affinity(Affinity),
}

impl Cached for Feature {
    fn weight(&self) -> usize {
        match self {
            Self::History(events) => {
                events.iter().map(|event| size_of::<UserEvent>() + event.product_id.len()).sum()
            }
            Self::Fields(product) => {
                let Product { id, name, description, category, brand, .. } = product;
                [id, name, description, category, brand].into_iter().map(String::len).sum()
            }
            Self::Affinity(affinity) => {
                let size = |path: &String| size_of::<(String, f32)>() + path.len();
                affinity.categories.iter().map(|(path, _)| size(path)).sum()
            }
        }
    }
}

/// The weights of a category, or the global ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct WeightsOf {
    search: f32,
    cf: f32,
    popularity: f32,
    freshness: f32,
}

impl Cached for WeightsOf {
    fn weight(&self) -> usize {
        0
    }
}

impl From<Weights> for WeightsOf {
    fn from(weights: Weights) -> Self {
        let Weights { search, cf, popularity, freshness } = weights;
        Self { search, cf, popularity, freshness }
    }
}

/// Everything an engine remembers, and the ledger of what changed. One for a process.
pub struct Caches {
    /// Changes are told through it.
    pub log: Arc<Log>,
    pub(super) candidates: Tiered<Pool>,
    pub(super) features: Tiered<Feature>,
    ranking: Tiered<WeightsOf>,
    ledger: Arc<Ledger>,
    link: Option<Arc<Link>>,
    clock: SharedClock,
    observer: Arc<dyn Observe>,
}

impl Caches {
    /// Empty. With `link`, Redis is the second tier and the fleet is told of changes, once somebody runs
    /// [`Log::follow`].
    pub fn new(
        policy: &Policy,
        link: Option<Arc<Link>>,
        clock: SharedClock,
        observer: Arc<dyn Observe>,
    ) -> Self {
        let ledger = Arc::new(Ledger::new(link.is_none()));
        let log = Log::new(ledger.clone(), link.clone(), clock.clone(), observer.clone());
        let parts = (link.clone(), ledger.clone(), clock.clone(), observer.clone());
        Self {
            log: Arc::new(log),
            candidates: tiered(CacheKind::Candidates, policy, parts.clone()),
            features: tiered(CacheKind::Features, policy, parts.clone()),
            ranking: tiered(CacheKind::Ranking, policy, parts),
            ledger,
            link,
            clock,
            observer,
        }
    }

    /// Another layer over the same ledger and the same Redis.
    pub fn layer<V: Cached>(&self, kind: CacheKind, policy: &Policy) -> Tiered<V> {
        let parts =
            (self.link.clone(), self.ledger.clone(), self.clock.clone(), self.observer.clone());
        tiered(kind, policy, parts)
    }

    /// Forgets what layers hold that `policy` has switched off.
    pub fn forget_switched_off(&self, policy: &Policy) {
        self.candidates.forget_if_off(policy);
        self.features.forget_if_off(policy);
        self.ranking.forget_if_off(policy);
    }

    /// Bytes and entries in memory of the engine's layers.
    pub fn held(&self) -> [(CacheKind, u64, usize); 3] {
        let of = |kind, (bytes, entries)| (kind, bytes, entries);
        [
            of(CacheKind::Candidates, self.candidates.held()),
            of(CacheKind::Features, self.features.held()),
            of(CacheKind::Ranking, self.ranking.held()),
        ]
    }

    /// Remembers the ranking weights in force, each category's and the global ones, for whoever reads them from
    /// Redis; the ranker has them in the policy of its request. Called when a policy comes into force.
    pub fn remember_weights(&self, policy: &Policy) {
        self.remember_weight(policy, &["ranking", "config", "global"], policy.ranking.weights);
        for (category, weights) in &policy.ranking.by_category {
            self.remember_weight(policy, &["ranking", "weights", category], *weights);
        }
    }

    fn remember_weight(&self, policy: &Policy, name: &[&str], weights: Weights) {
        let key = ranking_key(policy, name);
        let lives = Lives::plain(self.now_millis(), policy.cache.ranking.ttl);
        let mark = self.ranking.mark(NO_CATALOGUE);
        let entry = Entry { value: weights.into(), lives, tags: Tags::default(), mark };
        self.ranking.put(policy, &key, entry, true);
    }

    pub(super) fn tell(&self, change: Change) {
        self.log.tell(change);
    }

    /// Users have events that somebody else stored. Who is of the fleet tells it; where there is none that can be told,
    /// everybody notes it alone.
    pub(super) fn users_changed(&self, changed: UsersChanged) {
        let changes = match changed.users {
            Some(users) => vec![Change::users(users)],
            None => [CacheKind::Features, CacheKind::Results, CacheKind::Candidates]
                .map(|layer| Change::all(Some(layer), Reason::Import))
                .into(),
        };
        for change in changes {
            if changed.by_the_fleet { self.log.note(&change) } else { self.log.tell(change) }
        }
    }

    pub(super) fn now_millis(&self) -> i64 {
        self.clock.unix_micros() / 1_000
    }
}

/// Weights are read from no catalogue: the policy's version is all they were made with.
fn ranking_key(policy: &Policy, name: &[&str]) -> Key {
    let versions = Versions::of([('p', policy.version.as_str())]);
    Key::new(CacheKind::Ranking, &versions, name.iter().copied())
}

type Parts = (Option<Arc<Link>>, Arc<Ledger>, SharedClock, Arc<dyn Observe>);

fn tiered<V: Cached>(
    kind: CacheKind,
    policy: &Policy,
    (link, ledger, clock, observer): Parts,
) -> Tiered<V> {
    Tiered::new(kind, kind.layer(&policy.cache), link, ledger, clock, observer)
}

/// As good as new, which is all a feature is used for.
pub(super) fn is_as_new(freshness: Freshness) -> bool {
    !matches!(freshness, Freshness::Stale(_))
}
