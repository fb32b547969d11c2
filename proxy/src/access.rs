//! Who asks with which key, and whom the lists let pass or keep out: before any limit is asked.

use crate::admission::lists::Lists;
use crate::app::App;
use crate::context::Context;
use crate::fleet::SharedEntries;
use crate::identity::keys::Credential;
use crate::respond::{Kind, Problem};
use crate::route::Endpoint;
use arc_swap::ArcSwap;
use http::HeaderMap;
use penstock_config::policy::{List, Policy};
use penstock_config::watch::Watcher;
use std::sync::Arc;

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
    let now = app.clock.unix_micros().div_euclid(1_000_000);
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

/// The lists of a policy and of Redis together.
pub fn lists_of(policy: &Policy, shared: &SharedEntries) -> Lists {
    Lists::compile(policy.access.entries.iter().chain(shared.get().iter()))
}

/// Puts the lists in force. Policies and entries that come meanwhile bring theirs, so what is stored last
/// must be of those that are in force then.
pub fn refresh(lists: &ArcSwap<Lists>, policies: &Watcher, shared: &SharedEntries) {
    loop {
        let (policy, entries) = (policies.current(), shared.get());
        lists.store(Arc::new(lists_of(&policy, shared)));
        if Arc::ptr_eq(&policy, &policies.current()) && Arc::ptr_eq(&entries, &shared.get()) {
            return;
        }
    }
}
