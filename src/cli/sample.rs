//! Sample requests of a model: the examples of its bundle, and one in each form that fits it, made of zeros
//! of the right shape. Only requests that the model answers are shown.

use std::collections::HashMap;

use super::predict::predict;
use crate::model::{Model, Models};
use crate::sample::{Body, Sample, Zeros};
use crate::tensor::signature::ValueKind;

/// Lengths of free dimensions to try: convolutions and poolings need a minimal height and width.
const SIZES: [usize; 5] = [1, 8, 32, 64, 224];
/// Most further dimensions to try where a model leaves their number open.
const MOST_OPEN: usize = 4;
/// Strings to try: some models parse them as numbers.
const TEXTS: [&str; 2] = ["a", "0"];

/// The examples of the bundle, then the forms in which the model answers zeros. Requests that it refuses are
/// left out.
pub fn samples(models: &Models, model: &Model, serving_example: Option<String>) -> Vec<Sample> {
    let declared = model.declaration.samples.iter().map(|sample| ("sample", sample.request.to_string()));
    let given = declared.chain(serving_example.map(|body| ("mlflow-example", body)));
    let mut examples: Vec<Sample> =
        given.map(|(protocol, body)| Sample::new(model, protocol, &[], Body::Text(body))).collect();
    examples.retain(|sample| is_answered(sample, models));
    examples.extend(zeros(models, model));
    examples
}

/// Tries sizes and strings until the model answers a request of zeros.
fn zeros(models: &Models, model: &Model) -> Vec<Sample> {
    let image = model.executor.input_adapter.sample_image();
    let has_open_rank = model.signature.inputs.iter().any(|spec| spec.kind == ValueKind::OpenRank);
    let ranks = if has_open_rank { 0..=MOST_OPEN } else { 0..=0 };
    let tries =
        ranks.flat_map(|open| TEXTS.into_iter().flat_map(move |text| SIZES.map(|size| (open, text, size))));
    for (open, text, size) in tries {
        let zeros = Zeros { model, text, size, open, image: image.as_deref() };
        if zeros.is_too_large() {
            continue;
        }
        let mut samples = zeros.samples();
        samples.retain(|sample| is_answered(sample, models));
        if !samples.is_empty() {
            return samples;
        }
    }
    Vec::new()
}

fn is_answered(sample: &Sample, models: &Models) -> bool {
    let attributes = sample.attributes.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
    let attributes: HashMap<String, String> = attributes.collect();
    predict(models, sample.body.bytes(), attributes).is_prediction
}
