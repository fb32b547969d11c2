//! What went wrong with a query, and what follows from it.

use crate::resilience::breaker::Open;
use crate::store::StoreError;
use deadpool_postgres::PoolError;
use std::time::Duration;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// Why a query brought nothing.
#[derive(Debug)]
pub(super) enum Fault {
    /// There was no connection to be had.
    Pool(PoolError),
    /// More callers wait for a connection than may.
    Crowded(usize),
    /// The server or the connection to it.
    Query(Error),
    /// Nobody knows: there was no answer for so long.
    Late(Duration),
    /// The breaker in front of the server is open.
    Open(Open),
}

/// What another attempt may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The server is gone, going, or too busy: another one may answer.
    Server,
    /// The server does not take writes: another one does.
    ReadOnly,
    /// The query met another one, or the recovery of a replica: the same may work now.
    Conflict,
    /// What is asked for can never be stored.
    Refused,
    /// The schema is not there, or is another one.
    Schema,
    /// As much is asked as may be.
    Busy,
    /// Anything else.
    Other,
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::Query(error),
            error => Self::Pool(error),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Query(error)
    }
}

impl Fault {
    pub fn kind(&self) -> Kind {
        let error = match self {
            Self::Query(error) => error,
            Self::Crowded(_)
            | Self::Pool(PoolError::Timeout(deadpool_postgres::TimeoutType::Wait)) => {
                return Kind::Busy;
            }
            Self::Pool(_) | Self::Late(_) | Self::Open(_) => return Kind::Server,
        };
        let Some(state) = error.code() else {
            // Without a code it is not the server that speaks; what cannot be read from a row is our fault.
            let of_ours = format!("{error:?}").contains("FromSql");
            return if of_ours { Kind::Other } else { Kind::Server };
        };
        match state.code() {
            "25006" => Kind::ReadOnly,
            "40001" | "40P01" | "55P03" => Kind::Conflict,
            "42P01" | "42703" | "42883" | "3F000" => Kind::Schema,
            "25P02" | "57014" | "57P01" | "57P02" | "57P03" | "57P05" | "58000" | "58030" => {
                Kind::Server
            }
            code => match &code[..2] {
                "08" | "53" => Kind::Server,
                "22" | "23" => Kind::Refused,
                _ => Kind::Other,
            },
        }
    }

    /// It speaks against the server that was asked.
    pub fn is_the_servers(&self) -> bool {
        self.kind() == Kind::Server && !matches!(self, Self::Open(_))
    }

    /// Another server, or another attempt, may do better.
    pub fn may_be_tried_again(&self) -> bool {
        matches!(self.kind(), Kind::Server | Kind::ReadOnly | Kind::Conflict | Kind::Busy)
    }

    /// As the callers of the store see it.
    pub fn told(&self, doing: &str) -> StoreError {
        match (self.kind(), self) {
            (_, Self::Crowded(waiting)) => StoreError::Busy(*waiting),
            (Kind::Busy, _) => StoreError::Unavailable(format!(
                "{doing}: all connections to the database were in use for too long"
            )),
            (Kind::Refused, _) => StoreError::Format(format!("{doing}: {self}")),
            (Kind::Schema, _) => StoreError::Unavailable(format!(
                "{doing}: {self}; the database has not the schema of this version: run penstock-control migrate"
            )),
            _ => StoreError::Unavailable(format!("{doing}: {self}")),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pool(error) => write!(f, "{error}"),
            Self::Crowded(waiting) => write!(f, "{waiting} callers wait for a connection already"),
            Self::Late(after) => write!(f, "no answer within {after:?}"),
            Self::Open(open) => write!(f, "{open}"),
            Self::Query(error) => write!(f, "{}", text(error)),
        }
    }
}

/// What the server said, without what the client library puts around it.
pub(super) fn text(error: &Error) -> String {
    if let Some(db) = error.as_db_error() {
        // Its details may have the values of a row, which are of people.
        return db.message().to_owned();
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The table or schema is not there at all.
pub(super) fn is_missing(error: &Error) -> bool {
    matches!(error.code(), Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME))
}
