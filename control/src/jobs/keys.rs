//! `penstock-control keys`: who may ask with a key.

use super::{Common, Place, Usage};
use penstock_config::clock;
use penstock_config::keys::{
    Follower, Key, KeyId, NewKey, Table, USED_FILE, check_limit, create, read_used, revoke,
};
use penstock_config::network;
use penstock_config::policy::Class;
use penstock_config::units::rfc3339_seconds;
use serde_json::json;
use std::io::Write;
use std::sync::Arc;

/// Makes, lists and revokes API keys; proxies take the change within a second
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Makes a key and shows it, once
    Create(New),
    /// The keys in force
    List {
        /// Revoked and expired ones, too
        #[arg(long)]
        all: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Takes a key out of force for good
    Revoke {
        /// As `list` shows it
        id: String,
        /// Why, for whoever looks later
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
}

#[derive(Debug, clap::Args)]
struct New {
    /// What to call it
    #[arg(long)]
    name: String,
    /// For how long (30d) or until when (2027-01-31T00:00:00Z) it is good [default: for ever]
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// From where it may be used; may be given several times [default: from anywhere]
    #[arg(long = "network", value_name = "NETWORK")]
    networks: Vec<String>,
    /// Its own limit, as CLASS=PER_MINUTE/BURST (search=2000/3000); may be given several times
    /// [default: as limits.toml has it]
    #[arg(long = "limit", value_name = "LIMIT")]
    limits: Vec<String>,
    /// Its requests may ask for answers that are not remembered (Cache-Control: no-cache)
    #[arg(long)]
    bypass_cache: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(common: &Common, options: Options) -> anyhow::Result<()> {
    let now = clock::system().unix_seconds();
    let makes = matches!(options.command, Command::Create(_));
    let dir = options.place.folder(common, makes)?;
    // Not print: it panics when whoever reads has seen enough.
    let mut out = std::io::stdout().lock();
    match options.command {
        Command::Create(new) => {
            let as_json = new.json;
            let made = create(&dir, new.checked(now)?, now)?;
            if as_json {
                writeln!(out, "{}", json!({"id": made.id, "key": made.secret}))?;
            } else {
                let (id, key) = (made.id, &made.secret);
                writeln!(out, "id   {id}\nkey  {key}\n")?;
                writeln!(out, "The key is shown this once; only its hash is kept. To use it:")?;
                writeln!(out, "  curl -H 'Authorization: Bearer {key}' 'http://…/search?q=…'")?;
            }
        }
        Command::Revoke { id, reason } => {
            let key = KeyId::parse(id.as_bytes()).ok_or_else(|| {
                Usage("a key's id has 12 characters of a-z and 2-7; see `keys list`".into())
            })?;
            let news = revoke(&dir, key, &reason, now)?;
            let what = if news { "is revoked" } else { "was revoked already" };
            writeln!(out, "{key} {what}")?;
        }
        Command::List { all, json } => {
            let table = Follower::new(&dir).load()?;
            for problem in table.problems() {
                eprintln!("warning: {problem}");
            }
            let used_file = common.data_dir.join(USED_FILE);
            match read_used(&used_file) {
                Ok(used) => table.note_uses(used),
                Err(error) => eprintln!("warning: {}: {error}", used_file.display()),
            }
            list(&mut out, &table, all, json, now)?;
        }
    }
    Ok(())
}

impl New {
    fn checked(self, now: i64) -> Result<NewKey, Usage> {
        let expires = self.expires.map(|text| super::until(&text, now)).transpose()?;
        let networks = self.networks.iter().map(|text| {
            network::parse(text).map_err(|(what, hint)| {
                Usage(format!("--network: {what}; {}", hint.unwrap_or_default()))
            })
        });
        let limits = self.limits.iter().map(|text| limit(text));
        Ok(NewKey {
            name: self.name,
            expires,
            networks: networks.collect::<Result<_, _>>()?,
            limits: limits.collect::<Result<_, _>>()?,
            bypass_cache: self.bypass_cache,
        })
    }
}

/// `search=2000/3000`
fn limit(text: &str) -> Result<(Class, u32, u32), Usage> {
    let parts = || {
        let (class, numbers) = text.split_once('=')?;
        let (per_minute, burst) = numbers.split_once('/')?;
        let class = Class::ALL.into_iter().find(|known| known.name() == class)?;
        Some((class, per_minute.parse().ok()?, burst.parse().ok()?))
    };
    let names: Vec<_> = Class::ALL.iter().map(|class| class.name()).collect();
    let (class, per_minute, burst) = parts().ok_or_else(|| {
        let names = names.join(", ");
        Usage(format!("--limit {text}: write CLASS=PER_MINUTE/BURST, CLASS one of {names}"))
    })?;
    check_limit(per_minute, burst).map_err(|what| Usage(format!("--limit {text}: {what}")))?;
    Ok((class, per_minute, burst))
}

fn state(key: &Key, now: i64) -> &'static str {
    if key.revoked().is_some() {
        "revoked"
    } else if key.expires().is_some_and(|expires| expires <= now) {
        "expired"
    } else {
        "active"
    }
}

fn list(
    out: &mut impl Write,
    table: &Table,
    all: bool,
    as_json: bool,
    now: i64,
) -> std::io::Result<()> {
    let mut keys: Vec<&Arc<Key>> =
        table.iter().filter(|key| all || state(key, now) == "active").collect();
    keys.sort_by_key(|key| (key.created(), key.id()));
    if as_json {
        let keys: Vec<_> = keys.iter().map(|key| described(key, now)).collect();
        return writeln!(out, "{}", serde_json::to_string_pretty(&keys)?);
    }
    let row = |out: &mut dyn Write, cells: [&str; 7]| {
        let [id, name, created, expires, used, state, networks] = cells;
        writeln!(
            out,
            "{id:12}  {name:24}  {created:20}  {expires:20}  {used:20}  {state:7}  {networks}"
        )
    };
    row(out, ["ID", "NAME", "CREATED", "EXPIRES", "LAST USED", "STATE", "NETWORKS"])?;
    for key in keys {
        let when = |unix: Option<i64>| unix.map_or("never".into(), rfc3339_seconds);
        let networks: Vec<_> = key.networks().iter().map(network::plain).collect();
        let mut networks =
            if networks.is_empty() { "anywhere".to_owned() } else { networks.join(",") };
        if key.may_bypass_cache() {
            networks.push_str("  may bypass caches");
        }
        let created = rfc3339_seconds(key.created());
        let id = key.id().to_string();
        let (expires, used) = (when(key.expires()), when(key.last_used()));
        row(out, [&id, key.name(), &created, &expires, &used, state(key, now), &networks])?;
    }
    Ok(())
}

fn described(key: &Key, now: i64) -> serde_json::Value {
    let limits = Class::ALL.into_iter().filter_map(|class| {
        let limit = key.limits()[class as usize]?;
        let limit = json!({"per_minute": limit.per_minute, "burst": limit.burst});
        Some((class.name().to_owned(), limit))
    });
    let limits: serde_json::Map<_, _> = limits.collect();
    json!({
        "id": key.id(),
        "name": key.name(),
        "state": state(key, now),
        "created": rfc3339_seconds(key.created()),
        "expires": key.expires().map(rfc3339_seconds),
        "last_used": key.last_used().map(rfc3339_seconds),
        "networks": key.networks().iter().map(network::plain).collect::<Vec<_>>(),
        "limits": limits,
        "bypass_cache": key.may_bypass_cache(),
        "revoked": key.revoked().map(|revoked| json!({
            "when": revoked.when.map(rfc3339_seconds),
            "why": revoked.why,
        })),
    })
}
