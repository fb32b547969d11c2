//! The import itself: every file's rows into one session, then one commit.

use super::budget::{Budget, MaxErrors};
use super::columns::{Entity, Mapping, event_field};
use super::error::{BadRow, ImportError, Place};
use super::event::{self, EventRules, Outcome};
use super::layout::Layout;
use super::product;
use super::read::{Record, Step};
use super::source::{Opened, Source};
use crate::store::{Bulk, Import, Imported};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// Progress is told every so many rows.
const TELL_ROWS: u64 = 2000;

/// What to import, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The files, in the order in which they are read.
    pub sources: Vec<Source>,
    /// A folder that is laid out as a published set is; its files come before the sources.
    pub layout: Option<(Layout, PathBuf)>,
    /// Columns named by the operator.
    pub mapping: Mapping,
    /// What the types of events mean.
    pub events: EventRules,
    /// How many bad rows are borne.
    pub max_errors: MaxErrors,
    /// A file none of whose rows is good is an error, whatever the budget says: it is the wrong file.
    pub refuse_all_bad: bool,
    /// Now, microseconds since 1970: events more than a day later are bad rows.
    pub now_micros: i64,
    /// A folder with room for unpacked Parquet files.
    pub scratch: PathBuf,
}

/// What is told while an import runs.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A file was opened; it has so many bytes.
    Opened {
        /// Which.
        file: &'a Path,
        /// Its size.
        bytes: u64,
    },
    /// How far it is.
    Read {
        /// Bytes of the file.
        bytes: u64,
        /// Rows.
        rows: u64,
    },
    /// A row was skipped.
    Bad(&'a BadRow),
    /// A file was read to its end.
    Done(&'a FileSummary),
    /// All files were read; the rows are being made visible.
    Merging,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSummary {
    /// Which.
    pub file: PathBuf,
    /// What its rows are.
    pub entity: Entity,
    /// Rows that were read.
    pub rows: u64,
    /// Rows that were skipped as bad.
    pub bad: u64,
    /// Events that say nothing: low ratings, types to skip.
    pub no_preference: u64,
    /// Events that were dated by their row.
    pub undated: u64,
    /// Columns that no field is read from.
    pub ignored: Vec<String>,
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The files.
    pub files: Vec<FileSummary>,
    /// What changed in the store.
    pub imported: Imported,
    /// Rows of products that a later row with the same id replaced.
    pub products_repeated: u64,
}

/// Imports the files of a plan, all or nothing. Errors leave the store as it was.
pub fn run(
    store: &dyn Bulk,
    plan: Plan,
    progress: &dyn Fn(Progress<'_>),
) -> Result<Summary, ImportError> {
    // All headers first: a mistake in the last file is seen before the first one is read.
    let mut opened = match &plan.layout {
        Some((layout, folder)) => layout.open(folder)?,
        None => Vec::new(),
    };
    let named: Result<Vec<(Source, Opened)>, _> = plan
        .sources
        .iter()
        .map(|source| {
            let opened = source.open(&plan.mapping, &plan.scratch)?;
            let untyped = source.entity == Entity::Events
                && !plan.events.has_default()
                && opened.rows.lacks(event_field::EVENT_TYPE);
            if untyped {
                return Err(ImportError::Columns {
                    file: source.path.clone(),
                    why: "no column is `event_type`; name it with --map event_type=COLUMN, or say \
                          what every row is with --default-event view (or add_to_cart, purchase, \
                          rating)"
                        .into(),
                });
            }
            Ok((source.clone(), opened))
        })
        .collect();
    opened.extend(named?);
    let mut job = Job {
        import: store.begin_import()?,
        budget: Budget::new(plan.max_errors),
        plan: &plan,
        progress,
        products: 0,
    };
    let mut files = Vec::new();
    for (source, opened) in opened {
        files.push(job.read(&source, opened)?);
    }
    job.budget.finish()?;
    let all_bad = |file: &&FileSummary| file.rows > 0 && file.bad == file.rows;
    if let Some(file) = files.iter().find(all_bad).filter(|_| plan.refuse_all_bad) {
        return Err(job.budget.nothing_good(&file.file));
    }
    progress(Progress::Merging);
    let products = job.products;
    let imported = job.import.commit()?;
    Ok(Summary {
        files,
        imported,
        products_repeated: products
            - imported.products_added
            - imported.products_updated
            - imported.products_unchanged,
    })
}

struct Job<'a> {
    import: Box<dyn Import + 'a>,
    budget: Budget,
    plan: &'a Plan,
    progress: &'a dyn Fn(Progress<'_>),
    products: u64,
}

impl Job<'_> {
    fn read(&mut self, source: &Source, mut opened: Opened) -> Result<FileSummary, ImportError> {
        (self.progress)(Progress::Opened { file: &source.path, bytes: opened.bytes });
        let mut record = Record::new(source.entity.fields().len());
        let mut file = FileSummary {
            file: source.path.clone(),
            entity: source.entity,
            rows: 0,
            bad: 0,
            no_preference: 0,
            undated: 0,
            ignored: Vec::new(),
        };
        let unit = opened.rows.unit();
        let place = |number| Place { file: source.path.clone(), number, unit };
        loop {
            let step = opened.rows.next(&mut record);
            let number = record.number;
            let torn = |why| ImportError::Torn { place: place(number), why };
            let taken = match step.map_err(torn)? {
                Step::End => break,
                Step::Aside => {
                    file.rows += 1;
                    Ok(())
                }
                Step::Bad(reason) => {
                    file.rows += 1;
                    Err(reason)
                }
                Step::Row => {
                    file.rows += 1;
                    self.take(source.entity, &mut record, &mut file)?
                }
            };
            match taken {
                Ok(()) => self.budget.good(),
                Err(reason) => {
                    file.bad += 1;
                    let place = place(number);
                    let bad = BadRow { place, reason };
                    (self.progress)(Progress::Bad(&bad));
                    self.budget.bad(bad)?;
                }
            }
            if file.rows.is_multiple_of(TELL_ROWS) {
                (self.progress)(Progress::Read {
                    bytes: opened.read.load(Ordering::Relaxed),
                    rows: file.rows,
                });
            }
        }
        opened
            .rows
            .finish()
            .map_err(|why| ImportError::Columns { file: source.path.clone(), why })?;
        file.ignored = opened.rows.ignored();
        (self.progress)(Progress::Done(&file));
        Ok(file)
    }

    /// Puts the record into the import. The inner error is a bad row's reason.
    fn take(
        &mut self,
        entity: Entity,
        record: &mut Record,
        file: &mut FileSummary,
    ) -> Result<Result<(), String>, ImportError> {
        match entity {
            Entity::Products => match product::product(record) {
                Ok(product) => {
                    self.import.put_product(product)?;
                    self.products += 1;
                }
                Err(reason) => return Ok(Err(reason)),
            },
            Entity::Events => {
                let Plan { events, now_micros, .. } = self.plan;
                match event::event(record, file.rows, events, *now_micros) {
                    Ok(Outcome::Event { event, dated }) => {
                        file.undated += u64::from(!dated);
                        self.import.put_event(event)?;
                    }
                    Ok(Outcome::NoPreference) => file.no_preference += 1,
                    Err(reason) => return Ok(Err(reason)),
                }
            }
        }
        Ok(Ok(()))
    }
}
