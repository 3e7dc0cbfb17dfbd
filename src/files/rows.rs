//! Predictions for the instances of a chunk. A request that fails is computed again row by row, so that the
//! offending one alone fails.

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::chunk::{Instances, Part};
use crate::decode::Protocol;
use crate::engine::admit::Target;
use crate::engine::budget::Memory;
use crate::engine::job::{Job, Origin, Outcome, Response};
use crate::error::{Code, Rejection};
use crate::model::Model;
use crate::ops::metrics::Metrics;
use crate::ops::traces::MessageTrace;

/// The way to reply to a request of a file.
pub type Waiter = oneshot::Sender<Response<()>>;

/// Brings requests to inference threads; each waiter gets its response, or is dropped when nothing is computed
/// any more.
pub type Submit<'a> = &'a (dyn Fn(Vec<Job<Waiter>>) + Sync);

/// Results of the records of a chunk, in order.
#[derive(Debug)]
pub struct Predictions {
    bodies: Vec<Vec<u8>>,
    /// Body and place of each record's prediction.
    rows: Vec<Result<(usize, Range<usize>), Rejection>>,
    pub keys: Vec<Option<Vec<u8>>>,
}

impl Predictions {
    /// The prediction of a record as JSON, or why there is none.
    pub fn row(&self, number: usize) -> Result<&[u8], &Rejection> {
        self.rows[number].as_ref().map(|(body, range)| &self.bodies[*body][range.clone()])
    }
}

/// Computes the chunks of a job.
pub struct Predictor<'a> {
    pub model: &'a Arc<Model>,
    pub metrics: &'a Arc<Metrics>,
}

impl Predictor<'_> {
    /// Computes all instances of a chunk. Blocks until they are computed. None if nothing is computed any more.
    pub fn predict(&self, mut instances: Instances<'_>, submit: Submit<'_>) -> Option<Predictions> {
        let count = instances.places.len();
        let mut predicted = Predictions {
            bodies: Vec::with_capacity(1),
            rows: vec![Ok((0, 0..0)); count],
            keys: std::mem::take(&mut instances.keys),
        };
        let parts = instances.decode(self.model);
        let failed = self.compute(parts, submit, &mut predicted)?;
        let alone = instances.decode_each(self.model, &failed);
        self.compute(alone, submit, &mut predicted)?;
        for (row, place) in predicted.rows.iter_mut().zip(instances.places) {
            if let Err(rejection) = place {
                *row = Err(rejection);
            }
        }
        Some(predicted)
    }

    /// Computes requests side by side. Returns the records of those that failed with several rows, or nothing if
    /// nothing is computed any more.
    fn compute(
        &self,
        parts: Vec<Part>,
        submit: Submit<'_>,
        predicted: &mut Predictions,
    ) -> Option<Vec<usize>> {
        let (mut jobs, mut waiting) = (Vec::with_capacity(parts.len()), Vec::with_capacity(parts.len()));
        for Part { request, records } in parts {
            let (waiter, response) = oneshot::channel();
            let has_lines = request.response.protocol == Protocol::Lines;
            let origin = Origin::new(waiter, Memory::new(Arc::clone(self.metrics)), MessageTrace::default());
            let version = Some(self.model.version.to_string());
            let target = Target { model: Arc::clone(self.model), wanted_version: version, deadline: None };
            // Alone, so that the results do not depend on other requests, not even in their last digit.
            jobs.push(Job::new(request, target, true, origin));
            waiting.push((response, records, has_lines));
        }
        submit(jobs);
        let mut failed = Vec::new();
        for (response, records, has_lines) in waiting {
            let response = response.blocking_recv().ok()?;
            match response.outcome {
                Outcome::Computed(body) => {
                    let lines = line_ranges(&body.bytes, has_lines);
                    if lines.len() == records.len() {
                        let body_number = predicted.bodies.len();
                        for (record, range) in records.into_iter().zip(lines) {
                            predicted.rows[record] = Ok((body_number, range));
                        }
                        predicted.bodies.push(body.bytes);
                    } else if records.len() > 1 {
                        failed.extend(records);
                    } else {
                        let (expected, got) = (records.len(), lines.len());
                        let message = format!("expected {expected} prediction for the instance, got {got}");
                        predicted.rows[records[0]] = Err(Rejection::new(Code::InferenceFailed, message));
                    }
                }
                Outcome::Rejected(rejection) if records.len() == 1 => {
                    predicted.rows[records[0]] = Err(rejection);
                }
                Outcome::Rejected(_) => failed.extend(records),
                Outcome::Expired => return None,
            }
        }
        Some(failed)
    }
}

/// The lines of a body, or all of it.
fn line_ranges(text: &[u8], has_lines: bool) -> Vec<Range<usize>> {
    if !has_lines {
        return std::iter::once(0..text.len()).collect();
    }
    let mut begin = 0;
    let line = |end: usize| std::mem::replace(&mut begin, end + 1)..end;
    memchr::memchr_iter(b'\n', text).map(line).collect()
}
