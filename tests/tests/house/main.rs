//! What is true of the repository itself: the checklist points at things that exist, and the files of
//! `deploy/` agree with the code.

mod checklist;
mod dashboards;
mod deploy;
mod scripts;
mod settings;

use std::path::{Path, PathBuf};
use std::process::Command;

/// A path in the repository.
fn repository(relative: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(relative)
}

/// The text of a file of the repository.
fn read(relative: &str) -> String {
    std::fs::read_to_string(repository(relative))
        .unwrap_or_else(|error| panic!("{relative}: {error}"))
}

/// Runs a checker; `None`, and a line that says so, when it is not installed.
fn run_if_installed(program: &str, args: &[&str]) -> Option<(bool, String)> {
    match Command::new(program).args(args).current_dir(repository("")).output() {
        Ok(output) => {
            let both = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&both).into_owned();
            Some((output.status.success(), text))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: needs {program}");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}
