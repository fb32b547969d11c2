//! Asking every server again and again whether it is up.
//!
//! A server that is up is asked every interval; one that is down every second, so that it is used
//! again soon after it came back. Names are looked up at every interval.

use super::{Body, Member, Pool, Probe, peer, text_of};
use crate::app::App;
use async_trait::async_trait;
use penstock_config::bootstrap::{Scheme, Server};
use penstock_config::clock::SharedClock;
use penstock_config::policy::UpstreamPolicy;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use pingora::{Error, ErrorType};
use std::sync::Arc;
use std::time::Duration;

/// Between two questions to a server that is down.
const DOWN_INTERVAL: Duration = Duration::from_secs(1);
/// A name must be looked up in this time.
const LOOK_UP: Duration = Duration::from_secs(2);
/// A probe gets no longer for its answer than this, whatever requests get.
const PROBE_ANSWER: Duration = Duration::from_secs(5);

/// The background service that asks.
pub struct Prober(pub Arc<App>);

#[async_trait]
impl BackgroundService for Prober {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let app = &self.0;
        let check = &app.settings.upstream.health_check;
        if !app.upstream.is_configured() {
            return;
        }
        let connector = Arc::new(Connector::new(None));
        let mut due = app.clock.now();
        loop {
            let now = app.clock.now();
            let everyone = now >= due;
            if everyone {
                due = now + check.interval;
                look_up(&app.upstream);
            }
            let policy = app.policies.current().resilience.upstream;
            // Nobody waits for the slowest: a member that is still being asked is left out.
            for member in app.upstream.members().iter() {
                if (everyone || !member.is_healthy())
                    && let Some(probe) = member.probe()
                {
                    let (connector, path) = (connector.clone(), check.path.clone());
                    tokio::spawn(ask(connector, probe, path, policy, app.clock.clone()));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(check.interval.min(DOWN_INTERVAL)) => {}
                _ = shutdown.changed() => return,
            }
        }
    }
}

fn look_up(pool: &Arc<Pool>) {
    for server in pool.names() {
        let (pool, server) = (pool.clone(), server.clone());
        tokio::spawn(async move {
            let found = tokio::net::lookup_host((server.host.as_str(), server.port));
            match tokio::time::timeout(LOOK_UP, found).await {
                Ok(Ok(addresses)) => pool.resolved(&server, &addresses.collect::<Vec<_>>()),
                Ok(Err(error)) => {
                    tracing::warn!(%server, %error, "the upstream server's name cannot be looked up");
                }
                Err(_) => {
                    tracing::warn!(%server, "looking up the upstream server's name takes too long")
                }
            }
        });
    }
}

async fn ask(
    connector: Arc<Connector>,
    member: Probe,
    path: Option<String>,
    policy: UpstreamPolicy,
    clock: SharedClock,
) {
    let answered = async {
        match &path {
            Some(path) => get(&connector, &member, path, &policy).await,
            None => tokio::net::TcpStream::connect(member.address)
                .await
                .map(drop)
                .map_err(|error| error.to_string()),
        }
    };
    let patience = policy.connect + policy.read.min(PROBE_ANSWER);
    match tokio::time::timeout(patience, answered).await {
        Ok(Ok(())) => member.succeeded(clock.now()),
        Ok(Err(why)) => member.failed(&why),
        Err(_) => member.failed("the health check took too long"),
    }
}

/// `Host` of a server: without the port that goes without saying.
fn host_of(server: &Server) -> String {
    let usual = match server.scheme {
        Scheme::Http | Scheme::H2c => 80,
        Scheme::Https => 443,
    };
    let host = &server.host;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    if server.port == usual { host } else { format!("{host}:{}", server.port) }
}

async fn get(
    connector: &Connector,
    member: &Member,
    path: &str,
    policy: &UpstreamPolicy,
) -> Result<(), String> {
    let asked = async {
        let peer = peer(member, policy, Body::None);
        let (mut session, _) = connector.get_http_session(&peer).await?;
        let mut request = RequestHeader::build("GET", path.as_bytes(), Some(3))?;
        request.insert_header("Host", host_of(&member.server))?;
        request.insert_header("User-Agent", "penstock-health-check")?;
        session.write_request_header(Box::new(request)).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let status = session.response_header().map_or(0, |head| head.status.as_u16());
        // Not kept: a check shall see whether new connections work.
        session.shutdown().await;
        if (200..300).contains(&status) {
            Ok(())
        } else {
            Error::e_explain(ErrorType::HTTPStatus(status), format!("GET {path} answered {status}"))
        }
    };
    asked.await.map_err(|error: Box<Error>| text_of(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_the_port_unless_it_is_the_usual_one() {
        let check = |scheme, host: &str, port, expected: &str| {
            assert_eq!(host_of(&Server { scheme, host: host.into(), port }), expected);
        };
        check(Scheme::Http, "shop.example", 80, "shop.example");
        check(Scheme::Http, "shop.example", 3000, "shop.example:3000");
        check(Scheme::Http, "10.0.0.1", 443, "10.0.0.1:443");
        check(Scheme::Https, "shop.example", 443, "shop.example");
        check(Scheme::Https, "::1", 443, "[::1]");
        check(Scheme::H2c, "::1", 3000, "[::1]:3000");
    }
}
