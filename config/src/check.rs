//! `penstock check`: are these files valid, without running anything?

use crate::bootstrap::Bootstrap;
use crate::disk;
use crate::policy::{FILES, FileSet, Policy};
use crate::problem::{Problem, Problems};
use crate::read::{MAX_FILE_BYTES, closest, printable};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// What a check found. Shown one problem a line, warnings after them, a summary last.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Files that were looked at.
    pub files: usize,
    /// What is wrong; empty: all is well.
    pub problems: Vec<Problem>,
    /// What is doubtful.
    pub warnings: Vec<Problem>,
}

impl Report {
    /// Nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    /// Takes in findings about `file`s of `folder`, so that they are shown by the path that was
    /// given.
    fn note(&mut self, folder: &Path, found: Result<Vec<Problem>, Problems>) {
        let (list, mut found) = match found {
            Ok(warnings) => (&mut self.warnings, warnings),
            Err(problems) => (&mut self.problems, problems.0),
        };
        for problem in &mut found {
            let known = FILES.iter().any(|file| file.name == problem.file);
            if known || folder.join(&problem.file).exists() {
                problem.file = folder.join(&problem.file).display().to_string();
            }
        }
        list.extend(found);
    }

    fn refuse(&mut self, path: &Path, message: impl Into<String>, hint: Option<String>) {
        let mut problem = Problem::of_file(path.display().to_string(), message);
        problem.suggestion = hint;
        self.problems.push(problem);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        let count = |n: usize, what: &str| match n {
            0 => format!("no {what}s"),
            1 => format!("1 {what}"),
            n => format!("{n} {what}s"),
        };
        write!(
            f,
            "{} checked: {}, {}",
            count(self.files, "file"),
            count(self.problems.len(), "problem"),
            count(self.warnings.len(), "warning")
        )
    }
}

/// Checks files and folders. A folder is a policy folder (and may hold `penstock.toml`); a file is
/// what its name says. Bootstrap files are checked without the environment, and without looking
/// whether the files they name exist on this machine.
pub fn check<P: AsRef<Path>>(paths: &[P]) -> Report {
    let mut report = Report::default();
    // Policy files of one folder are one policy.
    let mut policies: BTreeMap<PathBuf, Vec<(String, Vec<u8>)>> = BTreeMap::new();
    for path in paths.iter().map(AsRef::as_ref) {
        if path.is_dir() {
            check_folder(path, &mut report);
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bootstrap = is_bootstrap(&name);
        if !bootstrap && FILES.iter().all(|file| file.name != name) {
            let names = FILES.iter().map(|file| file.name).chain(["penstock.toml"]);
            let hint = match closest(&name, names.clone()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known: {}", names.collect::<Vec<_>>().join(", ")),
            };
            let message = format!("\"{}\" is no name of a settings file", printable(&name));
            report.refuse(path, message, Some(hint));
            continue;
        }
        let content = match disk::read_bounded(path, MAX_FILE_BYTES) {
            Ok(content) => content,
            Err(error) => {
                report.refuse(path, format!("cannot be read: {error}"), None);
                continue;
            }
        };
        report.files += 1;
        if bootstrap {
            check_bootstrap(path, &content, &mut report);
        } else {
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            let files = policies.entry(folder).or_default();
            files.push((name.into_owned(), content));
        }
    }
    for (folder, files) in policies {
        let read = Policy::from_files(&FileSet::of(files));
        report.note(&folder, read.map(|(_, warnings)| warnings));
    }
    report
}

fn check_folder(folder: &Path, report: &mut Report) {
    let read = FileSet::collect(folder).map_err(Problems::from);
    let found = read.and_then(|files| {
        report.files += files.iter().count();
        // A bootstrap file may live here: it is none of the unknown ones.
        let (_, mut warnings) = Policy::from_files(&files)?;
        warnings.retain(|warning| !is_bootstrap(&warning.file));
        Ok(warnings)
    });
    report.note(folder, found);
    let bootstrap = folder.join("penstock.toml");
    if let Ok(content) = disk::read_bounded(&bootstrap, MAX_FILE_BYTES) {
        report.files += 1;
        check_bootstrap(&bootstrap, &content, report);
    }
    if report.files == 0 && report.is_ok() {
        let message = "holds no settings file, so everything is as in the defaults";
        let warning = Problem::of_file(folder.display().to_string(), message);
        report.warnings.push(warning);
    }
}

fn check_bootstrap(path: &Path, content: &[u8], report: &mut Report) {
    if let Err(problems) = Bootstrap::parse(&path.display().to_string(), content, &|_| None) {
        report.problems.extend(problems.0);
    }
}

/// `penstock.toml`, `penstock-eu.toml`, `eu.penstock.toml`.
fn is_bootstrap(name: &str) -> bool {
    name.strip_suffix(".toml")
        .is_some_and(|stem| stem.starts_with("penstock") || stem.ends_with(".penstock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_checked_by_their_names() {
        let root = tempfile::tempdir().expect("a folder");
        let policy = root.path().join("policy");
        crate::policy::install_defaults(&policy).expect("installed");
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let check = |paths: &[&Path], expected: &str| {
            let shown = check(paths).to_string();
            let prefix = format!("{}/", root.path().display());
            assert_eq!(shown.replace(&prefix, ""), expected);
        };
        check(&[&policy], "6 files checked: no problems, no warnings");
        check(&[], "no files checked: no problems, no warnings");
        let broken = write(
            "policy/ranking.toml",
            "# one\n# two\n[weights]\n  search = 1\n  cf = 1\n\n\n\n\n\n\n        serch = 1\n",
        );
        let line =
            "policy/ranking.toml:12:9: weights.serch: unknown key; did you mean \"search\"?\n";
        check(&[&broken], &format!("{line}1 file checked: 1 problem, no warnings"));
        check(&[&policy], &format!("{line}6 files checked: 1 problem, no warnings"));

        write("policy/ranking.toml", "");
        write("policy/checkout.toml", "");
        write("policy/penstock.toml", "wrkers = 2\n");
        check(
            &[&policy],
            "policy/penstock.toml:1:1: wrkers: unknown key; did you mean \"workers\"?\n\
             warning: policy/checkout.toml: this version of Penstock reads no policy file of this \
             name; known here: ranking.toml, query.toml, resilience.toml, limits.toml, access.toml, cache.toml\n\
             7 files checked: 1 problem, 1 warning",
        );
        let bootstrap = write("penstock-eu.toml", "[listen]\npublic = \":80\"\n");
        let stranger = write("rank.toml", "");
        let missing = root.path().join("query.toml");
        check(
            &[&bootstrap, &stranger, &missing],
            "penstock-eu.toml:2:1: listen.public: \":80\" is not an address to listen on; \
             write \"0.0.0.0:80\" for all interfaces\n\
             rank.toml: \"rank.toml\" is no name of a settings file; did you mean ranking.toml?\n\
             query.toml: cannot be read: No such file or directory (os error 2)\n\
             1 file checked: 3 problems, no warnings",
        );
        let empty = root.path().join("empty");
        std::fs::create_dir(&empty).expect("made");
        check(
            &[&empty],
            "warning: empty: holds no settings file, so everything is as in the defaults\n\
             no files checked: no problems, 1 warning",
        );
    }
}
