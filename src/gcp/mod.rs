//! Google Cloud: its clients, calls with a time limit, objects of Cloud Storage, and checks that the
//! resources of a configuration can be used.

pub mod calls;
pub mod clients;
pub mod probes;
pub mod storage;
