//! Kinds of event as numbers.

use crate::catalog::EventKind;

/// The number a kind is stored as; never changes.
pub(in crate::store) fn kind_number(kind: EventKind) -> i64 {
    match kind {
        EventKind::View => 1,
        EventKind::AddToCart => 2,
        EventKind::Purchase => 3,
    }
}

/// The kind of a number.
pub(in crate::store) fn kind_of(number: i64) -> Option<EventKind> {
    [EventKind::View, EventKind::AddToCart, EventKind::Purchase]
        .into_iter()
        .find(|kind| kind_number(*kind) == number)
}
