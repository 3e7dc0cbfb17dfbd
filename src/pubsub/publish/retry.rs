//! Refusals that publishing is tried again after, in place, while the responses stay in flight.
//!
//! The client's own list, and whatever concerns the topic as a whole: nothing else could be published either,
//! and nacks would use up the delivery attempts of healthy requests.

use std::sync::Arc;

use google_cloud_gax::retry_policy::RetryPolicy;
use google_cloud_gax::retry_result::RetryResult;
use google_cloud_gax::retry_state::RetryState;
use google_cloud_pubsub::retry_policy::RetryableErrors;

use super::settle::Shared;
use crate::gcp::clients;

#[derive(Debug)]
pub(super) struct Retry(pub(super) Arc<Shared>);

impl RetryPolicy for Retry {
    fn on_error(&self, state: &RetryState, error: google_cloud_pubsub::Error) -> RetryResult {
        self.0.last_refusal.record();
        match clients::code(&error) {
            Some("NOT_FOUND" | "PERMISSION_DENIED" | "UNAUTHENTICATED" | "FAILED_PRECONDITION") => {
                self.0.refuses_all(&error);
                RetryResult::Continue(error)
            }
            _ => RetryableErrors.on_error(state, error),
        }
    }
}
