use super::super::store::Store;
use super::*;
use pingora::cache::trace::Span;
use pingora::http::ResponseHeader;
use std::time::{Duration, UNIX_EPOCH};

fn store(bound: u64) -> &'static Store {
    let store: &'static Store = Box::leak(Box::default());
    store.bound(bound);
    store
}

fn key(store: &Store, number: u8) -> CacheKey {
    let mut key = CacheKey::new(Vec::new(), "");
    let page = [number; 16];
    key.set_primary_bin_override(page);
    let (host, path) = ("shop".into(), "/page".into());
    key.extensions.insert(Place { page, host, path, asked_at: store.latest_change() });
    key
}

fn meta(announced: Option<usize>) -> CacheMeta {
    let mut header = ResponseHeader::build(200, None).unwrap();
    header.append_header("etag", "\"a\"").unwrap();
    if let Some(length) = announced {
        header.append_header("content-length", length).unwrap();
    }
    let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
    let mut meta = CacheMeta::new(now + Duration::from_secs(60), now, 5, 6, header);
    meta.set_epoch_override(now - Duration::from_secs(3));
    meta
}

fn trace() -> SpanHandle {
    Span::inactive().handle()
}

async fn fill(
    store: &'static Store,
    key: &CacheKey,
    announced: Option<usize>,
    pieces: &[&[u8]],
) -> Result<usize> {
    let mut fill = store.get_miss_handler(key, &meta(announced), &trace()).await?;
    for piece in pieces {
        fill.write_body(Bytes::copy_from_slice(piece), false).await?;
    }
    match fill.finish().await? {
        MissFinishType::Created(size) => Ok(size),
        MissFinishType::Appended(..) => unreachable!("a fill makes something new"),
    }
}

async fn read(store: &'static Store, key: &CacheKey) -> Option<(CacheMeta, Vec<u8>)> {
    let (meta, mut hit) = store.lookup(key, &trace()).await.unwrap()?;
    let mut body = Vec::new();
    while let Some(piece) = hit.read_body().await.unwrap() {
        assert!(piece.len() <= PIECE);
        body.extend_from_slice(&piece);
    }
    Some((meta, body))
}

#[tokio::test]
async fn what_was_written_is_read() {
    let store = store(10 << 20);
    for (number, announced, whole) in
        [(1, None, 0), (2, Some(0), 0), (3, None, 300_000), (4, Some(300_000), 300_000)]
    {
        let key = key(store, number);
        let body: Vec<u8> = (0..whole).map(|at| (at % 251) as u8).collect();
        let pieces: Vec<&[u8]> = body.chunks(7_000).collect();
        assert_eq!(fill(store, &key, announced, &pieces).await.unwrap(), whole);
        let (found, read) = read(store, &key).await.unwrap();
        assert_eq!(read, body);
        assert_eq!(found.headers()["content-length"], whole.to_string().as_str());
        let written = meta(announced);
        assert_eq!(found.fresh_until(), written.fresh_until());
        assert_eq!(found.created(), written.created());
        assert_eq!(found.epoch(), written.epoch());
        assert_eq!((found.stale_while_revalidate_sec(), found.stale_if_error_sec()), (5, 6));
    }
    // The buffers are no larger than what is in them.
    assert!(store.bytes() < 620_000, "{}", store.bytes());
    store.purge(|_| true);
    assert_eq!(store.bytes(), 0);
}

#[tokio::test]
async fn parts_are_read() {
    let store = store(10 << 20);
    let key = key(store, 1);
    fill(store, &key, None, &[b"0123456789"]).await.unwrap();
    let (_, mut hit) = store.lookup(&key, &trace()).await.unwrap().unwrap();
    assert!(hit.can_seek());
    for (start, end, expected) in
        [(2, Some(5), &b"234"[..]), (8, None, b"89"), (0, Some(99), b"0123456789")]
    {
        hit.seek(start, end).unwrap();
        assert_eq!(hit.read_body().await.unwrap().unwrap(), expected);
        assert_eq!(hit.read_body().await.unwrap(), None);
    }
    assert!(hit.seek(10, None).is_err());
}

#[tokio::test]
async fn what_is_cut_off_or_too_long_leaves_nothing() {
    let store = store(1 << 20);
    let key = key(store, 1);
    assert!(fill(store, &key, Some(10), &[b"01234"]).await.is_err());
    assert!(fill(store, &key, Some(3), &[b"01234"]).await.is_err());
    assert!(fill(store, &key, Some(2 << 20), &[]).await.is_err());
    let large = vec![0; 300_000];
    assert!(fill(store, &key, None, &[&large[..]; 4]).await.is_err());
    let mut dropped = store.get_miss_handler(&key, &meta(None), &trace()).await.unwrap();
    dropped.write_body(Bytes::from_static(b"half"), false).await.unwrap();
    assert!(store.bytes() > 0, "a fill counts while it runs");
    drop(dropped);
    assert!(read(store, &key).await.is_none());
    assert_eq!(store.bytes(), 0);
}

#[tokio::test]
async fn a_page_that_changed_meanwhile_is_not_kept() {
    let store = store(1 << 20);
    let key = key(store, 1);
    store.changed(key.primary_bin());
    assert!(fill(store, &key, None, &[b"old"]).await.is_err());
    assert!(read(store, &key).await.is_none());
}

#[tokio::test]
async fn what_is_good_again_keeps_its_body() {
    let store = store(1 << 20);
    let key = key(store, 1);
    fill(store, &key, None, &[b"body"]).await.unwrap();
    let (found, _) = read(store, &key).await.unwrap();
    let mut renewed = meta(Some(4));
    renewed.response_header_mut().insert_header("etag", "\"b\"").unwrap();
    // Without what was found, nobody knows what was found good.
    assert!(!store.update_meta(&key, &renewed, &trace()).await.unwrap());
    *renewed.extensions_mut() = found.extensions().clone();
    assert!(store.update_meta(&key, &renewed, &trace()).await.unwrap());
    assert!(!store.update_meta(&key, &renewed, &trace()).await.unwrap(), "it is another by now");
    drop(found);
    let (found, body) = read(store, &key).await.unwrap();
    assert_eq!((found.headers()["etag"].as_bytes(), &body[..]), (&b"\"b\""[..], &b"body"[..]));
    drop((found, renewed));
    store.purge(|_| true);
    assert_eq!(store.bytes(), 0);
}
