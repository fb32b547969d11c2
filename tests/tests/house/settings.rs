//! Every `PENSTOCK_…` variable that a file of ours names is one that the programs read.

use super::{read, repository};
use std::path::Path;

/// Read by scripts, tests and benches, not by the programs.
const OF_OURS: &[&str] = &[
    "PENSTOCK_SHARED",
    "PENSTOCK_TEST_BINARIES",
    "PENSTOCK_BENCH_DATA",
    "PENSTOCK_BENCH_EVENTS",
    "PENSTOCK_BENCH_PRODUCTS",
    "PENSTOCK_BENCH_CHANGES",
    "PENSTOCK_BENCH_ROUNDS",
    "PENSTOCK_BENCH_SECONDS",
    "PENSTOCK_BENCH_SOAK",
];

/// Read by the command line: where the settings are is no setting.
const OF_THE_COMMAND_LINE: &[&str] = &["PENSTOCK_CONFIG"];

fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("PENSTOCK_").map(|(at, _)| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_');
        rest[..end.unwrap_or(rest.len())].trim_end_matches('_')
    })
}

fn files_below(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn variables_in_scripts_and_deploy_files_are_real() {
    let documented = read("config/defaults/penstock.toml");
    let known: Vec<&str> = variables(&documented)
        .chain(OF_OURS.iter().copied())
        .chain(OF_THE_COMMAND_LINE.iter().copied())
        .collect();
    let mut files = vec![repository("Makefile"), repository("README.md")];
    for folder in ["deploy", "docs", "scripts", ".ci"] {
        files_below(&repository(folder), &mut files);
    }
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        for variable in variables(&text).filter(|variable| *variable != "PENSTOCK") {
            assert!(known.contains(&variable), "{}: {variable}", file.display());
        }
    }
}
