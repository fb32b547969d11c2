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

/// An upload may be this slow, bytes per second, and take this long at the most; and this long when
/// nobody knows how long it is.
const SLOWEST_UPLOAD: usize = 4 << 10;
const LONGEST_UPLOAD: Duration = Duration::from_secs(3_600);
const UNKNOWN_UPLOAD: Duration = Duration::from_secs(600);

/// What follows the header of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    None,
    /// A body, of so many bytes if it says so.
    Upload(Option<usize>),
    /// Messages of a WebSocket.
    WebSocket,
}

/// How long a server may be silent. Over HTTP/1 this starts again with every piece of the body that
/// is sent; over HTTP/2, which `https` may turn out to be, it starts once, with the header, and has
/// to cover the upload.
fn silence(scheme: Scheme, read: Duration, body: Body) -> Duration {
    match (body, scheme) {
        (Body::WebSocket, _) => UPGRADED_SILENCE,
        (Body::None, _) | (Body::Upload(_), Scheme::Http) => read,
        (Body::Upload(None), _) => read + UNKNOWN_UPLOAD,
        (Body::Upload(Some(bytes)), _) => {
            let seconds = bytes as f64 / SLOWEST_UPLOAD as f64;
            read + Duration::from_secs_f64(seconds.min(LONGEST_UPLOAD.as_secs_f64()))
        }
    }
}

/// Pingora's description of a member: protocol, timeouts, keep-alive.
pub fn peer(member: &Member, policy: &UpstreamPolicy, body: Body) -> HttpPeer {
    let server = &member.server;
    let tls = server.scheme == Scheme::Https;
    let mut peer = HttpPeer::new(member.address, tls, server.host.clone());
    let options = &mut peer.options;
    options.connection_timeout = Some(policy.connect);
    options.total_connection_timeout = Some(policy.connect);
    options.read_timeout = Some(silence(server.scheme, policy.read, body));
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
        _ if body == Body::WebSocket => ALPN::H1,
        Scheme::Http => ALPN::H1,
        Scheme::Https => ALPN::H2H1,
        Scheme::H2c => ALPN::H2,
    };
    peer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_over_http_2_has_its_own_time() {
        let check = |scheme, body, expected: f64| {
            let seen = silence(scheme, Duration::from_secs(10), body).as_secs_f64();
            assert!((seen - expected).abs() < 0.01, "{scheme:?} {body:?}: {seen}");
        };
        for scheme in [Scheme::Http, Scheme::Https, Scheme::H2c] {
            check(scheme, Body::None, 10.0);
            check(scheme, Body::WebSocket, 3_600.0);
        }
        check(Scheme::Http, Body::Upload(None), 10.0);
        check(Scheme::Http, Body::Upload(Some(1 << 30)), 10.0);
        // A form is answered as soon as a page.
        check(Scheme::Https, Body::Upload(Some(400)), 10.1);
        check(Scheme::H2c, Body::Upload(Some(4 << 20)), 1_034.0);
        check(Scheme::H2c, Body::Upload(Some(usize::MAX)), 3_610.0);
        check(Scheme::H2c, Body::Upload(None), 610.0);
    }
}
