//! The processes of a server: the one that was started and those it made for itself.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How often it is looked whether processes are gone.
const POLL: Duration = Duration::from_millis(5);

/// Every process that has `data` as its folder; all of a server have.
fn all(data: &Path) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data))
        .collect()
}

/// Signals processes; one that has ended meanwhile is none of our business.
fn send(name: &str, pids: &[u32]) {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let _ = Command::new("sh")
        .args(["-c", &format!("kill -{name} {}", pids.join(" "))])
        .stderr(Stdio::null())
        .status();
}

/// `kill -9` for the server and all it made, as when its machine goes away. The parent first: it
/// would make new ones. A server whose parts live on could not be started again.
pub(super) fn kill(mut child: Child, data: &Path) {
    let _ = child.kill();
    let _ = child.wait();
    loop {
        match all(data).as_slice() {
            [] => return,
            rest => send("KILL", rest),
        }
        std::thread::sleep(POLL);
    }
}

/// Stops (`STOP`) or lets go on (`CONT`) the server and all it made. Twice: while the first is
/// sent the parent may make another.
pub(super) fn signal(name: &str, child: &Child, data: &Path) {
    send(name, &[child.id()]);
    send(name, &all(data));
}

/// Gives the kernel back the piece of System V memory by which a killed server would have noticed
/// on its next start that another runs; there are few of those, and nobody else takes them back.
pub(super) fn release_memory(data: &Path) {
    let Ok(pid_file) = fs::read_to_string(data.join("postmaster.pid")) else { return };
    let segment = pid_file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1));
    if let Some(segment) = segment {
        let _ = Command::new("ipcrm")
            .args(["-m", segment])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
