//! The commands print what a person or a script needs, and their exit codes say whether it went well.

mod check;
mod inspect;
mod output;
mod progress;
mod serve;
mod snapshots;
