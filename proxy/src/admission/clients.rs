//! The meters of all clients, in bounded memory.

use super::meter::{Judgement, Meter};
use indexmap::IndexMap;
use penstock_config::policy::{Class, Limit};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Parts with a lock each, so that threads seldom meet.
const PARTS: usize = 64;
/// Clients compared when one has to be forgotten.
const COMPARED: usize = 8;

/// Whose requests of which class are counted together. 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Counted {
    class: Class,
    of: Client,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    V4(u32),
    /// The first 64 bits: a household has them all to itself and can change the rest at will.
    V6([u32; 2]),
}

impl Counted {
    /// Requests of an address; of IPv6, of its /64.
    pub fn by_address(class: Class, address: IpAddr) -> Self {
        let of = match address.to_canonical() {
            IpAddr::V4(v4) => Client::V4(v4.to_bits()),
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                Client::V6([(bits >> 96) as u32, (bits >> 64) as u32])
            }
        };
        Self { class, of }
    }
}

/// A meter for everybody who asked lately.
#[derive(Debug)]
pub struct Clients {
    parts: Vec<Mutex<IndexMap<Counted, Meter>>>,
    hasher: RandomState,
}

impl Default for Clients {
    fn default() -> Self {
        let part = |_| Mutex::new(IndexMap::new());
        Self { parts: (0..PARTS).map(part).collect(), hasher: RandomState::new() }
    }
}

impl Clients {
    /// Judges a request of `who` at `now` (nanoseconds since the limiter began). When `max_clients` are
    /// counted already, a new one takes the place of one of those that used least: to be forgotten,
    /// somebody who asks a lot would have to look idle first.
    pub fn ask(&self, who: Counted, now: u64, limit: &Limit, max_clients: usize) -> Judgement {
        let part = self.hasher.hash_one(who) as usize % PARTS;
        let mut part = self.parts[part].lock().unwrap_or_else(PoisonError::into_inner);
        let most = (max_clients / PARTS).max(1);
        if let Some(meter) = part.get_mut(&who) {
            return meter.ask(now, limit);
        }
        while part.len() >= most {
            forget_one(&mut part);
        }
        part.entry(who).or_default().ask(now, limit)
    }

    /// How many are counted.
    pub fn len(&self) -> usize {
        let len = |part: &Mutex<IndexMap<_, _>>| {
            part.lock().unwrap_or_else(PoisonError::into_inner).len()
        };
        self.parts.iter().map(len).sum()
    }

    /// Nobody is counted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Forgets, of a few taken at random, the one that used least.
fn forget_one(part: &mut IndexMap<Counted, Meter>) {
    let all = part.len();
    let candidates = (0..COMPARED).map(|_| rand::random_range(0..all));
    let least = candidates.min_by_key(|&at| part[at].used());
    if let Some(least) = least {
        part.swap_remove_index(least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { per_minute: 10, burst: 12, shadow: false };

    fn ask(clients: &Clients, address: &str) -> bool {
        let who = Counted::by_address(Class::Search, address.parse().unwrap());
        clients.ask(who, 0, &LIMIT, 100_000).admitted
    }

    fn admitted(clients: &Clients, addresses: &[&str]) -> usize {
        (0..100).filter(|n| ask(clients, addresses[n % addresses.len()])).count()
    }

    #[test]
    fn who_is_counted_together() {
        let clients = Clients::default();
        assert_eq!(admitted(&clients, &["10.0.0.1", "::ffff:10.0.0.1"]), 12);
        assert_eq!(admitted(&clients, &["10.0.0.2"]), 12);
        let one_household = ["2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8::1:0:0:0:3"];
        assert_eq!(admitted(&clients, &one_household), 12);
        assert_eq!(admitted(&clients, &["2001:db8:0:2::1", "2001:db8:1:1::1"]), 24);
        // A number that is somebody's IPv4 address is nobody's IPv6 network.
        assert_eq!(admitted(&clients, &["0:0:a00:1::"]), 12);
        let events = Counted::by_address(Class::Events, "10.0.0.1".parse().unwrap());
        assert!(clients.ask(events, 0, &LIMIT, 100_000).admitted);
        assert_eq!(clients.len(), 7);
    }

    #[test]
    fn a_flood_of_addresses_neither_grows_for_ever_nor_forgives_the_busy() {
        let clients = Clients::default();
        let busy = Counted::by_address(Class::Search, "10.0.0.1".parse().unwrap());
        let most = PARTS * 100;
        assert!((0..12).all(|_| clients.ask(busy, 0, &LIMIT, most).admitted));
        for n in 0..50_000_u32 {
            let once = Counted::by_address(Class::Search, IpAddr::V4((n + (11 << 24)).into()));
            clients.ask(once, 0, &LIMIT, most);
        }
        assert_eq!(clients.len(), most);
        assert!(!clients.ask(busy, 0, &LIMIT, most).admitted);
        assert_eq!(size_of::<Counted>(), 16);
    }
}
