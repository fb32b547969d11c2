//! Replicas: made from a primary, held back, promoted, pointed at another.

use super::install::{Home, said};
use super::{PATIENCE, PENSTOCK, PgServer};
use crate::binaries::text;
use crate::penstock::free_address;
use crate::wait::until_true;
use std::net::SocketAddr;

impl PgServer {
    /// A replica that follows `primary` and answers what only reads; settings, password and TLS are
    /// the primary's.
    pub async fn replica_of(primary: &Self) -> Self {
        let mut replica = Self {
            address: free_address(),
            password: primary.password.clone(),
            home: Home::new(),
            child: None,
        };
        if primary.ca().exists() {
            std::fs::copy(primary.ca(), replica.ca()).expect("the replica's folder is writable");
        }
        let mut backup = replica.home.program("pg_basebackup");
        backup.args(["-D", text(&replica.home.data()), "-d", &replica.way_to(primary)]).args([
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
        ]);
        let copied = tokio::task::spawn_blocking(move || said(&mut backup)).await;
        copied.expect("it does not panic").unwrap_or_else(|why| panic!("pg_basebackup: {why}"));
        replica.spawn().await;
        replica.wait_streaming(primary).await;
        replica
    }

    /// Its name for `synchronous_standby_names`, and in the primary's `pg_stat_replication`.
    pub fn name(&self) -> String {
        replica_name(self.address)
    }

    /// Where a replica finds its primary.
    fn way_to(&self, primary: &Self) -> String {
        let (port, name) = (primary.address.port(), self.name());
        let password = self.password.as_ref().map(|it| format!(" password={it}"));
        format!(
            "host=127.0.0.1 port={port} user={PENSTOCK}{} application_name={name}",
            password.unwrap_or_default()
        )
    }

    async fn wait_streaming(&self, primary: &Self) {
        let streams = format!(
            "SELECT 1 FROM pg_stat_replication WHERE application_name = '{}' AND state = 'streaming'",
            self.name()
        );
        self.wait_for("a replica streams", primary, &streams, "1").await;
    }

    async fn wait_for(&self, what: &str, server: &Self, question: &str, expected: &str) {
        until_true(&format!("{what} at {}", self.address), PATIENCE, async || {
            server.sql(question).await.first().is_some_and(|row| row[0] == expected)
        })
        .await;
    }

    /// Waits until everything that `primary` has committed so far can be read here.
    pub async fn wait_replayed(&self, primary: &Self) {
        let position = primary.sql("SELECT pg_current_wal_lsn()").await.remove(0).remove(0);
        let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn");
        self.wait_for("everything is replayed", self, &replayed, "t").await;
    }

    /// What the primary commits from now on is received and not shown; returns when that is so.
    pub async fn pause_replay(&self) {
        self.sql("SELECT pg_wal_replay_pause()").await;
        let state = "SELECT pg_get_wal_replay_pause_state()";
        self.wait_for("replay pauses", self, state, "paused").await;
    }

    /// Shows what was received meanwhile, and goes on.
    pub async fn resume_replay(&self) {
        self.sql("SELECT pg_wal_replay_resume()").await;
    }

    /// Makes a primary of a replica; returns when it takes writes. The old primary is not told.
    pub async fn promote(&self) {
        self.sql("SELECT pg_promote()").await;
        self.wait_for("promotion", self, "SELECT pg_is_in_recovery()", "f").await;
    }

    /// Points a replica at another primary, and waits until it follows. It must not have more than
    /// that one had when it was promoted; such a one is made anew ([`PgServer::replica_of`]).
    pub async fn follow(&self, primary: &Self) {
        let way = self.way_to(primary);
        self.sql(&format!("ALTER SYSTEM SET primary_conninfo = '{way}'")).await;
        self.sql("SELECT pg_reload_conf()").await;
        self.wait_streaming(primary).await;
    }
}

/// A name that is one word.
fn replica_name(address: SocketAddr) -> String {
    format!("replica_{}", address.port())
}
