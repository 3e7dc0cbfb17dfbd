//! The real binary against local-gcp, judged by one oracle: a module a promise.

mod binary;
mod cli;
mod collector;
mod configuration;
mod declarations;
mod emulator;
mod errors;
mod failures;
mod faults;
mod gallery;
mod grants;
mod harness;
mod lifecycle;
mod models;
mod observability;
mod oracle;
mod payloads;
mod prepared;
mod progress;
mod provisioning;
mod push;
mod references;
mod results;
mod telemetry;
mod traffic;
mod zoo;
