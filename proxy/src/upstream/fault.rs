//! What went wrong on the way to the application, as a problem that says whose fault it was.

use crate::respond::{Kind, Problem};
use pingora::{Error, ErrorSource, ErrorType};
use std::time::Duration;

/// The problem a failed pass-through is answered with; `None` when nobody is left to read it.
pub fn problem_of(error: &Error) -> Option<Problem> {
    use ErrorType as E;
    let problem = |kind, detail: &str| Some(Problem::new(kind, detail));
    match (error.esource(), error.etype()) {
        (_, E::HTTPStatus(503)) => Some(unavailable()),
        (_, E::HTTPStatus(502)) => problem(
            Kind::UpstreamFailed,
            "the application failed, and no other server of it is healthy",
        ),
        (ErrorSource::Upstream, E::ConnectTimedout | E::TLSHandshakeTimedout) => {
            problem(Kind::UpstreamTimeout, "no connection to the application could be made in time")
        }
        (ErrorSource::Upstream, E::ReadTimedout | E::WriteTimedout) => problem(
            Kind::UpstreamTimeout,
            "the application took the request and did not answer in time",
        ),
        (
            ErrorSource::Upstream,
            E::ConnectRefused | E::ConnectNoRoute | E::ConnectError | E::SocketError | E::BindError,
        ) => problem(Kind::UpstreamFailed, "no connection to the application could be made"),
        (
            ErrorSource::Upstream,
            E::TLSHandshakeFailure | E::InvalidCert | E::HandshakeError | E::TLSWantX509Lookup,
        ) => problem(Kind::UpstreamFailed, "the application's TLS handshake failed"),
        (
            ErrorSource::Upstream,
            E::InvalidHTTPHeader | E::H1Error | E::H2Error | E::InvalidH2 | E::H2Downgrade,
        ) => problem(Kind::UpstreamFailed, "the application's answer is not valid HTTP"),
        (ErrorSource::Upstream, _) => problem(
            Kind::UpstreamFailed,
            "the application closed the connection before it answered",
        ),
        (
            ErrorSource::Downstream,
            E::WriteError | E::WriteTimedout | E::ReadError | E::ConnectionClosed,
        ) => None,
        (ErrorSource::Downstream, E::ReadTimedout) => {
            problem(Kind::SlowBody, "the body of the request did not arrive in time")
        }
        // Noticed on the way out (no Host for HTTP/2's `:authority`, say), but the client wrote it.
        (ErrorSource::Downstream, _)
        | (ErrorSource::Internal | ErrorSource::Unset, E::InvalidHTTPHeader) => problem(
            Kind::BadRequest,
            "its headers or the framing of its body break the rules of HTTP",
        ),
        (ErrorSource::Internal | ErrorSource::Unset, _) => {
            problem(Kind::Internal, "passing the request on failed inside the proxy")
        }
    }
}

/// What is known of an attempt that failed after the connection was made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attempt {
    /// The connection had served other requests before.
    pub reused: bool,
    /// The answer had begun.
    pub answered: bool,
    /// The client has sent its whole body.
    pub body_sent: bool,
    /// The client waits for `100 Continue` before it sends its body.
    pub waits: bool,
    /// The request asked for a WebSocket, for which HTTP/1 is spoken to every server.
    pub websocket: bool,
}

/// Who a failed attempt speaks against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The server's health is in doubt.
    Server,
    /// The attempt failed, and no more than that can be said: a slow path or a kept connection
    /// that the server closed meanwhile must not take the whole server down.
    Attempt,
    /// The client did not send what it announced. Pingora's clock for the answer starts when the
    /// header is sent, so that a stalled upload looks like a server that is late.
    Client,
}

/// Judges an error that came while a request was passed through.
pub fn blame(error: &Error, attempt: Attempt) -> Blame {
    use ErrorType as E;
    let broken = matches!(error.etype(), E::ConnectionClosed | E::ReadError | E::WriteError);
    let fresh = !attempt.reused && !attempt.answered && !attempt.websocket;
    match (error.esource(), attempt.body_sent) {
        (ErrorSource::Upstream, false) if *error.etype() == E::ReadTimedout && !attempt.waits => {
            Blame::Client
        }
        (ErrorSource::Upstream, true) if broken && fresh => Blame::Server,
        (ErrorSource::Downstream, _) => Blame::Client,
        _ => Blame::Attempt,
    }
}

/// Longest text of an error that is kept, bytes.
const MAX_TEXT: usize = 512;

