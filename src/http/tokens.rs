//! Bearer tokens: read from a file, one a line, and read again when the file changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use subtle::{Choice, ConstantTimeEq as _};

use crate::hint::Hint as _;
use crate::lock::lock;

/// Shortest time between two looks at the file.
const LOOK: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    read: Mutex<Read>,
}

struct Read {
    tokens: Vec<Vec<u8>>,
    /// Time of the file's last change, when it was read.
    changed: Option<SystemTime>,
    looked: Instant,
}

/// Without the tokens, which must not reach a log.
impl std::fmt::Debug for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tokens", self.tokens.len())
    }
}

impl Tokens {
    /// # Errors
    /// The file cannot be read, or has no token.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let (tokens, changed) = read(path).hint("write one token a line, and let this user read the file")?;
        Ok(Self { path: path.to_owned(), read: Mutex::new(Read { tokens, changed, looked: Instant::now() }) })
    }

    /// True for one of the tokens. Compares with all of them, and in constant time, so that the time tells
    /// nothing.
    pub(super) fn allow(&self, token: &[u8]) -> bool {
        let mut known = lock(&self.read);
        if known.looked.elapsed() >= LOOK {
            known.looked = Instant::now();
            self.refresh(&mut known);
        }
        let found = known.tokens.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(token));
        found.into()
    }

    /// Keeps the old tokens while the file cannot be read.
    fn refresh(&self, known: &mut Read) {
        let changed = fs::metadata(&self.path).and_then(|file| file.modified()).ok();
        if changed.is_some() && changed == known.changed {
            return;
        }
        match read(&self.path) {
            Ok((tokens, changed)) => {
                tracing::info!(tokens = tokens.len(), "the file of tokens was read again");
                (known.tokens, known.changed) = (tokens, changed);
            }
            Err(error) => {
                // Told once a change.
                if known.changed.take().is_some() {
                    tracing::error!(error = format!("{error:#}"), "the tokens before stay in force");
                }
            }
        }
    }
}

fn read(path: &Path) -> anyhow::Result<(Vec<Vec<u8>>, Option<SystemTime>)> {
    let failed = || format!("cannot read `http.tokens_file` {path:?}");
    let changed = fs::metadata(path).with_context(failed)?.modified().ok();
    let text = fs::read(path).with_context(failed)?;
    let lines = text.split(|byte| *byte == b'\n').map(|line| line.trim_ascii().to_vec());
    let tokens: Vec<Vec<u8>> = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).collect();
    ensure!(!tokens.is_empty(), "expected at least one token in `http.tokens_file` {path:?}, got none");
    Ok((tokens, changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_again_and_a_broken_file_locks_nobody_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        fs::write(&path, "# of the tests\nfirst\n\n second \n").unwrap();
        let tokens = Tokens::open(&path).unwrap();
        let allowed = || {
            ["first", "second", "third", "", "# of the tests", "firs"].map(|token| {
                lock(&tokens.read).looked -= LOOK;
                tokens.allow(token.as_bytes())
            })
        };
        assert_eq!(allowed(), [true, true, false, false, false, false]);
        fs::remove_file(&path).unwrap();
        assert_eq!(allowed(), [true, true, false, false, false, false]);
        fs::write(&path, "third").unwrap();
        assert_eq!(allowed(), [false, false, true, false, false, false]);
        fs::write(&path, "\n").unwrap();
        assert!(Tokens::open(&path).is_err());
    }
}
