//! Keeps the snapshot current: one thread looks for new index versions, changed products and new
//! events, builds what they touch and publishes it whole. What cannot be loaded changes nothing but
//! a note.

use super::Caches;
use super::indexes;
use super::news::{MOST_CHANGES, News};
use super::overlay::Follow;
use super::scores::{self, Basis};
use super::snapshot::{Index, Snapshot};
use super::step::Step;
use super::stored_features::StoredFeatures;
use crate::features::Popularity;
use crate::store::{DataStore, StoreError};
use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use penstock_config::clock::SharedClock;
use penstock_config::policy::{EventWeights, Policy, check_categories};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks for changes: two questions to the store, a fraction of a millisecond.
const LOOK: Duration = Duration::from_millis(250);
/// Between two attempts to load the rest of a version that serves in part.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// What the keeper reads.
pub(super) struct Source {
    pub store: Arc<dyn DataStore>,
    pub data_dir: PathBuf,
    pub embedding_model: Option<PathBuf>,
    pub clock: SharedClock,
    pub caches: Option<Arc<Caches>>,
}

/// Handle of the keeper's thread, which ends when this is dropped.
pub(super) struct Keeper {
    /// Held by nobody else: the thread ends with it.
    wake: Arc<Sender<()>>,
    policy: Arc<ArcSwap<Policy>>,
    notes: Arc<ArcSwap<Vec<String>>>,
}

impl Keeper {
    /// Loads once on the caller's thread, then keeps looking on its own.
    pub fn start(
        source: Source,
        snapshot: Arc<ArcSwapOption<Snapshot>>,
        policy: Arc<Policy>,
    ) -> std::io::Result<Self> {
        // One wish for a look is as good as many.
        let (wake, woken) = bounded(1);
        let wake = Arc::new(wake);
        let waker = Arc::downgrade(&wake);
        source.store.wake_on_change(Arc::new(move || {
            if let Some(wake) = waker.upgrade() {
                let _ = wake.try_send(());
            }
        }));
        let policy = Arc::new(ArcSwap::new(policy));
        let notes = Arc::new(ArcSwap::from_pointee(Vec::new()));
        let now = source.clock.now();
        let mut upkeep = Upkeep {
            news: News::new(source.caches.clone(), source.clock.clone()),
            follow: Follow::default(),
            source,
            snapshot,
            policy: policy.clone(),
            notes: notes.clone(),
            made: None,
            popularity_at: now,
            popularity_news: 0,
            features: StoredFeatures::default(),
            refused: None,
            loaded_at: now,
        };
        upkeep.look_guarded();
        let run = move || {
            // A closed channel means that the engine is gone.
            while !matches!(woken.recv_timeout(LOOK), Err(RecvTimeoutError::Disconnected)) {
                upkeep.look_guarded();
            }
        };
        std::thread::Builder::new().name("keeper".into()).spawn(run)?;
        Ok(Self { wake, policy, notes })
    }

    pub fn policy_changed(&self, policy: Arc<Policy>) {
        self.policy.store(policy);
        let _ = self.wake.try_send(());
    }

    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    pub fn notes(&self) -> Vec<String> {
        self.notes.load().to_vec()
    }
}

/// What the popularity in force was made from.
#[derive(Clone, Copy, PartialEq)]
struct Made {
    basis: Basis,
    weights: EventWeights,
    half_life: Duration,
    revision: u64,
    /// Products came or went since: what users did with them before is to be read.
    patched: bool,
}

struct Upkeep {
    source: Source,
    snapshot: Arc<ArcSwapOption<Snapshot>>,
    policy: Arc<ArcSwap<Policy>>,
    notes: Arc<ArcSwap<Vec<String>>>,
    made: Option<Made>,
    popularity_at: Instant,
    /// As the store last said.
    popularity_news: u64,
    news: News,
    follow: Follow,
    features: StoredFeatures,
    refused: Option<Refused>,
    loaded_at: Instant,
}

