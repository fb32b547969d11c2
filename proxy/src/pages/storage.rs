//! The store as Pingora's cache asks it.
//!
//! Fills are not read while they run: the client that caused one gets its answer straight from the
//! application, so that an answer which turns out too large, or is cut off, is still passed through;
//! those who wait for the same page get it when it is whole.

use super::store::{Held, Kept, Place, Store, Times, cost};
use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, header};
use pingora::cache::key::{CacheHashKey, HashBinary};
use pingora::cache::storage::{HandleHit, HandleMiss, MissFinishType};
use pingora::cache::trace::SpanHandle;
use pingora::cache::{
    CacheKey, CacheMeta, HitHandler, MissHandler, PurgeOutcome, PurgeTarget, PurgeType, Storage,
};
use pingora::{Error, ErrorType, Result};
use std::any::Any;
use std::sync::Arc;

/// A body is handed out in pieces of this size: the time a client may take is counted by piece.
const PIECE: usize = 64 << 10;
/// A body of unknown length begins with room for this much.
const FIRST_ROOM: usize = 16 << 10;

fn refuse<T>(why: &'static str) -> Result<T> {
    Error::e_explain(ErrorType::InternalError, why)
}

/// Where the page of this key is; put there by [`super::Page::key`].
fn place_of(key: &CacheKey) -> Result<Place> {
    key.extensions.get::<Place>().cloned().map_or_else(|| refuse("a key without its place"), Ok)
}

#[async_trait]
impl Storage for Store {
    async fn lookup(
        &'static self,
        key: &CacheKey,
        _trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let found = self.get(&key.combined_bin()).map(|kept| {
            let meta = meta_of(&kept);
            let end = kept.body.len();
            let hit = Hit { kept, at: 0, end };
            (meta, Box::new(hit) as HitHandler)
        });
        Ok(found)
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _trace: &SpanHandle,
    ) -> Result<MissHandler> {
        let place = place_of(key)?;
        let header = meta.response_header();
        let Some(held) = self.hold(cost(&place, header)) else {
            return refuse("there is no room for it");
        };
        let announced = header.headers.get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let mut fill = Fill {
            store: self,
            slot: key.combined_bin(),
            place,
            meta: copy_of(meta, key),
            header: header.clone(),
            announced,
            body: Vec::new(),
            room: None,
            held,
        };
        if let Some(length) = announced {
            fill.make_room(length)?;
        }
        Ok(Box::new(fill))
    }

    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        _why: PurgeType,
        _trace: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        let removed = self.remove(&target.key().combined_bin());
        Ok(if removed { PurgeOutcome::Purged(None) } else { PurgeOutcome::NotFound })
    }

    async fn update_meta(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _trace: &SpanHandle,
    ) -> Result<bool> {
        let Some(old) = meta.extensions().get::<Arc<Kept>>().cloned() else { return Ok(false) };
        let header = meta.response_header().clone();
        let Some(held) = self.hold(cost(&old.place, &header)) else { return Ok(false) };
        let place = Place { asked_at: place_of(key)?.asked_at, ..old.place.clone() };
        let renewed = Kept::new(place, copy_of(meta, key), header, old.body.clone(), held);
        Ok(self.renew(&key.combined_bin(), &old, renewed))
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

/// The times of an answer as they are kept. Of the first of a family of variants, Pingora compares
/// when the family began with when the others came; of the others, when they came.
fn copy_of(meta: &CacheMeta, key: &CacheKey) -> Times {
    let first = key.variance_bin().is_none();
    Times {
        fresh_until: meta.fresh_until(),
        created: if first { meta.provenance() } else { meta.created() },
        epoch: meta.epoch(),
        stale_while_revalidate: meta.stale_while_revalidate_sec(),
        stale_if_error: meta.stale_if_error_sec(),
        never_fresh: meta.fresh_until() < meta.updated(),
        variance: meta.variance(),
    }
}

fn meta_of(kept: &Arc<Kept>) -> CacheMeta {
    let times = &kept.times;
    let mut meta = CacheMeta::new(
        times.fresh_until,
        times.created,
        times.stale_while_revalidate,
        times.stale_if_error,
        kept.header.clone(),
    );
    meta.set_epoch_override(times.epoch);
    if let Some(variance) = times.variance {
        meta.set_variance(variance);
    }
    // Comes back with what becomes of it.
    meta.extensions_mut().insert(kept.clone());
    meta
}

/// A kept answer on its way to a client.
struct Hit {
    kept: Arc<Kept>,
    at: usize,
    end: usize,
}

#[async_trait]
impl HandleHit for Hit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let piece = self.at..self.end.min(self.at + PIECE);
        self.at = piece.end;
        Ok(Some(self.kept.body.slice(piece)))
    }

    async fn finish(
        self: Box<Self>,
        _storage: &'static (dyn Storage + Sync),
        _key: &CacheKey,
        _trace: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        let whole = self.kept.body.len();
        if start >= whole {
            return refuse("a range behind the end of a page");
        }
        self.at = start;
        self.end = end.unwrap_or(whole).min(whole);
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

/// An answer that is being fetched. Dropped before its end, it leaves nothing.
struct Fill {
    store: &'static Store,
    slot: HashBinary,
    place: Place,
    meta: Times,
    header: pingora::http::ResponseHeader,
    announced: Option<usize>,
    body: Vec<u8>,
    /// What the body's buffer takes.
    room: Option<Held>,
    held: Held,
}

impl Fill {
    /// Room for so many bytes altogether. While the buffer moves, both count.
    fn make_room(&mut self, bytes: usize) -> Result<()> {
        let Some(room) = self.store.hold(bytes as u64) else {
            return refuse("there is no room for it");
        };
        self.body.reserve_exact(bytes - self.body.len());
        self.room = Some(room);
        Ok(())
    }
}

/// A body and the bytes it takes, which are given back with the last reference to it.
struct Body {
    bytes: Box<[u8]>,
    _room: Option<Held>,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[async_trait]
impl HandleMiss for Fill {
    async fn write_body(&mut self, data: Bytes, _end: bool) -> Result<()> {
        let length = self.body.len() + data.len();
        if self.announced.is_some_and(|announced| length > announced) {
            return refuse("it is longer than it said");
        }
        if length > self.body.capacity() {
            self.make_room(length.max(self.body.capacity() * 2).max(FIRST_ROOM))?;
        }
        self.body.extend_from_slice(&data);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<MissFinishType> {
        let length = self.body.len();
        if self.announced.is_some_and(|announced| length != announced) {
            return refuse("it is shorter than it said");
        }
        if self.header.status != StatusCode::NO_CONTENT {
            // Ranges and clients that keep their connection want it.
            self.header.insert_header(header::CONTENT_LENGTH, length)?;
        }
        if self.body.capacity() > length {
            let Some(room) = self.store.hold(length as u64) else {
                return refuse("there is no room for it");
            };
            self.body.shrink_to_fit();
            self.room = Some(room);
        }
        let Self { store, slot, place, meta, header, body, room, held, .. } = *self;
        let body = Bytes::from_owner(Body { bytes: body.into_boxed_slice(), _room: room });
        if store.keep(slot, Kept::new(place, meta, header, body, held)) {
            Ok(MissFinishType::Created(length))
        } else {
            refuse("the page changed while it was fetched")
        }
    }
}

#[cfg(test)]
mod tests;
