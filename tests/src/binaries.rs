//! The two binaries, found beside the running test executable.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where the binaries are when they are not beside the test executables: with cargo's `build-dir`
/// those live outside the clone (`scripts/env.sh`).
const ELSEWHERE: &str = "PENSTOCK_TEST_BINARIES";

/// The folder of the binaries: `target/<profile>`.
fn profile_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os(ELSEWHERE) {
        return PathBuf::from(folder);
    }
    let own = std::env::current_exe().expect("a running program has a path");
    // target/<profile>/deps/<test>
    own.ancestors().nth(2).expect("test executables live in target/<profile>/deps").to_owned()
}

/// Path of `penstock` or `penstock-control` of the same build as this test.
pub fn path(name: &str) -> PathBuf {
    let path = profile_folder().join(name);
    assert!(
        path.is_file(),
        "{} is not built; run `cargo build --workspace --all-features` first",
        path.display()
    );
    path
}

/// A folder of this build that outlives one test and is not committed: `target/tmp`.
pub fn scratch() -> PathBuf {
    let profile = profile_folder();
    let target = profile.parent().expect("a profile's folder is in target");
    let scratch = target.join("tmp");
    std::fs::create_dir_all(&scratch).expect("target is writable");
    scratch
}

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Both streams, for messages that may be on either.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Fails the test unless the program succeeded.
    #[must_use = "chain it, or drop it on purpose"]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.text());
        self
    }

    /// Fails the test unless the program refused with a sentence and without a panic.
    #[must_use = "chain it, or drop it on purpose"]
    pub fn refused(self) -> Self {
        let text = self.text();
        assert!(matches!(self.code, Some(code) if code != 0), "{self:?}");
        assert!(!text.contains("panicked"), "{text}");
        assert!(!text.trim().is_empty(), "refused without a word");
        self
    }
}

/// A command with nothing of Penstock inherited from the environment of the test run.
pub fn command(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(path(name));
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("PENSTOCK_") {
            command.env_remove(key);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs a binary to its end.
pub fn run(name: &str, args: &[&str]) -> Ran {
    run_with(name, args, &[])
}

/// Runs a binary to its end with environment variables.
pub fn run_with(name: &str, args: &[&str], env: &[(&str, &str)]) -> Ran {
    let output = command(name, args)
        .envs(env.iter().copied())
        .output()
        .expect("a binary that exists can be started");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `penstock-control` on a data folder: `control(data, &["import", "--products", …])`.
pub fn control(data: &Path, args: &[&str]) -> Ran {
    run_with("penstock-control", args, &[("PENSTOCK_DATA_DIR", text(data))])
}

/// The same with more environment.
pub fn control_with(data: &Path, args: &[&str], env: &[(&str, &str)]) -> Ran {
    let env: Vec<_> =
        [("PENSTOCK_DATA_DIR", text(data))].into_iter().chain(env.iter().copied()).collect();
    run_with("penstock-control", args, &env)
}

/// Starts `penstock-control` on a data folder, silent, to be killed half way.
pub fn control_started(data: &Path, args: &[&str]) -> Child {
    command("penstock-control", args)
        .env("PENSTOCK_DATA_DIR", data)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a binary that exists can be started")
}

/// Sends a signal (`TERM`, `QUIT`, `KILL`) to a process this test started.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .status()
        .expect("sh exists");
    assert!(status.success(), "kill -{name} {pid}");
}

/// A path of a test folder as text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}