impl Upkeep {
    /// A panic (a model folder is somebody else's) costs this look, not the keeper.
    fn look_guarded(&mut self) {
        if catch_unwind(AssertUnwindSafe(|| self.look())).is_err() {
            let note = "looking for changes panicked; the log says where, what serves goes on";
            self.notes.store(Arc::new(vec![note.to_owned()]));
        }
    }

    fn look(&mut self) {
        let mut notes = Vec::new();
        if let Err(error) = self.refresh(&mut notes) {
            notes.push(error.to_string());
        }
        let basis = self.made.map(|made| made.basis);
        notes.extend(basis.and_then(|basis| basis.note(&*self.source.store)).map(str::to_owned));
        notes.extend(self.unused_weights());
        if **self.notes.load() != notes {
            notes.iter().for_each(|note| tracing::warn!("{note}"));
            self.notes.store(Arc::new(notes));
        }
    }

    fn refresh(&mut self, notes: &mut Vec<String>) -> Result<(), StoreError> {
        let current = self.snapshot.load_full();
        let store = self.source.store.clone();
        self.news.foreign_events(&*store)?;
        self.features.look(&*store, self.source.caches.as_deref())?;
        let loaded = self.index(current.as_deref(), notes)?;
        let step = Step::read(current.as_deref(), &*store)?;
        let (popularity, anew) = self.popularity(current.as_deref(), &step)?;
        let index = self.follow(current.as_deref(), loaded, &step)?;
        notes.extend(self.follow.notes());
        let revision = step.catalog.revision();
        let Some(current) = current else {
            let index = index.unwrap_or_default();
            let snapshot = Snapshot::new(step.catalog, popularity, index);
            self.news.start(revision);
            self.publish(snapshot);
            return Ok(());
        };
        let same = step.is_none() && Arc::ptr_eq(&current.popularity, &popularity);
        if same && index.is_none() {
            self.news.give_way(revision);
            return Ok(());
        }
        let other_version =
            index.as_ref().is_some_and(|index| index.version != current.index.version);
        if !step.is_none() {
            self.news.products(step.difference(&current.catalog, MOST_CHANGES), revision);
        }
        let index = index.unwrap_or_else(|| current.index.clone());
        let snapshot = match step.touched() {
            Some(touched) if !anew => current.after(step.catalog, popularity, &touched, index),
            _ => Snapshot::new(step.catalog, popularity, index),
        };
        self.publish(snapshot);
        if anew {
            self.news.popularity();
        }
        if other_version {
            self.news.index();
        }
        Ok(())
    }

    fn publish(&self, snapshot: Snapshot) {
        tracing::info!(
            products = snapshot.catalog.len(),
            revision = snapshot.catalog.revision(),
            index = snapshot.index.version,
            overlay = ?snapshot.index.overlay,
            notes = ?snapshot.index.notes,
            "snapshot published"
        );
        self.snapshot.store(Some(Arc::new(snapshot)));
    }

    /// The index with what changed since it was built; `None`: what serves goes on.
    fn follow(
        &mut self,
        current: Option<&Snapshot>,
        loaded: Option<Index>,
        step: &Step,
    ) -> Result<Option<Index>, StoreError> {
        let store = &*self.source.store;
        let started = match (loaded, current, &step.changes) {
            (Some(loaded), ..) => Follow::start(loaded, &step.catalog, store)?,
            (None, Some(current), Some(changes)) => {
                return Ok(self.follow.follow(&current.index, &current.catalog, changes));
            }
            (None, ..) if step.whole => self.follow.again(&step.catalog, store)?,
            (None, ..) => return Ok(None),
        };
        let (follow, index) = started;
        self.follow = follow;
        Ok(Some(index))
    }

    /// Warnings for category weights that no product of this catalogue can use.
    fn unused_weights(&self) -> Vec<String> {
        let Some(snapshot) = self.snapshot.load_full() else {
            return Vec::new();
        };
        let categories = snapshot.catalog.categories();
        let known = |path: &str| categories.has_path(path);
        let warnings = check_categories(&self.policy.load(), &known);
        warnings.iter().map(ToString::to_string).collect()
    }

