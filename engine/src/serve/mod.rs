//! Answering: from a question and a snapshot to ranked products, with everything that was decided
//! on the way.

mod answer;
mod ask;
mod caches;
mod candidates;
mod cheap;
mod engine;
mod explain;
mod indexes;
mod items;
mod keeper;
mod news;
mod overlay;
mod pool;
mod reads;
mod recommend;
mod remembered;
mod run;
mod scores;
mod search;
mod snapshot;
mod step;
mod stored_features;
mod trace;
mod users;

#[cfg(test)]
mod tests;

pub use answer::{Answer, EngineError, Item};
pub use ask::{Field, ProductAsk, RecommendAsk, SearchAsk};
pub use caches::Caches;
pub use engine::{Engine, Made, Options, Status};
pub use overlay::Overlay;
pub use trace::{Outcome, RetrieverReport, Stage, Trace};
