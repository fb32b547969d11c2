//! The thread that reads for requests, and looks now and then what other processes did to the spool.

use super::Settings;
use super::board::Board;
use super::file::{self, failed};
use super::row::{self, COLUMNS, Row};
use super::totals::Totals;
use crate::catalog::Event;
use crate::store::StoreError;
use crate::store::lite::ended;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use penstock_config::clock::{Clock, SharedClock};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// What other processes did is known after this time.
const LOOK: Duration = Duration::from_millis(50);
/// Of more rows of others than this it is not looked whose they are.
const MOST: i64 = 10_000;

/// Which events of a user wait?
#[derive(Debug)]
pub(super) struct Question {
    pub user_id: String,
    pub limit: usize,
    pub reply: oneshot::Sender<Result<Vec<Event>, StoreError>>,
}

/// The thread behind its bounded queue.
#[derive(Debug)]
pub(super) struct Reader {
    queue: Option<Sender<Question>>,
    bound: usize,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    pub fn start(
        path: &Path,
        settings: &Settings,
        clock: SharedClock,
        board: Arc<Board>,
    ) -> Result<Self, StoreError> {
        let connection = file::connect(path, settings)?;
        connection.execute_batch("PRAGMA query_only = ON").map_err(failed("opening the spool"))?;
        let (queue, questions) = bounded(settings.queue);
        let thread = std::thread::Builder::new()
            .name("spool-read".into())
            .spawn(move || serve(&connection, &questions, &*clock, &board))
            .map_err(|e| StoreError::Unavailable(format!("cannot start a thread: {e}")))?;
        Ok(Self { queue: Some(queue), bound: settings.queue, thread: Some(thread) })
    }

    pub fn ask(&self, question: Question) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().expect("taken only on drop");
        queue.try_send(question).map_err(|e| match e {
            TrySendError::Full(_) => StoreError::Busy(self.bound),
            TrySendError::Disconnected(_) => ended("reader"),
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    connection: &Connection,
    questions: &Receiver<Question>,
    clock: &dyn Clock,
    board: &Board,
) {
    let mut looked = clock.now();
    loop {
        let asked = questions.recv_timeout(LOOK);
        let mut due = clock.now().saturating_duration_since(looked) >= LOOK;
        match asked {
            Ok(question) if question.reply.is_closed() => {}
            Ok(question) => {
                let found = waiting_of(connection, &question.user_id, question.limit);
                let _ = question.reply.send(found.map_err(failed("reading what waits")));
            }
            Err(RecvTimeoutError::Timeout) => due = true,
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if due {
            looked = clock.now();
            if let Err(error) = look(connection, board) {
                tracing::debug!(%error, "cannot look what the spool holds");
            }
        }
    }
}

fn waiting_of(connection: &Connection, user: &str, limit: usize) -> rusqlite::Result<Vec<Event>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM waiting WHERE user_id = ?1 ORDER BY at_micros DESC, seq DESC LIMIT ?2"
    ))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map((user, limit), row::read)?;
    // A row with a wrong sum is nobody's; shipping sets it aside.
    rows.filter_map(|row| row.map(|(_, row)| row.map(|row: Row| row.event)).transpose()).collect()
}

/// Takes up what others appended and shipped.
pub(super) fn look(connection: &Connection, board: &Board) -> rusqlite::Result<()> {
    let totals = Totals::load(connection)?;
    let seen = board.seen();
    if totals.last > seen {
        if totals.last - seen > MOST {
            board.note_all(totals.last);
        } else {
            let mut statement =
                connection.prepare_cached("SELECT seq, user_id FROM waiting WHERE seq > ?1")?;
            let mut rows = statement.query([seen])?;
            while let Some(row) = rows.next()? {
                // A text that is no text any more is nobody's.
                if let Ok(user_id) = row.get_ref(1)?.as_str() {
                    board.note(user_id, row.get(0)?);
                }
            }
        }
        board.saw(seen, totals.last);
    }
    board.publish(totals);
    Ok(())
}
