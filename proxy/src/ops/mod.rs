//! The operations listener: for probes, Prometheus, operators and the control plane. Private by
//! default; nothing on it is limited.

mod commands;
mod status;
mod token;

pub use token::Token;

use crate::app::App;
use crate::telemetry::traceparent::TraceId;
use async_trait::async_trait;
use http::{Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;

/// Answers on the operations listener.
pub struct Ops {
    app: Arc<App>,
    token: Token,
}

impl Ops {
    /// For `app`; commands need `token`.
    pub fn new(app: Arc<App>, token: Token) -> Self {
        Self { app, token }
    }
}

#[async_trait]
impl ServeHttp for Ops {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        if let Some(response) = commands::answer(&self.app, &self.token, session).await {
            return with_length(response, false);
        }
        let request = session.req_header();
        let path = String::from_utf8_lossy(request.raw_path());
        let path = path.split('?').next().unwrap_or_default();
        let response = if request.method == Method::GET || request.method == Method::HEAD {
            self.answer(path)
        } else {
            let mut refused =
                json_response(405, &json!({"error": "this address takes GET and HEAD"}));
            refused
                .headers_mut()
                .insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
            refused
        };
        with_length(response, request.method == Method::HEAD)
    }
}

/// Says how long the body is; for HEAD, without it.
fn with_length(mut response: Response<Vec<u8>>, head: bool) -> Response<Vec<u8>> {
    let length = response.body().len();
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    if head {
        response.body_mut().clear();
    }
    response
}

impl Ops {
    fn answer(&self, path: &str) -> Response<Vec<u8>> {
        let app = &self.app;
        match path {
            "/livez" => json_response(200, &json!({"status": "alive"})),
            "/readyz" => self.ready(),
            "/metrics" => {
                status::refresh(app);
                let text = "text/plain; version=0.0.4; charset=utf-8";
                response(200, text, app.metrics.text())
            }
            "/status" => json_response(200, &status::of(app)),
            "/features" => json_response(200, &penstock_engine::features::FEATURES),
            _ => match path.strip_prefix("/decisions/") {
                Some(trace) => self.decisions(trace),
                None => json_response(
                    404,
                    &json!({"error": "there are /livez, /readyz, /metrics, /status, /features, /decisions/{trace_id} and, with the token, commands below /admin"}),
                ),
            },
        }
    }

    fn ready(&self) -> Response<Vec<u8>> {
        if self.app.drain.is_draining() {
            return json_response(503, &json!({"status": "draining"}));
        }
        match self.app.can_serve() {
            Ok(()) => json_response(200, &json!({"status": "ready"})),
            Err(why) => json_response(503, &json!({"status": "not ready", "why": why.to_string()})),
        }
    }

    fn decisions(&self, trace: &str) -> Response<Vec<u8>> {
        let Some(id) = TraceId::parse(trace) else {
            return json_response(
                400,
                &json!({"error": "a trace id has 32 lower-case hexadecimal digits"}),
            );
        };
        let found = self.app.decisions.find(id);
        if found.is_empty() {
            return json_response(
                404,
                &json!({"error": "no decision of this trace is kept (any more)"}),
            );
        }
        let found: Vec<_> = found.iter().map(AsRef::as_ref).collect();
        json_response(200, &found)
    }
}

fn json_response(status: u16, content: &impl Serialize) -> Response<Vec<u8>> {
    let body = serde_json::to_vec(content).unwrap_or_default();
    response(status, "application/json", body)
}

fn response(status: u16, content_type: &'static str, body: Vec<u8>) -> Response<Vec<u8>> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
