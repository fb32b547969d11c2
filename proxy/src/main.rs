//! `penstock`: the proxy's command line.

use clap::{Parser, Subcommand};
use penstock_proxy::run;
use std::path::PathBuf;
use std::process::ExitCode;

/// Freed memory goes back: with the system's allocator a proxy grows after load and stays big.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Search and recommendations for a shop, as a reverse proxy in front of it.
#[derive(Parser)]
#[command(name = "penstock", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until told to stop.
    Run {
        /// Settings read once at the start; each can be overridden by a PENSTOCK_… variable.
        #[arg(long, env = "PENSTOCK_CONFIG")]
        config: Option<PathBuf>,
        /// Take the listening sockets over from the process that runs on the same data folder:
        /// start this one, then send SIGQUIT to the other.
        #[arg(long)]
        upgrade: bool,
    },
    /// Check settings and policy files without running anything.
    Check {
        /// Files and policy folders; none: what `run` would start with here.
        paths: Vec<PathBuf>,
        /// The settings `run` would be given; not read when paths are named.
        #[arg(long, env = "PENSTOCK_CONFIG")]
        config: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if let Err(why) = run::check_cpu() {
        eprintln!("penstock: {why}");
        return ExitCode::FAILURE;
    }
    run::one_thread_per_search();
    let done = match command {
        Command::Run { config, upgrade } => run::serve(config.as_deref(), upgrade),
        Command::Check { paths, config } => return run::check(&paths, config.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("penstock: {error:#}");
            ExitCode::FAILURE
        }
    }
}
