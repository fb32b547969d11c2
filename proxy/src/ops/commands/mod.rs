//! What operators tell this process. Only with the token. A family of commands is a room of its own.

mod breakers;
mod cache;
mod rate_limit;

use super::{json_response, token::Token};
use crate::app::App;
use http::{Method, Response, header};
use pingora::protocols::http::ServerSession;
use serde_json::{Value, json};
use std::time::Duration;

/// Before every command.
const PREFIX: &str = "/admin/";
/// Largest body, bytes.
const MAX_BODY: usize = 16 * 1024;
/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of a command: a status and what to say.
type Said = (u16, Value);

/// A command.
#[derive(Clone, Copy)]
struct Asked<'r> {
    method: &'r Method,
    /// Behind the name of its family.
    name: &'r str,
    query: &'r str,
    body: &'r [u8],
}

/// Answers what is a command; `None`: it is none.
pub(super) async fn answer(
    app: &App,
    token: &Token,
    session: &mut ServerSession,
) -> Option<Response<Vec<u8>>> {
    let request = session.req_header();
    let target = String::from_utf8_lossy(request.raw_path()).into_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let command = path.strip_prefix(PREFIX)?.to_owned();
    let method = request.method.clone();
    if !token.is_in(&request.headers) {
        session.set_keepalive(None);
        let mut refused = json_response(
            401,
            &json!({"error": "commands need the token: Authorization: Bearer, and the content of ops.token in the data folder"}),
        );
        let scheme = header::HeaderValue::from_static("Bearer realm=\"penstock operations\"");
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        return Some(refused);
    }
    let body = match body(session).await {
        Ok(body) => body,
        Err(why) => return Some(json_response(400, &json!({"error": why}))),
    };
    let (family, name) = command.split_once('/').unwrap_or((&command, ""));
    let asked = Asked { method: &method, name, query, body: &body };
    let (status, said) = match family {
        "rate-limit" => rate_limit::answer(app, &asked).await,
        "breakers" => breakers::answer(app, &asked),
        "cache" => cache::answer(app, &asked).await,
        "ranking" => cache::ranking(app, &asked).await,
        _ => (
            404,
            json!({"error": "there are rate-limit, breakers, cache and ranking below /admin"}),
        ),
    };
    Some(json_response(status, &said))
}

async fn body(session: &mut ServerSession) -> Result<Vec<u8>, &'static str> {
    let read = async {
        let mut body = Vec::new();
        while let Some(piece) =
            session.read_request_body().await.map_err(|_| "the body cannot be read")?
        {
            if body.len() + piece.len() > MAX_BODY {
                return Err("the body is too long");
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap_or(Err("the body did not come in time"))
}

/// A parameter of the query, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
    let value = value.replace('+', " ");
    percent_encoding::percent_decode_str(&value).decode_utf8().ok().map(Into::into)
}

fn bad(why: impl Into<String>) -> Said {
    (400, json!({"error": why.into()}))
}
