//! Google Cloud: its clients, and checks that what the configuration names can be used.

pub mod clients;
pub mod probes;
