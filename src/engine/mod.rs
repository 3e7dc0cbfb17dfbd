//! Requests in, responses out: admission, budgets, batches and inference threads. Knows no transport.

pub mod admit;
pub mod batch;
pub mod budget;
pub mod deadline;
pub mod job;
pub mod load;
pub mod predict;
pub mod quarantine;
pub mod queue;
pub mod run_batch;
pub mod throughput;
