//! The inference threads, and what they do with a batch: run it, split it when it fails, encode each answer.
//!
//! Named threads, never the runtime's. They end when the channel of batches closes.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;

use crate::decode::{Id, Protocol, Request};
use crate::encode::unpad::{Lengths, Padded};
use crate::encode::{self, ServedModel};
use crate::engine::deadline;
use crate::engine::job::{Batch, Origin, Pending, Reply};
use crate::error::{Code, Rejection};
use crate::model::Model;
use crate::model::executor::{Failure, How};
use crate::model::input_adapter::Tokens;
use crate::model::onnx::sizes;
use crate::model::onnx::sizes::MOST_MADE_UP;
use crate::ops::health::Pulse;
use crate::ops::traces;
use crate::tensor::signature::Signature;
use crate::tensor::{self, Elements, Output, Show, Tensor, View};

/// The answer to one request: its body, or why there is none.
pub type Answered = Result<encode::Body, Rejection>;

/// One inference thread's life. Blocks.
pub fn run(
    thread: usize,
    pulse: &Pulse,
    batches: &Mutex<mpsc::Receiver<Batch>>,
    replies: &mpsc::Sender<Vec<Reply>>,
    running: &Running,
) {
    loop {
        // Whoever holds the lock waits for the next batch, the others wait for the lock: a queue with several takers.
        let next = batches.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(batch) = next else { return };
        let working = pulse.work();
        let answers = answer(thread, batch, running);
        drop(working);
        if replies.blocking_send(answers).is_err() {
            return;
        }
    }
}

/// The requests of the batch that a thread runs: out of its hands while it computes, so that a forced end, which cannot end the
/// call, can nack them.
#[derive(Debug, Default)]
pub struct Running(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    origins: Vec<Origin>,
    refused: Vec<Reply>,
    is_over: bool,
}

impl Running {
    /// Nacks what the thread runs, and whatever it begins.
    pub fn give_up(&self) {
        let mut held = self.lock();
        *held = Held { is_over: true, ..Held::default() };
    }

    fn hold(&self, origins: Vec<Origin>, refused: Vec<Reply>) {
        let mut held = self.lock();
        if !held.is_over {
            (held.origins, held.refused) = (origins, refused);
        }
    }

