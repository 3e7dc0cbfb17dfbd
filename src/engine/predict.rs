//! Requests of one model to response bodies: run together, split when they fail, encoded each by itself.

use std::ops::Range;
use std::time::Instant;

use crate::decode::{Id, Protocol, Request};
use crate::encode::unpad::{Lengths, Padded};
use crate::encode::{self, ServedModel};
use crate::error::{Code, Rejection};
use crate::model::Model;
use crate::model::input_adapter::TokenizedBatch;
use crate::model::run::{RunFailure, RunMode};
use crate::tensor::signature::Signature;
use crate::tensor::{Elements, Output, Show, Tensor, View};

/// The answer to one request: its body, or why there is none.
pub type Answered = Result<encode::Body, Rejection>;

/// Elements of the decoded images of several requests in memory at once: 16 MiB of float32.
const PREPARED: usize = 4 << 20;

/// Runs requests of one shape together and encodes each answer, in order, with the ids that the requests
/// gave. `between` is called between two calls of one large request.
pub fn predict(
    model: &Model,
    thread: usize,
    requests: Vec<Request>,
    between: &mut dyn FnMut(),
) -> (Vec<Option<Id>>, Vec<Answered>) {
    let Some(width) = model.executor.input_adapter.elements_of_a_row() else {
        return predict_together(model, thread, requests, between);
    };
    // Images are decoded here, on the inference threads, and only as many at a time as memory is meant for
    // them.
    let mut ids: Vec<Option<Id>> = requests.iter().map(|_| None).collect();
    let mut answers: Vec<Option<Answered>> = requests.iter().map(|_| None).collect();
    let (mut group, mut places, mut elements) = (Vec::new(), Vec::new(), 0);
    let mut run = |group: &mut Vec<Request>, places: &mut Vec<usize>| {
        let (given, answered) = predict_together(model, thread, std::mem::take(group), between);
        for ((place, id), answer) in places.drain(..).zip(given).zip(answered) {
            (ids[place], answers[place]) = (id, Some(answer));
        }
    };
    let mut refused = Vec::new();
    for (place, mut request) in requests.into_iter().enumerate() {
        // Before its memory is taken: a large request is alone in it.
        let more = request.rows.saturating_mul(width);
        if elements > 0 && elements + more > PREPARED {
            run(&mut group, &mut places);
            elements = 0;
        }
        if let Err(rejection) =
            model.executor.input_adapter.prepare_request(&mut request.inputs, request.rows)
        {
            refused.push((place, request.response.id, rejection));
            continue;
        }
        elements += more;
        group.push(request);
        places.push(place);
    }
    run(&mut group, &mut places);
    for (place, id, rejection) in refused {
        (ids[place], answers[place]) = (id, Some(Err(rejection)));
    }
    let answers =
        answers.into_iter().map(|answer| answer.expect("every request was run or refused")).collect();
    (ids, answers)
}

fn predict_together(
    model: &Model,
    thread: usize,
    mut requests: Vec<Request>,
    between: &mut dyn FnMut(),
) -> (Vec<Option<Id>>, Vec<Answered>) {
    let Some(inputs) = join(&mut requests) else { return (Vec::new(), Vec::new()) };
    let mut rows = Vec::with_capacity(requests.len());
    let mut next = 0;
    for request in &requests {
        rows.push(next..next + request.rows);
        next += request.rows;
    }
    let joined = Joined { model, thread, inputs, requests: &requests, rows };
    let mut answers = Vec::with_capacity(requests.len());
    joined.run(0..requests.len(), &mut answers, between);
    (requests.into_iter().map(|request| request.response.id).collect(), answers)
}

