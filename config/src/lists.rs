//! Changing the lists of `access.toml` without touching what else is written there.

use crate::clock::Clock;
use crate::policy::{Entry, FileSet, List, Target};
use crate::publish::{Edit, PublishError, Published, publish};
use crate::units::rfc3339_seconds;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

const FILE: &str = "access.toml";
/// Somebody else publishes in between once in a while, not ten times in a row.
const ATTEMPTS: usize = 10;

/// One change of the lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Puts an entry in, in place of those with the same target on either list.
    Put(Entry),
    /// Takes every entry with this target out.
    Remove(Target),
    /// Takes out what has expired at this time, seconds since 1970.
    Prune(i64),
}

/// In words, for the history.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(Entry { list, target, reason, expires }) => {
                write!(f, "{} {target}", list.name())?;
                if let Some(expires) = expires {
                    write!(f, " until {}", rfc3339_seconds(*expires))?;
                }
                if !reason.is_empty() {
                    write!(f, ": {reason}")?;
                }
                Ok(())
            }
            Self::Remove(target) => write!(f, "remove {target} from the lists"),
            Self::Prune(_) => f.write_str("remove expired entries from the lists"),
        }
    }
}

/// Why a list was not changed. Nothing was written then.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// Neither list has it.
    #[error("neither list has {0}; `lists show` shows what they have")]
    Absent(Target),
    /// Somebody broke the file by hand.
    #[error("access.toml is not valid; correct it first: {0}")]
    Broken(String),
    /// It could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Makes a change in the policy folder `dir` and puts it in force; how many entries went, and what
/// was published.
pub fn change(
    dir: &Path,
    change: &Change,
    who: &str,
    why: &str,
    clock: &dyn Clock,
) -> Result<(usize, Published), ListError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let files =
            FileSet::collect(dir).map_err(|problem| PublishError::Invalid(problem.into()))?;
        let text = match files.get(FILE) {
            Some(bytes) => {
                std::str::from_utf8(bytes).map_err(|e| ListError::Broken(e.to_string()))?
            }
            None => crate::policy::FILES
                .iter()
                .find(|file| file.name == FILE)
                .map_or("", |file| file.default),
        };
        let (text, gone) = edit(text, change)?;
        let edit = Edit {
            files: BTreeMap::from([(FILE.to_owned(), Some(text))]),
            expected_version: Some(files.version()),
            who: who.to_owned(),
            why: why.to_owned(),
        };
        match publish(dir, &edit, clock) {
            Err(PublishError::Stale { .. }) if attempt < ATTEMPTS => {}
            published => return Ok((gone, published?)),
        }
    }
}

/// Makes a change in the text of `access.toml`: the new text, and how many entries went. Comments and
/// other entries stay as they are.
pub fn edit(text: &str, change: &Change) -> Result<(String, usize), ListError> {
    let mut document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| ListError::Broken(error.to_string()))?;
    let goes = |table: &Table| match change {
        Change::Put(Entry { target, .. }) | Change::Remove(target) => {
            target_of(table) == Some(*target)
        }
        Change::Prune(now) => expires_of(table).is_some_and(|expires| expires <= *now),
    };
    let mut gone = 0;
    for list in List::ALL {
        let Some(tables) = tables_of(&mut document, list)? else { continue };
        let before = tables.len();
        tables.retain(|table| !goes(table));
        gone += before - tables.len();
        if tables.is_empty() {
            document.remove(list.name());
        }
    }
    match change {
        Change::Put(entry) => put(&mut document, entry)?,
        Change::Remove(target) if gone == 0 => return Err(ListError::Absent(*target)),
        Change::Remove(_) | Change::Prune(_) => {}
    }
    Ok((document.to_string(), gone))
}

fn put(document: &mut DocumentMut, entry: &Entry) -> Result<(), ListError> {
    let mut table = Table::new();
    match entry.target {
        Target::Address(_) => table.insert("address", value(entry.target.to_string())),
        Target::Key(_) => table.insert("key", value(entry.target.to_string())),
    };
    if !entry.reason.is_empty() {
        table.insert("reason", value(&entry.reason));
    }
    if let Some(expires) = entry.expires {
        table.insert("expires", value(rfc3339_seconds(expires)));
    }
    // The comments of a file without entries are what stands after the last of them.
    let comments = document.trailing().as_str().unwrap_or_default().to_owned();
    if comments.is_empty() {
        table.decor_mut().set_prefix("\n");
    } else {
        table.decor_mut().set_prefix(format!("{}\n\n", comments.trim_end()));
        document.set_trailing("");
    }
    if let Some(tables) = tables_of(document, entry.list)? {
        tables.push(table);
    } else {
        let mut tables = ArrayOfTables::new();
        tables.push(table);
        document.insert(entry.list.name(), Item::ArrayOfTables(tables));
    }
    Ok(())
}

/// The entries of a list, `[[deny]]` as well as `deny = [{…}]`.
fn tables_of(
    document: &mut DocumentMut,
    list: List,
) -> Result<Option<&mut ArrayOfTables>, ListError> {
    let Some(item) = document.get_mut(list.name()) else { return Ok(None) };
    if !item.is_array_of_tables() {
        let tables = std::mem::take(item).into_array_of_tables();
        let broken = |_| ListError::Broken(format!("{} is not a list of tables", list.name()));
        *item = Item::ArrayOfTables(tables.map_err(broken)?);
    }
    Ok(item.as_array_of_tables_mut())
}

fn target_of(table: &Table) -> Option<Target> {
    let text = |key: &str| table.get(key)?.as_str();
    Target::parse(text("address").or_else(|| text("key"))?).ok()
}

fn expires_of(table: &Table) -> Option<i64> {
    let item = table.get("expires")?;
    let text = match item.as_datetime() {
        Some(moment) => moment.to_string(),
        None => item.as_str()?.to_owned(),
    };
    crate::units::parse_rfc3339(&text).ok()
}

#[cfg(test)]
mod tests;
