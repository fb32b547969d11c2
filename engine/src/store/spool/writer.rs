//! The thread that changes the spool: events come in, events that were shipped or set aside leave. All that waits
//! is done in one transaction with one flush ([`Group`]).

use super::Settings;
use super::board::Board;
use super::file::{self, failed, is_damage, is_full};
use super::leave::{self, How, Leave};
use super::reserve::Reserve;
use super::row::{self, INSERT, cost};
use super::totals::Totals;

use crate::catalog::Event;
use crate::store::StoreError;
use crate::store::lite::group::{Group, Job};
use penstock_config::clock::SharedClock;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// Rows that leave in one transaction on a full disk: their pages must find room in the reserve.
const SMALL_STEP: usize = 16;
/// Free pages given back at a time: appends wait meanwhile; on a full disk the log must not take the reserve.
const MANY_PAGES: i64 = 2_000;
const FEW_PAGES: i64 = 16;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What is asked of the thread.
#[derive(Debug)]
pub(super) enum Change {
    Append { events: Vec<Event>, reply: Reply<Vec<bool>> },
    Leave { leave: Leave, reply: Reply<()> },
}

impl Job for Change {
    fn rows(&self) -> usize {
        match self {
            Self::Append { events, .. } => events.len(),
            Self::Leave { leave, .. } => leave.rows.len(),
        }
    }

    fn abandoned(&self) -> bool {
        match self {
            Self::Append { reply, .. } => reply.is_closed(),
            // What was shipped has to go, whoever waits for it.
            Self::Leave { .. } => false,
        }
    }
}

/// What came of one change.
enum Done {
    Appended(Result<Vec<bool>, StoreError>),
    Left(Result<(), StoreError>),
}

/// Starts the thread.
pub(super) fn start(
    path: &Path,
    settings: &Settings,
    clock: SharedClock,
    board: Arc<Board>,
) -> Result<Group<Change>, StoreError> {
    let connection = file::connect(path, settings)?;
    let mut reserve = Reserve::of(path, settings.reserve_bytes);
    reserve.stands(clock.now());
    let mut hand = Hand { connection, board, reserve, settings: settings.clone(), clock };
    Group::start("spool-write", settings.queue, move |group| hand.serve(group))
}

struct Hand {
    connection: Connection,
    board: Arc<Board>,
    reserve: Reserve,
    settings: Settings,
    clock: SharedClock,
}

impl Hand {
    fn serve(&mut self, group: Vec<Change>) {
        if !self.reserve.stands(self.clock.now()) {
            return self.without_room(group);
        }
        match self.write(&group) {
            Ok(done) => self.answer(group, done),
            Err(error) if is_full(&error) => self.without_room(group),
            Err(error) if is_damage(&error) => self.mend(group, error),
            Err(error) => refuse(group, &error),
        }
    }

    fn answer(&self, group: Vec<Change>, done: Vec<Done>) {
        for (change, done) in group.into_iter().zip(done) {
            match (change, done) {
                (Change::Append { reply, .. }, Done::Appended(answer)) => {
                    let full = matches!(answer, Err(StoreError::Full(_)));
                    self.board.full.store(full, Ordering::Release);
                    let _ = reply.send(answer);
                }
                (Change::Leave { reply, .. }, Done::Left(answer)) => {
                    self.board.full.store(false, Ordering::Release);
                    let _ = reply.send(answer);
                }
                _ => unreachable!("each change has its own kind of answer"),
            }
        }
    }

    fn write(&mut self, group: &[Change]) -> rusqlite::Result<Vec<Done>> {
        let now = self.clock.unix_micros();
        let settings = self.settings.clone();
        let mut taken = Vec::new();
        let before = std::cell::Cell::new(0);
        let done = self.transact(|transaction, totals| {
            before.set(totals.last);
            let each = |change: &Change| match change {
                Change::Append { events, .. } => {
                    append(transaction, totals, events, now, settings.max_bytes, &mut taken)
                        .map(Done::Appended)
                }
                Change::Leave { leave, .. } => {
                    leave::out(transaction, totals, &leave.rows, &leave.how, now, &settings)
                        .map(Done::Left)
                }
            };
            group.iter().map(each).collect::<rusqlite::Result<Vec<_>>>()
        })?;
        // Before anybody hears that they are stored.
        for (user_id, seq) in &taken {
            self.board.note(user_id, *seq);
        }
        if let Some((_, last)) = taken.last() {
            self.board.saw(before.get(), *last);
        }
        self.publish();
        if group.iter().any(|change| matches!(change, Change::Leave { .. })) {
            leave::give_back(&self.connection, self.board.totals().waiting == 0, MANY_PAGES);
        }
        Ok(done)
    }

