//! How one server is connected to.

use super::Member;
use penstock_config::bootstrap::Scheme;
use penstock_config::policy::UpstreamPolicy;
use pingora::protocols::{ALPN, TcpKeepalive};
use pingora::upstreams::peer::HttpPeer;
use std::time::Duration;

/// Silence after which an upgraded connection (WebSocket) is closed. The policy's read timeout is
/// for answers; a chat may be silent for minutes.
const UPGRADED_SILENCE: Duration = Duration::from_secs(3_600);
/// HTTP/2 streams sharing one connection; more open another.
const STREAMS_PER_CONNECTION: usize = 100;

/// Pingora's description of a member: protocol, timeouts, keep-alive.
pub fn peer(member: &Member, policy: &UpstreamPolicy, websocket: bool) -> HttpPeer {
    let server = &member.server;
    let tls = server.scheme == Scheme::Https;
    let mut peer = HttpPeer::new(member.address, tls, server.host.clone());
    let options = &mut peer.options;
    options.connection_timeout = Some(policy.connect);
    options.total_connection_timeout = Some(policy.connect);
    options.read_timeout = Some(if websocket { UPGRADED_SILENCE } else { policy.read });
    options.write_timeout = Some(policy.write);
    options.idle_timeout = Some(policy.idle);
    options.max_h2_streams = STREAMS_PER_CONNECTION;
    options.h2_ping_interval = Some(Duration::from_secs(30));
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(10),
        count: 3,
        #[cfg(target_os = "linux")]
        user_timeout: Duration::from_secs(0),
    });
    // This handshake is a thing of HTTP/1.1 (RFC 6455), whatever else the server speaks.
    options.alpn = match server.scheme {
        _ if websocket => ALPN::H1,
        Scheme::Http => ALPN::H1,
        Scheme::Https => ALPN::H2H1,
        Scheme::H2c => ALPN::H2,
    };
    peer
}
