//! Redis gone, frozen, slow, closed to us, or not Redis at all.

use super::{PATIENCE, connected, link, patient, ping, policy, recovered, settings, trouble};
use penstock_config::clock;
use penstock_engine::redis::{Link, Trouble, cmd};
use penstock_engine::resilience::breaker::State;
use penstock_tests::wait::until;
use penstock_tests::{RedisServer, Upstream};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn starting_waits_for_nobody_and_connects_when_redis_comes() {
    let mut server = RedisServer::prepare(None, &[]);
    let started = clock::now();
    let link = link(&server.url());
    let first = ping(&link).await.expect_err("nobody listens");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(first.name(), "not_connected");
    let opened = trouble(&link, "open").await;
    assert!(!opened.is_its_fault());
    server.restart().await;
    recovered(&link).await;
    let status = link.status();
    assert!(status.last_error.is_some_and(|text| text.contains("refused")), "it says why");
}

#[tokio::test]
async fn before_the_first_attempt_is_over_nothing_counts_against_redis() {
    let server = Upstream::silent().await;
    let link = link(&format!("redis://{}", server.address));
    for _ in 0..20 {
        let trouble = ping(&link).await.expect_err("it says nothing");
        assert_eq!(trouble.name(), "not_connected");
    }
    assert_eq!(link.breaker().state(), State::Closed);
}

#[tokio::test]
async fn killed_and_restarted() {
    let mut server = RedisServer::start().await;
    let link = connected(&server.url()).await;
    server.kill();
    let first = trouble(&link, "not_connected").await;
    assert!(first.is_its_fault());
    trouble(&link, "open").await;
    assert_ne!(link.breaker().state(), State::Closed);
    assert!(!link.is_connected());
    server.restart().await;
    recovered(&link).await;
    let closed = until("it closes", PATIENCE, async || {
        let _ = ping(&link).await;
        (link.breaker().state() == State::Closed).then_some(())
    });
    closed.await;
    assert!(link.status().connects >= 2);
}

#[tokio::test]
async fn frozen_and_thawed() {
    let server = RedisServer::start().await;
    let link = connected(&server.url()).await;
    server.freeze();
    let late = trouble(&link, "late").await;
    assert_eq!(late, Trouble::Late { after: Duration::from_millis(50) });
    trouble(&link, "open").await;
    // The connection is found to be dead and given up.
    trouble(&link, "not_connected").await;
    server.thaw();
    recovered(&link).await;
}

#[tokio::test]
async fn slow_for_a_while() {
    let server = RedisServer::start().await;
    let link = connected(&server.url()).await;
    let sleeper = std::thread::spawn(move || {
        server.ask(&["DEBUG", "SLEEP", "0.4"]);
        server
    });
    trouble(&link, "late").await;
    let server = tokio::task::spawn_blocking(|| sleeper.join()).await.expect("run").expect("slept");
    recovered(&link).await;
    assert_eq!(link.status().connects, 1, "a connection that is only slow is kept");
    drop(server);
}

#[tokio::test]
async fn a_cable_that_is_pulled() {
    let server = RedisServer::start().await;
    let cable = Cable::to(server.address).await;
    let link = connected(&format!("redis://{}", cable.address)).await;
    ping(&link).await.expect("through the cable");
    cable.pull();
    trouble(&link, "late").await;
    // New connections pass: the dead one must be replaced, nobody ends it.
    recovered(&link).await;
    assert!(link.status().connects >= 2);
}

/// Forwards bytes until it is pulled: then connections stay open and carry nothing; later ones are
/// new.
struct Cable {
    address: SocketAddr,
    current: Arc<std::sync::Mutex<Arc<AtomicBool>>>,
}

