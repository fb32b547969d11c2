//! Locks of the fleet: advisory locks, each on a connection of its own.
//!
//! The server lets go of a lock when its connection ends: at once when the process dies, and within seconds when its
//! machine does, because the server asks for a sign of life.

use super::super::fault::Fault;
use super::super::session::Session;
use super::PostgresStore;
use crate::store::StoreError;
use crate::store::jobs::Lock;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// Jobs' locks, among those of others in the same database.
const CLASS: i32 = 0x504E_534A;
/// A server that does not answer for so long may have given the lock to somebody else.
const SILENCE: Duration = Duration::from_secs(2);

const SIGNS_OF_LIFE: &str = "
    SET tcp_keepalives_idle = 2; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = '5s'; SET idle_session_timeout = 0";

struct Held {
    /// Taken when it is dropped.
    session: Option<Arc<Session>>,
    handle: Handle,
}

pub(super) fn take(store: &PostgresStore, name: &str) -> Result<Option<Box<dyn Lock>>, StoreError> {
    let (shared, name) = (store.shared.clone(), name.to_owned());
    let taken = store.wait(async move {
        let session = Session::open(&shared.servers.primary.connector).await?;
        session.client.batch_execute(SIGNS_OF_LIFE).await?;
        let sql = "SELECT pg_try_advisory_lock($1, hashtext($2))";
        let taken: bool = session.client.query_one(sql, &[&CLASS, &name]).await?.try_get(0)?;
        Ok::<_, Fault>(taken.then_some(session))
    });
    let session = taken.map_err(|fault| fault.told("taking a lock"))?;
    let handle = store.runtime().handle().clone();
    Ok(session.map(|session| Box::new(Held { session: Some(Arc::new(session)), handle }) as _))
}

impl Held {
    /// Whether `sql` was done in time, on the store's threads.
    fn says(&self, sql: &'static str) -> bool {
        let Some(session) = self.session.clone() else { return false };
        let (done, result) = std::sync::mpsc::sync_channel(1);
        self.handle.spawn(async move {
            let asked = tokio::time::timeout(SILENCE, session.client.batch_execute(sql)).await;
            // Before anybody may think that the connection is closed.
            drop(session);
            let _ = done.send(matches!(asked, Ok(Ok(()))));
        });
        result.recv_timeout(SILENCE + SILENCE).unwrap_or(false)
    }
}

impl Lock for Held {
    fn is_held(&self) -> bool {
        self.says("SELECT 1")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Said and not only left to the end of the connection: whoever asks next finds it free.
        self.says("SELECT pg_advisory_unlock_all()");
        self.session = None;
    }
}
