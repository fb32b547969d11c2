//! Values as they are in Redis: JSON, and compressed where they are large, so that an operator can read what a
//! key holds and another program can use it.

use super::{Entry, Lives, Mark, Tags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::Read;

/// The first four bytes of a zstd frame (RFC 8878, 3.1.1); no JSON document begins with them.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Fast, and half to a tenth of the size on what we keep.
const ZSTD_LEVEL: i32 = 1;
/// Most bytes that are unpacked: a value is no place for a bomb.
const MOST_BYTES: u64 = 8 << 20;

/// A value that cannot be read: of another version, damaged, or not ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the value cannot be read: {0}")]
pub struct Corrupt(String);

#[derive(Serialize)]
struct Written<'e, V> {
    #[serde(flatten)]
    lives: Lives,
    #[serde(flatten)]
    mark: Mark,
    #[serde(flatten)]
    tags: &'e Tags,
    value: &'e V,
}

/// Without `flatten`, which would read numbers as floats and cost twice.
#[derive(Deserialize)]
struct Stored<V> {
    made: i64,
    refresh_at: i64,
    fresh_until: i64,
    keep_until: i64,
    epoch: u64,
    revision: u64,
    #[serde(default)]
    products: Box<[u64]>,
    #[serde(default)]
    user: Option<u64>,
    value: V,
}

/// The entry as bytes; above `compress_above` they are compressed.
pub fn encode<V: Serialize>(entry: &Entry<V>, compress_above: u64) -> Result<Vec<u8>, Corrupt> {
    let written =
        Written { lives: entry.lives, mark: entry.mark, tags: &entry.tags, value: &entry.value };
    let json = serde_json::to_vec(&written).map_err(|error| Corrupt(error.to_string()))?;
    if (json.len() as u64) <= compress_above {
        return Ok(json);
    }
    zstd::bulk::compress(&json, ZSTD_LEVEL).map_err(|error| Corrupt(error.to_string()))
}

/// What [`encode`] made.
pub fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<Entry<V>, Corrupt> {
    let unpacked;
    let json = if bytes.starts_with(&ZSTD_MAGIC) {
        unpacked = unpack(bytes)?;
        &unpacked
    } else {
        bytes
    };
    let stored: Stored<V> =
        serde_json::from_slice(json).map_err(|error| Corrupt(error.to_string()))?;
    let Stored { made, refresh_at, fresh_until, keep_until, .. } = stored;
    Ok(Entry {
        value: stored.value,
        lives: Lives { made, refresh_at, fresh_until, keep_until },
        tags: Tags { products: stored.products, user: stored.user },
        mark: Mark { seq: 0, epoch: stored.epoch, revision: stored.revision },
    })
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, Corrupt> {
    let broken = |error: std::io::Error| Corrupt(error.to_string());
    let mut unpacked = Vec::new();
    let frame = zstd::stream::read::Decoder::new(bytes).map_err(broken)?;
    frame.take(MOST_BYTES + 1).read_to_end(&mut unpacked).map_err(broken)?;
    if unpacked.len() as u64 > MOST_BYTES {
        return Err(Corrupt(format!("more than {MOST_BYTES} bytes")));
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn entry(value: String, user: Option<&str>) -> Entry<String> {
        let lives = Lives::new(
            1_790_000_000_000,
            Duration::from_secs(300),
            Duration::from_secs(60),
            (0.1, 0.5),
            0.1,
        );
        let mark = Mark { seq: 0, epoch: 1_790_000_000_123_456, revision: 7 };
        Entry { value, lives, tags: Tags::of(["mug", "pan"], user), mark }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text in ".{0,300}", user in proptest::option::of("[a-z]{1,5}")) {
            for compress_above in [0, u64::MAX] {
                let entry = entry(text.clone(), user.as_deref());
                let bytes = encode(&entry, compress_above).unwrap();
                prop_assert_eq!(bytes.starts_with(&ZSTD_MAGIC), compress_above == 0);
                prop_assert_eq!(decode::<String>(&bytes).unwrap(), entry);
            }
        }

        #[test]
        fn nonsense_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode::<String>(&bytes).is_err());
            let magic = [&ZSTD_MAGIC[..], &bytes].concat();
            prop_assert!(decode::<String>(&magic).is_err());
        }
    }

    #[test]
    fn only_large_values_are_compressed() {
        let small = encode(&entry("x".into(), None), 10 << 10).unwrap();
        assert!(small.starts_with(b"{\"made\":"), "{}", String::from_utf8_lossy(&small));
        let large = encode(&entry("mug ".repeat(5_000), None), 10 << 10).unwrap();
        assert!(large.len() < 1_000, "{}", large.len());
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = zstd::bulk::compress(&vec![b' '; (MOST_BYTES + 10) as usize], 1).unwrap();
        assert!(bomb.len() < 100_000);
        assert!(decode::<String>(&bomb).unwrap_err().to_string().contains("more than"));
    }

    #[test]
    fn a_torn_value_is_an_error() {
        for compress_above in [0, u64::MAX] {
            let bytes = encode(&entry("mug ".repeat(100), None), compress_above).unwrap();
            for cut in 0..bytes.len() {
                assert!(decode::<String>(&bytes[..cut]).is_err(), "{cut}");
            }
        }
    }
}
