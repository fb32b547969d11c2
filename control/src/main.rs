//! `penstock-control`: the operators' command line.

use clap::Parser;
use penstock_control::jobs::{
    Common, Usage, batch, demo, evaluate, examples, features, import, index, keys, lists, migrate,
    policy, products,
};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Imports catalogues, builds indexes and looks after a Penstock installation
#[derive(Debug, Parser)]
#[command(name = "penstock-control", version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Import(import::Options),
    Demo(demo::Options),
    Index(index::Options),
    Migrate(migrate::Options),
    Jobs(batch::Options),
    Features(features::Options),
    Products(products::Options),
    Evaluate(evaluate::Options),
    Examples(examples::Options),
    Policy(policy::Options),
    Keys(keys::Options),
    Lists(lists::Options),
}

fn main() -> ExitCode {
    let Cli { common, command } = Cli::parse();
    let done = start(&common).and_then(|()| match command {
        Command::Import(options) => import::run(&common, options),
        Command::Demo(options) => demo::run(&common, options),
        Command::Index(options) => index::run(&common, &options),
        Command::Migrate(options) => migrate::run(&common, &options),
        Command::Jobs(options) => batch::run(&common, options),
        Command::Features(options) => features::run(&common, options),
        Command::Products(options) => products::run(&common, options),
        Command::Evaluate(options) => evaluate::run(&options),
        Command::Examples(options) => examples::run(&common, &options),
        Command::Policy(options) => policy::run(&common, options),
        Command::Keys(options) => keys::run(&common, options),
        Command::Lists(options) => lists::run(&common, options),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

fn start(common: &Common) -> anyhow::Result<()> {
    // FAISS and SQLite are compiled for x86-64-v3 (.cargo/config.toml).
    #[cfg(target_arch = "x86_64")]
    anyhow::ensure!(
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        "this processor has no AVX2; build Penstock without the flags in .cargo/config.toml"
    );
    let filter = tracing_subscriber::EnvFilter::try_new(&common.log)
        .map_err(|e| Usage(format!("--log {}: {e}", common.log)))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(())
}
