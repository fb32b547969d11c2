//! Whole processes, as a user meets them.
//!
//! A test starts the real `penstock` over a throwaway data folder ([`shop`], [`penstock`]), talks
//! to it as a client does ([`reply`], [`raw`], [`traffic`]), puts an application of its own behind
//! it ([`upstream`]), a Redis or a PostgreSQL beside it ([`redis`], [`postgres`]) and waits for what must come with a
//! bound ([`wait`]). Nothing here reaches into the crates: what cannot be seen from outside is tested inside.

pub mod binaries;
pub mod items;
pub mod penstock;
pub mod postgres;
pub mod raw;
pub mod redis;
pub mod reply;
pub mod sets;
pub mod shop;
pub mod shop_database;
pub mod traffic;
pub mod upstream;
pub mod wait;

pub use items::{Item, urlencode};
pub use penstock::Penstock;
pub use postgres::PgServer;
pub use raw::{Raw, RawReply};
pub use redis::{RedisCluster, RedisServer, Sentinels};
pub use reply::Reply;
pub use shop::Shop;
pub use shop_database::DatabaseShop;
pub use traffic::Traffic;
pub use upstream::Upstream;
pub use wait::until;
