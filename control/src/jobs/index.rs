//! `penstock-control index`: keyword index and embeddings of all products, put into force.

use super::{Bar, Common};
use clap::builder::OsStringValueParser;
use indicatif::{HumanCount, HumanDuration};
use penstock_config::clock;
use penstock_engine::model::versions::Version;
use penstock_engine::store::DataStore;
use penstock_engine::train::index::{self, BuildOptions, Model, Stage};
use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};

/// Builds the search index of all products and puts it into force
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Options {
    /// A folder with an embedding model; without it, embeddings are learnt from the catalogue
    #[arg(long, env = "PENSTOCK_EMBEDDING_MODEL", value_name = "FOLDER", value_parser = OsStringValueParser::new())]
    embedding_model: Option<OsString>,
    /// Does nothing when the index in force is of these options and of this catalogue, but for a few products that
    /// proxies know by themselves: up to 5,000, and up to one in twenty
    #[arg(long)]
    if_needed: bool,
    /// Dimensions of learnt embeddings
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=1024))]
    dims: u16,
    /// Seed of learnt embeddings: the same seed and catalogue give the same vectors
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Threads; all cores when not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

const AFTER_HELP: &str = "\
A model's folder holds a table of token vectors (a .safetensors file and a tokenizer .json) or a \
sentence transformer (config.json, tokenizer.json, model.safetensors). The proxy needs it in the \
same place.

The index in force stays in force until the new one is complete; a build that fails or is killed \
changes nothing. The last two stay for rolling back.";

/// Runs the command.
pub fn run(common: &Common, options: &Options) -> anyhow::Result<()> {
    let store = common.store()?;
    let build = options.build(common);
    if options.if_needed
        && let Some(version) = index::up_to_date(&*store, &build)?
    {
        println!("{} is up to date: {}", version.name, content(&version));
        return Ok(());
    }
    build_and_tell(&*store, &build)
}

impl Options {
    fn build(&self, common: &Common) -> BuildOptions {
        let mut build = BuildOptions::new(&common.data_dir);
        // Set but empty is how an environment file says "none".
        let folder = self.embedding_model.as_ref().filter(|folder| !folder.is_empty());
        build.model = folder.map_or(Model::Learnt, |folder| Model::Folder(folder.into()));
        build.dims = self.dims.into();
        build.seed = self.seed;
        build.threads = self.threads.map_or(build.threads, usize::from);
        build
    }
}

fn build_and_tell(store: &dyn DataStore, build: &BuildOptions) -> anyhow::Result<()> {
    let started = clock::now();
    let display = Display::default();
    let built = index::build(store, build, &|stage, done, total| display.tell(stage, done, total))?;
    display.end();
    let took = clock::now().saturating_duration_since(started);
    println!(
        "{} is in force after {}: {}",
        built.version.name,
        HumanDuration(took),
        content(&built.version)
    );
    for name in built.pruned {
        println!("{name} was removed");
    }
    Ok(())
}

fn content(version: &Version) -> String {
    let manifest = &version.manifest;
    let products = HumanCount(manifest.products);
    let revision = manifest.catalog_revision;
    match (&manifest.embedding, &manifest.vectors) {
        (Some(embedding), Some(vectors)) => format!(
            "{products} products of catalogue revision {revision}, {} with embeddings ({}, {} \
             dimensions)",
            HumanCount(vectors.products as u64),
            embedding.name,
            embedding.dims
        ),
        _ => format!("{products} products of catalogue revision {revision}, no embeddings"),
    }
}

/// One bar per stage, one after the other.
#[derive(Default)]
pub(super) struct Display {
    bar: Mutex<Option<(Stage, Bar)>>,
}

impl Display {
    pub(super) fn tell(&self, stage: Stage, done: u64, total: u64) {
        let mut shown = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.as_ref().is_none_or(|(at, _)| *at != stage) {
            finish(shown.take());
            *shown = Some((stage, Bar::new(stage.name(), total)));
        }
        if let Some((_, bar)) = shown.as_ref() {
            bar.set(done, done, unit(stage));
        }
    }

    pub(super) fn end(&self) {
        finish(self.bar.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn finish(shown: Option<(Stage, Bar)>) {
    if let Some((_, bar)) = shown {
        bar.finish("done");
    }
}

fn unit(stage: Stage) -> &'static str {
    match stage {
        Stage::Learn => "rounds",
        Stage::Publish => "versions",
        Stage::Read | Stage::Embed | Stage::Link => "products",
    }
}
