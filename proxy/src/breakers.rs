//! Every dependency that is guarded by a breaker, to be looked at and forced.

use crate::app::App;
use penstock_engine::resilience::Breaker;

/// Shows each breaker that there is now: Redis, the store, the servers of the database, those of the application.
pub fn each(app: &App, mut show: impl FnMut(&Breaker)) {
    if let Some(link) = &app.link {
        show(link.breaker());
    }
    if let Ok(engine) = app.engine.get() {
        show(engine.store_breaker());
        engine.database_breakers().into_iter().for_each(&mut show);
    }
    for member in app.upstream.members().iter() {
        show(member.breaker());
    }
}