    /// Empty once they were given up.
    fn take(&self) -> (Vec<Origin>, Vec<Reply>) {
        let mut held = self.lock();
        (std::mem::take(&mut held.origins), std::mem::take(&mut held.refused))
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a batch, on the session of this inference thread.
pub fn answer(thread: usize, batch: Batch, running: &Running) -> Vec<Reply> {
    let Batch { model, mut requests } = batch;
    let _span = traces::batch(&model, &mut requests);
    let started = Instant::now();
    let mut origins: Vec<Origin> = Vec::with_capacity(requests.len());
    let mut decoded: Vec<Request> = Vec::with_capacity(requests.len());
    let mut replies = Vec::new();
    for pending in requests {
        if pending.origin.is_overdue(started) {
            pending.origin.report_overdue();
            pending.origin.give_up();
            continue;
        }
        model.metrics.distribution().queue.observe((started - pending.origin.received_at).as_secs_f64());
        match refusal(&model, &pending) {
            Some(rejection) => {
                let (id, model) = (pending.request.response.id, Some(Arc::clone(&model)));
                replies.push(Reply::refused(&rejection, id, model, pending.origin));
            }
            None => {
                decoded.push(pending.request);
                origins.push(pending.origin);
            }
        }
    }
    running.hold(origins, replies);
    let (ids, answers) = predict(&model, thread, decoded);
    let (origins, mut replies) = running.take();
    let mut largest = 0;
    replies.extend(answers.into_iter().zip(ids).zip(origins).map(|((answered, id), origin)| {
        let model = Some(Arc::clone(&model));
        match answered {
            Ok(body) => {
                let rows = origin.rows.max(1);
                let reply = Reply::answered(body, model, id, origin);
                largest = largest.max(reply.body.len().div_ceil(rows));
                reply
            }
            Err(rejection) => Reply::refused(&rejection, id, model, origin),
        }
    }));
    if largest > 0 {
        model.responded(largest);
    }
    replies
}

/// Why a request must not run, looked at last so that what has expired meanwhile costs nothing.
fn refusal(model: &Model, pending: &Pending) -> Option<Rejection> {
    let checked = model.check_version(pending.wanted_version.as_deref());
    checked.and_then(|()| deadline::check(pending.origin.deadline)).err()
}

/// Elements of the decoded pictures of several requests in memory at once: 16 MiB of float32.
const PREPARED: usize = 4 << 20;

/// Runs requests of one shape together and encodes each answer, in order, with the ids that the requests gave.
pub fn predict(model: &Model, thread: usize, requests: Vec<Request>) -> (Vec<Option<Id>>, Vec<Answered>) {
    let Some(width) = model.executor.intake.elements_of_a_row() else {
        return predict_together(model, thread, requests);
    };
    // Pictures are decoded here, on the inference threads, and only as many at a time as memory is meant for them.
    let mut ids: Vec<Option<Id>> = requests.iter().map(|_| None).collect();
    let mut answers: Vec<Option<Answered>> = requests.iter().map(|_| None).collect();
    let (mut group, mut places, mut elements) = (Vec::new(), Vec::new(), 0);
    let mut run = |group: &mut Vec<Request>, places: &mut Vec<usize>| {
        let (given, answered) = predict_together(model, thread, std::mem::take(group));
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
        if let Err(rejection) = model.executor.intake.prepare_request(&mut request.inputs, request.rows) {
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
    joined.run(0..requests.len(), &mut answers);
    (requests.into_iter().map(|request| request.response.id).collect(), answers)
}

/// Moves all requests' tensors into one for each input; their shapes stay with the requests.
fn join(requests: &mut [Request]) -> Option<Vec<Tensor>> {
    let (first, others) = requests.split_first_mut()?;
    let mut inputs: Vec<Tensor> = first
        .inputs
        .iter_mut()
        .map(|tensor| {
            let elements = std::mem::replace(&mut tensor.elements, Elements::U8(Vec::new()));
            Tensor { shape: tensor.shape.clone(), elements }
        })
        .collect();
    for other in others {
        for (joined, tensor) in inputs.iter_mut().zip(&mut other.inputs) {
            joined.elements.append(&mut tensor.elements);
            if let (Some(rows), Some(more)) = (joined.shape.first_mut(), tensor.shape.first()) {
                *rows += more;
            }
        }
    }
    Some(inputs)
}

/// How a request runs: where rows cannot run together, the instances of a list run one by one, and whole tensors (columns, v2) as
/// they stand.
fn how(model: &Model, request: &Request) -> How {
    match request.response.protocol {
        _ if model.executor.takes_rows() => How::Rows,
        Protocol::Rows => How::EachRow,
        Protocol::Columns | Protocol::V2 { .. } => How::Whole,
    }
}

struct Joined<'a> {
    model: &'a Model,
    thread: usize,
    inputs: Vec<Tensor>,
    requests: &'a [Request],
    /// The rows of each request in the joined inputs.
    rows: Vec<Range<usize>>,
}

impl Joined<'_> {
    /// Answers `requests`; when they fail together, each half by itself, until the guilty one is alone.
    /// Costs at most twice as many calls as there are requests.
    fn run(&self, requests: Range<usize>, answers: &mut Vec<Answered>) {
        let rows = self.rows[requests.start].start..self.rows[requests.end - 1].end;
        let how = how(self.model, &self.requests[requests.start]);
        if requests.len() == 1 || how == How::Rows {
            let ran = self.run_together(requests.clone(), &rows, how).or_else(|rejection| match rejection {
                // The rows are not the outputs': now that this is known, the request runs in another way.
                None if requests.len() == 1 => self.run_together(
                    requests.clone(),
                    &rows,
                    self::how(self.model, &self.requests[requests.start]),
                ),
                rejection => Err(rejection),
            });
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
        self.run(requests.start..middle, answers);
        self.run(middle..requests.end, answers);
    }

    /// One call of the model. Its failure means one of the requests, if there are several; nothing, that the outputs cannot be told
    /// apart by rows.
    fn run_together(
        &self,
        requests: Range<usize>,
        rows: &Range<usize>,
        how: How,
    ) -> Result<Vec<Answered>, Option<Rejection>> {
        let (executor, metrics) = (&self.model.executor, &self.model.metrics);
        let mut inputs: Vec<_> = self.inputs.iter().map(|input| self.part(input, rows, how)).collect();
        let prepared = executor.intake.prepare_batch(&inputs)?;
        if let Some(tokens) = &prepared {
            inputs =
                tokens.tensors.iter().map(|tensor| (tensor.shape.clone(), tensor.elements.view())).collect();
        }
        let started = Instant::now();
        let ran = executor.run(self.thread, &inputs, rows.len(), how, |outputs| {
            metrics.distribution().inference.observe(started.elapsed().as_secs_f64());
            metrics.distribution().batch_rows.observe(rows.len() as f64);
            self.encode(requests.clone(), rows, how, prepared.as_ref(), outputs)
        });
        let reason = match ran {
            Ok(encoded) => return Ok(encoded),
            Err(Failure::NotRows { is_news }) => {
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
            Err(Failure::TooLarge) => return Err(Some(encode::too_large())),
            Err(Failure::Failed(reason)) => reason,
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
    fn part<'t>(&self, input: &'t Tensor, rows: &Range<usize>, how: How) -> (Vec<usize>, View<'t>) {
        let (mut shape, elements) = (input.shape.clone(), input.elements.view());
        if tensor::elements::is_left_out(&shape, elements) {
            return (shape, elements);
        }
        let Signature { batched, row_by_row, .. } = self.model.signature;
        match how {
            // Instances without a dimension that counts them lie one behind the other.
            How::EachRow if !batched && !row_by_row => {
                shape.insert(0, rows.len());
                return (shape, elements);
            }
            // A request that is no list of rows, alone.
            How::Whole if !batched => return (shape, elements),
            How::Rows | How::EachRow | How::Whole => {}
        }
        let row: usize = shape[1..].iter().product();
        shape[0] = rows.len();
        (shape, elements.slice(rows.start * row..rows.end * row))
    }

    fn encode(
        &self,
        requests: Range<usize>,
        rows: &Range<usize>,
        how: How,
        tokens: Option<&Tokens>,
        outputs: &[Output<'_>],
    ) -> Vec<Answered> {
        let by_rows = how != How::Whole;
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

/// One run on zeros, so that the first request does not pay for what ONNX Runtime sets up lazily.
pub fn warm_up(model: &Model, thread: usize) -> Result<(), String> {
    let inputs = &model.executor.inputs;
    if sizes::bytes(inputs, 1).is_none_or(|bytes| bytes > MOST_MADE_UP) {
        return Err("its inputs are too large to be made up".to_owned());
    }
    let zeros: Vec<(Vec<usize>, Elements)> = inputs
        .iter()
        .map(|spec| {
            let shape: Vec<usize> = spec.shape.iter().map(|dim| dim.fixed().unwrap_or(1)).collect();
            let count = shape.iter().product();
            (shape, spec.zeros(count))
        })
        .collect();
    let inputs: Vec<_> = zeros.iter().map(|(shape, elements)| (shape.clone(), elements.view())).collect();
    model.executor.run(thread, &inputs, 1, How::Whole, |_| ()).map_err(|failure| match failure {
        Failure::Failed(reason) => reason,
        Failure::NotRows { .. } | Failure::TooLarge => "the model's outputs have no rows".to_owned(),
    })
}
