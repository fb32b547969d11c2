//! Keeps the snapshot current: one thread looks for new index versions, changed products and new
//! events, builds what they touch and publishes it whole. What cannot be loaded changes nothing but
//! a note.

use super::Caches;
use super::indexes;
use super::scores::{self, Basis};
use super::snapshot::{Index, Snapshot};
use super::stored_features::StoredFeatures;
use crate::cache::{CacheKind, Change, Reason};
use crate::catalog::Catalog;
use crate::features::Popularity;
use crate::store::{DataStore, Foreign, StoreError};
use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_channel::{RecvTimeoutError, Sender, unbounded};
use penstock_config::clock::SharedClock;
use penstock_config::policy::{EventWeights, Policy, check_categories};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks for changes.
const LOOK: Duration = Duration::from_millis(500);
/// Between two attempts to load the rest of a version that serves in part.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// Users whose events are new at once and who are named; more, and it may be anybody.
const MOST_USERS: usize = 5_000;
/// How often a catalogue that changes while it is read is read again at once.
const READ_AGAIN: usize = 5;
/// Products that changed at once and are named; more, and everything may have changed.
const MOST_CHANGES: usize = 5_000;

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
    wake: Sender<()>,
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
        let (wake, woken) = unbounded();
        let policy = Arc::new(ArcSwap::new(policy));
        let notes = Arc::new(ArcSwap::from_pointee(Vec::new()));
        let now = source.clock.now();
        let mut upkeep = Upkeep {
            source,
            snapshot,
            policy: policy.clone(),
            notes: notes.clone(),
            made: None,
            popularity_at: now,
            popularity_news: 0,
            foreign_events: None,
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
        let _ = self.wake.send(());
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
    /// Events of others, as last counted.
    foreign_events: Option<Foreign>,
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
        self.note_foreign_events()?;
        self.features.look(&*store, self.source.caches.as_deref())?;
        let revision = store.catalog_revision()?;
        let catalog = match &current {
            Some(current) if current.catalog.revision() == revision => current.catalog.clone(),
            _ => load_whole(&*store, revision)?,
        };
        let popularity = self.popularity(current.as_deref(), &catalog)?;
        let index = self.index(current.as_deref(), notes)?;
        let unchanged = current.as_ref().is_some_and(|current| {
            Arc::ptr_eq(&current.catalog, &catalog)
                && Arc::ptr_eq(&current.popularity, &popularity)
                && current.index.version == index.version
                && current.index.notes == index.notes
        });
        if !unchanged {
            let snapshot = Snapshot::new(catalog, popularity, index);
            tracing::info!(
                products = snapshot.catalog.len(),
                revision = snapshot.catalog.revision(),
                index = snapshot.index.version,
                notes = ?snapshot.index.notes,
                "snapshot published"
            );
            let snapshot = Arc::new(snapshot);
            self.snapshot.store(Some(snapshot.clone()));
            match &current {
                Some(before) => self.note_changes(before, &snapshot),
                None => self.note_start(&snapshot),
            }
        }
        Ok(())
    }

    /// What changed before this process began to look is not known, so nothing holds that was made from an older
    /// catalogue.
    fn note_start(&self, now: &Snapshot) {
        if let Some(caches) = &self.source.caches {
            let all = Change::all(None, Reason::Start);
            caches.log.note(&Change { revision: now.catalog.revision(), ..all });
        }
    }

    /// Notes what does not hold any more of what was remembered under the snapshot before. Every instance finds
    /// out by itself, so nobody is told.
    fn note_changes(&self, before: &Snapshot, now: &Snapshot) {
        let Some(caches) = &self.source.caches else {
            return;
        };
        if !Arc::ptr_eq(&before.catalog, &now.catalog) {
            let changed = before.catalog.changed_in(&now.catalog).take(MOST_CHANGES + 1);
            let changed: Vec<String> = changed.map(str::to_owned).collect();
            let revision = now.catalog.revision();
            if changed.len() > MOST_CHANGES {
                let all = Change::all(None, Reason::ProductUpdate);
                caches.log.note(&Change { revision, ..all });
            } else if !changed.is_empty() {
                caches.log.note(&Change::products(changed, Reason::ProductUpdate, revision));
            }
        }
        if !Arc::ptr_eq(&before.popularity, &now.popularity) {
            // Told, and not only noted: what is in Redis is as old.
            caches.tell(Change::all(Some(CacheKind::Popular), Reason::Popularity));
        }
        if before.index.version != now.index.version {
            // Keys have another version now; what lies under the old ones is only in the way.
            caches.candidates.clear();
        }
    }

    /// Histories are remembered until their users act here. Others store events, too: an import, another process
    /// on the same folder, the one that is being replaced by an upgrade.
    fn note_foreign_events(&mut self) -> Result<(), StoreError> {
        let Some(caches) = &self.source.caches else {
            return Ok(());
        };
        let store = &self.source.store;
        let foreign = store.foreign_events()?;
        let before = self.foreign_events.replace(foreign).unwrap_or(foreign);
        if before.count == foreign.count {
            return Ok(());
        }
        if let Some(users) = store.users_after(before.latest, MOST_USERS)? {
            caches.tell(Change { reason: Reason::Import, ..Change::users(users) });
        } else {
            for layer in [CacheKind::Features, CacheKind::Results, CacheKind::Candidates] {
                // Told, and not only noted: what is in Redis is as old.
                caches.tell(Change::all(Some(layer), Reason::Import));
            }
        }
        Ok(())
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

    fn popularity(
        &mut self,
        current: Option<&Snapshot>,
        catalog: &Arc<Catalog>,
    ) -> Result<Arc<Popularity>, StoreError> {
        let now = self.source.clock.now();
        let policy = self.policy.load_full();
        let every = policy.cache.features.popularity_ttl;
        let news = self.source.store.popularity_news();
        let due = now.saturating_duration_since(self.popularity_at) >= every
            || std::mem::replace(&mut self.popularity_news, news) != news;
        let ranking = &policy.ranking;
        let wanted = Made {
            basis: match self.made {
                Some(made) if !due => made.basis,
                _ => Basis::of(&*self.source.store)?,
            },
            weights: ranking.events,
            half_life: ranking.popularity_half_life,
            revision: catalog.revision(),
        };
        if due {
            self.popularity_at = now;
        }
        if let Some(current) = current
            && self.made == Some(wanted)
        {
            return Ok(current.popularity.clone());
        }
        let Made { basis, weights, half_life, .. } = wanted;
        let store = &*self.source.store;
        let popularity = scores::popularity(store, catalog, basis, weights, half_life)?;
        self.made = Some(wanted);
        Ok(popularity)
    }

    /// Whether what could not be loaded of the version that serves is worth another look: a folder may
    /// have been mounted since, files may have been free again.
    fn try_again(&self) -> bool {
        self.source.clock.now().saturating_duration_since(self.loaded_at) >= TRY_AGAIN
    }

    /// The index to serve with: the version named, if nothing is lost by it. If something is, what
    /// serves already goes on; at start, an older version that is whole, else what can be had of this
    /// one.
    fn index(
        &mut self,
        current: Option<&Snapshot>,
        notes: &mut Vec<String>,
    ) -> Result<Index, StoreError> {
        let named = indexes::current(&self.source.data_dir);
        if let Some(current) = current {
            let whole = current.index.notes.is_empty();
            if named == current.index.version && (whole || !self.try_again()) {
                self.refused = None;
                return Ok(current.index.clone());
            }
            if let Some(refused) = self.refused.as_ref().filter(|refused| refused.version == named)
            {
                notes.push(refused.note.clone());
                return Ok(current.index.clone());
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
            return Ok(loaded);
        }
        let serving = current.map(|current| current.index.clone());
        let instead = match serving.filter(|index| !index.retrievers.is_empty()) {
            Some(index) => index,
            None => match loader.newest_whole() {
                Some(index) => index,
                None => return Ok(loaded),
            },
        };
        let note = format!(
            "index {named:?} is refused and {} serves instead: {}",
            instead.version,
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

/// The catalogue of one revision: what was changed while it was read is not taken for what it was before.
fn load_whole(store: &dyn DataStore, mut revision: u64) -> Result<Arc<Catalog>, StoreError> {
    for _ in 0..READ_AGAIN {
        let catalog = load_catalog(store, revision)?;
        let now = store.catalog_revision()?;
        if now == revision {
            return Ok(catalog);
        }
        revision = now;
    }
    Err(StoreError::Unavailable("the catalogue changes faster than it can be read".into()))
}

fn load_catalog(store: &dyn DataStore, revision: u64) -> Result<Arc<Catalog>, StoreError> {
    let mut catalog = Catalog::new(revision);
    store.scan_products(&mut |stored| catalog.push(stored.ordinal, &stored.product))?;
    Ok(Arc::new(catalog))
}
