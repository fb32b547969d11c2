//! Ranking threads. CPU work runs here and never on a connection's thread; the bounded queue is the
//! bulkhead between traffic and ranking.

use crossbeam_channel::{Receiver, Sender, unbounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// A fixed number of threads over one queue. Threads end when the pool is dropped.
pub struct Pool {
    jobs: Sender<Job>,
    workers: usize,
}

impl Pool {
    /// Starts `workers` threads (at least one).
    pub fn new(workers: usize) -> std::io::Result<Self> {
        let (jobs, queue) = unbounded::<Job>();
        let workers = workers.max(1);
        for number in 0..workers {
            let queue: Receiver<Job> = queue.clone();
            let run = move || queue.iter().for_each(run_one);
            std::thread::Builder::new().name(format!("rank-{number}")).spawn(run)?;
        }
        Ok(Self { jobs, workers })
    }

    /// Queues `work`, unless `max_queue` jobs wait already. The receiver fails if the work panics.
    pub fn submit<T: Send + 'static>(
        &self,
        max_queue: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Full> {
        if self.jobs.len() >= max_queue {
            return Err(Full);
        }
        let (answer, receiver) = oneshot::channel();
        let job = move || {
            // Whoever asked may have stopped waiting while the job was queued.
            if !answer.is_closed() {
                let _ = answer.send(work());
            }
        };
        self.jobs.send(Box::new(job)).map_err(|_| Full)?;
        Ok(receiver)
    }

    /// Its threads.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Jobs that wait for a thread.
    pub fn waiting(&self) -> usize {
        self.jobs.len()
    }
}

/// A job that panics is reported to whoever waits for it (its sender is dropped) and costs no thread.
fn run_one(job: Job) {
    if catch_unwind(AssertUnwindSafe(job)).is_err() {
        tracing::error!("a ranking job panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn works_and_survives_a_panic() {
        let pool = Pool::new(1).expect("threads");
        let broken = pool.submit(10, || panic!("as the test wants")).expect("room");
        assert!(broken.blocking_recv().map(|(): ()| ()).is_err());
        let sum = pool.submit(10, || 2 + 2).expect("room");
        assert_eq!(sum.blocking_recv(), Ok(4));
    }

    #[test]
    fn refuses_what_does_not_fit_the_queue() {
        let pool = Pool::new(1).expect("threads");
        let (release, hold) = crossbeam_channel::bounded::<()>(0);
        let (started, running) = crossbeam_channel::bounded::<()>(0);
        let first = pool.submit(1, move || {
            let _ = started.send(());
            let _ = hold.recv();
        });
        running.recv().expect("the first job runs");
        let second = pool.submit(1, || ());
        assert!(pool.submit(1, || ()).is_err());
        drop(release);
        assert!(first.is_ok_and(|r| r.blocking_recv().is_ok()));
        assert!(second.is_ok_and(|r| r.blocking_recv().is_ok()));
    }
}
