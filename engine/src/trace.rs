//! Which request a piece of work is for, so that what is logged deep inside names it.

/// A trace id: 128 bits, written as 32 hexadecimal digits.
pub type Id = [u8; 16];

tokio::task_local! {
    static CURRENT: Option<Id>;
}

/// Does `work` for the request with this trace id; `None`: for nobody.
pub async fn within<T>(id: Option<Id>, work: impl Future<Output = T>) -> T {
    CURRENT.scope(id, work).await
}

/// The trace id of the request this task works for.
pub fn current() -> Option<Id> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}
