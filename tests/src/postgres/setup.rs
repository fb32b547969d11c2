//! How a primary is made.

use super::install::{Home, said};
use super::{PENSTOCK, PgServer};
use crate::binaries::text;
use crate::penstock::free_address;
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

/// What every server here has: little memory; shared memory that goes with the folder, since
/// servers are killed; and a replica that comes back at once when its primary does.
const SETTINGS: &[(&str, &str)] = &[
    ("shared_buffers", "16MB"),
    ("dynamic_shared_memory_type", "mmap"),
    ("wal_retrieve_retry_interval", "100ms"),
    ("wal_keep_size", "256MB"),
];

/// A primary to be.
#[derive(Debug, Default)]
pub struct PgSetup {
    password: Option<String>,
    settings: Vec<(String, String)>,
    tls: bool,
}

impl PgSetup {
    /// Settings of `postgresql.conf`; of two with a name the later is in force.
    pub fn settings(mut self, settings: &[(&str, &str)]) -> Self {
        let owned = settings.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        self.settings.extend(owned);
        self
    }

    /// Waits for no disk. What was committed survives the server's death, not the machine's.
    pub fn relaxed(self) -> Self {
        self.settings(&[("fsync", "off"), ("full_page_writes", "off")])
    }

    /// Asks for a password (SCRAM), over which nothing needs to be escaped in a URL.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Is reached through TLS only.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Makes it and waits until it answers.
    pub async fn start(self) -> PgServer {
        let mut server = self.prepare();
        server.spawn().await;
        let made = server.try_sql_in("postgres", &format!("CREATE DATABASE {PENSTOCK}")).await;
        made.unwrap_or_else(|why| panic!("{why}"));
        server
    }

    /// Made but not started; [`PgServer::restart`] does. It has no database but `postgres`.
    fn prepare(self) -> PgServer {
        let home = Home::new();
        let mut initdb = home.program("initdb");
        initdb.args(["-D", text(&home.data()), "-U", PENSTOCK, "-E", "UTF8"]).args([
            "--locale=C.UTF-8",
            "--no-sync",
            "--no-instructions",
        ]);
        match &self.password {
            Some(password) => {
                let file = home.put("password", password);
                initdb.args(["-A", "scram-sha-256", "--pwfile", text(&file)]);
            }
            None => {
                initdb.args(["-A", "trust"]);
            }
        }
        said(&mut initdb).unwrap_or_else(|why| panic!("initdb: {why}"));
        if self.tls {
            certify(&home);
        }
        let tls = [("ssl", "on")];
        let mut settings: Vec<(&str, &str)> = SETTINGS.to_vec();
        settings.extend(if self.tls { &tls[..] } else { &[] });
        settings.extend(self.settings.iter().map(|(name, value)| (&**name, &**value)));
        configure(&home, &settings);
        PgServer { address: free_address(), password: self.password, home, child: None }
    }
}

/// Adds settings; the last word on each is in force.
fn configure(home: &Home, settings: &[(&str, &str)]) {
    let lines: String = settings
        .iter()
        .map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''")))
        .collect();
    let file = File::options().append(true).open(home.data().join("postgresql.conf"));
    let mut file = file.expect("initdb made it");
    file.write_all(lines.as_bytes()).expect("the server's folder is writable");
}

/// An authority, and a certificate by it for the server. Two, because an authority's own
/// certificate is not taken for a server's.
const CERTIFICATES: &str = "\
[req]
distinguished_name = name
prompt = no
[name]
CN = penstock test
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1, DNS:localhost
extendedKeyUsage = serverAuth
";

/// Gives the server a certificate, and refuses whoever comes without TLS.
fn certify(home: &Home) {
    home.put("certificates.cnf", CERTIFICATES);
    let make = |name: &str, extensions: &str, by: &[&str]| {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        let mut openssl = Command::new("openssl");
        openssl
            .current_dir(home.path("."))
            .stdin(Stdio::null())
            .args(["req", "-x509", "-config", "certificates.cnf", "-extensions", extensions])
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
            .args(["-days", "30", "-keyout", &key, "-out", &certificate])
            .args(by);
        said(&mut openssl).unwrap_or_else(|why| panic!("openssl: {why}"));
        home.own(&home.path(&key));
    };
    make("ca", "ca", &[]);
    make("data/server", "server", &["-CA", "ca.crt", "-CAkey", "ca.key"]);
    home.own(&home.data().join("server.crt"));
    let rules = home.data().join("pg_hba.conf");
    let told = std::fs::read_to_string(&rules).expect("initdb made it");
    let only_tls: String = told
        .lines()
        .map(|line| match line.strip_prefix("host") {
            Some(rest) => format!("hostssl{rest}\n"),
            None => format!("{line}\n"),
        })
        .collect();
    std::fs::write(&rules, only_tls).expect("the server's folder is writable");
}
