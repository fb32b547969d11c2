//! The access log: one JSON line per request on standard output, the decision record as it is.
//!
//! A thread of its own writes. Requests hand it bytes over a bounded queue and never wait: when
//! whoever reads standard output is slower than the traffic, lines are dropped and counted.

use crate::decision::Decision;
use prometheus::IntCounter;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Lines waiting for the writer: at a kilobyte each, some 8 MB.
const QUEUE: usize = 8_192;

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// The requests' end of the queue.
pub struct AccessLog {
    queue: SyncSender<Message>,
    dropped: IntCounter,
}

impl AccessLog {
    /// Starts the writer. `dropped` counts the lines that found the queue full.
    pub fn start(out: impl Write + Send + 'static, dropped: IntCounter) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_lines(&lines, out))?;
        Ok(Self { queue, dropped })
    }

    /// Writes a decision down, or counts that it could not.
    pub fn record(&self, decision: &Decision) {
        let Ok(mut line) = serde_json::to_vec(decision) else {
            self.dropped.inc();
            return;
        };
        line.push(b'\n');
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.dropped.inc();
        }
    }

    /// Waits until what was recorded so far is written, at most `patience`.
    pub fn flush(&self, patience: Duration) {
        let (done, written) = sync_channel(1);
        let mut message = Message::Flush(done);
        // A full queue is being emptied: a place in it is worth a few attempts.
        for _ in 0..20 {
            match self.queue.try_send(message) {
                Ok(()) => {
                    if let Err(RecvTimeoutError::Timeout) = written.recv_timeout(patience) {
                        tracing::warn!("the access log could not be written to its end");
                    }
                    return;
                }
                Err(error) => {
                    message = match error {
                        std::sync::mpsc::TrySendError::Full(message) => message,
                        std::sync::mpsc::TrySendError::Disconnected(_) => return,
                    };
                    std::thread::sleep(patience / 20);
                }
            }
        }
    }
}

/// Gathers lines while there are more, writes, and flushes before it waits.
fn write_lines(lines: &Receiver<Message>, out: impl Write) {
    let mut out = io::BufWriter::with_capacity(64 * 1024, out);
    while let Ok(first) = lines.recv() {
        let mut next = Some(first);
        while let Some(message) = next {
            let written = match message {
                Message::Line(line) => out.write_all(&line),
                Message::Flush(done) => out.flush().map(|()| {
                    let _ = done.send(());
                }),
            };
            // Standard output was closed: nobody is listening, ever again.
            if written.is_err() {
                return;
            }
            next = lines.try_recv().ok();
        }
        if out.flush().is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::tests::decision;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn counter() -> IntCounter {
        IntCounter::new("dropped", "test").unwrap()
    }

    #[test]
    fn writes_one_line_of_json_per_decision() {
        let out = Shared::default();
        let log = AccessLog::start(out.clone(), counter()).unwrap();
        let mut hostile = decision();
        hostile.target = "/x\n{\"forged\":true}\u{1b}[31m".into();
        log.record(&hostile);
        log.record(&decision());
        log.flush(Duration::from_secs(10));
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["target"], hostile.target);
        assert_eq!(lines[1]["route"], "search");
    }

    #[test]
    fn a_reader_that_stopped_reading_costs_lines_and_no_time() {
        /// Blocks until it is dropped with the test.
        struct Stuck(Mutex<std::sync::mpsc::Receiver<()>>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.lock().unwrap().recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (release, held) = std::sync::mpsc::channel();
        let dropped = counter();
        let log = AccessLog::start(Stuck(Mutex::new(held)), dropped.clone()).unwrap();
        let record = decision();
        for _ in 0..3 * QUEUE {
            log.record(&record);
        }
        assert!(dropped.get() >= QUEUE as u64, "{}", dropped.get());
        drop(release);
    }
}
