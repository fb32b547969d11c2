//! Where PostgreSQL is on this machine, and how its programs are started.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Where Debian keeps the versions, each with a `bin`; not on the path.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Users that programs which refuse to run as root run as, best first.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// The folder of `initdb` and `postgres`: the newest of Debian's, or the one on the path.
fn folder() -> Option<PathBuf> {
    let versions = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())))
        .map(|(version, path)| (version, path.join("bin")))
        .filter(|(_, bin)| bin.join("initdb").is_file())
        .max();
    newest.map(|(_, bin)| bin).or_else(|| {
        let path = std::env::var_os("PATH")?;
        let found = std::env::split_paths(&path).find(|bin| bin.join("initdb").is_file())?;
        // It may be a link to where all of them are.
        let real = found.join("initdb").canonicalize().ok()?;
        real.parent().map(Path::to_owned)
    })
}

/// Whether there is a PostgreSQL here. Where there is none a line says so, and the test passes.
pub fn installed() -> bool {
    let found = folder().is_some();
    if !found {
        println!("skipped: PostgreSQL is not installed (initdb is not in {VERSIONS}/*/bin)");
    }
    found
}

/// A folder for one server, and who may use it.
#[derive(Debug)]
pub(super) struct Home {
    folder: TempDir,
    /// User and group of the server's programs where they must not be root's.
    user: Option<(u32, u32)>,
}

impl Home {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        let own = folder.path().metadata().expect("it was just made").uid();
        let user = (own == 0).then(|| {
            let user = USERS.iter().find_map(|name| ids(name)).expect("a user that is not root");
            chown(folder.path(), Some(user.0), Some(user.1)).expect("root may give it away");
            user
        });
        Self { folder, user }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The data folder; each process of the server is in it.
    pub(super) fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Puts a file there that only the server's user may read.
    pub(super) fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("the server's folder is writable");
        self.own(&path);
        path
    }

    pub(super) fn own(&self, path: &Path) {
        use std::os::unix::fs::PermissionsExt;
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, private).expect("the file is ours");
        if let Some((user, group)) = self.user {
            chown(path, Some(user), Some(group)).expect("root may give it away");
        }
    }

    /// One of PostgreSQL's programs, as a user it does not refuse, told nothing by the environment.
    pub(super) fn program(&self, name: &str) -> Command {
        let bin = folder().expect("PostgreSQL is installed (the Debian package postgresql)");
        let mut command = Command::new(bin.join(name));
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("PG") {
                command.env_remove(key);
            }
        }
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        // Root's own home, with certificates in it or not, is nothing that user may look into.
        command.env("HOME", self.folder.path()).env("LC_ALL", "C.UTF-8");
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }
}

/// User and group id of a user by name.
fn ids(name: &str) -> Option<(u32, u32)> {
    let id = |which| {
        let output = Command::new("id").args([which, name]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    Some((id("-u")?, id("-g")?))
}

/// Runs a program to its end; what it printed, or what it complained about.
pub(super) fn said(command: &mut Command) -> Result<String, String> {
    let output = command.output().expect("a program of PostgreSQL can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(text),
        false => Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr))),
    }
}
