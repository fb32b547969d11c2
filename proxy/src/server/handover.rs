//! From one process to the next: the new one waits at a Unix socket, the old one sends its listening
//! sockets there.
//!
//! Once Pingora is told to hand over, it leaves, whether anybody took the sockets or not. So the old
//! process looks first whether somebody waits.

use super::listen::{Addresses, Open, Sockets};
use pingora::server::Fds;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

/// How long the new process waits to be given the sockets.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long the old process looks for a new one: Pingora makes the meeting place anew every few
/// seconds, and for a moment it is not there.
const LOOK_FOR: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What the kernel knows about Unix sockets.
const SOCKETS: &str = "/proc/net/unix";

/// Waits at `meeting_place` for the sockets of the running process.
pub(super) fn receive(meeting_place: &str, addresses: &Addresses) -> anyhow::Result<Sockets> {
    let deadline = penstock_config::clock::now() + PATIENCE;
    let mut fds = Fds::new();
    // Pingora itself waits for six seconds, which is less than a person needs.
    while let Err(why) = fds.get_from_sock(meeting_place) {
        if penstock_config::clock::now() > deadline {
            anyhow::bail!("not taking over: no sockets came to {meeting_place} in time ({why})");
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let mine: HashSet<String> = addresses.all().map(|address| address.to_string()).collect();
    // Open and never accepted from, it would swallow connections.
    fds.close_unclaimed(&mine);
    let mut sockets = Vec::new();
    for address in mine {
        match fds.get(&address) {
            Some(fd) => sockets.push((address, Open::Inherited(*fd))),
            // Too late to give up, the other process leaves. Pingora opens what it was not given.
            None => tracing::error!(address, "the process before did not listen here"),
        }
    }
    Ok(Mutex::new(sockets))
}

/// Whether a new process waits at `meeting_place`.
pub(super) async fn somebody_waits(meeting_place: &str) -> bool {
    let deadline = penstock_config::clock::now() + LOOK_FOR;
    while !is_listened_on(Path::new(meeting_place)) {
        if penstock_config::clock::now() > deadline {
            return false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    true
}

/// Looks the socket up: to connect would use up the one connection the other side accepts.
fn is_listened_on(meeting_place: &Path) -> bool {
    let Ok(meeting_place) = meeting_place.canonicalize() else {
        return false;
    };
    match std::fs::read_to_string(SOCKETS) {
        Ok(table) => listening(&table)
            .any(|path| Path::new(path).canonicalize().is_ok_and(|path| path == meeting_place)),
        // Not a kernel that tells: the file is all there is to go by.
        Err(_) => true,
    }
}

/// Paths of the listening sockets in the kernel's table, whose columns are `Num RefCount Protocol
/// Flags Type St Inode Path`, padded with blanks. A path may have blanks of its own.
fn listening(table: &str) -> impl Iterator<Item = &str> {
    const ACCEPTS: &str = "00010000";
    table.lines().skip(1).filter_map(|line| {
        let mut rest = line;
        let mut fields = [""; 7];
        for field in &mut fields {
            (*field, rest) = rest.trim_start_matches(' ').split_once(' ')?;
        }
        (fields[3] == ACCEPTS).then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            ffff8: 00000002 00000000 00010000 0001 01 21401 /run/one.sock\n\
            ffff8: 00000003 00000000 00000000 0001 03   214 /run/two.sock\n\
            ffff8: 00000002 00000000 00010000 0001 01 21402\n\
            ffff8: 00000002 00000000 00010000 0001 01    40 my data/three.sock\n";
        let seen: Vec<_> = listening(table).collect();
        assert_eq!(seen, ["/run/one.sock", "my data/three.sock"]);
    }

    #[test]
    fn a_meeting_place_is_one_that_is_listened_on() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("upgrade.sock");
        assert!(!is_listened_on(&place));
        let waits = UnixListener::bind(&place).unwrap();
        assert!(is_listened_on(&place));
        assert!(is_listened_on(&folder.path().join(".").join("upgrade.sock")));
        drop(waits);
        assert!(place.exists(), "left behind by a process that was killed");
        assert!(!is_listened_on(&place));
    }
}
