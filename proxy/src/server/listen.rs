//! Listening sockets: opened by us before Pingora starts, so that an address that is taken is an
//! error message and not a panic, and port 0 works.

use crate::drain::Drain;
use anyhow::Context as _;
use async_trait::async_trait;
use penstock_config::bootstrap::Bootstrap;
use penstock_config::disk;
use pingora::apps::ServerApp;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service as PingoraService;
use pingora::services::listening::Service;
use serde::{Deserialize, Serialize};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{IntoRawFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Name of the file in the data folder that says where this process listens.
const ADDRESS_FILE: &str = "penstock.addr";

/// Where the process listens, and the sockets that are open already.
pub struct Bound {
    /// Where.
    pub addresses: Addresses,
    pub(super) sockets: Sockets,
}

/// Open sockets by their address, until Pingora takes them.
pub(super) type Sockets = Mutex<Vec<(String, Open)>>;

/// An open socket.
pub(super) enum Open {
    /// Opened by this process.
    Ours(TcpListener),
    /// Taken over from the process before.
    Inherited(RawFd),
}

/// Where a process listens: the content of the address file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The process.
    pub pid: u32,
    /// Traffic.
    pub public: SocketAddr,
    /// Traffic, with TLS.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tls: Option<SocketAddr>,
    /// Operations.
    pub ops: SocketAddr,
}

/// Opens every listening socket.
pub fn bind(settings: &Bootstrap) -> anyhow::Result<Bound> {
    let mut sockets = Vec::new();
    let mut open = |wanted: SocketAddr| {
        let socket =
            TcpListener::bind(wanted).with_context(|| format!("cannot listen on {wanted}"))?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        sockets.push((address.to_string(), Open::Ours(socket)));
        anyhow::Ok(address)
    };
    let public = open(settings.listen.public)?;
    let tls = settings.tls.as_ref().map(|tls| open(tls.listen)).transpose()?;
    let ops = open(settings.listen.ops)?;
    let addresses = Addresses { pid: std::process::id(), public, tls, ops };
    Ok(Bound { addresses, sockets: Mutex::new(sockets) })
}

/// The addresses of the process whose sockets an upgrade takes over, as that process wrote them down.
/// The configuration may leave ports open, but must not name others: what the old process does not
/// listen on cannot be handed over, and what it does would be closed.
pub fn inherit(settings: &Bootstrap) -> anyhow::Result<Bound> {
    let path = settings.data_dir.join(ADDRESS_FILE);
    let text = std::fs::read(&path)
        .with_context(|| format!("{} (of the running process) cannot be read", path.display()))?;
    let old: Addresses =
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
    let same = |what: &str, wanted: Option<SocketAddr>, old: Option<SocketAddr>| {
        let fits = match (wanted, old) {
            (Some(wanted), Some(old)) => {
                wanted == old || (wanted.port() == 0 && wanted.ip() == old.ip())
            }
            (wanted, old) => wanted.is_none() && old.is_none(),
        };
        let name = |address: Option<SocketAddr>| {
            address.map_or("none".to_owned(), |address| address.to_string())
        };
        anyhow::ensure!(
            fits,
            "an upgrade keeps its addresses: the {what} listener is {} in the settings and {} in \
             the running process; to change it, stop that process and start this one without --upgrade",
            name(wanted),
            name(old)
        );
        Ok(())
    };
    let listen = &settings.listen;
    same("public", Some(listen.public), Some(old.public))?;
    same("TLS", settings.tls.as_ref().map(|tls| tls.listen), old.tls)?;
    same("operations", Some(listen.ops), Some(old.ops))?;
    let addresses = Addresses { pid: std::process::id(), ..old };
    Ok(Bound { addresses, sockets: Mutex::default() })
}

impl Addresses {
    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = SocketAddr> {
        [Some(self.public), self.tls, Some(self.ops)].into_iter().flatten()
    }

