//! The files of a policy: their names, their contents as one set, their version.

use crate::disk;
use crate::problem::{Problem, Problems};
use crate::read::{Document, Findings, Section, closest, printable, text_of};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// One concern: a file in the policy folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyFile {
    /// Its name in the policy folder.
    pub name: &'static str,
    /// What a new install starts from.
    pub default: &'static str,
}

/// All files of a policy. A further concern is one entry here and one field of
/// [`Policy`](super::Policy).
pub const FILES: &[PolicyFile] = &[
    PolicyFile { name: "ranking.toml", default: include_str!("../../defaults/ranking.toml") },
    PolicyFile { name: "query.toml", default: include_str!("../../defaults/query.toml") },
    PolicyFile { name: "resilience.toml", default: include_str!("../../defaults/resilience.toml") },
    PolicyFile { name: "limits.toml", default: include_str!("../../defaults/limits.toml") },
    PolicyFile { name: "access.toml", default: include_str!("../../defaults/access.toml") },
    PolicyFile { name: "cache.toml", default: include_str!("../../defaults/cache.toml") },
];

pub(crate) fn known(name: &str) -> Option<&'static PolicyFile> {
    FILES.iter().find(|file| file.name == name)
}

/// The contents of a policy folder at one moment, not yet judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileSet {
    /// Contents of the known files that exist, by name.
    contents: BTreeMap<String, Vec<u8>>,
    /// Names of other `*.toml` files in the folder.
    strangers: Vec<String>,
}

impl FileSet {
    /// A set made of `(name, content)`; names that are no policy file become strangers.
    pub fn of<N: Into<String>, C: Into<Vec<u8>>>(files: impl IntoIterator<Item = (N, C)>) -> Self {
        let mut set = Self::default();
        for (name, content) in files {
            let name = name.into();
            if known(&name).is_some() {
                set.put(&name, Some(content.into()));
            } else {
                set.add_stranger(name);
            }
        }
        set
    }

    /// The bytes of a known file, if it exists.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.contents.get(name).map(Vec::as_slice)
    }

    /// Names and contents of the files that exist, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let pairs = self.contents.iter();
        pairs.map(|(name, content)| (name.as_str(), content.as_slice()))
    }

    /// Replaces or removes a file; a name that is no policy file is a problem.
    pub fn set(&mut self, name: &str, content: Option<Vec<u8>>) -> Result<(), Problem> {
        if known(name).is_none() {
            return Err(stranger(name));
        }
        self.put(name, content);
        Ok(())
    }

    /// As `set`; a name that is no policy file (of this version of Penstock) is left out.
    pub(super) fn put(&mut self, name: &str, content: Option<Vec<u8>>) {
        match content {
            Some(content) if known(name).is_some() => {
                self.contents.insert(name.to_owned(), content);
            }
            _ => drop(self.contents.remove(name)),
        }
    }

    pub(super) fn add_stranger(&mut self, name: String) {
        let place = self.strangers.partition_point(|other| *other < name);
        self.strangers.insert(place, name);
    }

    /// The first 12 hexadecimal digits of the SHA-256 over names and contents of all known files,
    /// a missing one counting as its default: the same content is the same version.
    pub fn version(&self) -> String {
        let mut files: Vec<_> = FILES.iter().collect();
        files.sort_by_key(|file| file.name);
        let mut hash = Sha256::new();
        for file in files {
            let content = self.get(file.name).unwrap_or(file.default.as_bytes());
            hash.update(file.name.as_bytes());
            hash.update([0]);
            hash.update((content.len() as u64).to_le_bytes());
            hash.update(content);
        }
        let mut digits = hex::encode(hash.finalize());
        digits.truncate(12);
        digits
    }
}

pub(super) fn is_toml(name: &str) -> bool {
    let toml =
        Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    toml && !name.starts_with('.')
}

fn stranger(name: &str) -> Problem {
    let names = FILES.iter().map(|file| file.name);
    let hint = match closest(name, names.clone()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("known here: {}", names.collect::<Vec<_>>().join(", ")),
    };
    let message = "this version of Penstock reads no policy file of this name";
    Problem::of_file(printable(name), message).suggest(hint)
}

/// Reads the files of a set one after the other, collecting what is wrong with any of them.
pub(super) struct Reading<'a> {
    files: &'a FileSet,
    found: Findings,
}

impl<'a> Reading<'a> {
    pub(super) fn of(files: &'a FileSet) -> Self {
        Self { files, found: Findings::default() }
    }

    pub(super) fn read<T>(&mut self, name: &str, read: fn(&Section<'_>) -> T) -> T {
        let file = known(name).expect("every concern of a policy is in FILES");
        let defaults = Document::parse(file.name, file.default);
        let content = self.files.get(name).unwrap_or(file.default.as_bytes());
        let text = text_of(name, content).unwrap_or_else(|problem| {
            self.found.problems.push(problem);
            ""
        });
        let document = Document::parse(name, text);
        let value = document.read(Some(&defaults), read);
        let found = document.into_findings();
        self.found.problems.extend(found.problems);
        self.found.warnings.extend(found.warnings);
        value
    }

    /// The warnings, if nothing is wrong.
    pub(super) fn finish(mut self) -> Result<Vec<Problem>, Problems> {
        if !self.found.problems.is_empty() {
            return Err(Problems(self.found.problems));
        }
        let strangers = self.files.strangers.iter();
        self.found.warnings.extend(strangers.map(|name| stranger(name)));
        Ok(self.found.warnings)
    }
}

/// Writes the default files into `dir` (made if absent) where it has none; files that exist are
/// never touched. Names of the files written are returned.
///
/// An error is no reason not to start: a folder that cannot be written to (a ConfigMap) may well
/// be read, and a file that is missing means its defaults.
pub fn install_defaults(dir: &Path) -> io::Result<Vec<&'static str>> {
    std::fs::create_dir_all(dir)?;
    let mut written = Vec::new();
    for file in FILES {
        if disk::write_new(&dir.join(file.name), file.default.as_bytes())? {
            written.push(file.name);
        }
    }
    Ok(written)
}
