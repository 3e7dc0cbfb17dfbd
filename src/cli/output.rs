//! Standard output and standard error of every command: nothing else in the library writes to them but the
//! log.
//!
//! A closed pipe is no error: its reader wants no more, as `head` does.

use std::io::{ErrorKind, Write as _};

use crate::hint::Hint as _;
use anyhow::Context as _;

/// # Errors
/// Standard output takes nothing more, as on a full disk.
pub fn print(bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error)
            .context("cannot write to standard output")
            .hint("check the file or the disk that the output goes to"),
        _ => Ok(()),
    }
}

/// To standard error. A failure has nowhere to be reported.
pub fn print_error(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
