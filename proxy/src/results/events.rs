//! `POST /events`: reading, checking item by item, acknowledging.
//!
//! All or nothing: when one event of a batch is not valid, none is stored and every fault is
//! listed, so that the sender can correct the batch and send it again as it is.

mod schema;

use crate::app::App;
use crate::body::announced_length;
use crate::respond::{Kind, Problem, Reply};
use bytes::{Bytes, BytesMut};
use http::header;
use penstock_engine::catalog::Event;
use pingora::proxy::Session;
use serde_json::json;
use std::time::Duration;

/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(15);

/// The events of a request's body, checked.
pub async fn read(app: &App, session: &mut Session) -> Result<Vec<Event>, Problem> {
    check_type(session)?;
    let body = read_body(session, app.settings.bounds.max_body_bytes).await?;
    schema::parse(&body, app.clock.unix_micros())
}

/// The answer to events that are on disk. `new` tells which were not known before.
pub fn accepted(app: &App, ids: Vec<String>, new: &[bool]) -> Reply {
    let duplicates: Vec<&String> =
        ids.iter().zip(new).filter(|(_, new)| !**new).map(|(id, _)| id).collect();
    let count = |outcome, events: usize| {
        app.metrics.events.with_label_values(&[outcome]).inc_by(events as u64);
    };
    count("accepted", ids.len() - duplicates.len());
    count("duplicate", duplicates.len());
    let accepted = ids.len() - duplicates.len();
    Reply::fleeting(
        202,
        &json!({ "accepted": accepted, "duplicates": duplicates, "event_ids": ids }),
    )
}

fn check_type(session: &Session) -> Result<(), Problem> {
    let headers = &session.req_header().headers;
    let unsupported = |detail: String| Err(Problem::new(Kind::UnsupportedMediaType, detail));
    let sent = headers.get(header::CONTENT_TYPE).map_or(&b""[..], http::HeaderValue::as_bytes);
    let essence = sent.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    if !essence.eq_ignore_ascii_case(b"application/json") {
        let sent = crate::params::quoted(&String::from_utf8_lossy(essence));
        return unsupported(format!(
            "events are taken as Content-Type: application/json, not {sent}"
        ));
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            unsupported("events are taken without Content-Encoding".into())
        }
        _ => Ok(()),
    }
}

async fn read_body(session: &mut Session, max_bytes: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            Kind::BodyTooLarge,
            format!("the body may have {max_bytes} bytes; send the events in smaller batches"),
        )
    };
    let announced = announced_length(session.req_header());
    if announced.is_some_and(|length| length > max_bytes) {
        return Err(too_large());
    }
    let waits = session
        .req_header()
        .headers
        .get(header::EXPECT)
        .is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let lost = |_| Problem::new(Kind::BadBody, "the body of the request did not arrive whole");
    let reading = async {
        if waits {
            session.write_continue_response().await.map_err(lost)?;
        }
        let mut body = BytesMut::with_capacity(announced.unwrap_or(1_024));
        while let Some(part) = session.read_request_body().await.map_err(lost)? {
            if body.len() + part.len() > max_bytes {
                return Err(too_large());
            }
            body.extend_from_slice(&part);
        }
        Ok(body.freeze())
    };
    tokio::time::timeout(BODY_TIME, reading).await.unwrap_or_else(|_| {
        Err(Problem::new(Kind::SlowBody, "the body of the request did not arrive in time"))
    })
}
