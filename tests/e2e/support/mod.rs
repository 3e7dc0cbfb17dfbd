//! No tests: servers and workers, the oracle, and the tools of single tests.

pub(crate) mod clock;
pub(crate) mod collector;
pub(crate) mod command;
pub(crate) mod harness;
pub(crate) mod oracle;
pub(crate) mod runtime;
