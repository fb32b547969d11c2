//! The files of a policy: their names, their contents as one set, their version.

use crate::disk;
use crate::problem::{Problem, Problems};
use crate::read::{Document, Findings, MAX_FILE_BYTES, Section, closest, text_of};
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
    PolicyFile {
        name: "ranking.toml",
        default: include_str!("../../defaults/ranking.toml"),
    },
    PolicyFile {
        name: "query.toml",
        default: include_str!("../../defaults/query.toml"),
    },
    PolicyFile {
        name: "resilience.toml",
        default: include_str!("../../defaults/resilience.toml"),
    },
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
    /// Reads the known files of `dir`.
    pub fn collect(dir: &Path) -> Result<Self, Problem> {
        let mut set = Self::default();
        let entries = std::fs::read_dir(dir).map_err(|error| unreadable_folder(dir, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| unreadable_folder(dir, &error))?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            if known(&name).is_some() {
                match disk::read_bounded(&entry.path(), MAX_FILE_BYTES) {
                    Ok(bytes) => drop(set.contents.insert(name, bytes)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        if entry.path().is_symlink() {
                            return Err(Problem::of_file(name, "this link leads nowhere"));
                        }
                        // Removed between the listing and the read: the same as not there.
                    }
                    Err(error) => {
                        return Err(Problem::of_file(name, format!("cannot be read: {error}")));
                    }
                }
            } else if is_toml(&name) {
                set.strangers.push(name);
            }
        }
        set.strangers.sort();
        Ok(set)
    }

    /// A set made of `(name, content)`; names that are no policy file become strangers.
    pub fn of<N: Into<String>, C: Into<Vec<u8>>>(files: impl IntoIterator<Item = (N, C)>) -> Self {
        let mut set = Self::default();
        for (name, content) in files {
            let name = name.into();
            if known(&name).is_some() {
                set.set(&name, Some(content.into()));
            } else {
                set.strangers.push(name);
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

    pub(crate) fn set(&mut self, name: &str, content: Option<Vec<u8>>) {
        match content {
            Some(content) => drop(self.contents.insert(name.to_owned(), content)),
            None => drop(self.contents.remove(name)),
        }
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

fn is_toml(name: &str) -> bool {
    let toml = Path::new(name)
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    toml && !name.starts_with('.')
}

fn unreadable_folder(dir: &Path, error: &io::Error) -> Problem {
    let problem = Problem::of_file(
        dir.display().to_string(),
        format!("the policy folder cannot be read: {error}"),
    );
    match error.kind() {
        io::ErrorKind::NotFound => {
            problem.suggest("create it, or set PENSTOCK_POLICY_DIR to the right one")
        }
        _ => problem,
    }
}

/// Reads the files of a set one after the other, collecting what is wrong with any of them.
pub(super) struct Reading<'a> {
    files: &'a FileSet,
    found: Findings,
}

impl<'a> Reading<'a> {
    pub(super) fn of(files: &'a FileSet) -> Self {
        Self {
            files,
            found: Findings::default(),
        }
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
        for name in &self.files.strangers {
            let names = FILES.iter().map(|file| file.name);
            let hint = match closest(name, names.clone()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known here: {}", names.collect::<Vec<_>>().join(", ")),
            };
            let message = "this version of Penstock reads no file of this name";
            let warning = Problem::of_file(name.clone(), message).suggest(hint);
            self.found.warnings.push(warning);
        }
        Ok(self.found.warnings)
    }
}

/// Writes the default files into `dir` (made if absent) where it has none; files that exist are
/// never touched. Names of the files written are returned.
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
