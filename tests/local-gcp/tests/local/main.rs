//! The server as its clients see it: Google's Rust clients, bare gRPC, bare HTTP, gcloud, and whoever runs
//! the command.

mod binary;
mod iam;
mod pubsub_client;
mod pubsub_iam;
mod pubsub_protocol;
mod pubsub_rest;
mod storage;
mod storage_faults;
mod storage_gcloud;
mod storage_notifications;
mod support;
mod together;
