//! The protocol's message types and the server traits that `build.rs` generates over them.

pub use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::*;

pub use crate::Empty;
pub use prost_types::Duration;

#[allow(unreachable_pub, clippy::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/google.pubsub.v1.Publisher.rs"));
    include!(concat!(env!("OUT_DIR"), "/google.pubsub.v1.Subscriber.rs"));
    include!(concat!(env!("OUT_DIR"), "/google.iam.v1.IAMPolicy.rs"));
}

pub(crate) use generated::{i_a_m_policy_server, publisher_server, subscriber_server};
