//! `penstock-control policy`: changes of the policy that are checked, kept and can be taken back.

use super::{Common, Place, Usage};
use anyhow::Context;
use penstock_config::clock;
use penstock_config::policy::FileSet;
use penstock_config::publish::{Edit, Published, history, publish, rollback, version_files};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Changes the policy of a running Penstock, shows its history, takes a change back
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Puts files in force, all of them or none: ranking.toml, query.toml, …
    Push {
        /// Named as the files they replace
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        change: Change,
    },
    /// Puts an earlier version in force again
    Rollback {
        /// As `history` lists them
        version: String,
        #[command(flatten)]
        change: Change,
    },
    /// Every version that was pushed, newest first, and what a push found in the folder
    History,
    /// The files of a version
    Show {
        /// As `history` lists them [default: the one in the folder now]
        version: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Change {
    /// Why, for the history
    #[arg(long, short, value_name = "TEXT", default_value = "")]
    message: String,
    /// Who, for the history
    #[arg(long, env = "USER", value_name = "NAME", default_value = "")]
    by: String,
    /// Refuses when another version than this is in force by now
    #[arg(long, value_name = "VERSION")]
    if_version: Option<String>,
}

impl Change {
    fn edit(self, files: BTreeMap<String, Option<String>>) -> Edit {
        Edit { files, expected_version: self.if_version, who: self.by, why: self.message }
    }
}

/// Runs the command.
pub fn run(common: &Common, options: Options) -> anyhow::Result<()> {
    let makes = matches!(options.command, Command::Push { .. });
    let dir = options.place.folder(common, makes)?;
    let clock = clock::system();
    // Not print: it panics when whoever reads has seen enough.
    let mut out = std::io::stdout().lock();
    match options.command {
        Command::Push { files, change } => {
            let edit = change.edit(read(&files)?);
            tell(&mut out, &dir, &publish(&dir, &edit, &*clock)?)?;
        }
        Command::Rollback { version, mut change } => {
            if change.message.is_empty() {
                change.message = format!("rollback to {version}");
            }
            let edit = change.edit(BTreeMap::new());
            tell(&mut out, &dir, &rollback(&dir, &version, edit, &*clock)?)?;
        }
        Command::History => {
            for line in history(&dir) {
                let (version, when, who, why) = (line.version, line.when, line.who, line.why);
                writeln!(out, "{version}  {when}  {who:12}  {why}")?;
            }
        }
        Command::Show { version } => {
            let files = match version {
                Some(version) => version_files(&dir, &version)?,
                None => in_folder(&dir)?,
            };
            for (name, text) in files {
                let text = text.unwrap_or_else(|| "# no such file: its defaults hold\n".into());
                writeln!(out, "# ==> {name} <==\n{text}")?;
            }
        }
    }
    Ok(())
}

/// Texts by file name.
fn read(files: &[PathBuf]) -> anyhow::Result<BTreeMap<String, Option<String>>> {
    let mut texts = BTreeMap::new();
    for path in files {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Usage(format!("{} is no file", path.display())))?;
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if texts.insert(name.to_owned(), Some(text)).is_some() {
            return Err(Usage(format!("{name} is given twice")).into());
        }
    }
    Ok(texts)
}

fn in_folder(dir: &Path) -> anyhow::Result<BTreeMap<String, Option<String>>> {
    let files = FileSet::collect(dir).map_err(|problem| anyhow::anyhow!("{problem}"))?;
    let texts = files.iter().map(|(name, content)| {
        (name.to_owned(), Some(String::from_utf8_lossy(content).into_owned()))
    });
    Ok(texts.collect())
}

/// What was published, for whoever runs a command.
pub(super) fn tell(
    out: &mut impl std::io::Write,
    dir: &Path,
    published: &Published,
) -> std::io::Result<()> {
    for warning in &published.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    let Published { version, previous, .. } = published;
    if version == previous {
        writeln!(out, "nothing changed: version {version} is in force")
    } else {
        writeln!(out, "version {version} is in {}, it was {previous}", dir.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        options: Options,
    }

    fn policy(data: &Path, line: &[&str]) -> anyhow::Result<()> {
        let mut all = vec!["policy", "--data-dir", data.to_str().unwrap()];
        all.extend(line);
        let Cli { common, options } = Cli::try_parse_from(all)?;
        run(&common, options)
    }

    #[test]
    fn a_push_is_kept_and_can_be_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let file = folder.path().join("ranking.toml");
        let path = file.to_str().unwrap();
        let weights = |number: f32| format!("[weights]\nfreshness = {number}\n");
        for number in [0.5, 0.6] {
            std::fs::write(&file, weights(number)).unwrap();
            policy(&data, &["push", path, "--by", "me", "-m", "fresher"]).unwrap();
        }
        let dir = data.join("policy");
        let in_force = || std::fs::read_to_string(dir.join("ranking.toml")).unwrap();
        assert_eq!(in_force(), weights(0.6));
        let versions = history(&dir);
        assert_eq!((versions.len(), versions[0].who.as_str()), (3, "me"));

        policy(&data, &["rollback", &versions[1].version]).unwrap();
        assert_eq!(in_force(), weights(0.5));
        for line in [vec!["history"], vec!["show"], vec!["show", &versions[2].version]] {
            policy(&data, &line).unwrap();
        }
    }

    #[test]
    fn what_is_not_valid_or_not_expected_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ranking.toml");
        let path = file.to_str().unwrap();
        std::fs::write(&file, "[weights]\nsearch = -1\n").unwrap();
        let error = policy(folder.path(), &["push", path]).unwrap_err();
        assert!(error.to_string().contains("ranking.toml:2"), "{error:#}");
        std::fs::write(&file, "[weights]\nsearch = 1\n").unwrap();
        let error = policy(folder.path(), &["push", path, "--if-version", "0"]).unwrap_err();
        assert!(error.to_string().contains("changed meanwhile"), "{error:#}");
        let error = policy(folder.path(), &["push", path, path]).unwrap_err();
        assert!(error.is::<Usage>(), "{error:#}");
        assert!(policy(folder.path(), &["rollback", "nothing"]).is_err());
        assert!(history(&folder.path().join("policy")).is_empty());
    }
}
