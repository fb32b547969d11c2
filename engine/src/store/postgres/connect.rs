//! Connections to one server, or to whichever of several takes writes.

use penstock_config::bootstrap::{Database, DatabaseTls, DatabaseUrl, Node};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config, Connection, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

/// For each host of a URL: one that is silent must not keep the next from being tried.
const CONNECT: Duration = Duration::from_secs(2);
/// A server that acknowledges nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(5);
/// No query of a request may keep a connection busy for longer, whoever still waits for it.
pub(super) const STATEMENT: Duration = Duration::from_secs(5);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Short queries of requests and of the watch.
    Requests,
    /// Scans, imports and migrations, which take as long as they take.
    Work,
}

/// Makes connections; cheap to clone.
#[derive(Clone)]
pub(super) struct Connector {
    settings: Arc<Database>,
    pub url: DatabaseUrl,
    application: String,
    writes: bool,
    purpose: Purpose,
    tls: Option<MakeRustlsConnect>,
}

/// The half of a connection that does its work.
pub(super) enum Driver {
    Plain(Box<Connection<Socket, tokio_postgres::tls::NoTlsStream>>),
    Tls(
        Box<
            Connection<
                Socket,
                <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream,
            >,
        >,
    ),
}

impl Driver {
    /// Does the connection's work until it ends.
    pub async fn drive(self) -> Result<(), tokio_postgres::Error> {
        match self {
            Self::Plain(connection) => connection.await,
            Self::Tls(connection) => connection.await,
        }
    }
}

impl Connector {
    /// `writes`: only a server that takes writes will do. Reads the trusted certificates.
    pub fn new(
        settings: Arc<Database>,
        url: DatabaseUrl,
        application: &str,
        writes: bool,
    ) -> io::Result<Self> {
        let tls = match url.tls {
            DatabaseTls::Disabled => None,
            DatabaseTls::Encrypted => Some(encrypted()),
            DatabaseTls::Verified => Some(verified(&settings)?),
        };
        let tls = tls.map(MakeRustlsConnect::new);
        let application = application.to_owned();
        Ok(Self { settings, url, application, writes, purpose: Purpose::Requests, tls })
    }

    /// The same for another purpose.
    pub fn to(&self, purpose: Purpose) -> Self {
        Self { purpose, ..self.clone() }
    }

    /// A connection and what drives it: to the first host that will do. A host that is silent, at whatever point, does
    /// not keep the next from being tried.
    pub async fn open(&self) -> Result<(Client, Driver), tokio_postgres::Error> {
        let mut last = None;
        for node in &self.url.nodes {
            match tokio::time::timeout(CONNECT, self.open_one(node)).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(error)) => last = Some(error),
                // As the library says it of hosts that are silent when they are connected to.
                Err(_) => {
                    last = last.or_else(|| Some(tokio_postgres::Error::__private_api_timeout()))
                }
            }
        }
        Err(last.expect("a URL has a host"))
    }

    async fn open_one(&self, node: &Node) -> Result<(Client, Driver), tokio_postgres::Error> {
        let config = self.config(node);
        match &self.tls {
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                Ok((client, Driver::Plain(Box::new(connection))))
            }
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                Ok((client, Driver::Tls(Box::new(connection))))
            }
        }
    }

    fn config(&self, node: &Node) -> Config {
        let mut config = Config::new();
        config.host(&node.host).port(node.port);
        config
            .user(&self.url.user)
            .dbname(&self.url.database)
            .application_name(&self.application)
            .connect_timeout(CONNECT)
            .tcp_user_timeout(SILENCE)
            .keepalives_idle(SILENCE)
            .keepalives_interval(Duration::from_secs(2))
            .keepalives_retries(2)
            .ssl_mode(if self.tls.is_some() { SslMode::Require } else { SslMode::Disable });
        if self.writes {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if self.purpose == Purpose::Requests {
            config.options(format!("-c statement_timeout={}", STATEMENT.as_millis()));
        }
        match self.settings.password(&self.url) {
            Ok(Some(password)) => {
                config.password(password.expose());
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "the file with the database's password cannot be read")
            }
        }
        config
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn verified(settings: &Database) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &settings.ca_file {
        let failed = |why: String| io::Error::other(format!("{}: {why}", file.display()));
        let pem = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(failed("there is no certificate in it".into()));
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            let why = "this machine trusts no certificates; install ca-certificates, or set database.ca_file";
            return Err(io::Error::other(why));
        }
    }
    Ok(builder().with_root_certificates(roots).with_no_client_auth())
}

fn encrypted() -> ClientConfig {
    builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider())))
        .with_no_client_auth()
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
}

/// `sslmode=require`: the operator said that whoever is there is believed.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
