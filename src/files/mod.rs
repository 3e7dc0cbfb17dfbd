//! The transport files: batch predictions, queued and offline.
//!
//! A job reads files and writes files. [`plan`] looks at all input once and cuts it into shards; the plan is
//! kept as `job.json` in the job's output folder. [`shard`] computes one shard. **The written output of a
//! shard is the checkpoint**: it appears whole, once, and a shard that has its output is never computed again.
//! An interrupted job therefore goes on at its first missing shard, and two workers may have the same shard.
//! [`summary`] ends a job once every shard has its output.
//!
//! [`local`] computes the shards of a job on this machine, one after the other, on all cores. [`worker`] takes
//! them as messages of a Pub/Sub topic, which spreads them over all workers, redelivers those of a worker that
//! died, and sets those aside that kill workers. Nothing else is scheduled between machines.
//!
//! The way of a row: [`records`] cuts it out of its file, [`select`] and [`chunk`] make a request of it and its
//! neighbours, [`rows`] has it computed, [`output`] writes its line.

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
