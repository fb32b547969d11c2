//! `penstock-control import`: products and events from files.

use super::{Bar, Common, Usage};
use indicatif::HumanCount;
use penstock_config::clock;
use penstock_engine::catalog::import::{
    self, Entity, EventRules, FileSummary, Format, Layout, Mapping, MaxErrors, Plan, Progress,
    Source, Summary,
};
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

/// Bad rows are printed up to this many, then counted.
const BAD_SHOWN: u64 = 20;

/// Imports products and events from CSV, JSON Lines and Parquet files, gzipped or plain
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Options {
    /// A folder with products.csv (.jsonl, .parquet; .gz) and events.csv, or a published set
    #[arg(value_name = "FOLDER", conflicts_with_all = ["products", "events"])]
    folder: Option<PathBuf>,
    /// The folder is a set as it was published: olist, retailrocket or movielens; seen by itself
    /// when the files are named so
    #[arg(long, requires = "folder",
        conflicts_with_all = ["products", "events", "map", "format", "default_event"])]
    layout: Option<Layout>,
    /// A file of products; may be given again
    #[arg(long, value_name = "FILE")]
    products: Vec<PathBuf>,
    /// A file of events; may be given again
    #[arg(long, value_name = "FILE")]
    events: Vec<PathBuf>,
    /// csv, jsonl or parquet, when the names of the files do not tell
    #[arg(long)]
    format: Option<Format>,
    /// Reads a field from another column, e.g. price=unit_price
    #[arg(long, value_name = "FIELD=COLUMN", value_parser = pair)]
    map: Vec<(String, String)>,
    /// What a type of event is: view, add_to_cart, purchase, rating or skip, e.g. rating=view
    #[arg(long, value_name = "TYPE=KIND", value_parser = pair)]
    event: Vec<(String, String)>,
    /// What events without a type are: view, add_to_cart, purchase or rating
    #[arg(long, value_name = "TYPE")]
    default_event: Option<String>,
    /// From which value on a rating counts
    #[arg(long, value_name = "VALUE", default_value_t = 4.0)]
    min_value: f64,
    /// How many bad rows are skipped before the import stops: a number, or a share such as 1%
    #[arg(long, value_name = "N", default_value = "100")]
    max_errors: MaxErrors,
}

const AFTER_HELP: &str = "\
Products need id and name; description, category (parts joined with ` > `, several paths with `|`), \
brand, price, created_at and popularity are welcome. Events need user_id, product_id and event_type; \
timestamp, event_id, source and value are welcome. Usual other names (title, sku, customer_id, …) \
are understood.

A rating of at least --min-value is a view, one below is skipped; a review is a purchase. Events \
without a timestamp keep the order of their rows. Nothing is visible before the last row was read, \
and importing again updates.

Published sets: olist (olist_*_dataset.csv), retailrocket (events, item_properties_part1 and 2, \
category_tree), movielens (movies and ratings .csv or .dat, or u.item and u.data); each file may end \
in .gz.";

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((left, right)) if !left.trim().is_empty() && !right.trim().is_empty() => {
            Ok((left.trim().to_owned(), right.trim().to_owned()))
        }
        _ => Err("write it as NAME=VALUE".into()),
    }
}

/// Runs the command.
pub fn run(common: &Common, options: Options) -> anyhow::Result<()> {
    let plan = plan(common, options)?;
    if plan.layout.is_none() && !plan.sources.iter().any(|s| s.entity == Entity::Products) {
        eprintln!("warning: there is no file of products; only events are imported");
    }
    let store = common.store()?;
    let summary = import::run(&*store, plan, &Display::default().teller())?;
    report(&summary);
    let counts = store.counts()?;
    println!(
        "{}: {} products, {} events, catalogue revision {}",
        store.place(),
        HumanCount(counts.products),
        HumanCount(counts.events),
        store.catalog_revision()?,
    );
    Ok(())
}

fn plan(common: &Common, options: Options) -> Result<Plan, Usage> {
    let mut mapping = Mapping::default();
    for (field, column) in &options.map {
        mapping.add(field, column).map_err(Usage)?;
    }
    let layout = layout(&options);
    let mut events = EventRules::default();
    if let Some((layout, _)) = &layout {
        layout.rules(&mut events);
    }
    events.min_value = options.min_value;
    for (name, meaning) in &options.event {
        events.set(name, meaning).map_err(Usage)?;
    }
    if let Some(default) = &options.default_event {
        events.set_default(default).map_err(Usage)?;
    }
    let source = |entity| move |path| Source { path, entity, format: options.format };
    let (products, events_files) = match &options.folder {
        Some(_) if layout.is_some() => (Vec::new(), Vec::new()),
        Some(folder) => (find(folder, "products")?, find(folder, "events")?),
        None => (options.products, options.events),
    };
    let sources: Vec<Source> = products
        .into_iter()
        .map(source(Entity::Products))
        .chain(events_files.into_iter().map(source(Entity::Events)))
        .collect();
    match (&options.folder, sources.is_empty() && layout.is_none()) {
        (_, false) => {}
        (Some(folder), true) => {
            return Err(Usage(format!(
                "{} has no products.csv, .jsonl or .parquet and no events (each may end in .gz), \
                 and is no published set that is known (--layout)",
                folder.display()
            )));
        }
        (None, true) => {
            return Err(Usage(
                "say what to import: a folder, --products FILE or --events FILE".into(),
            ));
        }
    }
    Ok(Plan {
        sources,
        layout,
        mapping,
        events,
        max_errors: options.max_errors,
        refuse_all_bad: true,
        now_micros: clock::unix_micros(),
        scratch: common.data_dir.clone(),
    })
}

