//! The real binary against local-gcp, judged by one oracle: a module a promise.

mod cli;
mod emulator;
mod errors;
mod faults;
mod harness;
mod lifecycle;
mod models;
mod oracle;
mod payloads;
mod prepared;
mod push;
mod traffic;
mod zoo;