    /// Writes them to `penstock.addr` in the data folder, whole or not at all.
    pub fn write_down(&self, data_dir: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        let path = data_dir.join(ADDRESS_FILE);
        disk::replace_unsynced(&path, &text)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// When a listener stops accepting.
pub(super) enum Until {
    /// As soon as the process is told to go.
    Shutdown,
    /// On SIGTERM it stays to the end, so that whoever asks hears "not ready" rather than nothing.
    /// On an upgrade it goes at once: the new process answers on the same socket.
    Exit(Arc<Drain>),
}

/// A Pingora service on sockets that are open already.
pub(super) struct Listening<A> {
    service: Service<A>,
    sockets: Arc<Sockets>,
    until: Until,
}

impl<A: ServerApp + Send + Sync + 'static> Listening<A> {
    pub(super) fn new(service: Service<A>, sockets: Arc<Sockets>, until: Until) -> Self {
        Self { service, sockets, until }
    }

    /// Puts the open sockets where Pingora looks before it opens its own.
    fn hand_over(&self, table: &ListenFds) {
        let mine = PingoraService::listen_addresses(&self.service).unwrap_or_default();
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        for (address, socket) in std::mem::take(&mut *sockets) {
            if mine.contains(&address) {
                let fd = match socket {
                    Open::Ours(socket) => socket.into_raw_fd(),
                    Open::Inherited(fd) => fd,
                };
                table.lock().add(address, fd);
            } else {
                sockets.push((address, socket));
            }
        }
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> PingoraService for Listening<A> {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        if let Some(table) = &fds {
            self.hand_over(table);
        }
        let drain = match &self.until {
            Until::Shutdown => None,
            Until::Exit(drain) => Some(drain.clone()),
        };
        let Some(drain) = drain else {
            return PingoraService::start_service(
                &mut self.service,
                fds,
                shutdown,
                listeners_per_fd,
            )
            .await;
        };
        let (go, told) = tokio::sync::watch::channel(false);
        let mut shutdown = shutdown;
        tokio::spawn(async move {
            while shutdown.changed().await.is_ok() && !*shutdown.borrow() {}
            if drain.is_draining() {
                // To the end of the process; `go` must live, or the listener would stop.
                std::future::pending::<()>().await;
            }
            let _ = go.send(true);
        });
        PingoraService::start_service(&mut self.service, fds, told, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        PingoraService::name(&self.service)
    }

    fn threads(&self) -> Option<usize> {
        PingoraService::threads(&self.service)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        PingoraService::listen_addresses(&self.service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(env: &[(&str, &str)]) -> Bootstrap {
        let value = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Bootstrap::parse("penstock.toml", b"", &value).unwrap()
    }

    #[test]
    fn port_zero_becomes_a_port_and_a_taken_one_an_error() {
        let free = [("PENSTOCK_LISTEN", "127.0.0.1:0"), ("PENSTOCK_OPS_LISTEN", "127.0.0.1:0")];
        let bound = bind(&settings(&free)).unwrap();
        assert_ne!(bound.addresses.public.port(), 0);
        assert_ne!(bound.addresses.public, bound.addresses.ops);
        let taken = bound.addresses.public.to_string();
        let again = [("PENSTOCK_LISTEN", taken.as_str()), free[1]];
        let error = format!("{:#}", bind(&settings(&again)).err().unwrap());
        assert!(error.contains(&taken) && error.contains("in use"), "{error}");
    }

    #[test]
    fn an_upgrade_keeps_the_addresses_of_the_running_process() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_str().unwrap();
        let inherited = |public: &str, ops: &str| {
            let env = [
                ("PENSTOCK_LISTEN", public),
                ("PENSTOCK_OPS_LISTEN", ops),
                ("PENSTOCK_DATA_DIR", data),
            ];
            let bound = inherit(&settings(&env));
            bound.map(|bound| bound.addresses).map_err(|error| format!("{error:#}"))
        };
        let error = inherited("127.0.0.1:0", "127.0.0.1:0").unwrap_err();
        assert!(error.contains("penstock.addr"), "{error}");
        let old = Addresses {
            pid: 1,
            public: "127.0.0.1:4711".parse().unwrap(),
            tls: None,
            ops: "127.0.0.1:4712".parse().unwrap(),
        };
        old.write_down(folder.path()).unwrap();
        let expected = Addresses { pid: std::process::id(), ..old.clone() };
        assert_eq!(inherited("127.0.0.1:0", "127.0.0.1:0").unwrap(), expected);
        assert_eq!(inherited("127.0.0.1:4711", "127.0.0.1:4712").unwrap(), expected);
        for (public, ops) in [("127.0.0.1:4711", "127.0.0.1:7"), ("127.0.0.2:0", "127.0.0.1:0")] {
            let error = inherited(public, ops).unwrap_err();
            assert!(error.contains("keeps its addresses"), "{error}");
        }
        let with_tls = Addresses { tls: Some("127.0.0.1:4713".parse().unwrap()), ..old };
        with_tls.write_down(folder.path()).unwrap();
        let error = inherited("127.0.0.1:0", "127.0.0.1:0").unwrap_err();
        assert!(error.contains("TLS listener is none") && error.contains("4713"), "{error}");
        std::fs::write(folder.path().join(ADDRESS_FILE), "{").unwrap();
        let error = inherited("127.0.0.1:0", "127.0.0.1:0").unwrap_err();
        assert!(error.contains("damaged"), "{error}");
    }
}
