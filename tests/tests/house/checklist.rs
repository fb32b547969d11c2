//! docs/checklist.md has every line of the seed's checklist, and what its rows point at exists.

use super::{read, repository};
use std::collections::BTreeMap;

/// A row of the table: the line, where it is, which test shows it.
struct Row {
    line: String,
    place: String,
    test: String,
}

fn rows() -> Vec<Row> {
    read("docs/checklist.md")
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> =
                line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
            let [line, place, test] = cells[..] else {
                panic!("three cells, but: {line}");
            };
            (line != "line").then(|| Row {
                line: line.to_owned(),
                place: place.to_owned(),
                test: test.to_owned(),
            })
        })
        .collect()
}

/// What is between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn comes_later(row: &Row) -> bool {
    row.place.contains("brings it")
}

#[test]
fn every_line_of_the_seed_is_there_in_its_order() {
    let shared = std::env::var("PENSTOCK_SHARED")
        .map_or_else(|_| repository("../shared"), std::path::PathBuf::from);
    let Ok(seed) = std::fs::read_to_string(shared.join("seed/phase3_checklist.md")) else {
        println!("skipped: needs ../shared (seed/phase3_checklist.md)");
        return;
    };
    let seed: Vec<&str> = seed
        .lines()
        .filter_map(|line| {
            let line = line.trim_start();
            line.strip_prefix("- [ ] ").or_else(|| line.strip_prefix("- [x] "))
        })
        .collect();
    let rows = rows();
    let ours: Vec<&str> = rows.iter().map(|row| row.line.as_str()).collect();
    assert_eq!(ours, seed);
}

#[test]
fn what_is_done_names_a_place_and_a_test_and_what_is_not_names_who_brings_it() {
    for row in rows() {
        if comes_later(&row) {
            let issue = ["issue 3", "issue 4", "issue 5", "issue 6", "issue 7", "a later issue"]
                .into_iter()
                .any(|issue| row.place.starts_with(issue));
            assert!(issue, "{}: {}", row.line, row.place);
        } else {
            assert!(quoted(&row.place).next().is_some(), "{}: no place", row.line);
            assert!(quoted(&row.test).next().is_some(), "{}: no test", row.line);
        }
    }
}

#[test]
fn every_file_and_test_that_is_named_exists() {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for row in rows() {
        for name in quoted(&row.place).chain(quoted(&row.test)) {
            // `file`, `file::test`, or a word that is neither (`redis`, `POST /admin`).
            let (file, test) = name.split_once("::").map_or((name, None), |(f, t)| (f, Some(t)));
            if !file.contains('/') || file.starts_with('/') || file.contains(' ') {
                assert!(test.is_none(), "{}: `{name}` names no file", row.line);
                continue;
            }
            let path = repository(file);
            assert!(path.exists(), "{}: there is no {file}", row.line);
            if let Some(test) = test {
                let text = files.entry(file.to_owned()).or_insert_with(|| read(file));
                assert!(
                    text.contains(&format!("fn {test}(")),
                    "{}: {file} has no {test}",
                    row.line
                );
            }
        }
    }
}
