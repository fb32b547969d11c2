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
        (ErrorSource::Downstream, _) => problem(
            Kind::BadRequest,
            "its headers or the framing of its body break the rules of HTTP",
        ),
        (ErrorSource::Internal | ErrorSource::Unset, _) => {
            problem(Kind::Internal, "passing the request on failed inside the proxy")
        }
    }
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
        check(inside, ErrorType::InternalError, Some(500));
        check(inside, ErrorType::HTTPStatus(503), Some(503));
        check(inside, ErrorType::HTTPStatus(502), Some(502));
    }
}
