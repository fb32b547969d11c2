//! The thread that writes events, with group commit: all calls that wait are written in one
//! transaction, so that many callers share one flush to disk. A call is answered only after the
//! flush; when the transaction fails, every call in it fails and nothing of it is stored.

use super::reader::SLOW;
use super::{Settings, failed, file, rows};
use crate::catalog::Event;
use crate::store::StoreError;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use penstock_config::clock::SharedClock;
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// A group is closed when it holds this many events, so that its callers wait for milliseconds.
const GROUP_EVENTS: usize = 10_000;

type Reply = oneshot::Sender<Result<Vec<bool>, StoreError>>;

#[derive(Debug)]
struct Append {
    events: Vec<Event>,
    reply: Reply,
}

/// The writer thread behind its bounded queue.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<Sender<Append>>,
    bound: usize,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        path: &Path,
        settings: &Settings,
        clock: &SharedClock,
        appended: Arc<AtomicU64>,
    ) -> Result<Self, StoreError> {
        let mut connection = file::connect(path, settings)?;
        let (queue, calls) = bounded(settings.queue);
        let clock = clock.clone();
        let thread = std::thread::Builder::new()
            .name("store-write".into())
            .spawn(move || serve(&mut connection, &calls, &clock, &appended))
            .map_err(|e| StoreError::Unavailable(format!("cannot start a thread: {e}")))?;
        Ok(Self { queue: Some(queue), bound: settings.queue, thread: Some(thread) })
    }

    pub(super) fn append(&self, events: Vec<Event>, reply: Reply) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().expect("taken only on drop");
        queue.try_send(Append { events, reply }).map_err(|e| match e {
            TrySendError::Full(_) => StoreError::Busy(self.bound),
            TrySendError::Disconnected(_) => super::ended("writer"),
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // What is queued is still written: the thread ends when the queue is empty.
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    connection: &mut Connection,
    calls: &Receiver<Append>,
    clock: &SharedClock,
    appended: &AtomicU64,
) {
    while let Ok(first) = calls.recv() {
        let mut events = first.events.len();
        let mut group = vec![first];
        while events < GROUP_EVENTS
            && let Ok(next) = calls.try_recv()
        {
            events += next.events.len();
            group.push(next);
        }
        // A caller that stopped waiting has told its client to try again.
        group.retain(|call| !call.reply.is_closed());
        if group.is_empty() {
            continue;
        }
        let start = clock.now();
        match write(connection, &group) {
            Ok(fresh) => {
                let new = fresh.iter().flatten().filter(|new| **new).count();
                appended.fetch_add(new as u64, Ordering::AcqRel);
                for (call, fresh) in group.into_iter().zip(fresh) {
                    let _ = call.reply.send(Ok(fresh));
                }
            }
            Err(error) => {
                tracing::error!(%error, events, "events were not stored");
                let again = failed("storing events");
                let text = match again(error) {
                    StoreError::Unavailable(text) | StoreError::Format(text) => text,
                    StoreError::Busy(_) | StoreError::Invalid(_) => {
                        unreachable!("`failed` never says so")
                    }
                };
                for call in group {
                    let _ = call.reply.send(Err(StoreError::Unavailable(text.clone())));
                }
            }
        }
        let took = clock.now().saturating_duration_since(start);
        if took > SLOW {
            tracing::warn!(
                query = "append_events",
                events,
                micros = took.as_micros() as u64,
                "slow write"
            );
        }
    }
}

fn write(connection: &mut Connection, group: &[Append]) -> rusqlite::Result<Vec<Vec<bool>>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO events (event_id, user_id, product_id, kind, at_micros, source) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (event_id) DO NOTHING",
    )?;
    let mut fresh = Vec::with_capacity(group.len());
    for call in group {
        let mut added = Vec::with_capacity(call.events.len());
        for event in &call.events {
            let changed = insert.execute((
                &event.event_id,
                &event.user_id,
                &event.product_id,
                rows::kind_number(event.kind),
                event.at_micros,
                &event.source,
            ))?;
            added.push(changed == 1);
        }
        fresh.push(added);
    }
    drop(insert);
    transaction.commit()?;
    Ok(fresh)
}
