//! The real binary against local-gcp, judged by one oracle: a folder for each promise.

mod batch;
mod commands;
mod delivery;
mod documents;
mod errors;
mod faults;
mod isolation;
mod models;
mod on_demand;
mod operations;
mod requests;
mod support;
