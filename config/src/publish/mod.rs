//! Writing a policy: validated as a whole first, all files or none, every version kept.
//!
//! Several files cannot be renamed at one instant. So a publication is first written completely
//! into a folder of its own, and two renames of that folder do the rest:
//!
//! ```text
//!  .staged-…/   files, meta.json, all fsynced            nobody looks here
//!     │ rename
//!  .pending/    COMMIT: from now on every reader takes the files from here
//!     │ each file: temporary, fsync, rename into the policy folder
//!     │ rename
//!  .history/000042-1f2e3d4c5b6a/    FINISH: the files in the policy folder count again
//! ```
//!
//! Killed before the commit, nothing happened; killed after it, the new set is in force, and
//! whoever may write (the next publication, any watcher) finishes the work. The history lists
//! what was in force and nothing else. A lock on `.lock` keeps publishers apart; the kernel takes
//! it from a process that dies.
//!
//! Files edited by hand are no publication. The first publication after such an edit records it,
//! so that it can be brought back.

mod history;
mod journal;
#[cfg(test)]
mod tests;

pub use history::{Version, history, version_files};
pub(crate) use journal::{Moment, recover};

use crate::clock::Clock;
use crate::disk;
use crate::policy::{FILES, FileSet, Policy};
use crate::problem::{Problem, Problems};
use crate::units::rfc3339;
use history::Meta;
use journal::Lock;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// What somebody wants to change.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    /// New texts by name of the file; `None` removes the file, so that its defaults hold.
    pub files: BTreeMap<String, Option<String>>,
    /// The version the edit was made from; another one in force refuses it. `None`: do not ask.
    pub expected_version: Option<String>,
    /// Who wants it, for the history.
    pub who: String,
    /// Why, for the history.
    pub why: String,
}

/// A publication that is in force.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Published {
    /// The version in force.
    pub version: String,
    /// The version before.
    pub previous: String,
    /// Doubtful things in the new version, and work that is left for a watcher to finish.
    pub warnings: Vec<Problem>,
}

/// Why nothing was published. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Somebody else was faster.
    #[error("the policy was changed meanwhile: version {current} is in force; edit that one")]
    Stale {
        /// The version in force.
        current: String,
    },
    /// Somebody edited the folder by hand, and no watcher took it.
    #[error(
        "the folder holds an edit that is not valid (version {found}) and not in force; correct it, or \
         publish without naming the version you expect"
    )]
    BrokenFolder {
        /// The version of what is in the folder.
        found: String,
    },
    /// The whole set, with the edit in it, is not valid.
    #[error("{0}")]
    Invalid(Problems),
    /// A rollback to something the history does not have.
    #[error("the history has no version {0}")]
    UnknownVersion(String),
    /// Another publication has been going on for seconds.
    #[error("another publication is going on; try again")]
    Busy,
    /// The folder belongs to Kubernetes.
    #[error("the policy folder is a mounted ConfigMap: change the ConfigMap instead")]
    Managed,
    /// The disk did not do it.
    #[error("{doing}: {source}")]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl PublishError {
    fn disk(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { doing, source }
    }
}

/// Puts `edit` in force in the policy folder `dir`. When it returns, the new set is on disk and
/// survives `kill -9` and a power cut.
pub fn publish(dir: &Path, edit: &Edit, clock: &dyn Clock) -> Result<Published, PublishError> {
    if dir.join("..data").exists() {
        return Err(PublishError::Managed);
    }
    let lock = Lock::take(dir)?;
    journal::finish_pending(&lock)
        .map_err(PublishError::disk("finishing an earlier publication"))?;
    let base = FileSet::collect(dir).map_err(|problem| PublishError::Invalid(problem.into()))?;
    let previous = base.version();
    // A hand edit that every watcher refused is in the folder, but was never in force.
    let base_is_valid = Policy::from_files(&base).is_ok();
    if let Some(expected) = &edit.expected_version
        && *expected != previous
    {
        return Err(if base_is_valid {
            PublishError::Stale { current: previous }
        } else {
            PublishError::BrokenFolder { found: previous }
        });
    }
    let mut wanted = base.clone();
    for (name, text) in &edit.files {
        let known = wanted.set(name, text.clone().map(String::into_bytes));
        known.map_err(|problem| PublishError::Invalid(problem.into()))?;
    }
    let (policy, warnings) = Policy::from_files(&wanted).map_err(PublishError::Invalid)?;
    let mut published = Published { version: policy.version, previous, warnings };
    if wanted == base {
        return Ok(published);
    }
    disk::sweep(dir, clock.unix_micros());
    let when = rfc3339(clock.unix_micros());
    let newest = history::newest(dir);
    let mut seq = newest.as_ref().map_or(1, |version| version.seq + 1);
    if base_is_valid && newest.is_none_or(|newest| newest.version != published.previous) {
        let found = Meta::of(seq, &base, &base, "", &when, "", "found in the folder");
        journal::record(&lock, &found, &base)
            .map_err(PublishError::disk("recording the files found in the folder"))?;
        seq += 1;
    }
    let meta = Meta::of(seq, &wanted, &base, &published.previous, &when, &edit.who, &edit.why);
    journal::commit(&lock, &meta, &wanted)
        .map_err(PublishError::disk("writing the new version"))?;
    // From here on the new set is in force, whatever happens.
    if let Err(error) = journal::finish_pending(&lock) {
        let message = format!("is in force, but not all files are in their place yet: {error}");
        let warning = Problem::of_file(format!("version {}", published.version), message);
        published.warnings.push(
            warning.suggest("the next publication or any watcher that may write here finishes it"),
        );
    }
    Ok(published)
}

/// Puts the files of an earlier `version` in force again, as a new publication. Files this
/// version of Penstock knows and that one did not are left as they are. `edit.files` is not used.
pub fn rollback(
    dir: &Path,
    version: &str,
    edit: Edit,
    clock: &dyn Clock,
) -> Result<Published, PublishError> {
    let mut files = version_files(dir, version)?;
    // A newer Penstock may have left files in the history that this one does not know.
    files.retain(|name, _| FILES.iter().any(|file| file.name == name));
    publish(dir, &Edit { files, ..edit }, clock)
}
