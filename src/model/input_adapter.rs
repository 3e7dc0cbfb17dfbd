//! Turns a request's tensors into the model's: unchanged, from named columns, from images, or from texts.

use std::path::Path;

use crate::error::{Code, Rejection};
use crate::model::batch_mode::BatchMode;
use crate::model::bundle::columns::Columns;
use crate::model::bundle::declaration::Declaration;
use crate::model::run::Input;
use crate::prepare::image::{ImageDeclaration, Plan};
use crate::prepare::text::{TextDeclaration, Tokenizer};
use crate::tensor::signature::{Dim, TensorSpec};
use crate::tensor::{ElementType, Elements, Tensor, View};

/// Limit of the elements that the images of one request become: 128 MiB of float32, or 222 images of 224 x
/// 224 pixels in three colours. One image is always accepted, whatever size the model takes.
const MAX_PREPARED: usize = 32 << 20;

/// The declared preparation of one version's requests.
#[derive(Debug)]
pub(crate) enum InputAdapter {
    /// The request's tensors are the model's.
    PassThrough,
    /// Named fields make some of the inputs.
    Columns(Box<Columns>),
    /// One of the inputs takes images. `is_unbatched`: each call takes one, though the input has a dimension
    /// that counts images.
    Image { input: usize, plan: Box<Plan>, is_unbatched: bool },
    /// All inputs are made from the one text of each row, or from its two. `fields`: their names in requests.
    Text { tokenizer: Box<Tokenizer>, fields: Vec<String> },
}

/// The tokens of a batch's texts.
#[derive(Debug)]
pub(crate) struct TokenizedBatch {
    pub(crate) tensors: Vec<Tensor>,
    /// Tokens of each text, without padding.
    pub(crate) lengths: Vec<usize>,
    /// True when padding precedes a text's tokens.
    pub(crate) padded_before: bool,
}

impl InputAdapter {
    /// Validates the declaration against the model's inputs and adds every problem to `problems`.
    pub(crate) fn new(
        declaration: &Declaration,
        inputs: &[TensorSpec],
        mode: BatchMode,
        folder: &Path,
        problems: &mut Vec<String>,
    ) -> Self {
        let Declaration { image, text, columns, .. } = declaration;
        let found = match (image, text, &columns[..]) {
            (None, None, []) => return Self::PassThrough,
            (Some(image), None, []) => Self::image(image, inputs, mode),
            (None, Some(text), []) => Self::text(text, inputs, mode, folder),
            (None, None, columns) => {
                if !mode.counts_rows() {
                    problems.push(
                        "columns: expected a model whose inputs and outputs count rows in their first \
                         dimension"
                            .to_owned(),
                    );
                }
                return Self::Columns(Box::new(Columns::new(columns, inputs, problems)));
            }
            _ => Err(vec!["expected one of image, text and columns, got several".to_owned()]),
        };
        found.unwrap_or_else(|more| {
            problems.extend(more);
            Self::PassThrough
        })
    }

    fn image(
        declared: &ImageDeclaration,
        inputs: &[TensorSpec],
        mode: BatchMode,
    ) -> Result<Self, Vec<String>> {
        let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
        let wanted = declared.input.as_deref();
        let found = match (wanted, inputs) {
            (Some(wanted), _) => names.iter().position(|name| *name == wanted),
            (None, [_]) => Some(0),
            (None, _) => None,
        };
        let Some(input) = found else {
            return Err(vec![format!("image.input: expected one of the inputs {names:?}, got {wanted:?}")]);
        };
        let is_unbatched = mode == BatchMode::Unbatched && counts_images(&inputs[input]);
        let mut spec = inputs[input].clone();
        if mode == BatchMode::Unbatched && !is_unbatched {
            // The declaration of an image expects a dimension that counts rows.
            spec.shape.insert(0, Dim::Any("rows".to_owned()));
        }
        Ok(Self::Image { input, plan: Box::new(declared.check(&spec)?), is_unbatched })
    }

