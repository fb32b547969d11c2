//! The thread that writes, with group commit: all jobs that wait are done in one transaction, so that many
//! callers share one flush to disk. A job is answered only after the flush; when the transaction fails, every
//! job in it fails.

use super::ended;
use crate::store::StoreError;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// A group is closed when it holds this many rows, so that its callers wait for milliseconds.
const GROUP_ROWS: usize = 10_000;

/// What one caller wants written.
pub(in crate::store) trait Job: Send + 'static {
    /// How many rows that is.
    fn rows(&self) -> usize;
    /// Nobody waits for it any more: its caller has told its client to try again.
    fn abandoned(&self) -> bool;
}

#[derive(Debug)]
struct Queued<J> {
    job: J,
    /// It takes a place of the bounded queue.
    counted: bool,
}

/// The writer thread behind its queue.
#[derive(Debug)]
pub(in crate::store) struct Group<J> {
    queue: Option<Sender<Queued<J>>>,
    waiting: Arc<AtomicUsize>,
    bound: usize,
    thread: Option<JoinHandle<()>>,
}

impl<J: Job> Group<J> {
    /// Starts the thread `name`; `write` does a group of jobs and answers each.
    pub fn start(
        name: &str,
        bound: usize,
        mut write: impl FnMut(Vec<J>) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (queue, jobs) = unbounded();
        let waiting: Arc<AtomicUsize> = Arc::default();
        let places = waiting.clone();
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                while let Some(group) = next(&jobs, &places) {
                    if !group.is_empty() {
                        write(group);
                    }
                }
            })
            .map_err(|e| StoreError::Unavailable(format!("cannot start a thread: {e}")))?;
        Ok(Self { queue: Some(queue), waiting, bound, thread: Some(thread) })
    }

    /// Queues a job, unless as many wait as may.
    pub fn offer(&self, job: J) -> Result<(), StoreError> {
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= self.bound {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(StoreError::Busy(self.bound));
        }
        self.send(Queued { job, counted: true })
    }

    /// Queues a job however many wait: for the few that make room for others.
    pub fn push(&self, job: J) -> Result<(), StoreError> {
        self.send(Queued { job, counted: false })
    }

    /// How many wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    fn send(&self, queued: Queued<J>) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().expect("taken only on drop");
        queue.send(queued).map_err(|_| ended("writer"))
    }
}

impl<J> Drop for Group<J> {
    fn drop(&mut self) {
        // What is queued is still written: the thread ends when the queue is empty.
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for a job and takes what else waits; `None`: there will be no more.
fn next<J: Job>(jobs: &Receiver<Queued<J>>, places: &AtomicUsize) -> Option<Vec<J>> {
    let mut next = jobs.recv().ok();
    next.as_ref()?;
    let (mut rows, mut group) = (0, Vec::new());
    while let Some(Queued { job, counted }) = next {
        places.fetch_sub(usize::from(counted), Ordering::AcqRel);
        rows += job.rows();
        group.push(job);
        next = if rows < GROUP_ROWS { jobs.try_recv().ok() } else { None };
    }
    group.retain(|job| !job.abandoned());
    Some(group)
}
