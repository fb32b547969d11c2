//! The process's own log, on standard error: text for a terminal, JSON lines for a collector.
//! Pingora's messages come along (it writes to the `log` crate).

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging with the directives of `PENSTOCK_LOG`. Pingora reports every broken client
/// connection as an error; unless asked for by name, only its own failures are shown.
pub fn start(directives: &str) {
    let quiet = ["pingora_cache", "pingora_core", "pingora_proxy", "pingora_pool", "h2"]
        .into_iter()
        .filter(|module| !directives.contains(module))
        .filter_map(|module| format!("{module}=off").parse().ok())
        // Why the process ends: a service that cannot start.
        .chain("pingora_core::server=error".parse().ok())
        // It calls every second of waiting for an upgrade an error; we say how that ended.
        .chain("pingora_core::server::transfer_fd=off".parse().ok());
    let mut filter = EnvFilter::builder().parse_lossy(directives);
    for directive in quiet {
        filter = filter.add_directive(directive);
    }
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if std::io::stderr().is_terminal() {
        lines.with_target(false).try_init()
    } else {
        lines.json().flatten_event(true).try_init()
    };
    // A logger that is there already stays; only tests start twice.
    drop(started);
}
