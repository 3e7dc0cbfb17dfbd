//! The real binary against local-gcp, judged by one oracle: a module a promise.

mod cli;
mod emulator;
mod errors;
mod harness;
mod lifecycle;
mod models;
mod oracle;
mod payloads;
mod prepared;
mod push;
mod references;
mod results;
mod traffic;
mod zoo;