    fn text(
        declared: &TextDeclaration,
        inputs: &[TensorSpec],
        mode: BatchMode,
        folder: &Path,
    ) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        if mode == BatchMode::Unbatched {
            problems
                .push("text: expected a model whose inputs count rows in their first dimension".to_owned());
        }
        let file = &declared.tokenizer;
        let tokenizer = std::fs::read(folder.join(file))
            .map_err(|error| vec![format!("text.tokenizer: cannot read {file:?}: {error}")])
            .and_then(|bytes| Tokenizer::load(&bytes, declared, inputs));
        match tokenizer {
            Ok(tokenizer) if problems.is_empty() => {
                return Ok(Self::Text { tokenizer: Box::new(tokenizer), fields: declared.fields.clone() });
            }
            Ok(_) => {}
            Err(more) => problems.extend(more),
        }
        Err(problems)
    }

    /// The inputs of a request.
    pub(crate) fn requested(&self, inputs: &[TensorSpec], mode: BatchMode) -> Vec<TensorSpec> {
        let row =
            || if mode == BatchMode::Unbatched { Vec::new() } else { vec![Dim::Any("rows".to_owned())] };
        let mut requested: Vec<TensorSpec> = inputs.iter().map(|spec| mode.as_requested(spec)).collect();
        match self {
            Self::PassThrough => {}
            Self::Columns(columns) => requested.clone_from(&columns.requested),
            Self::Image { input, .. } => {
                requested[*input] = TensorSpec::tensor(&inputs[*input].name, ElementType::Bytes, row());
            }
            Self::Text { fields, .. } => {
                let spec = |name: &String| TensorSpec::tensor(name, ElementType::String, row());
                requested = fields.iter().map(spec).collect();
            }
        }
        requested
    }

    /// A black image of the size that the model takes, as PNG; `None` for models that take none.
    pub(crate) fn sample_image(&self) -> Option<Vec<u8>> {
        let Self::Image { plan, .. } = self else { return None };
        let (width, height) = plan.size();
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Grayscale);
        let mut writer = encoder.write_header().ok()?;
        writer.write_image_data(&vec![0; width as usize * height as usize]).ok()?;
        writer.finish().ok()?;
        Some(bytes)
    }

    /// Elements of a row after [`Self::prepare_request`]; `None` where that changes nothing.
    pub(crate) fn elements_of_a_row(&self) -> Option<usize> {
        match self {
            Self::Image { plan, .. } => Some(plan.shape().iter().product()),
            Self::Columns(columns) => Some(columns.requested.len()),
            Self::PassThrough | Self::Text { .. } => None,
        }
    }

    /// Decodes the images of one request, or assembles its columns. Texts are prepared with their batch.
    ///
    /// # Errors
    /// The first bad image or column. Too many images for the memory limit, before any memory is taken.
    pub(crate) fn prepare_request(
        &self,
        tensors: &mut Vec<Option<Tensor>>,
        rows: usize,
    ) -> Result<(), Rejection> {
        if let Self::Columns(columns) = self {
            return columns.assemble(tensors, rows);
        }
        let Self::Image { input, plan, is_unbatched } = self else { return Ok(()) };
        let Some(tensor) = &mut tensors[*input] else { return Ok(()) };
        let Elements::Bytes(images) = &tensor.elements else {
            unreachable!("the signature says that the input takes bytes")
        };
        let row = plan.shape();
        let width: usize = row.iter().product();
        let most = (MAX_PREPARED / width.max(1)).max(1);
        let count = images.len();
        if count > most {
            let message = format!(
                "expected at most {most} image(s) in one request, each of which becomes {width} elements, \
                 got {count}; send them in several requests"
            );
            return Err(Rejection::new(Code::InputTooLarge, message));
        }
        plan.check_cost(images)?;
        let mut elements = Elements::with_capacity(plan.element(), count * width);
        for image in images {
            plan.prepare(image, &mut elements)?;
        }
        let mut shape = tensor.shape.clone();
        if *is_unbatched {
            shape.push(1);
        }
        shape.extend(row);
        *tensor = Tensor { shape, elements };
        Ok(())
    }

    /// The model's tensors for the texts of a batch, padded to the longest; `None` where inputs are not
    /// texts.
    pub(crate) fn prepare_batch(&self, requested: &[Input<'_>]) -> Result<Option<TokenizedBatch>, Rejection> {
        let Self::Text { tokenizer, .. } = self else { return Ok(None) };
        let (tensors, lengths) = match requested {
            [Some((_, View::String(texts)))] => tokenizer.prepare(texts, None)?,
            [Some((_, View::String(firsts))), Some((_, View::String(seconds)))] => {
                if firsts.len() != seconds.len() {
                    let message = format!(
                        "expected as many second texts as first ones, {}, got {}",
                        firsts.len(),
                        seconds.len()
                    );
                    return Err(Rejection::invalid(message));
                }
                tokenizer.prepare(firsts, Some(seconds))?
            }
            _ => unreachable!("the signature says that the inputs take one text or two"),
        };
        Ok(Some(TokenizedBatch { tensors, lengths, padded_before: tokenizer.pads_before() }))
    }
}

/// True when an input has a dimension that counts images, besides the three of an image.
fn counts_images(spec: &TensorSpec) -> bool {
    spec.shape.len() == 4 && matches!(spec.shape[0], Dim::Any(_) | Dim::Fixed(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_images_are_refused_before_memory_is_taken() {
        let shape = vec![Dim::Any("rows".to_owned()), Dim::Fixed(3), Dim::Fixed(224), Dim::Fixed(224)];
        let spec = TensorSpec::tensor("x", ElementType::F32, shape);
        let plan = Box::new(ImageDeclaration::default().check(&spec).unwrap());
        let input_adapter = InputAdapter::Image { input: 0, plan, is_unbatched: false };
        // The bytes are no images, which is found only if their number is accepted.
        for (rows, code) in
            [(222, Code::InvalidInput), (223, Code::InputTooLarge), (90_000, Code::InputTooLarge)]
        {
            let images = Elements::Bytes(vec![Vec::new(); rows]);
            let mut tensors = vec![Some(Tensor { shape: vec![rows], elements: images })];
            let rejection = input_adapter.prepare_request(&mut tensors, rows).unwrap_err();
            assert_eq!(rejection.code, code, "{rows}: {}", rejection.message);
            assert!(code == Code::InvalidInput || rejection.message.contains("at most 222 image(s)"));
        }
    }
}
