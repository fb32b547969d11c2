//! JSON Lines: one object a line.

use super::lines::{Line, Lines};
use super::{Record, Rows, Step};
use crate::catalog::import::columns::{self, Entity, Mapping};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::io::Read;

/// Unknown keys are remembered up to this many.
const IGNORED_MAX: usize = 50;

pub(in super::super) struct JsonRows {
    lines: Lines,
    entity: Entity,
    mapping: Mapping,
    // Key → the fields it may serve, with rank; filled as keys are seen.
    known: HashMap<String, Vec<(usize, usize)>>,
    ignored: BTreeSet<String>,
    // For each field of the current row, the rank of the key it has.
    ranks: Vec<usize>,
}

impl JsonRows {
    pub(in super::super) fn open(from: Box<dyn Read>, entity: Entity, mapping: &Mapping) -> Self {
        Self {
            lines: Lines::new(from),
            entity,
            mapping: mapping.clone(),
            known: HashMap::new(),
            ignored: BTreeSet::new(),
            ranks: vec![0; entity.fields().len()],
        }
    }

    fn fill(&mut self, record: &mut Record) -> Result<(), String> {
        let line = self.lines.line().trim_ascii_end();
        let object = match serde_json::from_slice(line) {
            Ok(Value::Object(object)) => object,
            Ok(_) if self.lines.read() == 1 => {
                return Err(
                    "this is not JSON Lines: write one object a line, not an array of them".into(),
                );
            }
            Ok(_) => return Err("not a JSON object".into()),
            Err(_) if std::str::from_utf8(line).is_err() => return Err("not UTF-8".into()),
            Err(e) => {
                let text = e.to_string();
                let what = text.split(" at line ").next().unwrap_or_default();
                return Err(format!("not JSON: {what} (column {})", e.column()));
            }
        };
        record.clear();
        self.ranks.fill(usize::MAX);
        for (key, value) in object {
            let (entity, mapping) = (self.entity, &self.mapping);
            if !self.known.contains_key(&key) {
                let fields = columns::candidates(entity, mapping, &key);
                if fields.is_empty() {
                    if self.ignored.len() < IGNORED_MAX {
                        self.ignored.insert(key);
                    }
                    continue;
                }
                self.known.insert(key.clone(), fields);
            }
            for &(field, rank) in &self.known[&key] {
                if rank < self.ranks[field] {
                    let join = entity.fields()[field].joined_by();
                    record.values[field] = text(&value, join)
                        .map_err(|what| format!("`{key}` is {what}, not text or a number"))?;
                    self.ranks[field] = rank;
                }
            }
        }
        Ok(())
    }
}

impl Rows for JsonRows {
    fn next(&mut self, record: &mut Record) -> Result<Step, String> {
        let line = self.lines.next();
        record.number = self.lines.number();
        match line? {
            Line::End => return Ok(Step::End),
            Line::TooLong(reason) => return Ok(Step::Bad(reason)),
            Line::Whole => {}
        }
        Ok(match self.fill(record) {
            Ok(()) => Step::Row,
            Err(reason) => Step::Bad(reason),
        })
    }

    fn lacks(&self, _field: usize) -> bool {
        false
    }

    fn finish(&self) -> Result<(), String> {
        let seen = |field: usize| self.known.values().flatten().any(|(at, _)| *at == field);
        for (at, field) in self.entity.fields().iter().enumerate() {
            if let Some(column) = self.mapping.column(field.name)
                && self.lines.read() > 0
                && !seen(at)
            {
                return Err(format!("no row has the key `{column}` for `{}`", field.name));
            }
        }
        Ok(())
    }

    fn ignored(&self) -> Vec<String> {
        self.ignored.iter().cloned().collect()
    }

    fn unit(&self) -> &'static str {
        "line"
    }
}

/// A value as text. Error: what it is.
fn text(value: &Value, join: Option<(&str, &str)>) -> Result<String, &'static str> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Object(_) => Err("an object"),
        Value::Array(list) => {
            let (inner, outer) = join.ok_or("a list")?;
            let nested = list.iter().any(Value::is_array);
            let parts: Result<Vec<String>, _> = list.iter().map(|part| text(part, join)).collect();
            Ok(parts?.join(if nested { outer } else { inner }))
        }
    }
}
