//! The servers, in turn, those that are up.

use arc_swap::ArcSwap;
use penstock_config::bootstrap::Server;
use penstock_config::clock::SharedClock;
use penstock_config::policy::BreakerPolicy;
use penstock_engine::resilience::Breaker;
use penstock_engine::resilience::breaker::Ticket;
use prometheus::IntGaugeVec;
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Failures in a row after which a server is believed to be down. One lost packet is not a dead
/// server; two in a row, with no success between them, is what clients would notice.
const FAILURES_TO_DOWN: u32 = 2;

/// One address of one server.
#[derive(Debug)]
pub struct Member {
    /// As configured.
    pub server: Arc<Server>,
    /// As configured, as text.
    pub name: Arc<str>,
    /// Where the name pointed when it was last looked up.
    pub address: SocketAddr,
    down: AtomicBool,
    failures: AtomicU32,
    probing: AtomicBool,
    last_error: Mutex<String>,
    breaker: Breaker,
}

/// A server that is asked.
#[derive(Debug)]
pub struct Picked {
    /// It.
    pub member: Arc<Member>,
    /// Its breaker's leave; `None`: the breaker is open, and no other server is better.
    pub ticket: Option<Ticket>,
}

/// A member, for the status page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberStatus {
    /// As configured.
    pub server: String,
    /// Where its name points.
    pub address: SocketAddr,
    /// Believed to be up.
    pub healthy: bool,
    /// The latest failure, empty when there was none since the last success.
    pub last_error: String,
}

impl Member {
    fn new(server: Arc<Server>, name: Arc<str>, address: SocketAddr, now: Instant) -> Self {
        Self {
            server,
            name,
            address,
            down: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            probing: AtomicBool::new(false),
            last_error: Mutex::new(String::new()),
            breaker: Breaker::new(format!("upstream:{address}"), now),
        }
    }

    /// In front of requests to it; to be forced or looked at.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Says what came of a request, where its breaker gave leave: as [`Breaker::settled`].
    pub fn settled(
        &self,
        policy: &BreakerPolicy,
        ticket: Option<Ticket>,
        worked: Option<bool>,
        now: Instant,
    ) {
        if let Some(ticket) = ticket {
            self.breaker.settled(policy, ticket, worked, now);
        }
    }

    /// Believed to be up, and no operator keeps requests from it.
    fn is_usable(&self) -> bool {
        self.is_healthy() && !self.breaker.is_forced_open()
    }

    /// Believed to be up.
    pub fn is_healthy(&self) -> bool {
        !self.down.load(Ordering::Relaxed)
    }

    /// It answered, to a probe or to a request.
    pub fn succeeded(&self, now: Instant) {
        // Every answered request comes here: only write when there is something to forget.
        if self.failures.load(Ordering::Relaxed) == 0 && self.is_healthy() {
            return;
        }
        self.failures.store(0, Ordering::Relaxed);
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if self.down.swap(false, Ordering::Relaxed) {
            tracing::info!(server = %self.name, address = %self.address, "upstream server is back");
            self.breaker.try_soon(now);
        }
    }

