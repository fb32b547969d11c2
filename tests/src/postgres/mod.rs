//! Real PostgreSQL: a primary, replicas. Each on a free port with a folder of its own, gone when it
//! is dropped.
//!
//! Everything waits by asking, and says in vain for what it waited.

mod install;
mod processes;
mod replica;
mod setup;

use crate::binaries::{signal, text};
use crate::wait::{until, until_true};
use install::{Home, said};
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

pub use install::installed;
pub use setup::PgSetup;

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// The superuser, and the database that [`PgServer::sql`] is about.
const PENSTOCK: &str = "penstock";

/// Lines of the log that a failed test prints.
const LOG_TAIL: usize = 30;

/// Between the values of a row of `psql`'s answer: not in any text a test has. A row ends with a 0,
/// which no text can have.
const SEPARATOR: char = '\u{1f}';

/// A server: a primary, or a replica of one.
#[derive(Debug)]
pub struct PgServer {
    address: SocketAddr,
    password: Option<String>,
    home: Home,
    child: Option<Child>,
}

impl PgServer {
    /// A primary as shipped: durable, without password.
    pub async fn start() -> Self {
        Self::setup().start().await
    }

    /// A primary with settings of `postgresql.conf`.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::setup().settings(settings).start().await
    }

    /// A primary that waits for no disk, where what survives a crash is not the question.
    pub async fn relaxed() -> Self {
        Self::setup().relaxed().start().await
    }

    /// A primary that asks for a password.
    pub async fn with_password(password: &str) -> Self {
        Self::setup().password(password).start().await
    }

    /// A primary that is reached through TLS only; see [`PgServer::ca`].
    pub async fn with_tls() -> Self {
        Self::setup().tls().start().await
    }

    /// A primary to be, for more than one of these.
    pub fn setup() -> PgSetup {
        PgSetup::default()
    }

    async fn spawn(&mut self) {
        let log = File::options().create(true).append(true).open(self.home.path("log"));
        let log = log.expect("the server's folder is writable");
        let child = self
            .home
            .program("postgres")
            .args(["-D", text(&self.home.data()), "-h", "127.0.0.1", "-k", ""])
            .args(["-p", &self.address.port().to_string()])
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("postgres can be started");
        self.child = Some(child);
        until_true("postgres answers", PATIENCE, async || {
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                panic!("postgres ended ({status}):\n{}", self.logs());
            }
            self.try_sql_in("postgres", "SELECT 1").await.is_ok()
        })
        .await;
    }

    /// `kill -9` for the server and its sessions, and waits until they are gone. Does nothing to one
    /// that is not running.
    pub fn kill(&mut self) {
        if let Some(child) = self.child.take() {
            processes::kill(child, &self.home.data());
        }
    }

    /// Ends sessions, writes everything down and waits until it is gone (a fast shutdown). A
    /// primary first sends its replicas what they lack.
    pub async fn stop(&mut self) {
        let pid = self.pid();
        signal(pid, "INT");
        until("postgres ends", PATIENCE, async || {
            self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
        })
        .await;
        self.kill();
    }

    /// Starts it again where it was, killed before if need be.
    pub async fn restart(&mut self) {
        self.kill();
        self.spawn().await;
    }

    /// Stops it without ending it: connections stay open and nothing is answered.
    pub fn freeze(&self) {
        processes::signal("STOP", self.child(), &self.home.data());
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        processes::signal("CONT", self.child(), &self.home.data());
    }

    fn child(&self) -> &Child {
        self.child.as_ref().expect("it runs")
    }

    /// Process id of the server itself; its sessions have others.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// Where it listens, also after a restart.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of a database, with the password where there is one. `penstock` is there.
    pub fn url(&self, database: &str) -> String {
        let password = self.password.as_ref().map(|it| format!(":{it}")).unwrap_or_default();
        format!("postgres://{PENSTOCK}{password}@{}/{database}", self.address)
    }

    /// The certificate (PEM) that vouches for a server [`PgServer::with_tls`], on `127.0.0.1` and
    /// `localhost`.
    pub fn ca(&self) -> PathBuf {
        self.home.path("ca.crt")
    }

    /// What it has written so far.
    pub fn logs(&self) -> String {
        std::fs::read(self.home.path("log"))
            .map_or_else(|_| String::new(), |log| String::from_utf8_lossy(&log).into_owned())
    }

    /// Rows of a statement in the database `penstock`, as its superuser. Of several statements the
    /// rows come one after the other. Fails the test with what the server said.
    pub async fn sql(&self, statement: &str) -> Vec<Vec<String>> {
        let rows = self.try_sql(statement).await;
        rows.unwrap_or_else(|why| panic!("{}: {statement}\n{why}", self.address))
    }

    /// As [`PgServer::sql`]; an error is what the server or `psql` said.
    pub async fn try_sql(&self, statement: &str) -> Result<Vec<Vec<String>>, String> {
        self.try_sql_in(PENSTOCK, statement).await
    }

    async fn try_sql_in(
        &self,
        database: &str,
        statement: &str,
    ) -> Result<Vec<Vec<String>>, String> {
        let mut psql = self.psql(database, statement);
        // A statement may wait for what the test does meanwhile.
        let answer = tokio::task::spawn_blocking(move || said(&mut psql)).await;
        let answer = answer.expect("it does not panic")?;
        let rows = answer.split_terminator('\0');
        Ok(rows.map(|row| row.split(SEPARATOR).map(str::to_owned).collect()).collect())
    }

    fn psql(&self, database: &str, statement: &str) -> Command {
        let mut psql = self.home.program("psql");
        if let Some(password) = &self.password {
            psql.env("PGPASSWORD", password);
        }
        psql.env("PGCONNECT_TIMEOUT", "5")
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"])
            .args(["-0", "-F", &SEPARATOR.to_string()])
            .args(["-h", "127.0.0.1", "-p", &self.address.port().to_string(), "-U", PENSTOCK])
            .args(["-d", database, "-c", statement]);
        psql
    }
}

impl Drop for PgServer {
    fn drop(&mut self) {
        self.kill();
        processes::release_memory(&self.home.data());
        if std::thread::panicking() {
            let logs = self.logs();
            let lines: Vec<&str> = logs.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL)..];
            println!("--- log of postgres at {}:\n{}", self.address, tail.join("\n"));
        }
    }
}