    fn transact<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, &mut Totals) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut totals = Totals::load(&transaction)?;
        let done = work(&transaction, &mut totals)?;
        totals.save(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    fn publish(&self) {
        match Totals::load(&self.connection) {
            Ok(totals) => self.board.publish(totals),
            // The reader looks again in a moment.
            Err(error) => tracing::warn!(%error, "cannot read what the spool holds"),
        }
    }

    /// Nothing is taken, but what leaves may leave.
    fn without_room(&mut self, group: Vec<Change>) {
        for change in group {
            match change {
                Change::Append { reply, .. } => {
                    if !self.board.full.swap(true, Ordering::AcqRel) {
                        tracing::error!("the disk is full: the spool takes no events");
                    }
                    let text = "the disk is full; nothing was stored. Events are taken again when some were shipped \
                                or the disk has room";
                    let _ = reply.send(Err(StoreError::Full(text.into())));
                }
                Change::Leave { leave, reply } => {
                    let left = self.leave_in_steps(&leave);
                    self.publish();
                    let _ = reply.send(left);
                }
            }
        }
        leave::give_back(&self.connection, false, FEW_PAGES);
    }

    /// In steps that need little room, and with the reserve's when there is none.
    fn leave_in_steps(&mut self, leave: &Leave) -> Result<(), StoreError> {
        for part in leave.rows.chunks(SMALL_STEP) {
            let left = match self.leave_one_step(part, &leave.how) {
                Err(error) if is_full(&error) => {
                    self.reserve.release();
                    // What is in the log finds its place in the file, so that the log can begin anew.
                    leave::checkpoint(&self.connection, "RESTART");
                    self.leave_one_step(part, &leave.how)
                }
                other => other,
            };
            left.map_err(failed("freeing space"))??;
            leave::checkpoint(&self.connection, "RESTART");
        }
        Ok(())
    }

    fn leave_one_step(
        &mut self,
        rows: &[(i64, u64)],
        how: &How,
    ) -> rusqlite::Result<Result<(), StoreError>> {
        let (now, settings) = (self.clock.unix_micros(), self.settings.clone());
        self.transact(|transaction, totals| {
            leave::out(transaction, totals, rows, how, now, &settings)
        })
    }

    /// An index that does not fit its rows any more (a row's text was changed behind SQLite's back) is made anew,
    /// so that rows can leave and events are not taken for known. Once: other damage needs a new file.
    fn mend(&mut self, group: Vec<Change>, error: rusqlite::Error) {
        tracing::error!(%error, "the spool is damaged; its indexes are made anew");
        let mended = self
            .connection
            .execute_batch("PRAGMA writable_schema = ON")
            .and_then(|()| self.connection.execute_batch("REINDEX waiting"));
        let restored = self.connection.execute_batch("PRAGMA writable_schema = OFF");
        match mended.and(restored).and_then(|()| self.write(&group)) {
            Ok(done) => self.answer(group, done),
            Err(_) => refuse(group, &error),
        }
    }
}

fn refuse(group: Vec<Change>, error: &rusqlite::Error) {
    let rows: usize = group.iter().map(Job::rows).sum();
    tracing::error!(%error, rows, "the spool was not changed");
    let why = |doing| match error {
        rusqlite::Error::SqliteFailure(code, text) => {
            failed(doing)(rusqlite::Error::SqliteFailure(*code, text.clone()))
        }
        other => StoreError::Unavailable(format!("{doing}: {other}")),
    };
    for change in group {
        match change {
            Change::Append { reply, .. } => drop(reply.send(Err(why("storing events")))),
            Change::Leave { reply, .. } => drop(reply.send(Err(why("taking events out")))),
        }
    }
}

/// One call's events: all or none of them.
fn append(
    connection: &Connection,
    totals: &mut Totals,
    events: &[Event],
    now: i64,
    max_bytes: u64,
    taken: &mut Vec<(String, i64)>,
) -> rusqlite::Result<Result<Vec<bool>, StoreError>> {
    let all: u64 = events.iter().map(cost).sum();
    // Most events are new. Only where that would be too much it is looked which.
    if totals.held() + all > max_bytes
        && totals.held() + cost_of_new(connection, events)? > max_bytes
    {
        return Ok(Err(StoreError::Full(format!(
            "{} bytes wait to be shipped, and {max_bytes} may",
            totals.held()
        ))));
    }
    let mut insert = connection.prepare_cached(INSERT)?;
    if totals.waiting == 0 && !events.is_empty() {
        (totals.first, totals.oldest) = (totals.last + 1, now);
    }
    let mut fresh = Vec::with_capacity(events.len());
    for event in events {
        let seq = totals.last + 1;
        let new = row::insert(&mut insert, seq, now, event)?;
        if new {
            totals.last = seq;
            totals.waiting += 1;
            totals.bytes += cost(event) as i64;
            taken.push((event.user_id.clone(), seq));
        }
        fresh.push(new);
    }
    Ok(Ok(fresh))
}

fn cost_of_new(connection: &Connection, events: &[Event]) -> rusqlite::Result<u64> {
    let mut known = connection.prepare_cached("SELECT 1 FROM waiting WHERE event_id = ?1")?;
    let mut sum = 0;
    for event in events {
        if !known.exists([&event.event_id])? {
            sum += cost(event);
        }
    }
    Ok(sum)
}
