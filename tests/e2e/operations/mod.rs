//! Operators see the state of a worker in its pages, logs, metrics and traces, and it ends in order where it
//! cannot go on.

mod dashboards;
mod endpoints;
mod logs;
mod readiness;
mod supervision;
mod telemetry;
