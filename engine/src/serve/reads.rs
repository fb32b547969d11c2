//! Reads of the store that an answer can do without: each has a deadline and goes through the store's breaker.

use super::run::Run;
use crate::store::StoreError;
use std::time::Duration;

/// Why a read brought nothing.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Store(StoreError),
    #[error("later than {0:?}")]
    Late(Duration),
}

impl Fault {
    /// A deadline that was cut short by the request's own says nothing about the store, and a queue that is full
    /// only that much is asked. No room for events is no trouble of reading.
    fn is_the_stores(&self, deadline: Duration) -> bool {
        match self {
            Self::Store(StoreError::Unavailable(_) | StoreError::Format(_)) => true,
            Self::Store(StoreError::Busy(_) | StoreError::Full(_) | StoreError::Invalid(_)) => {
                false
            }
            Self::Late(after) => *after >= deadline,
        }
    }
}

impl Run<'_> {
    /// What `read` brings in time, or in words why it brings nothing.
    pub async fn read<T>(
        &self,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, String> {
        let resilience = &self.policy.resilience;
        let deadline = resilience.deadlines.store;
        let wait = self.left(deadline);
        let timed = async {
            match tokio::time::timeout(wait, read).await {
                Ok(result) => result.map_err(Fault::Store),
                Err(_) => Err(Fault::Late(wait)),
            }
        };
        let clock = &**self.engine.clock();
        let asked = self
            .engine
            .store_breaker()
            .call(&resilience.breaker, clock, timed, |fault| fault.is_the_stores(deadline))
            .await;
        match asked {
            Ok(result) => result.map_err(|fault| fault.to_string()),
            Err(open) => Err(format!("store: {open}")),
        }
    }
}
