//! The thread that writes events: all calls that wait are written in one transaction ([`Group`]). When it
//! fails, every call in it fails and nothing of it is stored.

use super::reader::SLOW;
use super::{Settings, failed, file};
use crate::catalog::Event;
use crate::store::StoreError;
use crate::store::lite::group::{Group, Job};
use crate::store::lite::kinds::kind_number;
use penstock_config::clock::SharedClock;
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot;

type Reply = oneshot::Sender<Result<Vec<bool>, StoreError>>;

#[derive(Debug)]
struct Append {
    events: Vec<Event>,
    reply: Reply,
}

impl Job for Append {
    fn rows(&self) -> usize {
        self.events.len()
    }

    fn abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

/// The writer thread behind its bounded queue.
#[derive(Debug)]
pub(super) struct Writer(Group<Append>);

impl Writer {
    pub(super) fn start(
        path: &Path,
        settings: &Settings,
        clock: &SharedClock,
        appended: Arc<AtomicU64>,
    ) -> Result<Self, StoreError> {
        let mut connection = file::connect(path, settings)?;
        let clock = clock.clone();
        let write = move |group| serve(&mut connection, group, &clock, &appended);
        Ok(Self(Group::start("store-write", settings.queue, write)?))
    }

    pub(super) fn append(&self, events: Vec<Event>, reply: Reply) -> Result<(), StoreError> {
        self.0.offer(Append { events, reply })
    }
}

fn serve(
    connection: &mut Connection,
    group: Vec<Append>,
    clock: &SharedClock,
    appended: &AtomicU64,
) {
    let events: usize = group.iter().map(Job::rows).sum();
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
            // Damage, too, is no fault of the events.
            let error = match failed("storing events")(error) {
                StoreError::Format(text) => StoreError::Unavailable(text),
                other => other,
            };
            for call in group {
                let _ = call.reply.send(Err(error.clone()));
            }
        }
    }
    let took = clock.now().saturating_duration_since(start);
    if took > SLOW {
        let micros = took.as_micros() as u64;
        tracing::warn!(query = "append_events", events, micros, "slow write");
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
                kind_number(event.kind),
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