    /// It could not be reached, or answered a probe badly.
    pub fn failed(&self, why: &str) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        why.clone_into(&mut self.last_error.lock().unwrap_or_else(PoisonError::into_inner));
        if failures >= FAILURES_TO_DOWN && !self.down.swap(true, Ordering::Relaxed) {
            tracing::warn!(server = %self.name, address = %self.address, why, "upstream server is down");
        }
    }

    /// The right to probe it, given back on drop; `None` while somebody has it.
    pub fn probe(self: &Arc<Self>) -> Option<Probe> {
        (!self.probing.swap(true, Ordering::Relaxed)).then(|| Probe(self.clone()))
    }

    fn status(&self) -> MemberStatus {
        MemberStatus {
            server: self.name.to_string(),
            address: self.address,
            healthy: self.is_healthy(),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// A probe under way. There is one per member, however long it takes.
#[derive(Debug)]
pub struct Probe(Arc<Member>);

impl Deref for Probe {
    type Target = Member;

    fn deref(&self) -> &Member {
        &self.0
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.probing.store(false, Ordering::Relaxed);
    }
}

/// All servers of the application.
pub struct Pool {
    servers: Vec<(Arc<Server>, Arc<str>)>,
    members: ArcSwap<Vec<Arc<Member>>>,
    next: AtomicUsize,
    healthy: IntGaugeVec,
    clock: SharedClock,
}

impl Pool {
    /// The configured servers. Those given by address can be used at once, names after their first
    /// [`Pool::resolved`].
    pub fn new(servers: &[Server], healthy: IntGaugeVec, clock: &SharedClock) -> Self {
        let now = clock.now();
        let servers: Vec<(Arc<Server>, Arc<str>)> = servers
            .iter()
            .map(|server| (Arc::new(server.clone()), server.to_string().into()))
            .collect();
        let members = servers
            .iter()
            .filter_map(|(server, name)| {
                let ip: IpAddr = server.host.parse().ok()?;
                let address = SocketAddr::new(ip, server.port);
                Some(Arc::new(Member::new(server.clone(), name.clone(), address, now)))
            })
            .collect();
        Self {
            servers,
            members: ArcSwap::from_pointee(members),
            next: AtomicUsize::new(0),
            healthy,
            clock: clock.clone(),
        }
    }

    /// There is an application at all.
    pub fn is_configured(&self) -> bool {
        !self.servers.is_empty()
    }

    /// The servers whose names have to be looked up.
    pub fn names(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.servers
            .iter()
            .map(|(server, _)| server)
            .filter(|server| server.host.parse::<IpAddr>().is_err())
    }

    /// Takes over where a name points now. Addresses that were known keep their health; an empty
    /// answer changes nothing, so that a resolver's failure does not take the shop down.
    pub fn resolved(&self, server: &Arc<Server>, addresses: &[SocketAddr]) {
        if addresses.is_empty() {
            return;
        }
        let Some((server, name)) =
            self.servers.iter().find(|(known, _)| Arc::ptr_eq(known, server))
        else {
            return;
        };
        let mut addresses = addresses.to_vec();
        addresses.sort_unstable();
        addresses.dedup();
        let now = self.clock.now();
        let new = |address| Arc::new(Member::new(server.clone(), name.clone(), address, now));
        // Names are looked up side by side.
        self.members.rcu(|current| {
            let (mine, mut members): (Vec<_>, Vec<_>) =
                current.iter().cloned().partition(|member| Arc::ptr_eq(&member.server, server));
            if mine.iter().map(|member| member.address).eq(addresses.iter().copied()) {
                return current.clone();
            }
            members.extend(addresses.iter().map(|&address| {
                mine.iter()
                    .find(|member| member.address == address)
                    .cloned()
                    .unwrap_or_else(|| new(address))
            }));
            Arc::new(members)
        });
    }

    /// The next one that is up and whose breaker gives leave, in turn; `not` only when it is the last one left.
    /// Where the breakers of all that are up are open, one of them is tried all the same: better an answer of
    /// a server that fails often than none. What an operator forced open is left alone.
    pub fn pick(
        &self,
        not: Option<SocketAddr>,
        policy: &BreakerPolicy,
        now: Instant,
    ) -> Option<Picked> {
        let members = self.members.load();
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let turn =
            || (0..members.len()).map(|step| &members[start.wrapping_add(step) % members.len()]);
        let usable = || turn().filter(|member| member.is_usable());
        let (others, last) = (
            usable().filter(|member| Some(member.address) != not),
            usable().filter(|member| Some(member.address) == not),
        );
        let with_leave = |member: &Arc<Member>| {
            let ticket = member.breaker.ticket(policy, now).ok()?;
            Some(Picked { member: member.clone(), ticket: Some(ticket) })
        };
        others.chain(last).find_map(with_leave).or_else(|| {
            let member = usable().find(|m| Some(m.address) != not).or_else(|| usable().next())?;
            Some(Picked { member: member.clone(), ticket: None })
        })
    }

    /// Some server is up and may be asked.
    pub fn any_healthy(&self) -> bool {
        self.members.load().iter().any(|member| member.is_usable())
    }

    /// Everyone, to be probed.
    pub fn members(&self) -> Arc<Vec<Arc<Member>>> {
        self.members.load_full()
    }

    /// Everyone, for the status page; sets the gauges on the way.
    pub fn status(&self) -> Vec<MemberStatus> {
        for (_, name) in &self.servers {
            self.healthy.with_label_values(&[name]).set(0);
        }
        let members = self.members.load();
        for member in members.iter().filter(|member| member.is_healthy()) {
            self.healthy.with_label_values(&[&member.name]).set(1);
        }
        members.iter().map(|member| member.status()).collect()
    }
}

#[cfg(test)]
mod tests;
