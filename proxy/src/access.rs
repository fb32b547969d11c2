//! Who asks with which key, and whom the lists let pass or keep out: before any limit is asked.

use crate::admission::lists::Lists;
use crate::app::App;
use crate::context::Context;
use crate::fleet::SharedEntries;
use crate::identity::keys::Credential;
use crate::respond::{Kind, Problem};
use crate::route::Endpoint;
use arc_swap::{ArcSwap, Guard};
use http::HeaderMap;
use penstock_config::policy::{List, Policy};
use std::sync::{Arc, Mutex, PoisonError};

/// What is known of a request's sender before limits are asked.
#[derive(Debug)]
pub struct Standing {
    /// On the allow list: no limit applies.
    pub exempt: bool,
    /// Its key is not good: the answer, unless a limit refuses it first. A wrong key counts against
    /// the address, or guessing would be free.
    pub refused: Option<Problem>,
}

/// Judges the key and asks the lists; both go into the decision. An error: it is denied.
/// `with_key`: the request does something, so that its key matters.
pub fn judge(
    app: &App,
    ctx: &mut Context,
    headers: &HeaderMap,
    with_key: bool,
) -> Result<Standing, Problem> {
    let endpoint = ctx.decision.route;
    // A balancer that asks must not take a healthy instance for a dead one.
    if endpoint == Endpoint::Health {
        return Ok(Standing { exempt: false, refused: None });
    }
    let client = &mut ctx.decision.client;
    let credential = if with_key {
        app.keys.judge(headers, endpoint != Endpoint::Upstream, client.address)
    } else {
        Credential::None
    };
    let mut refused = None;
    match credential {
        Credential::None => {}
        Credential::Valid(key) => client.key = Some(key),
        Credential::Refused(key) => {
            app.metrics.keys_refused.with_label_values(&[key.why.name()]).inc();
            refused = Some(key.problem());
            client.refused_key = Some(key);
        }
    }
    let key = client.key.as_ref().map(crate::identity::keys::Keyed::id);
    let now = app.clock.unix_seconds();
    let listed = app.lists.load().look(client.address, key, now);
    let list = listed.as_ref().map(|listed| (listed.list, listed.by));
    ctx.decision.listed = listed;
    match list {
        Some((List::Deny, by)) => {
            app.metrics.denied.with_label_values(&[by]).inc();
            Err(Problem::new(
                Kind::Denied,
                "requests from here are not taken; ask whoever runs this",
            ))
        }
        allowed => Ok(Standing { exempt: allowed.is_some(), refused }),
    }
}

/// The lists in force: those of the policy and of Redis together.
#[derive(Debug, Default)]
pub struct ListsInForce {
    lists: ArcSwap<Lists>,
    turn: Mutex<()>,
}

impl ListsInForce {
    /// They, as they are now.
    pub fn load(&self) -> Guard<Arc<Lists>> {
        self.lists.load()
    }

    /// Puts in force what `policy` and `shared` say. Called after either was replaced; `policy` gives the one in
    /// force. One at a time looks and stores: of two that do so at once, the one that saw less could be the
    /// last to store.
    pub fn refresh(&self, policy: impl FnOnce() -> Arc<Policy>, shared: &SharedEntries) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (policy, shared) = (policy(), shared.get());
        let entries = policy.access.entries.iter().chain(shared.iter());
        self.lists.store(Arc::new(Lists::compile(entries)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_config::policy::{Entry, Target};

    #[test]
    fn of_two_changes_at_once_none_is_lost() {
        let lists = ListsInForce::default();
        let shared = SharedEntries::default();
        let current = ArcSwap::from_pointee(Policy::default());
        let of_round = |round: u32, network: u8| {
            let [_, _, high, low] = round.to_be_bytes();
            let target = Target::parse(&format!("10.{network}.{high}.{low}")).unwrap();
            Entry { list: List::Deny, target, reason: String::new(), expires: None }
        };
        for round in 0..2_000 {
            let mut policy = Policy::default();
            policy.access.entries = vec![of_round(round, 1)];
            let policy = Arc::new(policy);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    current.store(policy.clone());
                    lists.refresh(|| policy.clone(), &shared);
                });
                shared.set(vec![of_round(round, 2)]);
                lists.refresh(|| current.load_full(), &shared);
            });
            for network in [1, 2] {
                let Target::Address(address) = of_round(round, network).target else { continue };
                let found = lists.load().look(address.addr(), None, 0);
                assert!(found.is_some(), "round {round}: the entry of source {network} is lost");
            }
        }
    }
}
