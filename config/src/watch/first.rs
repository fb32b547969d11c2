//! What a process starts on: the folder, or the copy of the last accepted set.

use super::kept;
use super::run::log_refusal;
use super::status::{Rejected, Source};
use crate::policy::{FileSet, Policy};
use crate::problem::{Problem, Problems};
use crate::units::rfc3339;
use std::path::Path;

pub(super) struct First {
    pub(super) policy: Policy,
    pub(super) files: FileSet,
    /// What the folder has, good or not.
    pub(super) seen: Option<FileSet>,
    /// Why it cannot be read at all.
    pub(super) unreadable: Option<Problem>,
    pub(super) warnings: Vec<Problem>,
    pub(super) source: Source,
    pub(super) rejected: Option<Rejected>,
}

impl First {
    pub(super) fn find(dir: &Path, kept: &Path, now_micros: i64) -> Result<Self, Problems> {
        let mut unreadable = None;
        let (version, problems, seen) = match FileSet::collect(dir) {
            Err(problem) => {
                unreadable = Some(problem.clone());
                (String::new(), problem.into(), None)
            }
            Ok(files) => match Policy::from_files(&files) {
                Ok((policy, warnings)) => {
                    return Ok(Self {
                        policy,
                        seen: Some(files.clone()),
                        unreadable: None,
                        files,
                        warnings,
                        source: Source::Folder,
                        rejected: None,
                    });
                }
                Err(problems) => (files.version(), problems, Some(files)),
            },
        };
        let copy = kept::load(kept).and_then(|files| {
            let (policy, warnings) = Policy::from_files(&files).ok()?;
            Some((files, policy, warnings))
        });
        let Some((files, policy, warnings)) = copy else {
            return Err(problems);
        };
        log_refusal(&version, &problems, &policy.version);
        Ok(Self {
            policy,
            files,
            seen,
            unreadable,
            warnings,
            source: Source::LastGoodCopy,
            rejected: Some(Rejected { version, when: rfc3339(now_micros), problems }),
        })
    }
}
