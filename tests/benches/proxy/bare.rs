//! Pingora with nothing of ours: the measure the proxy is held against. Answers every request with
//! the same bytes, or passes every request to one upstream.

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use std::net::SocketAddr;

/// What a bare server does with a request.
pub enum Work {
    /// Answers with a body of so many bytes.
    Answer(usize),
    /// Passes it on.
    Pass(SocketAddr),
}

struct Bare {
    head: ResponseHeader,
    body: Bytes,
    upstream: Option<SocketAddr>,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, _ctx: &mut ()) -> pingora::Result<bool> {
        if self.upstream.is_some() {
            return Ok(false);
        }
        let head = Box::new(self.head.clone());
        session.write_response_header(head, false).await?;
        session.write_response_body(Some(self.body.clone()), true).await?;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut (),
    ) -> pingora::Result<Box<HttpPeer>> {
        let upstream = self
            .upstream
            .ok_or_else(|| Error::explain(ErrorType::InternalError, "answers itself"))?;
        Ok(Box::new(HttpPeer::new(upstream, false, String::new())))
    }
}

/// Serves on `address` until the process is killed, with as many threads as Penstock would use.
pub fn serve(address: SocketAddr, work: Work) -> anyhow::Result<()> {
    let (size, upstream) = match work {
        Work::Answer(size) => (size, None),
        Work::Pass(upstream) => (0, Some(upstream)),
    };
    let mut head = ResponseHeader::build(200, Some(2))?;
    head.insert_header("content-type", "application/json")?;
    head.insert_header("content-length", size.to_string())?;
    let conf = ServerConf {
        threads: std::thread::available_parallelism()?.get(),
        // Faster for short answers, and what Penstock does.
        work_stealing: false,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let bare = Bare { head, body: Bytes::from(vec![b'x'; size]), upstream };
    let mut service = http_proxy_service(&server.configuration, bare);
    service.add_tcp(&address.to_string());
    server.add_service(service);
    server.run_forever()
}
