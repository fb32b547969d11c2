//! Who was found out, and who was pardoned: told to all instances and kept over a restart.

mod exchange;

use crate::admission::Who;
use crate::admission::abuse::{Pardon, Stamp};
use crate::app::App;
use async_trait::async_trait;
use exchange::{Exchange, Row, Rows};
use penstock_engine::redis::{Board, Subscription, Trouble};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks: how late the others learn of somebody, and what a crash forgets.
const LOOK: Duration = Duration::from_secs(2);
/// Between two looks while messages come: a fleet that finds many out reads the whole board for each.
const PAUSE: Duration = Duration::from_millis(200);
/// Name of the file in the data folder.
const FILE: &str = "flagged.json";
/// Name of the map in Redis.
const BOARD: &str = "flagged";

/// What became of a pardon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pardoned {
    /// There was something to pardon; unless there was, nothing was done. Also `true` while Redis is silent
    /// and nobody can say.
    pub known: bool,
    /// All instances hear of it now; `false`: as soon as Redis answers again.
    pub everywhere: bool,
}

/// Carries the list of those found out from instance to instance and over a restart.
pub struct FlaggedFollower {
    app: Arc<App>,
    board: Option<Board>,
}

/// What the follower remembers from look to look.
#[derive(Default)]
struct Looked {
    exchange: Exchange,
    /// What is in the data folder.
    kept: Option<Kept>,
}

/// What tells a list from another one.
type Kept = (Vec<(Who, Stamp)>, Vec<Pardon>);

impl FlaggedFollower {
    /// For `app`; takes over what was kept.
    pub fn new(app: Arc<App>) -> Self {
        let board = app.link.clone().map(|link| Board::new(link, BOARD));
        match read(&app.settings.data_dir) {
            Ok(rows) => {
                let (now, unix) = (app.clock.now(), app.clock.unix_micros());
                let policy = app.policies.current();
                app.admission.forgive(&rows.pardons, now, unix);
                app.admission.import(&policy.limits.abuse, &rows.flagged, now, unix);
            }
            Err(error) => {
                tracing::error!(%error, "the kept list of flagged clients cannot be read")
            }
        }
        Self { app, board }
    }

    /// Pardons a client here and on the board, if there is one. While Redis is silent the pardon is kept
    /// here and told later.
    pub async fn pardon(app: &App, who: Who) -> Pardoned {
        let policy = app.policies.current();
        let (now, unix) = (app.clock.now(), app.clock.unix_micros());
        let resilience = &policy.resilience;
        let board = app.link.clone().map(|link| Board::new(link, BOARD));
        let there = match &board {
            Some(board) => board.read(resilience).await.map(|board| Rows::parsed(&board)),
            None => Ok(Rows::default()),
        };
        let here = app.admission.flagged(&policy.limits.abuse, now, unix);
        let mut rows: Vec<_> = there.iter().flat_map(|there| &there.flagged).chain(&here).collect();
        rows.retain(|row| row.client == who);
        if rows.is_empty() && there.is_ok() {
            return Pardoned { known: false, everywhere: true };
        }
        // The finder's clock may be fast; what is known to have happened is forgiven.
        let offences = rows.iter().map(|row| row.last_offence_micros);
        let pardon = Pardon { client: who, pardoned_micros: offences.fold(unix, i64::max) };
        // Also what is counted and not yet an offence.
        app.admission.pardon(who);
        app.admission.forgive(&[pardon], now, unix);
        let Some(board) = board else { return Pardoned { known: true, everywhere: true } };
        let put = [Row::Pardoned(pardon).entry()];
        match board.change(resilience, &[who.to_string()], &put).await {
            Ok(_) => Pardoned { known: true, everywhere: true },
            Err(trouble) => {
                tracing::warn!(
                    client = %who, %trouble,
                    "the other instances hear of a pardon when Redis answers again"
                );
                Pardoned { known: true, everywhere: false }
            }
        }
    }

    /// Exchanges rows with the board and keeps the result in the data folder.
    async fn look(&self, looked: &mut Looked) {
        // First what is found here, which a crash must not forgive.
        self.keep(&mut looked.kept);
        if let Some(board) = &self.board {
            // What is wrong with Redis is told by the link.
            let _ = self.exchange(board, &mut looked.exchange).await;
            self.keep(&mut looked.kept);
        }
    }

    fn keep(&self, kept: &mut Option<Kept>) {
        let app = &self.app;
        let policy = app.policies.current();
        let (now, unix) = (app.clock.now(), app.clock.unix_micros());
        let mut rows = Rows::here(&app.admission, &policy.limits.abuse, now, unix);
        // The map they come from has no order of its own.
        rows.pardons.sort_by_key(|pardon| (pardon.pardoned_micros, pardon.client.to_string()));
        let stamps = rows.flagged.iter().map(|row| (row.client, row.stamp())).collect();
        let new: Kept = (stamps, rows.pardons.clone());
        if kept.as_ref().is_some_and(|kept| *kept == new) {
            return;
        }
        if let Err(error) = keep(&app.settings.data_dir, rows) {
            tracing::error!(%error, "the list of flagged clients cannot be kept for a restart");
        }
        *kept = Some(new);
    }

    /// Takes what the board has, and puts there what it has not. An empty board (a Redis that lost its
    /// data) pardons nobody: only a pardon does.
    async fn exchange(&self, board: &Board, exchange: &mut Exchange) -> Result<(), Trouble> {
        let app = &self.app;
        let policy = app.policies.current();
        let theirs = Rows::parsed(&board.read(&policy.resilience).await?);
        let (now, unix) = (app.clock.now(), app.clock.unix_micros());
        let changes = exchange.with(&app.admission, &policy.limits.abuse, &theirs, now, unix);
        if !changes.is_empty() {
            board.change(&policy.resilience, &changes.remove, &changes.put).await?;
        }
        Ok(())
    }
}

/// What was kept and can be read; other rows are another version's.
fn read(data_dir: &Path) -> io::Result<Rows> {
    let bytes = match std::fs::read(data_dir.join(FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Rows::default()),
        Err(error) => return Err(error),
    };
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&bytes)?;
    Ok(rows.into_iter().filter_map(|row| serde_json::from_value::<Row>(row).ok()).collect())
}

fn keep(data_dir: &Path, rows: Rows) -> io::Result<()> {
    let rows = serde_json::to_vec(&rows.into_rows())?;
    penstock_config::disk::replace_unsynced(&data_dir.join(FILE), &rows)
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
        let mut looked = Looked::default();
        'looks: loop {
            self.look(&mut looked).await;
            let next = tokio::time::sleep(LOOK);
            tokio::pin!(next);
            let pause = tokio::time::sleep(PAUSE);
            tokio::pin!(pause);
            // All messages of a pause are one reason to look.
            let mut heard = false;
            while !(heard && pause.is_elapsed()) {
                tokio::select! {
                    _ = shutdown.changed() => break 'looks,
                    () = changed(&mut changes) => heard = true,
                    () = &mut pause, if !pause.is_elapsed() => {}
                    () = &mut next => break,
                }
            }
        }
        self.look(&mut looked).await;
    }
}
