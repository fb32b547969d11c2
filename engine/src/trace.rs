//! Which request a piece of work is for, so that what is logged deep inside names it.

use std::sync::Arc;

tokio::task_local! {
    static CURRENT: Option<Arc<str>>;
}

/// Does `work` for the request with this trace id; `None`: for nobody.
pub async fn within<T>(trace_id: Option<Arc<str>>, work: impl Future<Output = T>) -> T {
    CURRENT.scope(trace_id, work).await
}

/// The trace id of the request this task works for.
pub fn current() -> Option<Arc<str>> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}
