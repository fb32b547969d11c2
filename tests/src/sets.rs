//! The real data sets beside the workspace. A clone that stands alone skips what needs them.

use std::path::PathBuf;

/// The folder of a set in `../shared/data` (or `$PENSTOCK_SHARED/data`); `None` and a line that
/// says so when it is absent.
pub fn folder(set: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("PENSTOCK_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")),
        PathBuf::from,
    );
    let folder = shared.join("data").join(set);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: needs ../shared (data/{set})");
    None
}