    /// The popularity of the catalogue, and whether it was made anew.
    fn popularity(
        &mut self,
        current: Option<&Snapshot>,
        step: &Step,
    ) -> Result<(Arc<Popularity>, bool), StoreError> {
        let now = self.source.clock.now();
        let policy = self.policy.load_full();
        let every = policy.cache.features.popularity_ttl;
        let news = self.source.store.popularity_news();
        let due = now.saturating_duration_since(self.popularity_at) >= every
            || std::mem::replace(&mut self.popularity_news, news) != news;
        let ranking = &policy.ranking;
        let revision = step.catalog.revision();
        let wanted = Made {
            basis: match self.made {
                Some(made) if !due => made.basis,
                _ => Basis::of(&*self.source.store)?,
            },
            weights: ranking.events,
            half_life: ranking.popularity_half_life,
            revision,
            patched: !due && self.made.is_some_and(|made| made.patched),
        };
        if due {
            self.popularity_at = now;
        }
        if let (Some(current), Some(made)) = (current, self.made)
            && (Made { revision, ..made }) == wanted
            && !step.whole
        {
            let patched = made.patched || step.comes_or_goes(&current.catalog);
            self.made = Some(Made { patched, ..wanted });
            return Ok((step.popularity(current), false));
        }
        let Made { basis, weights, half_life, .. } = wanted;
        let store = &*self.source.store;
        let popularity = scores::popularity(store, &step.catalog, basis, weights, half_life)?;
        self.made = Some(wanted);
        Ok((popularity, true))
    }

    /// Whether what could not be loaded of the version that serves is worth another look: a folder may
    /// have been mounted since, files may have been free again.
    fn try_again(&self) -> bool {
        self.source.clock.now().saturating_duration_since(self.loaded_at) >= TRY_AGAIN
    }

    /// The index to serve with: the version named, if nothing is lost by it. If something is, what
    /// serves already goes on; at start, an older version that is whole, else what can be had of this
    /// one. `None`: what serves goes on.
    fn index(
        &mut self,
        current: Option<&Snapshot>,
        notes: &mut Vec<String>,
    ) -> Result<Option<Index>, StoreError> {
        let named = indexes::current(&self.source.data_dir);
        if let Some(current) = current {
            let whole = current.index.notes.is_empty();
            if named == current.index.version && (whole || !self.try_again()) {
                self.refused = None;
                return Ok(None);
            }
            if let Some(refused) = self.refused.as_ref().filter(|refused| refused.version == named)
            {
                notes.push(refused.note.clone());
                return Ok(None);
            }
        }
        self.loaded_at = self.source.clock.now();
        let store_id = self.source.store.store_id()?;
        let loader = indexes::Loader {
            data_dir: &self.source.data_dir,
            store_id: &store_id,
            embedding_model: self.source.embedding_model.as_deref(),
        };
        let loaded = loader.current();
        let keeps_all = current.is_some_and(|current| {
            let mut serving = current.index.retrievers.iter();
            !loaded.retrievers.is_empty() && serving.all(|serving| loaded.has(serving.source()))
        });
        if loaded.notes.is_empty() || keeps_all {
            self.refused = None;
            return Ok(Some(loaded));
        }
        let serving = current.map(|current| &current.index);
        let serving = serving.filter(|index| !index.retrievers.is_empty());
        let instead = if serving.is_none() { loader.newest_whole() } else { None };
        let Some(serves) = serving.or(instead.as_ref()).map(|index| index.version.clone()) else {
            return Ok(Some(loaded));
        };
        let note = format!(
            "index {named:?} is refused and {serves} serves instead: {}",
            loaded.notes.join("; ")
        );
        notes.push(note.clone());
        self.refused = Some(Refused { version: named, note });
        Ok(instead)
    }
}

/// An index version that could not be loaded whole is not tried again while it is the one named.
struct Refused {
    version: String,
    note: String,
}
