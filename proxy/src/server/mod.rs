//! From settings to a running Pingora server: sockets, services, signals.

pub mod door;
mod handover;
mod listen;
mod origin;
mod proxy_protocol;
mod shutdown;

pub use listen::{Addresses, Bound, bind, inherit};

use crate::app::App;
use crate::fleet::{ChangesFollower, FlaggedFollower, Heartbeat, ListsFollower, Settler};
use crate::gateway::Gateway;
use crate::ops::{Ops, Token};
use crate::results::Warmer;
use crate::upstream::Prober;
use door::Door;
use listen::{Listening, Until};
use origin::BeforeTls;
use penstock_config::bootstrap::ProxyProtocol;
use penstock_engine::redis::SharedLists;
use pingora::apps::http_app::HttpServer;
use pingora::listeners::TcpSocketOptions;
use pingora::listeners::tls::TlsSettings;
use pingora::prelude::Opt;
use pingora::protocols::TcpKeepalive;
use pingora::proxy::HttpProxy;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use pingora::services::background::{BackgroundService, background_service};
use pingora::services::listening::Service;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Idle connections kept to all upstream servers together.
const UPSTREAM_POOL: usize = 512;
/// Longest path of a Unix socket, bytes (sun_path, with its closing zero).
const MAX_SOCKET_PATH: usize = 107;
/// Attempts to pass a request through that no policy can exceed: 5 retries.
const MAX_ATTEMPTS: usize = 6;

/// Serves until a signal says otherwise; then drains and ends the process.
pub fn run(app: Arc<App>, bound: Bound, upgrade: bool) -> anyhow::Result<()> {
    check_certificates()?;
    let conf = conf(&app)?;
    let meeting_place = conf.upgrade_sock.clone();
    let mut server = Server::new_with_opt_and_conf(Opt::default(), conf);
    let Bound { addresses, mut sockets } = bound;

    let mut public = Service::new("public".to_owned(), front(&app, &server.configuration));
    if app.settings.listen.proxy_protocol == ProxyProtocol::Required {
        // Before the listeners: Pingora copies it to those that come.
        public.endpoints().set_pre_tls_callback(Arc::new(BeforeTls(app.clone())));
    }
    public.add_tcp_with_settings(&addresses.public.to_string(), client_sockets());
    if let Some(tls) = &app.settings.tls {
        let address = addresses.tls.unwrap_or(tls.listen).to_string();
        let sockets = Some(client_sockets());
        public.add_tls_with_settings(&address, sockets, tls_settings(&tls.cert, &tls.key)?);
    }
    let mut ops = Service::new(
        "operations".to_owned(),
        HttpServer::new_app(Ops::new(app.clone(), Token::open(&app.settings)?)),
    );
    ops.threads = Some(1);
    ops.add_tcp(&addresses.ops.to_string());

    // From here on nothing may fail: the running process leaves when it has given its sockets away.
    if upgrade {
        tracing::info!("waiting for the sockets of the running process: send it SIGQUIT");
        sockets = handover::receive(&meeting_place, &addresses)?;
    }
    server.bootstrap();
    if let Err(error) = addresses.write_down(&app.settings.data_dir) {
        tracing::warn!("an upgrade will not find out where this process listens: {error:#}");
    }
    let _ = app.listening.set(addresses.clone());
    tracing::info!(public = %addresses.public, operations = %addresses.ops, "listening");

    let sockets = Arc::new(sockets);
    server.add_service(Listening::new(public, sockets.clone(), Until::Shutdown));
    server.add_service(Listening::new(ops, sockets, Until::Exit(app.drain.clone())));
    in_background(&mut server, "upstream health", Prober(app.clone()));
    in_background(&mut server, "warm", Warmer(app.clone()));
    in_background(&mut server, "flagged", FlaggedFollower::new(app.clone()));
    if let Some(link) = app.link.clone() {
        in_background(&mut server, "fleet", Heartbeat::new(app.clone(), link.clone()));
        in_background(&mut server, "changes", ChangesFollower(app.clone()));
        in_background(&mut server, "settle", Settler::new(app.clone(), link.clone()));
        let lists = SharedLists::new(link);
        in_background(&mut server, "lists", ListsFollower::new(app.clone(), lists));
    }

    let signals = shutdown::Signals::new(app, meeting_place);
    server.run(RunArgs { shutdown_signal: Box::new(signals) });
    Ok(())
}

