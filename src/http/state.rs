//! The state of the worker that the pages show.

use std::sync::Arc;

use crate::lifecycle::not_served::NotServedRegistry;
use crate::model::Models;
use crate::ops::health::Health;
use crate::ops::metrics::Metrics;

#[derive(Debug, Clone)]
pub struct State {
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
    pub models: Arc<Models>,
    pub not_served: Arc<NotServedRegistry>,
}
