//! What can go wrong with a call, and whose fault it is.

use crate::resilience::breaker::{Open, Trip};
use redis::{ErrorKind, RedisError, ServerErrorKind};
use std::sync::Arc;
use std::time::Duration;

/// Why a call to Redis has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// There is no connection; one is being made in the background.
    #[error("not connected to Redis: {why}")]
    NotConnected {
        /// What became of the last attempt.
        why: Arc<str>,
    },
    /// No answer within the deadline. Whether Redis did what was asked is not known.
    #[error("no answer from Redis within {after:?}")]
    Late {
        /// The deadline: of a request's call, `timeout` of `[redis]` in `resilience.toml`.
        after: Duration,
    },
    /// Not asked, because Redis failed before.
    #[error("Redis is not asked: {}; again in {retry_after:?}", .trip.text())]
    Open {
        /// When asking again may help.
        retry_after: Duration,
        /// Why the breaker is open.
        trip: Trip,
    },
    /// The connection broke, or Redis cannot do its work.
    #[error("Redis failed: {0}")]
    Failed(String),
    /// Redis refused the command itself: a fault of ours, or of the data under that key.
    #[error("Redis refused the command: {0}")]
    Rejected(String),
}

impl Trouble {
    /// It speaks against Redis, and the breaker counts it.
    pub fn is_its_fault(&self) -> bool {
        match self {
            Self::NotConnected { .. } | Self::Late { .. } | Self::Failed(_) => true,
            Self::Open { .. } | Self::Rejected(_) => false,
        }
    }

    /// As in metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotConnected { .. } => "not_connected",
            Self::Late { .. } => "late",
            Self::Open { .. } => "open",
            Self::Failed(_) => "failed",
            Self::Rejected(_) => "rejected",
        }
    }
}

impl From<Open> for Trouble {
    fn from(open: Open) -> Self {
        Self::Open { retry_after: open.retry_after, trip: open.trip }
    }
}

/// Codes of a server that is there and cannot work; every other code is about the command.
const UNFIT: [&str; 9] =
    ["OOM", "BUSY", "MISCONF", "NOREPLICAS", "NOAUTH", "WRONGPASS", "UNBLOCKED", "STALE", "INPROG"];

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        let text = error.to_string();
        let ours = match error.kind() {
            ErrorKind::Client | ErrorKind::UnexpectedReturnType => true,
            ErrorKind::Server(kind) => matches!(
                kind,
                ServerErrorKind::ResponseError
                    | ServerErrorKind::ExecAbort
                    | ServerErrorKind::NoScript
                    | ServerErrorKind::CrossSlot
                    | ServerErrorKind::NotBusy
                    | ServerErrorKind::NoSub
                    | ServerErrorKind::NoPerm
            ),
            ErrorKind::Extension => !error.code().is_some_and(|code| UNFIT.contains(&code)),
            _ => false,
        };
        if ours { Self::Rejected(text) } else { Self::Failed(text) }
    }
}
