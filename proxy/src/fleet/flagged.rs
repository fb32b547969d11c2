//! Who was found out, told to all instances and kept over a restart.

use crate::admission::Who;
use crate::admission::abuse::Flagged;
use crate::app::App;
use async_trait::async_trait;
use penstock_engine::redis::{Board, Subscription, Trouble};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks: how late the others learn of somebody, and what a crash forgets.
const LOOK: Duration = Duration::from_secs(2);
/// Name of the file in the data folder.
const FILE: &str = "flagged.json";
/// Name of the map in Redis.
const BOARD: &str = "flagged";

/// Carries the list of those found out from instance to instance and over a restart.
pub struct FlaggedFollower {
    app: Arc<App>,
    board: Option<Board>,
}

impl FlaggedFollower {
    /// For `app`; takes over what was kept.
    pub fn new(app: Arc<App>) -> Self {
        let board = app.link.clone().map(|link| Board::new(link, BOARD));
        let follower = Self { app, board };
        match read(&follower.app.settings.data_dir) {
            Ok(rows) => drop(follower.import(&rows)),
            Err(error) => {
                tracing::error!(%error, "the kept list of flagged clients cannot be read")
            }
        }
        follower
    }

    /// Pardons a client here and on the board, if there is one; `false`: it was nowhere.
    pub async fn pardon(app: &App, who: Who) -> bool {
        let here = app.admission.pardon(who);
        let Some(link) = app.link.clone() else { return here };
        let policy = app.policies.current();
        let board = Board::new(link, BOARD);
        let pardoned = app.clock.unix_micros().div_euclid(1_000_000);
        let row = (who.to_string(), json(&Row::Pardoned { client: who, pardoned }));
        let there = parsed(board.read(&policy.resilience).await.unwrap_or_default());
        let known = there.get(&row.0).is_some_and(|row| row.as_flagged().is_some());
        if let Err(trouble) = board.change(&policy.resilience, &[], &[row]).await {
            tracing::warn!(client = %who, %trouble, "the other instances do not hear of a pardon");
        }
        here || known
    }

    fn import(&self, rows: &[Flagged]) -> usize {
        let app = &self.app;
        let policy = app.policies.current();
        app.admission.import(&policy.limits.abuse, rows, app.clock.now(), app.clock.unix_micros())
    }

    fn rows(&self) -> Vec<Flagged> {
        let app = &self.app;
        let policy = app.policies.current();
        app.admission.flagged(&policy.limits.abuse, app.clock.now(), app.clock.unix_micros())
    }

    /// Exchanges rows with the board and keeps the result in the data folder; `kept`: what is there.
    async fn look(&self, kept: &mut Vec<Flagged>) {
        // First what is found here, which a crash must not forgive.
        self.keep(kept);
        if let Some(board) = &self.board {
            // What is wrong with Redis is told by the link.
            let _ = self.exchange(board).await;
            self.keep(kept);
        }
    }

    fn keep(&self, kept: &mut Vec<Flagged>) {
        let rows = self.rows();
        if rows.iter().map(stamp).eq(kept.iter().map(stamp)) {
            return;
        }
        if let Err(error) = keep(&self.app.settings.data_dir, &rows) {
            tracing::error!(%error, "the list of flagged clients cannot be kept for a restart");
        }
        *kept = rows;
    }

    /// Takes what the board has, and puts there what it has not. An empty board (a Redis that lost its
    /// data) pardons nobody: only a pardon does.
    async fn exchange(&self, board: &Board) -> Result<(), Trouble> {
        let app = &self.app;
        let policy = app.policies.current();
        let theirs = parsed(board.read(&policy.resilience).await?);
        let known: Vec<Flagged> =
            theirs.values().filter_map(|row| row.as_flagged().cloned()).collect();
        self.import(&known);
        for row in self.rows() {
            let pardoned = theirs.get(&row.client.to_string()).and_then(Row::pardoned_at);
            if pardoned.is_some_and(|at| at >= row.last_seen) {
                app.admission.pardon(row.client);
            }
        }
        let put: Vec<(String, String)> = self
            .rows()
            .into_iter()
            .filter(|row| match theirs.get(&row.client.to_string()) {
                Some(Row::Flagged(known)) => stamp(known) != stamp(row),
                Some(Row::Pardoned { pardoned, .. }) => row.last_seen > *pardoned,
                None => true,
            })
            .map(|row| (row.client.to_string(), json(&Row::Flagged(row))))
            .collect();
        let now = app.clock.unix_micros().div_euclid(1_000_000);
        let forget_after = policy.limits.abuse.penalty.forget_after.as_secs() as i64;
        let old = |row: &Row| match row {
            Row::Flagged(row) => row.penalty_until + forget_after < now,
            Row::Pardoned { pardoned, .. } => pardoned + forget_after < now,
        };
        let remove: Vec<String> =
            theirs.iter().filter(|(_, row)| old(row)).map(|(client, _)| client.clone()).collect();
        if !put.is_empty() || !remove.is_empty() {
            board.change(&policy.resilience, &remove, &put).await?;
        }
        Ok(())
    }
}

/// What the board says of a client.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Row {
    /// It was found out.
    Flagged(Flagged),
    /// What it did until then is forgiven.
    Pardoned {
        /// Whom.
        client: Who,
        /// Seconds since 1970.
        pardoned: i64,
    },
}

impl Row {
    fn as_flagged(&self) -> Option<&Flagged> {
        match self {
            Self::Flagged(row) => Some(row),
            Self::Pardoned { .. } => None,
        }
    }

    fn pardoned_at(&self) -> Option<i64> {
        match self {
            Self::Flagged(_) => None,
            Self::Pardoned { pardoned, .. } => Some(*pardoned),
        }
    }
}

/// What distinguishes a row from an older one of the same client.
fn stamp(row: &Flagged) -> (u32, i64) {
    (row.offences, row.penalty_until)
}

fn json(row: &Row) -> String {
    serde_json::to_string(row).unwrap_or_default()
}

/// Rows that can be read; others are another version's.
fn parsed(rows: HashMap<String, String>) -> HashMap<String, Row> {
    let read = |(client, json): (String, String)| Some((client, serde_json::from_str(&json).ok()?));
    rows.into_iter().filter_map(read).collect()
}

fn read(data_dir: &Path) -> io::Result<Vec<Flagged>> {
    match std::fs::read(data_dir.join(FILE)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn keep(data_dir: &Path, rows: &[Flagged]) -> io::Result<()> {
    let path = data_dir.join(FILE);
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, serde_json::to_vec(rows)?)?;
    std::fs::rename(&temporary, &path)
}

/// The next message of the board; never, without one.
async fn changed(changes: &mut Option<Subscription>) {
    if let Some(changes) = changes
        && changes.next().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

#[async_trait]
impl BackgroundService for FlaggedFollower {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut changes = self.board.as_ref().map(Board::changes);
        let mut kept = Vec::new();
        loop {
            self.look(&mut kept).await;
            tokio::select! {
                _ = shutdown.changed() => break,
                () = changed(&mut changes) => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        self.look(&mut kept).await;
    }
}
