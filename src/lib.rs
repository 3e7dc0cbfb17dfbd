//! predictd turns Google Pub/Sub messages and HTTP requests into predictions with ONNX models that reload
//! themselves.
//!
//! A map of its modules. Each uses only those below it, and those of its own row:
//!
//! | module | contents |
//! |---|---|
//! | [`cli`] | the commands |
//! | [`pipeline`] | every stage, channel and thread of the worker: how they are connected and how they end |
//! | [`http`] | the transport HTTP: predictions on demand, and pages for operators and probes |
//! | [`files`] | the transport files: batch predictions, on this machine or as messages for all workers |
//! | [`mod@reply_to`] | the ways to reply, one for each transport |
//! | [`pubsub`] | the transport Pub/Sub: receiving requests, publishing responses, keeping their order |
//! | [`objects`] | objects of buckets that requests refer to |
//! | [`lifecycle`] | model versions, from their source into service |
//! | [`engine`] | requests in, responses out, for any transport |
//! | [`sample`] | sample requests of a model |
//! | [`model`] | a loaded version: its files, its graphs, how its requests are batched |
//! | [`stages`] | tasks and threads by name, and the end of the worker when one of them fails |
//! | [`ops`] | health, logs, metrics and traces |
//! | [`encode`] | outputs to response bodies |
//! | [`decode`] | request bodies to tensors |
//! | [`prepare`] | images and strings to tensors, as a bundle declares it |
//! | [`tensor`] | tensors, elements and signatures |
//! | [`gcp`] | Google's clients, objects of Cloud Storage, and probes of the configured resources |
//! | [`config`] | the configuration |
//! | [`backoff`], [`error`], [`mod@headers`], [`mod@hint`], [`gzip`], [`mod@lock`], [`names`], [`rfc3339`], [`yaml`] | what several modules share |

// Only `cli::output` prints, since `println!` and `eprintln!` panic where a pipe is closed.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod backoff;
pub mod cli;
pub mod config;
pub mod decode;
pub mod encode;
pub mod engine;
pub mod error;
pub mod files;
pub mod gcp;
pub mod gzip;
pub mod headers;
pub mod hint;
pub mod http;
pub mod lifecycle;
pub mod lock;
pub mod model;
pub mod names;
pub mod objects;
pub mod ops;
pub mod pipeline;
pub mod prepare;
pub mod pubsub;
pub mod reply_to;
pub mod rfc3339;
pub mod sample;
pub mod stages;
pub mod tensor;
pub mod yaml;
