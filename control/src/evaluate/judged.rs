//! Queries and what people judged about them.

use anyhow::{Context, bail};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A query and its judgments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// As typed.
    pub text: String,
    /// Grade by product id, 0 for a product judged worthless.
    pub grades: HashMap<String, u32>,
}

impl Query {
    /// Every grade.
    pub fn judged(&self) -> Vec<u32> {
        self.grades.values().copied().collect()
    }

    /// The grades of a list of products, 0 where nobody judged.
    pub fn grades_of<'i>(&self, list: impl IntoIterator<Item = &'i str>) -> Vec<u32> {
        let grade = |id| self.grades.get(id).copied().unwrap_or(0);
        list.into_iter().map(grade).collect()
    }
}

/// The judged queries of a folder: `queries.csv` (`query_id,query`) and `judgments.csv`
/// (`query_id,product_id,grade`), each plain or `.gz`, in the order of the first. Queries without
/// judgments are left out.
pub fn read(folder: &Path) -> anyhow::Result<Vec<Query>> {
    let mut order: Vec<(String, Query)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    rows(folder, "queries", &["query_id", "query"], |row| {
        let [id, text] = row else { bail!("two fields are needed") };
        if places.insert(id.clone(), order.len()).is_some() {
            bail!("query_id {id} is there twice");
        }
        let query = Query { text: text.clone(), grades: HashMap::new() };
        order.push((id.clone(), query));
        Ok(())
    })?;
    let columns = ["query_id", "product_id", "grade"];
    rows(folder, "judgments", &columns, |row| {
        let [query, product, grade] = row else { bail!("three fields are needed") };
        let Some(&place) = places.get(query) else {
            bail!("there is no query {query} in queries.csv");
        };
        let grade = grade
            .parse()
            .with_context(|| format!("grade {grade:?} is no whole number of at least 0"))?;
        order[place].1.grades.insert(product.clone(), grade);
        Ok(())
    })?;
    let judged = order.into_iter().map(|(_, query)| query);
    let judged: Vec<Query> = judged.filter(|query| !query.grades.is_empty()).collect();
    if judged.is_empty() {
        bail!("{}: no query has a judgment", folder.display());
    }
    Ok(judged)
}

/// Hands each row of a CSV file, cut to `columns`, to `each`; an error gets the file and the line.
fn rows(
    folder: &Path,
    stem: &str,
    columns: &[&str],
    mut each: impl FnMut(&[String]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (path, reader) = open(folder, stem)?;
    let mut reader = csv::Reader::from_reader(reader);
    let in_file = || format!("cannot read {}", path.display());
    let header = reader.headers().with_context(in_file)?.clone();
    let place = |column: &&str| {
        let found = header.iter().position(|name| name.trim() == *column);
        found.with_context(|| format!("{} has no column {column}", path.display()))
    };
    let places: Vec<usize> = columns.iter().map(place).collect::<anyhow::Result<_>>()?;
    for record in reader.records() {
        let record = record.with_context(in_file)?;
        let line = record.position().map_or(0, csv::Position::line);
        let field = |place: &usize| record.get(*place).unwrap_or_default().trim().to_owned();
        let row: Vec<String> = places.iter().map(field).collect();
        each(&row).with_context(|| format!("{} line {line}", path.display()))?;
    }
    Ok(())
}

fn open(folder: &Path, stem: &str) -> anyhow::Result<(PathBuf, Box<dyn Read>)> {
    let plain = folder.join(format!("{stem}.csv"));
    let packed = folder.join(format!("{stem}.csv.gz"));
    if let Ok(file) = File::open(&plain) {
        return Ok((plain, Box::new(file)));
    }
    let file = File::open(&packed)
        .with_context(|| format!("neither {} nor {stem}.csv.gz can be read", plain.display()))?;
    Ok((packed, Box::new(flate2::read::GzDecoder::new(file))))
}

#[cfg(test)]
mod tests {
    use super::read;
    use std::path::Path;

    fn write(folder: &Path, queries: &str, judgments: &str) {
        std::fs::write(folder.join("queries.csv"), queries).unwrap();
        std::fs::write(folder.join("judgments.csv"), judgments).unwrap();
    }

    #[test]
    fn queries_meet_their_judgments() {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            "query,query_id\n\"red, lamp\",q1\nnobody judged,q2\ndrill,q3\n",
            "query_id,product_id,grade\nq3,a,0\nq1,a,3\nq1,b,1\n",
        );
        let queries = read(folder.path()).unwrap();
        let texts: Vec<&str> = queries.iter().map(|query| query.text.as_str()).collect();
        assert_eq!(texts, ["red, lamp", "drill"]);
        assert_eq!(queries[0].grades_of(["b", "x", "a"]), [1, 0, 3]);
    }

    #[test]
    fn what_is_wrong_is_said_with_file_and_line() {
        let queries = "query_id,query\nq1,lamp\n";
        for (queries, judgments, expected) in [
            (queries, "query_id,product_id\nq1,a\n", "judgments.csv has no column grade"),
            (queries, "query_id,product_id,grade\nq1,a,good\n", "judgments.csv line 2"),
            (queries, "query_id,product_id,grade\nq9,a,1\n", "no query q9"),
            (queries, "query_id,product_id,grade\n", "no query has a judgment"),
            ("query_id,query\nq1,a\nq1,b\n", "", "there twice"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), queries, judgments);
            let error = format!("{:#}", read(folder.path()).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
        let empty = tempfile::tempdir().unwrap();
        let error = format!("{:#}", read(empty.path()).unwrap_err());
        assert!(error.contains("queries.csv"), "{error}");
    }
}
