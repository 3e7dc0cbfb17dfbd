//! Google Pub/Sub and Cloud Storage on one local port, for predictd's demo, tests and benchmarks.
//!
//! ```text
//! server    one port for gRPC and REST, started and stopped as a whole
//! pubsub    topics, subscriptions, deliveries; `grpc` and `rest` translate
//! storage   buckets, objects by generation, notifications, uploads; `grpc` and `rest` translate
//! grants    changes of policies, for tests
//! iam       whose call it is, and what policies allow them; where it is enforced
//! faults    what the next calls of a method do wrong
//! history   what happened, for whoever judges a run
//! control   faults, resets and numbers over HTTP
//! setup     the binary's command line and file
//! ```
//!
//! It refuses what the real services refuse, with their codes. It keeps everything in memory.

mod codes;
pub mod control;
pub mod faults;
mod grants;
pub mod history;
pub mod iam;
pub mod pubsub;
mod server;
pub mod setup;
pub mod storage;

pub use server::{Builder, Notification, Server};

/// `google.protobuf.Empty`.
pub type Empty = ();
