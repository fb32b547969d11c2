//! How far a job is: a bar on a terminal, now and then a line elsewhere.

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use penstock_config::clock;
use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Without a terminal, a line at most this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// One piece of work.
#[derive(Debug)]
pub struct Bar {
    label: String,
    total: u64,
    bar: Option<ProgressBar>,
    started: Instant,
    told: Cell<Instant>,
}

impl Bar {
    /// A piece of work of `total` steps (bytes, rows; 0: unknown), shown on standard error.
    pub fn new(label: impl Into<String>, total: u64) -> Self {
        let label = label.into();
        let terminal = std::io::stderr().is_terminal();
        let bar = terminal.then(|| {
            let style = if total == 0 {
                ProgressStyle::with_template("{prefix} {spinner} {msg}")
            } else {
                ProgressStyle::with_template("{prefix} [{bar:30}] {percent:>3} % {msg}")
            };
            let bar = ProgressBar::new(total)
                .with_style(style.expect("the templates above are sound"))
                .with_prefix(label.clone());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        let now = clock::now();
        Self { label, total, bar, started: now, told: Cell::new(now) }
    }

    /// `done` steps are done; `count` things of a kind (`rows`) were worked on.
    pub fn set(&self, done: u64, count: u64, kind: &str) {
        let now = clock::now();
        let since = now.saturating_duration_since(self.told.get());
        let text = || {
            let rate = self.rate(count);
            format!("{} {kind}, {} a second", HumanCount(count), HumanCount(rate))
        };
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                if since > Duration::from_millis(100) {
                    self.told.set(now);
                    bar.set_message(text());
                }
            }
            None if since > LINE_EVERY => {
                self.told.set(now);
                match self.total {
                    0 => eprintln!("{}: {}", self.label, text()),
                    total => {
                        let percent = done.min(total) * 100 / total;
                        eprintln!("{}: {percent} %, {}", self.label, text());
                    }
                }
            }
            None => {}
        }
    }

    /// Things a second since the start.
    pub fn rate(&self, count: u64) -> u64 {
        let seconds = clock::now().saturating_duration_since(self.started).as_secs_f64();
        (count as f64 / seconds.max(0.001)) as u64
    }

    /// Prints a line without tearing the bar.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// The work is done: the bar goes, this line stays.
    pub fn finish(self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{}: {text}", self.label);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
