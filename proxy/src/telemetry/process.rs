//! What the kernel knows of this process, read when somebody looks.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Opts};

/// Kernel clock ticks per second in `/proc`; 100 on every Linux architecture (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;
/// Bytes of a page on the machines this runs on.
const PAGE_BYTES: f64 = 4096.0;

/// `process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_open_fds`,
/// `process_threads`, under the names Prometheus' own clients use.
pub(super) struct Process {
    cpu: Gauge,
    memory: Gauge,
    files: Gauge,
    threads: Gauge,
}

impl Process {
    pub(super) fn new() -> prometheus::Result<Self> {
        Ok(Self {
            cpu: Gauge::new("process_cpu_seconds_total", "CPU time used")?,
            memory: Gauge::new("process_resident_memory_bytes", "Memory in RAM")?,
            files: Gauge::new("process_open_fds", "Open file descriptors")?,
            threads: Gauge::with_opts(Opts::new("process_threads", "Threads"))?,
        })
    }

    fn gauges(&self) -> [&Gauge; 4] {
        [&self.cpu, &self.memory, &self.files, &self.threads]
    }
}

/// CPU seconds, resident bytes and threads from `/proc/self/stat` (proc(5)). The command's name
/// may contain anything, so fields are counted from its closing bracket.
fn parse_stat(stat: &str) -> Option<(f64, f64, f64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    Some(((field(14)? + field(15)?) / TICKS_PER_SECOND, field(24)? * PAGE_BYTES, field(20)?))
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        if let Some((cpu, memory, threads)) = parse_stat(&stat) {
            self.cpu.set(cpu);
            self.memory.set(memory);
            self.threads.set(threads);
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            self.files.set(files.count() as f64);
        }
        self.gauges().into_iter().flat_map(Collector::collect).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_line() {
        let line = "42 (pen) stock) R 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 7 18 19 20 1000 22";
        assert_eq!(parse_stat(line), Some((2.0, 4_096_000.0, 7.0)));
        for torn in ["", "42 (x", "42 (x) R 1 2"] {
            assert_eq!(parse_stat(torn), None, "{torn}");
        }
    }
}