/// Moves all requests' tensors into one for each input; their shapes stay with the requests.
fn join(requests: &mut [Request]) -> Option<Vec<Option<Tensor>>> {
    let (first, others) = requests.split_first_mut()?;
    let mut inputs: Vec<Option<Tensor>> = first
        .inputs
        .iter_mut()
        .map(|tensor| {
            let tensor = tensor.as_mut()?;
            let elements = std::mem::replace(&mut tensor.elements, Elements::U8(Vec::new()));
            Some(Tensor { shape: tensor.shape.clone(), elements })
        })
        .collect();
    for other in others {
        // Requests of one batch leave out the same inputs.
        for (joined, tensor) in inputs.iter_mut().flatten().zip(other.inputs.iter_mut().flatten()) {
            joined.elements.append(&mut tensor.elements);
            if let (Some(rows), Some(more)) = (joined.shape.first_mut(), tensor.shape.first()) {
                *rows += more;
            }
        }
    }
    Some(inputs)
}

/// Mode in which a request runs: where rows cannot run together, the instances of a list run one by one, and whole
/// tensors (columns, v2) as they stand.
fn how(model: &Model, request: &Request) -> RunMode {
    match request.response.protocol {
        _ if model.executor.takes_rows() => RunMode::Rows,
        Protocol::Rows | Protocol::Lines => RunMode::EachRow,
        Protocol::Columns | Protocol::ColumnsAsPredictions | Protocol::V2 { .. } => RunMode::Whole,
    }
}

struct Joined<'a> {
    model: &'a Model,
    thread: usize,
    inputs: Vec<Option<Tensor>>,
    requests: &'a [Request],
    /// The rows of each request in the joined inputs.
    rows: Vec<Range<usize>>,
}