/// Work beside the requests, on a thread of its own.
fn in_background(
    server: &mut Server,
    name: &str,
    work: impl BackgroundService + Send + Sync + 'static,
) {
    let mut service = background_service(name, work);
    service.threads = Some(1);
    server.add_service(service);
}

/// What is sent must be acknowledged, and read, within half a minute: a client that does not read an
/// answer on its way through, header and end included, must not hold its connection for ever.
fn client_sockets() -> TcpSocketOptions {
    let mut options = TcpSocketOptions::default();
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(10),
        count: 3,
        #[cfg(target_os = "linux")]
        user_timeout: Duration::from_secs(30),
    });
    options
}

fn front(app: &Arc<App>, conf: &Arc<ServerConf>) -> Door {
    let mut proxy = HttpProxy::new(Gateway(app.clone()), conf.clone());
    proxy.handle_init_modules();
    Door::new(proxy, app.clone())
}

fn conf(app: &App) -> anyhow::Result<ServerConf> {
    let settings = &app.settings;
    let upgrade_sock = upgrade_socket(&settings.data_dir)?;
    let drain = settings.drain.as_secs();
    Ok(ServerConf {
        threads: settings.workers,
        work_stealing: true,
        pid_file: settings.data_dir.join("penstock.pid").display().to_string(),
        upgrade_sock,
        // The end is ours (see `shutdown`); this is what happens if we miss it.
        grace_period_seconds: Some(drain + 5),
        graceful_shutdown_timeout_seconds: Some(1),
        upstream_keepalive_pool_size: UPSTREAM_POOL,
        max_retries: MAX_ATTEMPTS,
        ..ServerConf::default()
    })
}

/// Where two processes meet for an upgrade. A Unix socket's path is short by nature; a deep data
/// folder gets one relative to the working directory, if that is short enough.
fn upgrade_socket(data_dir: &Path) -> anyhow::Result<String> {
    let socket = data_dir.join("upgrade.sock");
    let relative = std::env::current_dir()
        .ok()
        .and_then(|here| Some(socket.strip_prefix(here).ok()?.to_path_buf()));
    [Some(socket.clone()), relative]
        .into_iter()
        .flatten()
        .map(|path| path.display().to_string())
        .find(|path| path.len() <= MAX_SOCKET_PATH)
        .ok_or_else(|| {
            anyhow::anyhow!(
                "the data folder's path is too long for the upgrade socket {} ({MAX_SOCKET_PATH} bytes)",
                socket.display()
            )
        })
}

/// Pingora panics when the certificates it shall trust cannot be read.
fn check_certificates() -> anyhow::Result<()> {
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        if let Some(path) = std::env::var_os(name).filter(|path| !Path::new(path).exists()) {
            anyhow::bail!("{name} names {}, which does not exist", Path::new(&path).display());
        }
    }
    Ok(())
}

/// Pingora panics on a certificate it cannot use, after the sockets are open; so it is tried first.
fn tls_settings(cert: &Path, key: &Path) -> anyhow::Result<TlsSettings> {
    let load = || {
        let text = |path: &Path| path.to_str().map(str::to_owned);
        let (cert, key) = (text(cert)?, text(key)?);
        let mut settings = TlsSettings::intermediate(&cert, &key).ok()?;
        settings.enable_h2();
        Some(settings)
    };
    let usable = std::panic::catch_unwind(|| load().map(TlsSettings::build).is_some());
    if !usable.unwrap_or(false) {
        anyhow::bail!(
            "TLS: {} and {} are no certificate with its key",
            cert.display(),
            key.display()
        );
    }
    load().ok_or_else(|| anyhow::anyhow!("TLS: {} changed while it was read", cert.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upgrade_socket_fits_into_its_address() {
        assert_eq!(upgrade_socket(Path::new("data")).unwrap(), "data/upgrade.sock");
        let deep = "x".repeat(100);
        let error = upgrade_socket(Path::new(&deep)).unwrap_err().to_string();
        assert!(error.contains("too long") && error.contains(&deep), "{error}");
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            upgrade_socket(&here.join("y".repeat(90))).unwrap(),
            format!("{}/upgrade.sock", "y".repeat(90))
        );
    }

    #[test]
    fn a_certificate_that_is_none_is_an_error_and_no_panic() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        for content in
            ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            std::fs::write(&cert, content).unwrap();
            std::fs::write(&key, content).unwrap();
            let error = tls_settings(&cert, &key).err().unwrap().to_string();
            assert!(error.contains("cert.pem"), "{error}");
        }
    }
}
