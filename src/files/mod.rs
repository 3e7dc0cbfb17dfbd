//! The transport files: batch predictions, queued and offline.
//!
//! A job reads files and writes files. [`plan`] looks at all input once and cuts it into shards; the plan is
//! kept as `job.json` in the job's output folder. [`shard`] computes one shard. **The written output of a
//! shard is the checkpoint**: it appears whole, once, and a shard that has its output is never computed again.
//! An interrupted job therefore goes on at its first missing shard, and a shard may be given to two workers. [`summary`]
//! ends a job once every shard has its output.
//!
//! [`local`] computes the shards of a job on this machine, one after the other, on all cores. [`worker`] takes
//! them as messages of a Pub/Sub topic, which gives them to all workers, gives them again when a worker dies,
//! and gives up on those that kill workers. Nothing else is scheduled between machines.

pub mod chunk;
pub mod counts;
pub mod job;
pub mod jobs;
pub mod local;
pub mod marks;
pub mod message;
pub mod output;
pub mod plan;
pub mod records;
pub mod rows;
pub mod select;
pub mod shard;
pub mod store;
pub mod summary;
pub mod threads;
pub mod worker;
