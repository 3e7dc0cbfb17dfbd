//! Single calls of Google's services: their time limit, and the kinds of failure that the worker
//! distinguishes.

use std::time::Duration;

use anyhow::Context as _;

use super::clients;
use crate::hint::with_hint;

/// Time limit of a call at start-up or of a probe, and of opening an object. A server that takes longer
/// counts as unreachable.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    PubSub,
    Storage,
}

impl Service {
    /// The address of the emulator, or Google's name of the service.
    pub fn address(self) -> String {
        let (emulator, google) = match self {
            Self::PubSub => (clients::emulator("PUBSUB_EMULATOR_HOST"), "Google Pub/Sub"),
            Self::Storage => (clients::listing_emulator(), "Google Cloud Storage"),
        };
        emulator.unwrap_or_else(|| google.to_owned())
    }

    /// The hint for a service that does not answer.
    pub fn network_hint(self) -> String {
        let variable = match self {
            Self::PubSub => "PUBSUB_EMULATOR_HOST",
            Self::Storage => "STORAGE_EMULATOR_HOST",
        };
        format!("check the network and the credentials, or {variable} when a local server is meant")
    }
}

/// A call that failed.
#[derive(Debug)]
pub enum CallFailure {
    Forbidden(google_cloud_gax::error::Error),
    NotFound(google_cloud_gax::error::Error),
    /// The server does not have this call.
    Unimplemented(google_cloud_gax::error::Error),
    /// The server gave any other error.
    Refused(google_cloud_gax::error::Error),
    /// The server did not answer. The error names it and has a hint.
    Unreachable(anyhow::Error),
}

impl CallFailure {
    pub fn into_error(self) -> anyhow::Error {
        match self {
            Self::Forbidden(error)
            | Self::NotFound(error)
            | Self::Unimplemented(error)
            | Self::Refused(error) => error.into(),
            Self::Unreachable(error) => error,
        }
    }
}

/// Waits for the answer of `service`, up to [`CALL_TIMEOUT`]: Google's client would retry for minutes.
///
/// # Errors
/// The call failed.
pub async fn ask<T>(
    service: Service,
    call: impl Future<Output = google_cloud_gax::Result<T>>,
) -> Result<T, CallFailure> {
    let unreachable = |error: anyhow::Error| {
        let error = error.context(format!("cannot reach {}", service.address()));
        CallFailure::Unreachable(with_hint(error, &service.network_hint()))
    };
    let error = match in_time(call).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => error,
        Err(error) => return Err(unreachable(error)),
    };
    Err(match clients::code(&error) {
        Some("PERMISSION_DENIED") => CallFailure::Forbidden(error),
        Some("NOT_FOUND") => CallFailure::NotFound(error),
        Some("UNIMPLEMENTED") => CallFailure::Unimplemented(error),
        Some(_) => CallFailure::Refused(error),
        // A server without this call may answer over HTTP, without a gRPC status.
        None if error.http_status_code().is_some() => CallFailure::Unimplemented(error),
        None => unreachable(error.into()),
    })
}

/// Waits for `call`, up to [`CALL_TIMEOUT`].
///
/// # Errors
/// The time is over.
pub async fn in_time<T>(call: impl Future<Output = T>) -> anyhow::Result<T> {
    // Boxed, since the compiler limits how deep futures nest, and those of Google's clients go deep.
    let ended = tokio::time::timeout(CALL_TIMEOUT, Box::pin(call)).await;
    ended.with_context(|| format!("no answer in {} seconds", CALL_TIMEOUT.as_secs()))
}
