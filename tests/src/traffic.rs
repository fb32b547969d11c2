//! Steady traffic while something happens to the proxy.

use crate::reply::Reply;
use penstock_config::clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A request that came back.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it was sent.
    pub sent: Instant,
    /// When it was back.
    pub done: Instant,
    /// What came back.
    pub reply: Reply,
}

/// Clients that ask for one URL again and again until [`Traffic::stop`].
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: JoinSet<Vec<Result<Sample, String>>>,
}

impl Traffic {
    /// `clients` clients, each with one request under way and a connection that it keeps.
    pub fn keep_alive(url: &str, clients: usize) -> Self {
        Self::start(url, clients, usize::MAX)
    }

    /// As [`Traffic::keep_alive`], a new connection for each request.
    pub fn new_connections(url: &str, clients: usize) -> Self {
        Self::start(url, clients, 0)
    }

    fn start(url: &str, clients: usize, idle: usize) -> Self {
        let mut traffic =
            Self { stop: Arc::default(), answered: Arc::default(), clients: JoinSet::new() };
        for _ in 0..clients {
            let (stop, answered) = (Arc::clone(&traffic.stop), Arc::clone(&traffic.answered));
            let http = reqwest::Client::builder()
                .pool_max_idle_per_host(idle)
                .timeout(Duration::from_secs(30))
                .build()
                .expect("a plain client can be built");
            let url = url.to_owned();
            traffic.clients.spawn(async move {
                let mut samples = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    samples.push(sample(&http, &url).await);
                    answered.fetch_add(1, Ordering::Relaxed);
                    // A few hundred a second are steady traffic; the other cores have work to do.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                samples
            });
        }
        traffic
    }

    /// Requests that are back, so far.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until `more` further requests are back.
    pub async fn wait_for(&self, more: usize) {
        let goal = self.answered() + more;
        crate::wait::until_true("traffic goes on", Duration::from_secs(30), async || {
            self.answered() >= goal
        })
        .await;
    }

    /// Ends it. Fails the test unless every request got an answer that is a success. In the order
    /// in which requests were sent.
    pub async fn stop(self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        let results: Vec<_> = self.clients.join_all().await.into_iter().flatten().collect();
        let failed: Vec<&String> = results.iter().filter_map(|r| r.as_ref().err()).collect();
        assert!(
            failed.is_empty(),
            "{} of {} requests failed: {:#?}",
            failed.len(),
            results.len(),
            &failed[..failed.len().min(5)]
        );
        let mut samples: Vec<Sample> = results.into_iter().flatten().collect();
        samples.sort_by_key(|sample| sample.sent);
        samples
    }
}

async fn sample(http: &reqwest::Client, url: &str) -> Result<Sample, String> {
    let sent = clock::now();
    let response = http.get(url).send().await.map_err(|e| format!("{e:?}"))?;
    let reply = Reply::read(response).await.map_err(|error| format!("{error:?}"))?;
    if !reply.is_success() {
        return Err(reply.describe());
    }
    Ok(Sample { sent, done: clock::now(), reply })
}