impl Cable {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let current = Arc::new(std::sync::Mutex::new(Arc::new(AtomicBool::new(false))));
        let shared = Arc::clone(&current);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let pulled = Arc::clone(&*shared.lock().expect("no holder panics"));
                let server = TcpStream::connect(server).await.expect("the server is there");
                let (client_in, client_out) = client.into_split();
                let (server_in, server_out) = server.into_split();
                tokio::spawn(carry(client_in, server_out, Arc::clone(&pulled)));
                tokio::spawn(carry(server_in, client_out, pulled));
            }
        });
        Self { address, current }
    }

    fn pull(&self) {
        let mut current = self.current.lock().expect("no holder panics");
        current.store(true, Ordering::SeqCst);
        *current = Arc::new(AtomicBool::new(false));
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    pulled: Arc<AtomicBool>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut bytes = [0; 4_096];
    while let Ok(read) = from.read(&mut bytes).await {
        if pulled.load(Ordering::SeqCst) {
            // Held open: the other side learns nothing.
            std::future::pending::<()>().await;
        }
        if read == 0 || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// What cannot be connected to says why, within the deadline, and goes on trying.
#[tokio::test]
async fn a_connection_that_cannot_be_had_says_why() {
    let server = RedisServer::with_password("right").await;
    let right = server.url();
    let garbage = Upstream::says("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let silent = Upstream::silent().await;
    let check = async |url: &str, expected: &[&str]| {
        let link = link(url);
        let why = until(url, PATIENCE, async || {
            let started = clock::now();
            let trouble = ping(&link).await.expect_err(url);
            assert!(started.elapsed() < super::PROMPT, "{url}");
            match trouble {
                Trouble::NotConnected { why } if &*why != "still connecting" => Some(why),
                _ => None,
            }
        })
        .await;
        assert!(expected.iter().any(|part| why.contains(part)), "{url}: {why}");
        assert!(!why.contains("secret") && !link.status().address.contains("secret"), "{why}");
    };
    check(&right.replace("right", "secret"), &["WRONGPASS", "uthentication"]).await;
    check(&right.replace(":right@", ""), &["NOAUTH", "uthentication"]).await;
    check(&format!("{right}/99"), &["DB index", "database"]).await;
    check(&format!("redis://:secret@{}", garbage.address), &["arse", "nexpected", "RESP"]).await;
    check(&format!("redis://{}", silent.address), &["no answer", "timed out"]).await;
    check("redis://no-such-host.invalid", &["lookup", "resolve", "known"]).await;
    check(
        &format!("rediss://{}", server.address),
        &["TLS", "tls", "ertificate", "corrupt", "timed out"],
    )
    .await;
}

#[tokio::test]
async fn a_changed_password_is_taken_from_its_file() {
    let mut server = RedisServer::with_password("new").await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "old\n").expect("written");
    let url = format!("redis://{}", server.address);
    let settings =
        penstock_config::bootstrap::Redis { password_file: Some(file.clone()), ..settings(&url) };
    let link = Link::new(settings, clock::system()).expect("threads");
    trouble(&link, "not_connected").await;
    std::fs::write(&file, "new\n").expect("written");
    recovered(&link).await;
    server.kill();
}

#[tokio::test]
async fn a_server_that_is_full_or_read_only_has_failed() {
    let server = RedisServer::start_with(None, &["--maxmemory", "1"]).await;
    let link = connected(&server.url()).await;
    let key = link.key("a");
    let mut command = cmd("SET");
    command.arg(&key).arg("x");
    let full = link.call::<()>(&patient(), &command).await.expect_err("no memory");
    assert!(matches!(&full, Trouble::Failed(text) if text.contains("OOM")), "{full:?}");
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    server.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    let read_only = link.call::<()>(&patient(), &command).await.expect_err("a replica");
    assert!(read_only.is_its_fault(), "{read_only:?}");
    until("a look whether another is master now", PATIENCE, async || {
        let _ = link.call::<()>(&patient(), &command).await;
        (link.status().connects > 1).then_some(())
    })
    .await;
    server.ask(&["REPLICAOF", "NO", "ONE"]);
    until("it is master again", PATIENCE, async || link.call::<()>(&policy(), &command).await.ok())
        .await;
}
