//! Loads one version from its files: opens it, warms it up, and runs its samples.

use super::samples;
use crate::lifecycle::warm_up::warm_up;
use crate::model::Model;
use crate::model::bundle::{Bundle, Problem};
use crate::model::executor::Executor;
use crate::model::input_adapter::InputAdapter;
use crate::model::onnx::runtime::Runtime;
use crate::model::open::OpenedModel;
use crate::model::sharing::Evidence;
use crate::ops::reload_spans::blocking_phase;
use crate::prepare::text::TOKENIZER;

/// Loads one version from its folder. Blocks for seconds to minutes, so it must not run on the async
/// runtime's threads.
pub fn load(
    runtime: &Runtime,
    folder: &std::path::Path,
    name: &str,
    version: &str,
    from: String,
) -> Result<Model, Problem> {
    let of = Some((name, version));
    let (bundle, opened) = blocking_phase("load", of, || {
        let bundle = Bundle::open(folder)?;
        let refused = |error: anyhow::Error| Problem::Refused(format!("{error:#}"));
        let opened = OpenedModel::open(runtime, &bundle).map_err(refused)?;
        Ok::<_, Problem>((bundle, opened))
    })?;
    for reason in warnings(&bundle, &opened.executor) {
        tracing::warn!(model = name, version, reason, "a file of the version is ignored");
    }
    let mut model = Model::new(name, version, from, bundle.declaration, opened);
    for thread in 0..model.executor.threads() {
        // A model may refuse zeros, such as an index out of its table. The failed call has warmed it up all
        // the same.
        if let Err(reason) = warm_up(&model, thread) {
            tracing::debug!(model = name, version, reason, "the warm-up with zeros failed");
        }
    }
    blocking_phase("check", of, || samples::check(&model, &model.declaration.samples))
        .map_err(Problem::Refused)?;
    samples::try_rows(&mut model);
    model.executor.loaded();
    let batching = model.executor.batching();
    if model.executor.sharing.evidence == Evidence::Unknown {
        tracing::warn!(
            model = name,
            version,
            batching,
            hint = "if each row's result depends on that row alone, declare `batching: {dimension: rows}` in \
             model.yaml, or give samples that show it",
            "requests do not share calls"
        );
    } else {
        tracing::info!(model = name, version, batching, "version loaded");
    }
    Ok(model)
}

/// Warnings about files of the bundle that are ignored, and the way to apply them.
fn warnings(bundle: &Bundle, executor: &Executor) -> Vec<String> {
    let padding = match &executor.input_adapter {
        InputAdapter::Text { tokenizer, .. } => tokenizer.warning().map(str::to_owned),
        _ => None,
    };
    let is_unused = bundle.declaration.text.is_none() && bundle.folder.join(TOKENIZER).exists();
    let unused = is_unused.then(|| {
        format!(
            "{TOKENIZER:?} is there, but \"model.yaml\" has no text part, so requests must send token ids; \
             declare text: {{}} there to take texts"
        )
    });
    padding.into_iter().chain(unused).collect()
}
