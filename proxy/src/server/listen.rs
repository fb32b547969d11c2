//! Listening sockets: opened by us before Pingora starts, so that an address that is taken is an
//! error message and not a panic, and port 0 works.

use crate::drain::Drain;
use anyhow::Context as _;
use async_trait::async_trait;
use penstock_config::bootstrap::Bootstrap;
use pingora::apps::ServerApp;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service as PingoraService;
use pingora::services::listening::Service;
use serde::{Deserialize, Serialize};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
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
pub(super) type Sockets = Mutex<Vec<(String, TcpListener)>>;

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
        sockets.push((address.to_string(), socket));
        anyhow::Ok(address)
    };
    let public = open(settings.listen.public)?;
    let tls = settings.tls.as_ref().map(|tls| open(tls.listen)).transpose()?;
    let ops = open(settings.listen.ops)?;
    let addresses = Addresses { pid: std::process::id(), public, tls, ops };
    Ok(Bound { addresses, sockets: Mutex::new(sockets) })
}

/// The addresses of the process whose sockets an upgrade takes over: as configured, and where the
/// configuration leaves the port open, as that process wrote them down.
pub fn inherit(settings: &Bootstrap) -> anyhow::Result<Bound> {
    let path = settings.data_dir.join(ADDRESS_FILE);
    let written = || -> anyhow::Result<Addresses> {
        let text = std::fs::read(&path).with_context(|| {
            format!("{} (of the running process) cannot be read", path.display())
        })?;
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
    };
    let open = |wanted: SocketAddr, of: fn(Addresses) -> Option<SocketAddr>| {
        if wanted.port() != 0 {
            return anyhow::Ok(wanted);
        }
        of(written()?)
            .with_context(|| format!("{} does not name the port for {wanted}", path.display()))
    };
    let addresses = Addresses {
        pid: std::process::id(),
        public: open(settings.listen.public, |a| Some(a.public))?,
        tls: settings.tls.as_ref().map(|tls| open(tls.listen, |a| a.tls)).transpose()?,
        ops: open(settings.listen.ops, |a| Some(a.ops))?,
    };
    Ok(Bound { addresses, sockets: Mutex::default() })
}

impl Addresses {
    /// Writes them to `penstock.addr` in the data folder, whole or not at all.
    pub fn write_down(&self, data_dir: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        let path = data_dir.join(ADDRESS_FILE);
        let temporary = data_dir.join(format!("{ADDRESS_FILE}.{}", self.pid));
        std::fs::write(&temporary, &text)
            .and_then(|()| std::fs::rename(&temporary, &path))
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
                table.lock().add(address, socket.into_raw_fd());
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
    fn an_upgrade_finds_the_ports_that_were_left_open() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_str().unwrap();
        let env = [
            ("PENSTOCK_LISTEN", "127.0.0.1:0"),
            ("PENSTOCK_OPS_LISTEN", "127.0.0.1:7"),
            ("PENSTOCK_DATA_DIR", data),
        ];
        let error = format!("{:#}", inherit(&settings(&env)).err().unwrap());
        assert!(error.contains("penstock.addr"), "{error}");
        let old = Addresses {
            pid: 1,
            public: "127.0.0.1:4711".parse().unwrap(),
            tls: None,
            ops: "127.0.0.1:4712".parse().unwrap(),
        };
        old.write_down(folder.path()).unwrap();
        let found = inherit(&settings(&env)).unwrap().addresses;
        assert_eq!(found.public, old.public);
        assert_eq!(found.ops.port(), 7, "what is configured stands");
        std::fs::write(folder.path().join(ADDRESS_FILE), "{").unwrap();
        let error = format!("{:#}", inherit(&settings(&env)).err().unwrap());
        assert!(error.contains("damaged"), "{error}");
    }
}
