//! Bodies of requests: what is announced of them, and what becomes of one that nobody wanted.

use pingora::http::RequestHeader;
use pingora::proxy::Session;
use std::time::Duration;

/// The rest of an unwanted body that is read before the answer, and how long it may take.
const SMALL_REST: usize = 64 << 10;
const SMALL_REST_TIME: Duration = Duration::from_millis(500);
/// How long, and for how many bytes, a refused request's body is read on.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 << 20;

/// The length a request's body says it has.
pub fn announced_length(request: &RequestHeader) -> Option<usize> {
    request.headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The client announced a body and waits to be asked for it (RFC 9110, 10.1.1).
pub fn waits_for_continue(session: &Session) -> bool {
    session.req_header().headers.contains_key(http::header::EXPECT)
        && session.body_bytes_read() == 0
}

/// Reads what is left of a body nobody wanted, if it is small: the connection can be kept then.
pub async fn read_small_rest(session: &mut Session) {
    if session.is_http2() || session.is_body_done() {
        return;
    }
    let announced = announced_length(session.req_header());
    if announced.is_some_and(|length| length <= SMALL_REST) {
        let rest = async { while let Ok(Some(_)) = session.read_request_body().await {} };
        let _ = tokio::time::timeout(SMALL_REST_TIME, rest).await;
    }
}

/// Reads what is left of a refused request's body, within bounds: a connection that is closed on
/// unread bytes is reset, and the client may never see why.
pub async fn linger(session: &mut Session) {
    if session.is_http2() || session.is_body_done() {
        return;
    }
    let drain = async {
        let mut read = 0;
        while let Ok(Some(part)) = session.read_request_body().await {
            read += part.len();
            if read > LINGER_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER_TIME, drain).await;
}