impl Joined<'_> {
    /// Answers `requests`; when they fail together, each half by itself, until the offending one is alone.
    /// Costs at most twice as many calls as there are requests.
    fn run(&self, requests: Range<usize>, answers: &mut Vec<Answered>, between: &mut dyn FnMut()) {
        let rows = self.rows[requests.start].start..self.rows[requests.end - 1].end;
        let how = how(self.model, &self.requests[requests.start]);
        if requests.len() == 1 || how == RunMode::Rows {
            let ran =
                self.run_together(requests.clone(), &rows, how, between).or_else(
                    |rejection| match rejection {
                        // The rows are not the outputs': now that this is known, the request runs in another
                        // way.
                        None if requests.len() == 1 => self.run_together(
                            requests.clone(),
                            &rows,
                            self::how(self.model, &self.requests[requests.start]),
                            between,
                        ),
                        rejection => Err(rejection),
                    },
                );
            match ran {
                Ok(encoded) => {
                    self.model.metrics.rows.inc_by(rows.len() as u64);
                    return answers.extend(encoded);
                }
                Err(rejection) if requests.len() == 1 => {
                    let unknown =
                        || Rejection::new(Code::InferenceFailed, "the model's outputs have no rows");
                    return answers.push(Err(rejection.unwrap_or_else(unknown)));
                }
                Err(_) => {}
            }
        }
        let middle = requests.start + requests.len() / 2;
        self.run(requests.start..middle, answers, between);
        self.run(middle..requests.end, answers, between);
    }

    /// One call of the model. Its failure means one of the requests, if there are several; nothing, that the
    /// outputs cannot be told apart by rows.
    fn run_together(
        &self,
        requests: Range<usize>,
        rows: &Range<usize>,
        how: RunMode,
        between: &mut dyn FnMut(),
    ) -> Result<Vec<Answered>, Option<Rejection>> {
        let (executor, metrics) = (&self.model.executor, &self.model.metrics);
        let mut inputs: Vec<_> =
            self.inputs.iter().map(|input| Some(self.part(input.as_ref()?, rows, how))).collect();
        let prepared = executor.input_adapter.prepare_batch(&inputs)?;
        if let Some(tokens) = &prepared {
            inputs = tokens.tensors.iter().map(|tensor| Some(tensor.lend())).collect();
        }
        let started = Instant::now();
        let ran = executor.run(self.thread, &inputs, rows.len(), how, between, |outputs| {
            metrics.histograms().inference.observe(started.elapsed().as_secs_f64());
            metrics.histograms().batch_rows.observe(rows.len() as f64);
            self.encode(requests.clone(), rows, how, prepared.as_ref(), outputs)
        });
        let reason = match ran {
            Ok(encoded) => return Ok(encoded),
            Err(RunFailure::NotRows { is_news }) => {
                if is_news {
                    tracing::warn!(
                        model = &*self.model.name,
                        version = &*self.model.version,
                        "an output has another number of rows than the inputs, so that its rows cannot be told apart: from now \
                         on each request runs alone"
                    );
                }
                return Err(None);
            }
            Err(RunFailure::TooLarge) => return Err(Some(encode::too_large())),
            Err(RunFailure::Failed(reason)) => reason,
        };
        if requests.len() == 1
            && let Some(rejection) = self.model.refused_value(&reason, &inputs)
        {
            return Err(Some(rejection));
        }
        let message = format!("the model {:?} failed on this request: {reason}", self.model.name);
        Err(Some(Rejection::new(Code::InferenceFailed, message)))
    }

    /// `rows` of one joined input.
    fn part<'t>(&self, input: &'t Tensor, rows: &Range<usize>, how: RunMode) -> (Vec<usize>, View<'t>) {
        let (mut shape, elements) = (input.shape.clone(), input.elements.view());
        let Signature { batched, row_by_row, .. } = self.model.signature;
        match how {
            // Instances without a dimension that counts them lie one behind the other.
            RunMode::EachRow if !batched && !row_by_row => {
                shape.insert(0, rows.len());
                return (shape, elements);
            }
            // A request that is no list of rows, alone.
            RunMode::Whole if !batched => return (shape, elements),
            RunMode::Rows | RunMode::EachRow | RunMode::Whole => {}
        }
        let row: usize = shape[1..].iter().product();
        shape[0] = rows.len();
        (shape, elements.slice(rows.start * row..rows.end * row))
    }

    fn encode(
        &self,
        requests: Range<usize>,
        rows: &Range<usize>,
        how: RunMode,
        tokens: Option<&TokenizedBatch>,
        outputs: &[Output<'_>],
    ) -> Vec<Answered> {
        let by_rows = how != RunMode::Whole;
        let (model, version) = (&*self.model.name, &*self.model.version);
        let served = ServedModel { model, version, batched: by_rows };
        let mut shapes: Vec<Vec<usize>> = outputs.iter().map(|output| output.shape.to_vec()).collect();
        let encode_one = |index: usize| {
            let request = &self.requests[index];
            if !by_rows {
                return encode::response(&request.response, outputs, &served);
            }
            let (from, to) = (self.rows[index].start - rows.start, self.rows[index].end - rows.start);
            let own: Vec<Output<'_>> = outputs
                .iter()
                .zip(&mut shapes)
                .map(|(output, shape)| {
                    if let Show::PerRow(_) = output.show {
                        return *output;
                    }
                    shape[0] = to - from;
                    if let Show::Missing = output.show {
                        return Output { shape, ..*output };
                    }
                    let row: usize = shape[1..].iter().product();
                    let elements = output.elements.slice(from * row..to * row);
                    Output { shape, elements, ..*output }
                })
                .collect();
            let signature = &self.model.signature;
            let lengths = match tokens {
                Some(tokens) => {
                    let length = tokens.tensors[0].shape[1];
                    let padded = vec![Padded { own: &tokens.lengths[from..to], length }];
                    Lengths { padded, padded_before: tokens.padded_before }
                }
                None => Lengths::of(request, signature),
            };
            encode::unpad::lend_unpadded(
                &request.response.protocol,
                &signature.unpads,
                &lengths,
                &own,
                |own| encode::response(&request.response, own, &served),
            )
        };
        requests.map(encode_one).collect()
    }
}
