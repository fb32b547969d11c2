//! Answers of the shop's application that are kept, where a rule of `cache.toml` says so (RFC 9111).
//!
//! Pingora's cache does what HTTP says about serving: ranges, conditions, asking the application
//! whether an answer is still good, serving a stale one, one fetch at a time. What is kept and under
//! which key, for how long and in how much memory is decided here, and every decision is a function
//! of values:
//!
//! - [`request`]: may this request be answered from what is kept?
//! - [`key`]: what is an answer kept under, which of several variants is meant?
//! - [`freshness`]: may this answer be kept, and for how long?
//! - [`store`]: the memory, bounded in bytes.
//!
//! What names one client (trace id, what is left of its limits) is added to an answer on its way out,
//! after what is kept was kept. Admission and all else that judges a request comes before.

mod control;
mod freshness;
mod key;
pub(crate) mod phases;
mod request;
mod storage;
mod store;
mod turns;

pub use phases::Visit;
pub use request::Page;

use crate::app::App;
use crate::context::Context;
use penstock_config::policy::PathPattern;
use pingora::cache::lock::CacheKeyLockImpl;
use pingora::cache::predictor::CacheablePredictor;
use pingora::http::RequestHeader;
use request::Considered;
use store::Store;
use turns::{Turns, Unkept};

/// What is kept, and the lines before what is being fetched.
///
/// Pingora wants references that live for ever; there is one of these in a process.
#[derive(Clone, Copy)]
pub struct Pages {
    store: &'static Store,
    turns: &'static CacheKeyLockImpl,
    unkept: &'static (dyn CacheablePredictor + Sync),
}

impl Default for Pages {
    fn default() -> Self {
        let store: &'static Store = Box::leak(Box::new(Store::new()));
        Self {
            store,
            turns: Box::leak(Box::new(Turns::new())),
            unkept: Box::leak(Box::new(Unkept::new(store))),
        }
    }
}

impl Pages {
    /// Bytes that are taken, by what is being fetched or sent too.
    pub fn bytes(&self) -> u64 {
        self.store.bytes()
    }

    /// Answers that are kept.
    pub fn entries(&self) -> usize {
        self.store.entries()
    }

    /// Forgets the pages of a path, on every host or on one; how many answers there were. What is
    /// being fetched meanwhile is not kept.
    pub fn purge(&self, host: Option<&str>, path: &PathPattern) -> usize {
        let host = host.map(str::to_ascii_lowercase);
        self.store.purge(|place| {
            path.matches(&place.path) && host.as_deref().is_none_or(|host| *host == *place.host)
        })
    }

    /// Forgets everything; how many answers there were.
    pub fn purge_all(&self) -> usize {
        self.store.purge(|_| true)
    }

    /// Looks at a request that goes to the application, and writes into its context what may become
    /// of it.
    pub fn consider(&self, app: &App, ctx: &mut Context, request: &RequestHeader) {
        let policy = ctx.policy.clone();
        let policy = &policy.cache.pages;
        let keeps = policy.keeps();
        self.store.bound(if keeps { policy.memory } else { 0 });
        if !keeps {
            return;
        }
        let trusted = ctx.decision.client.came_through_trusted_proxy(&app.settings.trusted_proxies);
        match request::consider(self.store, policy, request, ctx.tls, trusted) {
            Considered::Nothing => {}
            Considered::Bypass(why) => ctx.visit.bypass(&mut ctx.decision, why),
            Considered::Page(page) => ctx.visit.of(&mut ctx.decision, page),
            Considered::Changes(page) => ctx.visit.changes(page),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::store::{Kept, Place, Times, cost};
    use super::*;
    use bytes::Bytes;
    use pingora::http::ResponseHeader;
    use std::time::UNIX_EPOCH;

    fn pages(kept: &[(&str, &str)]) -> Pages {
        let pages = Pages::default();
        pages.store.bound(1 << 20);
        for (number, (host, path)) in kept.iter().enumerate() {
            let page = [number as u8; 16];
            let place = Place { page, host: (*host).into(), path: (*path).into(), asked_at: 0 };
            let times = Times {
                fresh_until: UNIX_EPOCH,
                created: UNIX_EPOCH,
                epoch: UNIX_EPOCH,
                stale_while_revalidate: 0,
                stale_if_error: 0,
                never_fresh: false,
                variance: None,
            };
            let header = ResponseHeader::build(200, None).unwrap();
            let held = pages.store.hold(cost(&place, &header)).unwrap();
            pages.store.keep(page, Kept::new(place, times, header, Bytes::new(), held));
        }
        pages
    }

    #[test]
    fn pages_are_forgotten_by_path_and_host() {
        let kept = [("a", "/x"), ("a", "/x/y"), ("b", "/x/y"), ("a", "/z"), ("a", "")];
        let check = |host: Option<&str>, path: &str, expected: usize| {
            let pages = pages(&kept);
            assert_eq!(pages.purge(host, &path.parse().unwrap()), expected, "{host:?} {path}");
            assert_eq!(pages.entries(), kept.len() - expected);
        };
        check(None, "/x", 1);
        check(None, "/x/*", 3);
        check(Some("A"), "/x/*", 2);
        check(Some("c"), "/x/*", 0);
        check(None, "/", 1);
        check(None, "/*", 5);
        let pages = pages(&kept);
        assert!(pages.bytes() > 0);
        assert_eq!(pages.purge_all(), 5);
        assert_eq!((pages.bytes(), pages.entries()), (0, 0));
        assert!("x".parse::<PathPattern>().is_err());
    }
}
