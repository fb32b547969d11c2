//! `penstock-control lists`: who always passes and who never does.

use super::redis::FleetRedis;
use super::{Common, Place, Usage};
use penstock_config::clock;
use penstock_config::lists::{Change, change};
use penstock_config::policy::{Entry, List, Policy, Target};
use penstock_config::units::rfc3339_seconds;
use penstock_engine::redis::SharedLists;
use std::io::Write;

/// Shows and changes the allow list and the deny list: in Redis where the fleet has one, else in
/// access.toml, where a change is a version of the policy like any other
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    redis: FleetRedis,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// What the lists have
    Show {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Exempts an address, a network or a key from limits
    Allow(New),
    /// Refuses an address, a network or a key
    Deny(New),
    /// Takes an entry off its list
    Remove {
        /// As `show` shows it
        target: String,
        #[command(flatten)]
        by: By,
    },
    /// Takes expired entries off both lists
    Prune {
        #[command(flatten)]
        by: By,
    },
}

#[derive(Debug, clap::Args)]
struct New {
    /// An address, a network, or the id of a key
    target: String,
    /// Why, for whoever looks later
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// For how long (1h) or until when (2027-01-31T00:00:00Z) [default: for ever]
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    #[command(flatten)]
    by: By,
}

#[derive(Debug, clap::Args)]
struct By {
    /// Who, for the history
    #[arg(long, env = "USER", value_name = "NAME", default_value = "")]
    by: String,
}

impl New {
    fn put(self, list: List, now: i64) -> Result<(Change, By), Usage> {
        let expires = self.expires.map(|text| super::until(&text, now)).transpose()?;
        let target = target(&self.target)?;
        Ok((Change::Put(Entry { list, target, reason: self.reason, expires }), self.by))
    }
}

fn target(text: &str) -> Result<Target, Usage> {
    Target::parse(text).map_err(Usage)
}

/// Runs the command.
pub fn run(common: &Common, options: Options) -> anyhow::Result<()> {
    let clock = clock::system();
    let now = clock.unix_seconds();
    let makes = matches!(options.command, Command::Allow(_) | Command::Deny(_));
    let fleet = options.redis.connect()?;
    let dir = options.place.folder(common, makes && fleet.is_none())?;
    // Not print: it panics when whoever reads has seen enough.
    let mut out = std::io::stdout().lock();
    let (wanted, by) = match options.command {
        Command::Show { json } => {
            let (policy, _) = Policy::load(&dir)?;
            let mut entries = policy.access.entries;
            if let Some(fleet) = fleet {
                let lists = SharedLists::new(fleet.link.clone());
                entries.extend(fleet.run(async |policy| lists.entries(&policy).await)?);
            }
            return Ok(show(&mut out, &entries, json, now)?);
        }
        Command::Allow(new) => new.put(List::Allow, now)?,
        Command::Deny(new) => new.put(List::Deny, now)?,
        Command::Remove { target: text, by } => (Change::Remove(target(&text)?), by),
        Command::Prune { by } => (Change::Prune(now), by),
    };
    let why = wanted.to_string();
    if let Some(fleet) = fleet {
        let lists = SharedLists::new(fleet.link.clone());
        let gone = fleet.run(async |policy| lists.change(&policy, &wanted).await)?;
        match wanted {
            Change::Prune(_) => writeln!(out, "{gone} expired entries removed from Redis")?,
            _ => writeln!(out, "{why}, in Redis: every instance hears of it")?,
        }
        return Ok(());
    }
    let (gone, published) = change(&dir, &wanted, &by.by, &why, &*clock)?;
    if let Change::Prune(_) = wanted {
        writeln!(out, "{gone} expired entries removed")?;
    } else {
        writeln!(out, "{why}")?;
    }
    super::policy::tell(&mut out, &dir, &published)?;
    Ok(())
}

fn show(out: &mut impl Write, entries: &[Entry], json: bool, now: i64) -> std::io::Result<()> {
    if json {
        return writeln!(out, "{}", serde_json::to_string_pretty(entries)?);
    }
    for entry in entries {
        let state = match entry.expires {
            None => "for ever".into(),
            Some(expires) if expires <= now => format!("expired {}", rfc3339_seconds(expires)),
            Some(expires) => format!("until {}", rfc3339_seconds(expires)),
        };
        let Entry { list, target, reason, .. } = entry;
        writeln!(out, "{:5}  {:43}  {state:28}  {reason}", list.name(), target.to_string())?;
    }
    Ok(())
}
