//! Who may give commands: whoever can read the token's file.

use anyhow::Context;
use http::{HeaderMap, header};
use penstock_config::bootstrap::Bootstrap;
use sha2::{Digest, Sha256};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use subtle::ConstantTimeEq;

/// In the data folder, where no other file is named.
const FILE: &str = "ops.token";
/// A token shorter than this is somebody's password.
const LEAST_CHARS: usize = 32;

/// The hash of the token.
pub struct Token([u8; 32]);

impl Token {
    /// The one in the file that the settings name, or in the data folder, where it is made (256 random
    /// bits, for the owner alone) when it is missing.
    pub fn open(settings: &Bootstrap) -> anyhow::Result<Self> {
        let text = match &settings.ops_token_file {
            Some(path) => read(path),
            None => {
                let path = settings.data_dir.join(FILE);
                make(&path).with_context(|| format!("cannot make the token {}", path.display()))?;
                read(&path)
            }
        }?;
        Ok(Self(Sha256::digest(text.as_bytes()).into()))
    }

    /// Whether `Authorization: Bearer` has it.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut lines = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else { return false };
        let Ok(line) = line.to_str() else { return false };
        let Some((scheme, token)) = line.trim().split_once(' ') else { return false };
        let hash: [u8; 32] = Sha256::digest(token.trim().as_bytes()).into();
        scheme.eq_ignore_ascii_case("bearer") && bool::from(hash.ct_eq(&self.0))
    }
}

fn make(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            writeln!(file, "{}", hex::encode(rand::random::<[u8; 32]>()))?;
            file.sync_all()
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the token {} cannot be read", path.display()))?;
    let token = text.trim();
    anyhow::ensure!(
        token.len() >= LEAST_CHARS,
        "the token {} has {} characters; at least {LEAST_CHARS} make a secret (or remove the file, \
         and one is made in the data folder)",
        path.display(),
        token.len()
    );
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn settings(dir: &Path) -> Bootstrap {
        let dir = dir.display().to_string();
        let env = |name: &str| (name == "PENSTOCK_DATA_DIR").then(|| dir.clone());
        Bootstrap::parse("penstock.toml", b"", &env).unwrap()
    }

    #[test]
    fn it_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let token = Token::open(&settings).unwrap();
        let file = dir.path().join(FILE);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&file).unwrap();
        let again = Token::open(&settings).unwrap();
        assert_eq!(token.0, again.0);

        let check = |lines: &[&str], expected: bool| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::AUTHORIZATION, line.parse().unwrap());
            }
            assert_eq!(token.is_in(&headers), expected, "{lines:?}");
        };
        let good = format!("Bearer {}", text.trim());
        check(&[&good], true);
        check(&[&good.replace("Bearer", "bEARER ")], true);
        check(&[&good, &good], false);
        check(&[text.trim()], false);
        check(&[&good.replace("Bearer", "Basic")], false);
        check(&[&format!("{good}0")], false);
        check(&["Bearer "], false);
        check(&[], false);
        std::fs::write(&file, "secret\n").unwrap();
        assert!(Token::open(&settings).is_err());
    }
}
