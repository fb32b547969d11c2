//! `kill -9` at any point, several processes, disks that stop to take writes. The victim is this test executable,
//! started again with a job in its environment; `victim` below is where it begins.

use super::*;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

const JOB: &str = "PENSTOCK_TEST_SPOOL_JOB";
const FOLDER: &str = "PENSTOCK_TEST_SPOOL_FOLDER";
const VICTIM: &str = "store::spool::tests::killed::victim";

fn command(job: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([VICTIM, "--exact", "--ignored", "--nocapture", "--test-threads", "1"]);
    command.env(JOB, job).env(FOLDER, folder).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn start(job: &str, folder: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = command(job, folder).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// Stores what it is sent in a file of lines, durably enough to outlive its process.
struct Lines(Mutex<File>);

impl Sink for Lines {
    fn ship<'a>(&'a self, events: &'a [Event]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let text: String = events.iter().map(|e| format!("{}\n", e.event_id)).collect();
            self.0.lock().unwrap().write_all(text.as_bytes()).unwrap();
            Ok(())
        })
    }
}

fn sink_of(folder: &Path) -> Lines {
    let file = File::options().create(true).append(true).open(folder.join("sink")).unwrap();
    Lines(Mutex::new(file))
}

fn in_sink(folder: &Path) -> HashSet<String> {
    let text = std::fs::read_to_string(folder.join("sink")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "started by the tests of this file, as a process to kill"]
fn victim() {
    let (Ok(job), Ok(folder)) = (std::env::var(JOB), std::env::var(FOLDER)) else {
        return;
    };
    say("");
    let folder = PathBuf::from(folder);
    let spool = open_with(&folder, Settings { batch: 50, ..settings() });
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async move {
        if job.contains("ship") {
            let (spool, sink) = (spool.clone(), sink_of(&folder));
            tokio::spawn(async move { spool.ship_to(&sink, &|_| {}).await });
        }
        append_for_ever(spool).await;
    });
}

async fn append_for_ever(spool: Arc<Spool>) {
    let process = std::process::id();
    let callers = (0..8).map(|caller| {
        let spool = spool.clone();
        tokio::spawn(async move {
            for n in 0..1_000_000 {
                let id = format!("{process}-{caller}-{n}");
                match spool.append(vec![event(&id, &id, n)]).await {
                    Ok(new) => {
                        assert_eq!(new, [true]);
                        say(&format!("acknowledged {id}"));
                    }
                    Err(error) => {
                        say(&format!("refused {error}"));
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        })
    });
    futures::future::join_all(callers).await;
}

/// Reads until so many events were acknowledged.
fn read(lines: &mut BufReader<ChildStdout>, wanted: usize, acknowledged: &mut HashSet<String>) {
    let mut fresh = 0;
    while fresh < wanted {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the victim ended by itself");
        if let Some(id) = line.trim_end().strip_prefix("acknowledged ") {
            acknowledged.insert(id.to_owned());
            fresh += 1;
        }
    }
}

/// Kills it and takes what it said before; the last line may be torn.
fn kill(mut child: Child, lines: BufReader<ChildStdout>, acknowledged: &mut HashSet<String>) {
    child.kill().unwrap();
    child.wait().unwrap();
    let mut rest: Vec<String> = lines.lines().map_while(Result::ok).collect();
    rest.pop();
    acknowledged.extend(
        rest.iter().filter_map(|line| line.strip_prefix("acknowledged ")).map(String::from),
    );
}

async fn nothing_is_lost(folder: &Path, acknowledged: &HashSet<String>) {
    let spool = open(folder);
    assert_eq!(spool.status().damaged_files, 0);
    let sink = Recorder::default();
    drain(&spool, &sink).await;
    let mut stored = in_sink(folder);
    stored.extend(sink.ids());
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), acknowledged.len());
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_every_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = HashSet::new();
    for round in 1..=12 {
        let job = if round % 3 == 0 { "append" } else { "append and ship" };
        let (victim, mut lines) = start(job, folder.path());
        read(&mut lines, round * 29, &mut acknowledged);
        kill(victim, lines, &mut acknowledged);
        if round % 4 == 0 {
            nothing_is_lost(folder.path(), &acknowledged).await;
            let told = std::fs::OpenOptions::new().append(true).open(folder.path().join("sink"));
            // What was drained here was stored, too.
            let mut told = told.unwrap();
            for id in &acknowledged {
                writeln!(told, "{id}").unwrap();
            }
            acknowledged.clear();
        }
    }
}

#[tokio::test]
async fn processes_share_a_spool_and_one_takes_over_from_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = HashSet::new();
    let (old, mut old_lines) = start("append and ship", folder.path());
    read(&mut old_lines, 50, &mut acknowledged);
    for _ in 0..3 {
        let (new, mut new_lines) = start("append and ship", folder.path());
        read(&mut new_lines, 100, &mut acknowledged);
        read(&mut old_lines, 50, &mut acknowledged);
        kill(new, new_lines, &mut acknowledged);
    }
    let (new, mut new_lines) = start("append and ship", folder.path());
    read(&mut new_lines, 20, &mut acknowledged);
    kill(old, old_lines, &mut acknowledged);
    let shipped = in_sink(folder.path()).len();
    read(&mut new_lines, 100, &mut acknowledged);
    until("the new process ships", || in_sink(folder.path()).len() > shipped + 50).await;
    kill(new, new_lines, &mut acknowledged);
    nothing_is_lost(folder.path(), &acknowledged).await;
}

/// As where a file system goes read-only under it.
#[tokio::test]
async fn a_disk_that_stops_to_take_writes_is_an_answer_and_not_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let inner = command("append", folder.path());
    let mut outer = Command::new("bash");
    outer.args(["-c", "trap '' XFSZ; exec \"$@\"", "bash"]).arg(inner.get_program());
    outer.args(inner.get_args()).env(JOB, "append").env(FOLDER, folder.path());
    let mut victim = outer.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap());
    let mut acknowledged = HashSet::new();
    read(&mut lines, 50, &mut acknowledged);
    let limit = |size: &str| {
        let pid = victim.id().to_string();
        Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={size}")]).status()
    };
    if !limit("0:unlimited").is_ok_and(|status| status.success()) {
        println!("skipped: needs prlimit");
        victim.kill().unwrap();
        victim.wait().unwrap();
        return;
    }
    let mut refused = 0;
    while refused < 20 {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the victim ended");
        refused += i32::from(line.starts_with("refused store: "));
        if let Some(id) = line.trim_end().strip_prefix("acknowledged ") {
            acknowledged.insert(id.to_owned());
        }
    }
    assert!(limit("unlimited:unlimited").unwrap().success());
    read(&mut lines, 50, &mut acknowledged);
    kill(victim, lines, &mut acknowledged);
    nothing_is_lost(folder.path(), &acknowledged).await;
}
