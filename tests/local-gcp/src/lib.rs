//! Google Pub/Sub and Cloud Storage on one local port, for predictd's demo, tests and benchmarks.
//!
//! | room | what it holds |
//! |---|---|
//! | [`server`] | the port, and what a server starts with |
//! | [`pubsub`] | topics, subscriptions, leases; over gRPC and REST |
//! | [`storage`] | buckets, objects, notifications; over JSON and gRPC |
//! | [`faults`], [`control`] | what goes wrong on demand |
//! | [`history`] | what happened, for whoever judges a run |

pub mod control;
pub mod faults;
pub mod history;
pub mod pubsub;
pub mod rest;
pub mod server;
pub mod storage;

pub use server::Server;

/// Google's message types, and the server traits that build.rs makes for them.
pub mod proto {
    pub use googleapis_tonic_google_pubsub_v1::google::pubsub::v1 as pubsub;

    pub use googleapis_tonic_google_storage_v2::google::storage::v2 as storage;

    /// google.protobuf.Empty, as prost has it.
    pub type Empty = ();

    tonic::include_proto!("google.storage.v2.Storage");
    tonic::include_proto!("google.pubsub.v1.Publisher");
    tonic::include_proto!("google.pubsub.v1.Subscriber");
}