/// An error as text for records, logs and the status page. Pingora writes the whole header that it
/// could not read into the error, cookies and all; of such an error only the kind is kept.
pub fn text_of(error: &Error) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        let known = current.downcast_ref::<Error>();
        let known = known.or_else(|| current.downcast_ref::<Box<Error>>().map(AsRef::as_ref));
        if known.is_some_and(|known| *known.etype() == ErrorType::InvalidHTTPHeader) {
            let (source, kind) = (error.esource().as_str(), error.etype().as_str());
            return format!("{source} {kind}").trim_start().to_owned();
        }
        cause = match known {
            Some(known) => known.cause.as_deref().map(|cause| cause as _),
            None => current.source(),
        };
    }
    let mut text = error.to_string();
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        text.push('…');
    }
    text
}

/// No server is up: probing goes on, so soon is worth another try.
pub fn unavailable() -> Problem {
    Problem::new(
        Kind::UpstreamUnavailable,
        "every server of the application failed its latest checks",
    )
    .retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_one_to_blame() {
        let check =
            |source: fn(Box<Error>) -> Box<Error>, kind: ErrorType, expected: Option<u16>| {
                let error = source(Error::new(kind.clone()));
                assert_eq!(
                    problem_of(&error).map(|problem| problem.kind.status()),
                    expected,
                    "{kind:?}"
                );
            };
        let up = |error: Box<Error>| error.into_up();
        let down = |error: Box<Error>| error.into_down();
        let inside = |error: Box<Error>| error.into_in();
        check(up, ErrorType::ConnectTimedout, Some(504));
        check(up, ErrorType::ReadTimedout, Some(504));
        check(up, ErrorType::ConnectRefused, Some(502));
        check(up, ErrorType::InvalidCert, Some(502));
        check(up, ErrorType::InvalidHTTPHeader, Some(502));
        check(up, ErrorType::ConnectionClosed, Some(502));
        check(up, ErrorType::InternalError, Some(502));
        check(down, ErrorType::ConnectionClosed, None);
        check(down, ErrorType::WriteError, None);
        check(down, ErrorType::ReadTimedout, Some(408));
        check(down, ErrorType::InvalidHTTPHeader, Some(400));
        check(inside, ErrorType::InvalidHTTPHeader, Some(400));
        check(|error| error, ErrorType::InvalidHTTPHeader, Some(400));
        check(inside, ErrorType::InternalError, Some(500));
        check(inside, ErrorType::HTTPStatus(503), Some(503));
        check(inside, ErrorType::HTTPStatus(502), Some(502));
    }

    #[test]
    fn only_a_fresh_connection_that_breaks_before_the_answer_speaks_against_the_server() {
        let check = |kind: ErrorType, attempt: Attempt, expected: Blame| {
            let seen = blame(&Error::new(kind.clone()).into_up(), attempt);
            assert_eq!(seen, expected, "{kind:?} {attempt:?}");
        };
        let sent = Attempt { body_sent: true, ..Attempt::default() };
        let unsent = Attempt::default();
        for broken in [ErrorType::ConnectionClosed, ErrorType::ReadError, ErrorType::WriteError] {
            check(broken.clone(), sent, Blame::Server);
            check(broken.clone(), unsent, Blame::Attempt);
            check(broken.clone(), Attempt { reused: true, ..sent }, Blame::Attempt);
            check(broken.clone(), Attempt { answered: true, ..sent }, Blame::Attempt);
            check(broken, Attempt { websocket: true, ..sent }, Blame::Attempt);
        }
        check(ErrorType::ReadTimedout, sent, Blame::Attempt);
        check(ErrorType::ReadTimedout, unsent, Blame::Client);
        check(ErrorType::ReadTimedout, Attempt { waits: true, ..unsent }, Blame::Attempt);
        check(ErrorType::WriteTimedout, unsent, Blame::Attempt);
        check(ErrorType::InvalidHTTPHeader, sent, Blame::Attempt);
        let client = Error::new(ErrorType::ReadError).into_down();
        assert_eq!(blame(&client, sent), Blame::Client);
    }

    #[test]
    fn texts_of_errors_are_short_and_repeat_no_header() {
        let check = |error: Box<Error>, expected: &str| assert_eq!(text_of(&error), expected);
        let secret = || {
            let context = "buf: HTTP/1.1 200 OK\r\nSet-Cookie: session=secret".to_owned();
            Error::explain(ErrorType::InvalidHTTPHeader, context)
        };
        check(secret().into_up(), "Upstream InvalidHTTPHeader");
        check(secret(), "InvalidHTTPHeader");
        let outer = Error::because(ErrorType::H1Error, "reading the answer", secret());
        check(outer.into_up(), "Upstream H1Error");
        let refused = Error::explain(ErrorType::ConnectRefused, "port 9").into_up();
        assert!(text_of(&refused).contains("port 9"));
        let long = text_of(&Error::explain(ErrorType::ReadError, "é".repeat(4_000)));
        assert!(long.len() <= MAX_TEXT + 3 && long.ends_with("é…"), "{}", long.len());
    }
}
