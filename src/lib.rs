//! predictd turns Google Pub/Sub messages into predictions with ONNX models that reload themselves.
//!
//! A map of the rooms:
//!
//! | room | what happens there |
//! |---|---|
//! | [`pipeline`] | **the** file: every stage, channel and task, and how they end |
//! | [`stages`] | the tasks and threads by name, and their supervision |
//! | [`message`] | the types that cross its channels, and the [`message::Ticket`] |
//! | [`attributes`] | the names of attributes, in any case |
//! | [`receive`] → [`decode`] → [`batch`] → [`infer`] → [`encode`] → [`publish`] | the stages, in a request's order |
//! | [`deadline`], [`order`] | until when an answer is wanted, and in which order those of one key |
//! | [`mod@reference`] | requests and results that lie in a bucket |
//! | [`quarantine`] | keeps requests that may have ended the process apart |
//! | [`guard`] | notices a request stream that is silent or reset again and again |
//! | [`model`] | sources, versions, bundles, ONNX Runtime, and the watch that swaps them |
//! | [`prepare`] | pictures and texts to tensors, as a bundle declares it |
//! | [`signature`] | what a model takes and gives, as requests are read against it |
//! | [`tensor`], [`composite`], [`error`] | what the engine computes with, and the errors users see |
//! | [`config`], [`cli`] | the configuration and the commands |
//! | [`http`], [`health`], [`metrics`], [`telemetry`] | what operators see |
//! | [`google`], [`preflight`] | Google's clients, emulators included; checks that what the configuration names can be used |

// `cli::output` alone prints: `println!` and `eprintln!` panic where a pipe is closed.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod attributes;
pub mod batch;
pub mod budget;
pub mod cli;
pub mod composite;
pub mod config;
pub mod deadline;
pub mod decode;
pub mod encode;
pub mod error;
pub mod google;
pub mod guard;
pub mod health;
pub mod http;
pub mod infer;
pub mod message;
pub mod metrics;
pub mod model;
pub mod names;
pub mod order;
pub mod pipeline;
pub mod preflight;
pub mod prepare;
pub mod publish;
pub mod quarantine;
pub mod receive;
pub mod reference;
pub mod signature;
pub mod stages;
pub mod telemetry;
pub mod tensor;
