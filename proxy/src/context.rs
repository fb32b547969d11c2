//! What one request carries from its first line to its last.

use crate::app::App;
use crate::decision::{Decision, UpstreamUse, bounded_text, masked_target, micros};
use crate::identity::Client;
use crate::pages::Visit;
use crate::telemetry::traceparent::Trace;
use crate::upstream::{self, Member, Picked};
use penstock_config::policy::Policy;
use penstock_engine::resilience::Mode;
use penstock_engine::resilience::breaker::Ticket;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use prometheus::IntGauge;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// The request's context: the decision record and what making it needs.
pub struct Context {
    /// Everything that was decided so far.
    pub decision: Decision,
    /// The policy of this request, loaded once.
    pub policy: Arc<Policy>,
    /// When its header was read.
    pub began: Instant,
    /// The server that was asked last.
    pub member: Option<Arc<Member>>,
    /// When the latest attempt to pass it through began.
    pub attempt_began: Option<Instant>,
    /// The connection is TLS.
    pub tls: bool,
    /// It asks for a WebSocket.
    pub websocket: bool,
    /// The best mode a limit rule allows.
    pub cap: Mode,
    /// Leave of the breaker of `member` for the latest attempt.
    ticket: Option<Ticket>,
    /// What it has to do with kept pages.
    pub visit: Visit,
    /// No client waits: a page that is kept is fetched anew.
    pub background: bool,
    _in_flight: InFlight,
}

/// Counts a request while it lives, however it ends.
struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Context {
    /// A request whose header was just read but not looked at.
    pub fn new(app: &App) -> Self {
        let policy = app.policies.current();
        app.metrics.in_flight.inc();
        Self {
            decision: Decision::begin(
                Trace::begin(app.sample_ratio),
                app.clock.unix_micros(),
                policy.version.clone(),
            ),
            policy,
            began: app.clock.now(),
            member: None,
            attempt_began: None,
            tls: false,
            websocket: false,
            cap: Mode::Full,
            ticket: None,
            visit: Visit::default(),
            background: false,
            _in_flight: InFlight(app.metrics.in_flight.clone()),
        }
    }

    /// Looks at the request: who, what, in which trace.
    pub fn identify(&mut self, app: &App, session: &Session) {
        let request = session.req_header();
        let decision = &mut self.decision;
        let peer = session
            .client_addr()
            .and_then(|address| address.as_inet())
            .map_or(decision.client.peer, SocketAddr::ip);
        decision.client = Client::identify(peer, &request.headers, &app.settings.trusted_proxies);
        // The trace begun in `new` stands unless the caller brought one.
        let trusted = decision.client.came_through_trusted_proxy(&app.settings.trusted_proxies);
        let continued = Trace::from_headers(&request.headers, app.sample_ratio, trusted);
        if continued.parent.is_some() {
            decision.trace = continued;
        }
        decision.method = bounded_text(request.method.as_str().as_bytes());
        // Whole only where it is known to be for us.
        decision.target = masked_target(request.raw_path());
        decision.host = request
            .headers
            .get(http::header::HOST)
            .map(|host| bounded_text(host.as_bytes()))
            .or_else(|| request.uri.authority().map(|host| bounded_text(host.as_str().as_bytes())))
            .unwrap_or_default();
        decision.protocol = match request.version {
            http::Version::HTTP_09 => "HTTP/0.9",
            http::Version::HTTP_10 => "HTTP/1.0",
            http::Version::HTTP_2 => "HTTP/2.0",
            http::Version::HTTP_3 => "HTTP/3.0",
            _ => "HTTP/1.1",
        };
        self.background = session.is_subrequest();
        self.websocket = upstream::is_websocket(request);
        self.tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
    }

    /// Notes an attempt to pass the request through to `member`.
    pub fn attempt(&mut self, picked: Picked, now: Instant) {
        let Picked { member, ticket } = picked;
        self.ticket = ticket;
        self.attempt_began = Some(now);
        let used = self.decision.upstream.get_or_insert_with(|| UpstreamUse {
            server: String::new(),
            address: member.address,
            attempts: 0,
            reused: false,
            answered_micros: None,
            faults: Vec::new(),
        });
        used.server = member.name.to_string();
        used.address = member.address;
        used.attempts += 1;
        used.reused = false;
        self.member = Some(member);
    }

    /// Notes that the application's answer began to arrive.
    pub fn upstream_answered(&mut self, app: &App) {
        let now = app.clock.now();
        let took = now - self.attempt_began.unwrap_or(now);
        self.decision.stage("upstream_answer", took);
        if let Some(used) = &mut self.decision.upstream {
            used.answered_micros = Some(micros(took));
        }
        if let Some(member) = &self.member {
            member.succeeded(now);
            member.settled(&self.policy.resilience.breaker, self.ticket.take(), Some(true), now);
            app.metrics.upstream_attempts.with_label_values(&[&member.name, "answered"]).inc();
            app.metrics
                .upstream_answered
                .with_label_values(&[&member.name])
                .observe(took.as_secs_f64());
        }
    }

    /// Notes that an attempt failed; `blames` the server if its health is in doubt.
    pub fn upstream_failed(&mut self, app: &App, error: &Error, blames: bool) {
        let why = upstream::text_of(error);
        if let Some(member) = &self.member {
            let outcome = match error.etype() {
                ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout => {
                    "timed_out"
                }
                _ => "failed",
            };
            app.metrics.upstream_attempts.with_label_values(&[&member.name, outcome]).inc();
            if blames {
                member.failed(&why);
            }
            let (ticket, now) = (self.ticket.take(), app.clock.now());
            let worked = blames.then_some(false);
            member.settled(&self.policy.resilience.breaker, ticket, worked, now);
        }
        if let Some(used) = &mut self.decision.upstream {
            used.faults.push(why);
        }
    }

    /// The policy allows another attempt.
    pub fn may_retry(&self) -> bool {
        let attempts = self.decision.upstream.as_ref().map_or(0, |used| used.attempts);
        attempts <= self.policy.resilience.upstream.retries
    }

    /// Closes the record.
    pub fn finish(&mut self, session: &Session, now: Instant) {
        if let Some(member) = &self.member {
            // The client went away before there was anything to say about the server.
            member.settled(&self.policy.resilience.breaker, self.ticket.take(), None, now);
        }
        let decision = &mut self.decision;
        decision.duration_micros = micros(now - self.began);
        decision.bytes_sent = session.body_bytes_sent();
        decision.bytes_received = session.body_bytes_read();
        if let Some(sent) = session.response_written() {
            decision.status = sent.status.as_u16();
        }
    }
}
