//! What instances know of each other, through Redis: how many there are, whom operators let pass or keep
//! out, who was found out, what changed.

mod changes;
mod flagged;
mod heartbeat;
mod lists;
mod settler;

pub use changes::ChangesFollower;
pub use flagged::FlaggedFollower;
pub use heartbeat::Heartbeat;
pub use lists::{ListsFollower, SharedEntries};
pub use settler::Settler;
