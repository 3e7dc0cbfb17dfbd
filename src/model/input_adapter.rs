//! What stands between a request's tensors and the model's: nothing, pictures to decode, or texts to split into tokens.

use std::path::Path;

use crate::error::{Code, Rejection};
use crate::model::batch_mode::Rows;
use crate::model::bundle::columns::Columns;
use crate::model::bundle::declaration::Declaration;
use crate::prepare::image::Plan;
use crate::prepare::text::Tokenizer;
use crate::tensor::signature::{Dim, TensorSpec, ValueKind};
use crate::tensor::{ElementType, Elements, Tensor, View};

/// Elements that the pictures of one request may become: 128 MiB of float32, 222 pictures of 224 x 224 in three colours. One
/// picture is always taken, as large as the model wants it.
const MAX_PREPARED: usize = 32 << 20;

/// How one version takes its requests.
#[derive(Debug)]
pub(crate) enum Intake {
    /// The request's tensors are the model's.
    AsTheyAre,
    /// Named fields make up some of the inputs.
    Columns(Box<Columns>),
    /// One of the inputs takes images. `is_one`: one a call, though the input begins with a dimension for several.
    Image { input: usize, plan: Box<Plan>, is_one: bool },
    /// All inputs come from the one text of each row, or its two; requests call them so.
    Text { tokenizer: Box<Tokenizer>, fields: Vec<String> },
}

/// The texts of a batch as the model takes them.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) tensors: Vec<Tensor>,
    /// How many tokens of each text are its own.
    pub(crate) lengths: Vec<usize>,
    pub(crate) padded_before: bool,
}

impl Intake {
    /// Holds the declaration against the model's inputs and adds every problem that it finds to `problems`.
    pub(crate) fn new(
        declaration: &Declaration,
        inputs: &[TensorSpec],
        rows: Rows,
        folder: &Path,
        problems: &mut Vec<String>,
    ) -> Self {
        let declared =
            [declaration.image.is_some(), declaration.text.is_some(), !declaration.columns.is_empty()];
        if declared.into_iter().filter(|declared| *declared).count() > 1 {
            problems.push("expected one of image, text and columns, got several".to_owned());
            return Self::AsTheyAre;
        }
        if !declaration.columns.is_empty() {
            if !matches!(rows, Rows::Any | Rows::Fixed(_)) {
                problems.push(
                    "columns: expected a model whose inputs and outputs count rows in their first dimension"
                        .to_owned(),
                );
            }
            return Self::Columns(Box::new(Columns::new(&declaration.columns, inputs, problems)));
        }
        match (&declaration.image, &declaration.text) {
            (None, None) => Self::AsTheyAre,
            (Some(_), Some(_)) => unreachable!("refused above"),
            (Some(image), None) => {
                let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
                let wanted = image.input.as_deref();
                let found = match (wanted, inputs) {
                    (Some(wanted), _) => names.iter().position(|name| *name == wanted),
                    (None, [_]) => Some(0),
                    (None, _) => None,
                };
                let Some(input) = found else {
                    problems
                        .push(format!("image.input: expected one of the inputs {names:?}, got {wanted:?}"));
                    return Self::AsTheyAre;
                };
                let is_one = rows == Rows::One && takes_several(&inputs[input]);
                let spec = if rows == Rows::One && !is_one {
                    with_rows(&inputs[input])
                } else {
                    inputs[input].clone()
                };
                match image.check(&spec) {
                    Ok(plan) => Self::Image { input, plan: Box::new(plan), is_one },
                    Err(more) => {
                        problems.extend(more);
                        Self::AsTheyAre
                    }
                }
            }
            (None, Some(text)) => {
                if rows == Rows::One {
                    problems.push(
                        "text: expected a model whose inputs count rows in their first dimension".to_owned(),
                    );
                }
                let bytes = std::fs::read(folder.join(&text.tokenizer));
                let tokenizer = bytes
                    .map_err(|error| {
                        vec![format!("text.tokenizer: cannot read {:?}: {error}", text.tokenizer)]
                    })
                    .and_then(|bytes| Tokenizer::load(&bytes, text, inputs));
                match tokenizer {
                    Ok(tokenizer) => {
                        Self::Text { tokenizer: Box::new(tokenizer), fields: text.fields.clone() }
                    }
                    Err(more) => {
                        problems.extend(more);
                        Self::AsTheyAre
                    }
                }
            }
        }
    }

    /// The inputs that a request gives for the model's.
    pub(crate) fn requested(&self, inputs: &[TensorSpec], rows: Rows) -> Vec<TensorSpec> {
        let row = || if rows == Rows::One { Vec::new() } else { vec![Dim::Any("rows".to_owned())] };
        let mut requested: Vec<TensorSpec> = inputs.iter().map(|spec| rows.as_requested(spec)).collect();
        match self {
            Self::AsTheyAre => {}
            Self::Columns(columns) => requested.clone_from(&columns.requested),
            Self::Image { input, .. } => {
                requested[*input].element = ElementType::Bytes;
                requested[*input].shape = row();
                requested[*input].kind = ValueKind::Tensor;
            }
            Self::Text { fields, .. } => {
                let spec = |name: &String| TensorSpec {
                    name: name.clone(),
                    element: ElementType::String,
                    shape: row(),
                    kind: ValueKind::Tensor,
                };
                requested = fields.iter().map(spec).collect();
            }
        }
        requested
    }

