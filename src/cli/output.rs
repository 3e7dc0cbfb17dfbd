//! Standard output and standard error of the commands. Beside this, only the log writes to them.
//!
//! A closed pipe is no error: its reader, such as `head`, has read enough.

use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;

use crate::hint::Hint as _;

/// Prints to standard output.
///
/// # Errors
/// Standard output cannot be written, as on a full disk.
pub fn print(bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error)
            .context("cannot write to standard output")
            .hint("check the file or the disk that the output goes to"),
        _ => Ok(()),
    }
}

/// Prints to standard error. A failure is ignored: it could be reported nowhere else.
pub fn print_error(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
