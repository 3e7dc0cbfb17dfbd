//! Every worker serves the version that the source calls for. Versions come, fail and go while requests are
//! answered.

mod model_yaml;
mod push;
mod reload;
mod threads;
mod versions;