    /// Width and height in pixels of what the model takes.
    pub(crate) fn picture_size(&self) -> Option<(u32, u32)> {
        if let Self::Image { plan, .. } = self { Some(plan.size()) } else { None }
    }

    /// How many elements a row has once its request was prepared; none where requests are not prepared one by one.
    pub(crate) fn elements_of_a_row(&self) -> Option<usize> {
        match self {
            Self::Image { plan, .. } => Some(plan.shape().iter().product()),
            Self::Columns(columns) => Some(columns.requested.len()),
            Self::AsTheyAre | Self::Text { .. } => None,
        }
    }

    /// Decodes the pictures of one request, `rows` of them, or puts its columns together. Texts wait until their batch is known.
    ///
    /// # Errors
    /// The first picture's that is none, or the first column's; more pictures than may be in memory at once, before it is taken.
    pub(crate) fn prepare_request(&self, tensors: &mut Vec<Tensor>, rows: usize) -> Result<(), Rejection> {
        if let Self::Columns(columns) = self {
            return columns.assemble(tensors, rows);
        }
        let Self::Image { input, plan, is_one } = self else { return Ok(()) };
        let tensor = &mut tensors[*input];
        let Elements::Bytes(pictures) = &tensor.elements else {
            unreachable!("the signature says that the input takes bytes")
        };
        let row = plan.shape();
        let width: usize = row.iter().product();
        let most = (MAX_PREPARED / width.max(1)).max(1);
        let rows = pictures.len();
        if rows > most {
            let message = format!(
                "expected at most {most} picture(s) in one request, each of which becomes {width} elements, got {rows}; send them \
                 in several requests"
            );
            return Err(Rejection::new(Code::InputTooLarge, message));
        }
        plan.check_cost(pictures)?;
        let mut elements = Elements::with_capacity(plan.element(), rows * width);
        for picture in pictures {
            plan.prepare(picture, &mut elements)?;
        }
        let mut shape = tensor.shape.clone();
        if *is_one {
            shape.push(1);
        }
        shape.extend(row);
        *tensor = Tensor { shape, elements };
        Ok(())
    }

    /// The model's tensors for the texts of a batch, filled up to the longest.
    pub(crate) fn prepare_batch(
        &self,
        requested: &[(Vec<usize>, View<'_>)],
    ) -> Result<Option<Tokens>, Rejection> {
        let Self::Text { tokenizer, .. } = self else { return Ok(None) };
        let (tensors, lengths) = match requested {
            [(_, View::String(texts))] => tokenizer.prepare(texts, None)?,
            [(_, View::String(firsts)), (_, View::String(seconds))] => {
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
        Ok(Some(Tokens { tensors, lengths, padded_before: tokenizer.pads_before() }))
    }
}

/// True when an input of images begins with a dimension that counts them: beside it, an image has three.
fn takes_several(spec: &TensorSpec) -> bool {
    spec.shape.len() == 4 && matches!(spec.shape[0], Dim::Any(_) | Dim::Fixed(1))
}

/// An input as if rows were counted, which is how an image's place is checked.
fn with_rows(spec: &TensorSpec) -> TensorSpec {
    let mut spec = spec.clone();
    spec.shape.insert(0, Dim::Any("rows".to_owned()));
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::image::Image;

    #[test]
    fn more_pictures_than_memory_is_meant_for_are_refused_before_it_is_taken() {
        let shape = vec![Dim::Any("rows".to_owned()), Dim::Fixed(3), Dim::Fixed(224), Dim::Fixed(224)];
        let spec =
            TensorSpec { name: "x".to_owned(), element: ElementType::F32, shape, kind: ValueKind::Tensor };
        let plan = Box::new(Image::default().check(&spec).unwrap());
        let intake = Intake::Image { input: 0, plan, is_one: false };
        // Their bytes are no pictures: as many as fit get as far as that.
        for (rows, code) in
            [(222, Code::InvalidInput), (223, Code::InputTooLarge), (90_000, Code::InputTooLarge)]
        {
            let pictures = Elements::Bytes(vec![Vec::new(); rows]);
            let mut tensors = vec![Tensor { shape: vec![rows], elements: pictures }];
            let rejection = intake.prepare_request(&mut tensors, rows).unwrap_err();
            assert_eq!(rejection.code, code, "{rows}: {}", rejection.message);
            assert!(code == Code::InvalidInput || rejection.message.contains("at most 222 picture(s)"));
        }
    }
}
