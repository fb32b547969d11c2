//! Asking every server again and again whether it is up.
//!
//! A server that is up is asked every interval; one that is down every second, so that it is used
//! again soon after it came back. Names are looked up at every interval.

use super::{Body, Member, Pool, peer, text_of};
use crate::app::App;
use async_trait::async_trait;
use penstock_config::bootstrap::{HealthCheck, Server};
use penstock_config::policy::UpstreamPolicy;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use pingora::{Error, ErrorType};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Between two questions to a server that is down.
const DOWN_INTERVAL: Duration = Duration::from_secs(1);

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
                look_up(&app.upstream).await;
            }
            let policy = app.policies.current().resilience.upstream;
            let probes: Vec<_> = app
                .upstream
                .members()
                .iter()
                .filter(|member| everyone || !member.is_healthy())
                .map(|member| {
                    tokio::spawn(ask(connector.clone(), member.clone(), check.clone(), policy))
                })
                .collect();
            for probe in probes {
                // A probe that panicked says nothing about the server.
                let _ = probe.await;
            }
            tokio::select! {
                () = tokio::time::sleep(check.interval.min(DOWN_INTERVAL)) => {}
                _ = shutdown.changed() => return,
            }
        }
    }
}

async fn look_up(pool: &Pool) {
    let names: Vec<Arc<Server>> = pool.names().cloned().collect();
    for server in names {
        match tokio::net::lookup_host((server.host.as_str(), server.port)).await {
            Ok(addresses) => pool.resolved(&server, &addresses.collect::<Vec<SocketAddr>>()),
            Err(error) => {
                tracing::warn!(%server, %error, "the upstream server's name cannot be looked up");
            }
        }
    }
}

async fn ask(
    connector: Arc<Connector>,
    member: Arc<Member>,
    check: HealthCheck,
    policy: UpstreamPolicy,
) {
    let answered = async {
        match &check.path {
            Some(path) => get(&connector, &member, path, &policy).await,
            None => tokio::net::TcpStream::connect(member.address)
                .await
                .map(drop)
                .map_err(|error| error.to_string()),
        }
    };
    match tokio::time::timeout(policy.connect + check.interval, answered).await {
        Ok(Ok(())) => member.succeeded(),
        Ok(Err(why)) => member.failed(&why),
        Err(_) => member.failed("the health check took too long"),
    }
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
        request.insert_header("Host", member.server.host.as_str())?;
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
