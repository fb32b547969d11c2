//! Whose connection it is, when a balancer passes it through: the PROXY header is read and its address
//! takes the place of the peer's. Before TLS on the TLS listener, before HTTP on the other.

use super::proxy_protocol::{Malformed, Progress, Source, parse};
use crate::app::App;
use async_trait::async_trait;
use penstock_config::bootstrap::ProxyProtocol;
use pingora::listeners::PreTlsProcess;
use pingora::protocols::GetSocketDigest;
use pingora::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora::protocols::l4::stream::Stream as Socket;
use pingora::protocols::{SocketDigest, Stream};
use pingora::{Error, ErrorType};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Stands for a client that its balancer does not name: in no network anybody trusts, so that nothing
/// it writes about itself is believed.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Why a connection is closed instead of served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// It does not come from a proxy we trust, so what it says about itself counts for nothing.
    #[error("the peer is not in trusted_proxies")]
    Untrusted,
    /// It does not begin as it must.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The header did not come in time.
    #[error("the PROXY header did not come in time")]
    Late,
    /// Nobody is there any more.
    #[error("the connection broke off: {0}")]
    Gone(#[from] io::Error),
}

impl Refused {
    /// As in metrics; `None`: a connection that is closed again is nothing to count.
    fn name(&self) -> Option<&'static str> {
        match self {
            Self::Untrusted => Some("untrusted"),
            Self::Malformed(_) => Some("malformed"),
            Self::Late => Some("late"),
            Self::Gone(_) => None,
        }
    }
}

/// Finds out whose a connection without TLS is; `false`: close it. The caller bounds the time.
pub(super) async fn settle(app: &App, stream: &mut Stream) -> bool {
    if app.settings.listen.proxy_protocol == ProxyProtocol::Off {
        return true;
    }
    let settled = async {
        let source = announced(app, stream.as_mut()).await?;
        let socket = (**stream).as_any().downcast_ref::<Socket>();
        // Whatever is no socket has no address that could be replaced.
        let descriptor = socket.map(AsRawFd::as_raw_fd).ok_or(Refused::Untrusted)?;
        if let Some(address) = address_of(source) {
            stream.set_socket_digest(digest(descriptor, address));
        }
        Ok(())
    };
    counted(app, settled.await).is_ok()
}

/// Reads the header before the TLS handshake.
pub(super) struct BeforeTls(pub(super) Arc<App>);

#[async_trait]
impl PreTlsProcess for BeforeTls {
    async fn process(&self, stream: &mut Socket) -> pingora::Result<()> {
        let app = &self.0;
        let patience = app.settings.bounds.header_timeout;
        let announced = tokio::time::timeout(patience, announced(app, stream)).await;
        let source = counted(app, announced.unwrap_or(Err(Refused::Late)));
        let source =
            source.map_err(|why| Error::explain(ErrorType::AcceptError, why.to_string()))?;
        if let Some(address) = address_of(source) {
            let digest = digest(stream.as_raw_fd(), address);
            stream.set_socket_digest(digest);
        }
        Ok(())
    }
}

fn counted<T>(app: &App, settled: Result<T, Refused>) -> Result<T, Refused> {
    settled.inspect_err(|why| {
        if let Some(name) = why.name() {
            app.metrics.proxy_headers_refused.with_label_values(&[name]).inc();
            tracing::debug!(%why, "a connection is closed");
        }
    })
}

/// Whose the connection is, from a peer that may say so.
async fn announced<S>(app: &App, stream: &mut S) -> Result<Source, Refused>
where
    S: AsyncRead + GetSocketDigest + Unpin + ?Sized,
{
    let digest = stream.get_socket_digest();
    let peer = digest.as_ref().and_then(|digest| digest.peer_addr()?.as_inet());
    let peer = peer.ok_or(Refused::Untrusted)?.ip().to_canonical();
    if !app.settings.trusted_proxies.iter().any(|network| network.contains(&peer)) {
        return Err(Refused::Untrusted);
    }
    let mut header = Vec::new();
    loop {
        match parse(&header)? {
            Progress::Whole(source) => return Ok(source),
            Progress::Needs(more) => {
                let read = header.len();
                header.resize(read + more, 0);
                let came = stream.read(&mut header[read..]).await?;
                if came == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                header.truncate(read + came);
            }
        }
    }
}

/// The address that takes the peer's place, if one does.
fn address_of(source: Source) -> Option<SocketAddr> {
    match source {
        Source::Client(address) => Some(address),
        Source::Unknown => Some(NOBODY),
        Source::Balancer => None,
    }
}

fn digest(descriptor: std::os::fd::RawFd, peer: SocketAddr) -> SocketDigest {
    let digest = SocketDigest::from_raw_fd(descriptor);
    // New, so nothing is in it yet.
    let _ = digest.peer_addr.set(Some(PeerAddress::Inet(peer)));
    digest
}
