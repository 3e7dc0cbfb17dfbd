//! One loaded version of one model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use super::bundle::declaration::Declaration;
use super::executor::Executor;
use super::open::OpenedModel;
use super::run::Input;
use crate::error::{Code, Rejection};
use crate::names::quoted;
use crate::ops::metrics::ModelMetrics;
use crate::tensor::signature::{Signature, TensorSpec};

#[derive(Debug)]
pub struct Model {
    pub name: Arc<str>,
    pub version: Arc<str>,
    pub signature: Signature,
    /// The address of the version at its source.
    pub from: String,
    /// The model file's own metadata: producer, domain, description and the like.
    pub metadata: BTreeMap<String, String>,
    pub declaration: Declaration,
    pub loaded_at: SystemTime,
    pub metrics: ModelMetrics,
    pub executor: Executor,
    /// See [`Self::response_bytes`].
    response_bytes: AtomicUsize,
}

/// Bytes of a number in a response: seven digits, the point and the separators.
const BYTES_PER_NUMBER: usize = 12;
/// Limits the estimate: a model may declare outputs of any size.
const MAX_RESPONSE_ESTIMATE: usize = 64 << 20;

impl Model {
    /// A version that has just been opened, with metrics that are not exported yet.
    pub(crate) fn new(
        name: &str,
        version: &str,
        from: String,
        declaration: Declaration,
        opened: OpenedModel,
    ) -> Self {
        let OpenedModel { executor, signature, metadata } = opened;
        Self {
            name: name.into(),
            version: version.into(),
            response_bytes: AtomicUsize::new(row_response_bytes(&signature)),
            signature,
            from,
            metadata,
            declaration,
            loaded_at: SystemTime::now(),
            metrics: ModelMetrics::unregistered(),
            executor,
        }
    }

    /// Estimates the bytes of a response for `rows` rows, by recent responses; before the first one, by the
    /// outputs' shapes.
    pub fn response_bytes(&self, rows: usize) -> usize {
        self.response_bytes.load(Ordering::Relaxed).saturating_mul(rows).min(MAX_RESPONSE_ESTIMATE)
    }

    /// Updates the estimate with a response of `bytes` for one row: upwards at once, downwards by a
    /// sixteenth.
    pub fn responded(&self, bytes: usize) {
        let expected = self.response_bytes(1);
        if bytes != expected {
            let lower = expected - expected.saturating_sub(bytes).div_ceil(16);
            self.response_bytes.store(lower.max(bytes), Ordering::Relaxed);
        }
    }

    /// Checks that a request for the version `wanted` may run on this one; a request for no version may.
    ///
    /// # Errors
    /// `MODEL_NOT_FOUND`.
    pub fn check_version(&self, wanted: Option<&str>) -> Result<(), Rejection> {
        match wanted {
            Some(wanted) if *wanted != *self.version => {
                let message = format!(
                    "version {} of the model {} is not served, {} is",
                    quoted(wanted),
                    quoted(&self.name),
                    self.version
                );
                Err(Rejection::new(Code::ModelNotFound, message))
            }
            _ => Ok(()),
        }
    }

    /// True when a request that was decoded for `other` may run on this version, and share a call with
    /// requests that were decoded for this one.
    pub fn takes_requests_of(&self, other: &Self) -> bool {
        let (own, others) = (&self.executor, &other.executor);
        self.name == other.name
            && self.signature == other.signature
            && own.shares_calls() == others.shares_calls()
            && own.max_rows == others.max_rows
    }

    /// The error for a request whose run failed for `reason`, if the model refused one of its values.
    pub(crate) fn refused_value(&self, reason: &str, inputs: &[Input<'_>]) -> Option<Rejection> {
        self.executor.refused_value(reason, inputs, self.signature.columns.as_deref())
    }
}

/// Bytes of the response for one row, by the shapes of the outputs.
fn row_response_bytes(signature: &Signature) -> usize {
    let numbers = |spec: &TensorSpec| {
        let dims = spec.shape.iter().skip(usize::from(signature.batched));
        dims.map(|dim| dim.fixed().unwrap_or(1)).fold(BYTES_PER_NUMBER, usize::saturating_mul)
    };
    signature.outputs.iter().map(numbers).fold(0, usize::saturating_add)
}
