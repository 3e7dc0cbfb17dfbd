//! predictd turns Google Pub/Sub messages into predictions with ONNX models that reload themselves.
//!
//! A map of the rooms, from the one that knows all others to those that know none:
//!
//! | room | contents |
//! |---|---|
//! | [`cli`], [`config`] | the commands and the configuration |
//! | [`pipeline`], [`stages`] | every stage, channel and thread of the worker, how they are wired and how they end |
//! | [`pubsub`] | the transport: requests received, responses published, order kept |
//! | [`http`], [`ops`] | what operators see: probes, metrics, logs, traces |
//! | [`lifecycle`] | versions from their source into service |
//! | [`engine`] | requests in, responses out; knows no transport |
//! | [`model`] | one version, loaded: its files, its graphs, how it takes rows |
//! | [`decode`], [`encode`], [`mod@headers`] | bodies to requests and outputs to bodies |
//! | [`prepare`] | images and strings to tensors, as a bundle declares it |
//! | [`tensor`] | tensors, elements and signatures |
//! | [`gcp`] | Google's clients, and checks that what the configuration names can be used |
//! | [`error`], [`names`], [`mod@hint`] | error codes, names in messages, hints |
//! | [`gzip`], [`rfc3339`] | compression, dates and times |

// `cli::output` alone prints: `println!` and `eprintln!` panic where a pipe is closed.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod backoff;
pub mod cli;
pub mod config;
pub mod decode;
pub mod encode;
pub mod engine;
pub mod error;
pub mod gcp;
pub mod gzip;
pub mod headers;
pub mod hint;
pub mod http;
pub mod lifecycle;
pub mod model;
pub mod names;
pub mod ops;
pub mod pipeline;
pub mod prepare;
pub mod pubsub;
pub mod reply_to;
pub mod rfc3339;
pub mod stages;
pub mod tensor;
pub mod yaml;
