//! Jobs and shards as messages. A job is planned, and its shards are published to the same topic, so that every
//! worker of the subscription takes some; a shard is computed in the lowest lane of the engine.
//!
//! A message is acknowledged once its work is done: a job's when all its shards are published, a shard's when
//! its output is written. What a worker leaves, by its end or an error that may pass, is nacked and redelivered;
//! the subscription's dead-letter policy ends that. Its stage listens to stop, which ends shards without output.

mod compute;
mod receive;
mod versions;
mod work;

pub use self::receive::Batches;
pub use self::versions::Versions;
pub use self::work::Worker;
