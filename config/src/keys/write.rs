//! Appending to the file, so that a crash at any moment costs at most the line being written.

use super::FILE;
use super::follow::{FollowError, Follower};
use super::id::KeyId;
use super::line::{Creation, Line, Rate, Revocation, check_name};
use super::secret::generate;
use crate::disk;
use crate::network;
use crate::policy::Class;
use ipnet::IpNet;
use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

/// Taken by whoever appends; hidden, so that nobody takes it for a setting.
const LOCK: &str = ".keys.lock";
/// Appending takes milliseconds, looking through a million keys for one to revoke seconds.
const LOCK_ATTEMPTS: u32 = 400;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// What a key is to be.
#[derive(Debug, Clone, Default)]
pub struct NewKey {
    /// What its operator calls it: 1 to 100 characters.
    pub name: String,
    /// From when on it is not good any more, seconds since 1970.
    pub expires: Option<i64>,
    /// Where it may be used from; none: anywhere.
    pub networks: Vec<IpNet>,
    /// Its own limits: class, requests a minute, burst.
    pub limits: Vec<(Class, u32, u32)>,
    /// It may ask for answers that are not remembered.
    pub bypass_cache: bool,
}

/// A key that was made. Its text exists nowhere else.
pub struct Created {
    /// Its id.
    pub id: KeyId,
    /// What its holder sends.
    pub secret: String,
}

impl fmt::Debug for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Created({}, …)", self.id)
    }
}

/// Why nothing was written. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// There is no such key.
    #[error("there is no key {0}; `keys list --all` shows all of them")]
    Unknown(KeyId),
    /// Somebody else has been writing for seconds.
    #[error("another process is writing {FILE}; try again")]
    Busy,
    /// The folder belongs to Kubernetes.
    #[error(
        "the policy folder is a mounted ConfigMap: make the change where the ConfigMap is made"
    )]
    Managed,
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] FollowError),
    /// The disk did not do it.
    #[error(
        "{doing} {FILE}: {source}; nothing was changed, make the folder writable or free some space"
    )]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl KeysError {
    fn disk(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { doing, source }
    }
}

/// Makes a key in the policy folder `dir`, which must exist, at `now` (seconds since 1970). When it
/// returns, the key is on disk.
pub fn create(dir: &Path, new: NewKey, now: i64) -> Result<Created, KeysError> {
    check_name(&new.name).map_err(KeysError::Invalid)?;
    let (id, secret, hash) = generate().map_err(KeysError::disk("making a key for"))?;
    let limits = new
        .limits
        .into_iter()
        .map(|(class, per_minute, burst)| (class.name().to_owned(), Rate { per_minute, burst }));
    let creation = Creation {
        id,
        name: new.name,
        hash,
        created: now,
        expires: new.expires,
        networks: new.networks.into_iter().map(network::canonical).collect(),
        limits: limits.collect(),
        bypass_cache: new.bypass_cache,
    };
    creation.check().map_err(KeysError::Invalid)?;
    let lock = Lock::take(dir)?;
    append(dir, &Line::Create(creation)).map_err(KeysError::disk("writing"))?;
    drop(lock);
    Ok(Created { id, secret })
}

/// Takes a key out of force for good; `false`: it was already.
pub fn revoke(dir: &Path, id: KeyId, why: &str, now: i64) -> Result<bool, KeysError> {
    let _lock = Lock::take(dir)?;
    let table = Follower::new(dir).load()?;
    let key = table.get(id).ok_or(KeysError::Unknown(id))?;
    // Revoked by a damaged line: said again in a line that stays when that one is removed.
    if key.revoked().is_some_and(|revoked| revoked.when.is_some()) {
        return Ok(false);
    }
    let line = Line::Revoke(Revocation { id, when: now, why: why.to_owned() });
    append(dir, &line).map_err(KeysError::disk("writing"))?;
    Ok(true)
}

/// Appends a line, after ending one that broke off; on failure the file has its old length.
fn append(dir: &Path, line: &Line) -> io::Result<()> {
    let path = dir.join(FILE);
    let is_new = !path.exists();
    let mut file = File::options().read(true).append(true).create(true).open(&path)?;
    let before = file.metadata()?.len();
    let mut bytes = Vec::new();
    if before > 0 {
        let mut last = [0; 1];
        file.seek(SeekFrom::Start(before - 1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            bytes.push(b'\n');
        }
    }
    bytes.extend(line.to_bytes());
    let written = file.write_all(&bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a line would be ended, and reported, by the next one.
        let _ = file.set_len(before);
        if is_new {
            let _ = std::fs::remove_file(&path);
        }
        return written;
    }
    if is_new { disk::sync_folder(dir) } else { Ok(()) }
}

/// The right to append; given back on drop, and by the kernel when we die.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl Lock {
    fn take(dir: &Path) -> Result<Self, KeysError> {
        if dir.join("..data").exists() {
            return Err(KeysError::Managed);
        }
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(dir.join(LOCK));
        let file = file.map_err(KeysError::disk("locking"))?;
        for _ in 0..LOCK_ATTEMPTS {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(KeysError::disk("locking")(error)),
            }
        }
        Err(KeysError::Busy)
    }
}