/// The layout that was named, or else, with a word about it, the one that the folder's files show.
fn layout(options: &Options) -> Option<(Layout, PathBuf)> {
    let folder = options.folder.as_ref()?;
    // Who names columns or a format has a folder of another kind.
    let plain =
        options.map.is_empty() && options.format.is_none() && options.default_event.is_none();
    let layout = options.layout.or_else(|| {
        let seen = Layout::of_folder(folder).filter(|_| plain)?;
        eprintln!("{}: a set as {seen} is published (--layout {seen})", folder.display());
        Some(seen)
    })?;
    Some((layout, folder.clone()))
}

/// The file of a folder with this name, in whichever format.
pub(super) fn find(folder: &Path, stem: &str) -> Result<Vec<PathBuf>, Usage> {
    let entries = std::fs::read_dir(folder)
        .map_err(|e| Usage(format!("cannot list {}: {e}", folder.display())))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            let named = name.is_some_and(|name| {
                let name = name.strip_suffix(".gz").unwrap_or(name);
                name.split_once('.')
                    .is_some_and(|(first, rest)| first == stem && !rest.contains('.'))
            });
            named && Format::of_name(path).is_some()
        })
        .collect();
    found.sort();
    match found.as_slice() {
        [one, other, ..] => Err(Usage(format!(
            "both {} and {} are there; choose with --{stem} FILE",
            one.display(),
            other.display()
        ))),
        _ => Ok(found),
    }
}

/// Shows progress while the import runs.
#[derive(Default)]
pub(super) struct Display {
    bar: RefCell<Option<Bar>>,
    bad: Cell<u64>,
}

impl Display {
    pub(super) fn teller(self) -> impl Fn(Progress<'_>) {
        move |progress| self.tell(progress)
    }

    fn tell(&self, progress: Progress<'_>) {
        let mut bar = self.bar.borrow_mut();
        match progress {
            Progress::Opened { file, bytes } => {
                let name = file.file_name().unwrap_or(file.as_os_str());
                *bar = Some(Bar::new(name.to_string_lossy(), bytes));
            }
            Progress::Read { bytes, rows } => {
                if let Some(bar) = bar.as_ref() {
                    bar.set(bytes, rows, "rows");
                }
            }
            Progress::Bad(row) => {
                self.bad.set(self.bad.get() + 1);
                let text = match self.bad.get() {
                    n if n <= BAD_SHOWN => format!("skipped: {row}"),
                    n if n == BAD_SHOWN + 1 => "further bad rows are only counted".into(),
                    _ => return,
                };
                match bar.as_ref() {
                    Some(bar) => bar.line(&text),
                    None => eprintln!("{text}"),
                }
            }
            Progress::Done(file) => {
                if let Some(bar) = bar.take() {
                    let rate = HumanCount(bar.rate(file.rows));
                    bar.finish(&format!("{}, {rate} a second", words(file)));
                }
            }
            Progress::Merging => eprintln!("making it visible"),
        }
    }
}

fn words(file: &FileSummary) -> String {
    let mut text = format!("{} rows", HumanCount(file.rows));
    for (count, what) in [
        (file.bad, "bad, skipped"),
        (file.no_preference, "without a preference, skipped"),
        (file.undated, "dated by their order"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {} {what}", HumanCount(count)));
        }
    }
    if !file.ignored.is_empty() {
        text.push_str(&format!(", columns not used: {}", file.ignored.join(", ")));
    }
    text
}

fn report(summary: &Summary) {
    let count = |n: u64| HumanCount(n).to_string();
    let done = &summary.imported;
    println!(
        "products: {} added, {} updated, {} unchanged, {} rows repeated",
        count(done.products_added),
        count(done.products_updated),
        count(done.products_unchanged),
        count(summary.products_repeated),
    );
    println!(
        "events: {} added, {} already there",
        count(done.events_added),
        count(done.events_known)
    );
    if done.events_adrift > 0 {
        eprintln!(
            "warning: {} of the added events are of products that are not in the catalogue; they \
             count once those are imported",
            count(done.events_adrift)
        );
    }
}
