//! API keys: one file, [`FILE`] in the policy folder, so that keys travel the way policy does. They
//! are no part of the policy's version: a new key makes no cached answer stale.
//!
//! A key is `psk_<id>_<secret>`. The id may be shown; of the secret, 256 random bits, only the SHA-256
//! is kept anywhere. The file is JSON Lines and only ever appended to: a line that creates a key, a
//! line that revokes one ([`create`], [`revoke`]). [`Follower`] turns the file into a [`Table`] and
//! keeps up with it.
//!
//! Whatever is wrong in the file closes and never opens: a line that cannot be read gives nobody a
//! key, and takes the keys it names out of force, since it may have been meant to revoke them.

mod follow;
mod id;
mod line;
mod secret;
mod table;
mod used;
mod write;

#[cfg(test)]
mod tests;

pub use follow::{FollowError, Follower};
pub use id::KeyId;
pub use line::{MAX_NAME_CHARS, check_limit};
pub use secret::{PREFIX, Presented};
pub use table::{Key, KeyLimits, Refusal, Revoked, Table};
pub use used::{read_used, write_used};
pub use write::{Created, KeysError, NewKey, create, revoke};

/// Name of the file in the policy folder.
pub const FILE: &str = "keys.jsonl";
/// Name of the file in a proxy's data folder that says when each key was last used.
pub const USED_FILE: &str = "keys-used.jsonl";
