//! The real binary against local-gcp, judged by one oracle: a module a promise.

mod cli;
mod configuration;
mod emulator;
mod errors;
mod gallery;
mod harness;
mod lifecycle;
mod models;
mod observability;
mod oracle;
mod payloads;
mod prepared;
mod push;
mod telemetry;
mod traffic;
mod zoo;
