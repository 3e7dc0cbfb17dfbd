//! Validates a declaration of texts against the bundle's tokenizer and the model's inputs, once, when a
//! version is loaded. Collects every problem.

use tokenizers::{
    PaddingDirection, PaddingStrategy, PostProcessor, TruncationDirection, TruncationParams,
    TruncationStrategy,
};

use super::declaration::{Side, Strategy, TextDeclaration};
use crate::tensor::ElementType;
use crate::tensor::signature::TensorSpec;

/// The usual padding tokens.
const PAD_TOKENS: [&str; 2] = ["[PAD]", "<pad>"];

/// The values that an input of the model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Ids,
    Mask,
    Types,
}

/// The padding of a call's texts.
#[derive(Debug)]
pub(super) struct Pad {
    pub(super) id: u32,
    pub(super) type_id: u32,
    pub(super) side: Side,
    /// The smallest number of tokens.
    pub(super) length: usize,
    pub(super) multiple_of: usize,
}

/// A declaration that fits the tokenizer and the model.
#[derive(Debug)]
pub(super) struct Checked {
    /// The role and the type of each of the model's inputs, in the model's order.
    pub(super) inputs: Vec<(Role, ElementType)>,
    /// Counts special tokens.
    pub(super) truncation: Option<TruncationParams>,
    pub(super) pad: Pad,
    /// Describes the part of the tokenizer's file that is not applied.
    pub(super) warning: Option<String>,
}

/// # Errors
/// Every problem of the declaration.
pub(super) fn check(
    tokenizer: &tokenizers::Tokenizer,
    text: &TextDeclaration,
    inputs: &[TensorSpec],
) -> Result<Checked, Vec<String>> {
    let mut problems = Vec::new();
    if !matches!(&text.fields[..], [_] | [_, _])
        || text.fields.iter().any(String::is_empty)
        || text.fields.get(1) == text.fields.first()
    {
        problems
            .push(format!("text.fields: expected one name, or two different ones, got {:?}", text.fields));
    }
    let roles = roles(text, inputs, &mut problems);
    let fixed = fixed_length(inputs, &mut problems);
    let truncation = truncation(tokenizer, text, fixed, &mut problems);
    let pad = pad(tokenizer, text, fixed, &mut problems);
    if text.max_bytes == 0 || text.max_tokens == 0 {
        problems.push(
            "text: a limit of 0 refuses every text, expected max_bytes and max_tokens of at least 1"
                .to_owned(),
        );
    }
    match pad {
        Some(pad) if problems.is_empty() => {
            let warning = ignored_padding(tokenizer, text, fixed);
            Ok(Checked { inputs: roles, truncation, pad, warning })
        }
        _ => Err(problems),
    }
}

/// The role of each of the model's inputs, each of which must have one.
fn roles(
    text: &TextDeclaration,
    inputs: &[TensorSpec],
    problems: &mut Vec<String>,
) -> Vec<(Role, ElementType)> {
    let keys = [
        ("input_ids", Role::Ids, &text.inputs.input_ids),
        ("attention_mask", Role::Mask, &text.inputs.attention_mask),
        ("token_type_ids", Role::Types, &text.inputs.token_type_ids),
    ];
    let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    for (key, _, declared) in &keys {
        if let Some(name) = declared
            && !names.contains(&name.as_str())
        {
            problems.push(format!(
                "text.inputs.{key}: the model has no input {name:?}, its inputs are {names:?}"
            ));
        }
    }
    let mut found = Vec::with_capacity(inputs.len());
    for TensorSpec { name, element, .. } in inputs {
        let mut takes = keys.iter().filter(|(key, _, declared)| declared.as_deref().unwrap_or(key) == name);
        match (takes.next(), takes.next()) {
            (Some((_, role, _)), None) => found.push((*role, *element)),
            (Some((one, ..)), Some((other, ..))) => {
                problems.push(format!(
                    "text.inputs: {one} and {other} both name input {name:?}, expected one each"
                ));
            }
            (None, _) => problems.push(format!(
                "text: nothing is known for input {name:?}: name it under text.inputs as input_ids, \
                 attention_mask or token_type_ids"
            )),
        }
    }
    if problems.is_empty() && !found.iter().any(|(role, _)| *role == Role::Ids) {
        problems.push(format!(
            "text: no input takes input_ids, the model's inputs are {names:?}: name it under text.inputs"
        ));
    }
    found
}

/// Tokens of every text, if the model fixes their number.
fn fixed_length(inputs: &[TensorSpec], problems: &mut Vec<String>) -> Option<usize> {
    let mut fixed = None;
    for input in inputs {
        let fits = matches!(input.element, ElementType::I64 | ElementType::I32 | ElementType::F32);
        let shape = input.shape.as_slice();
        if !fits || shape.len() != 2 {
            let dimensions = if shape.len() == 2 { "" } else { " of [batch, tokens]" };
            problems.push(format!(
                "text: input {:?} is {}, expected int64, int32 or float32{dimensions}",
                input.name,
                input.describe()
            ));
        }
        let [_, length] = shape else { continue };
        match (fixed, length.fixed()) {
            (Some(one), Some(other)) if one != other => problems.push(format!(
                "text: input {:?} takes {other} tokens, another input {one}; expected one length for all",
                input.name
            )),
            (_, length) => fixed = fixed.or(length),
        }
    }
    fixed
}

/// The truncation: as declared, otherwise as in the tokenizer's file. It is limited to the model's fixed
/// length, if there is one.
fn truncation(
    inner: &tokenizers::Tokenizer,
    text: &TextDeclaration,
    fixed: Option<usize>,
    problems: &mut Vec<String>,
) -> Option<TruncationParams> {
    let mut params = match (text.truncation, inner.get_truncation()) {
        (Some(declared), _) => TruncationParams {
            max_length: declared.max_length,
            direction: match declared.side {
                Side::Left => TruncationDirection::Left,
                Side::Right => TruncationDirection::Right,
            },
            strategy: match declared.strategy {
                Strategy::LongestFirst => TruncationStrategy::LongestFirst,
                Strategy::OnlyFirst => TruncationStrategy::OnlyFirst,
                Strategy::OnlySecond => TruncationStrategy::OnlySecond,
            },
            stride: 0,
        },
        (None, Some(own)) => {
            TruncationParams { max_length: own.max_length.min(fixed.unwrap_or(usize::MAX)), ..own.clone() }
        }
        (None, None) => TruncationParams { max_length: fixed?, ..TruncationParams::default() },
    };
    // A stride only affects the further windows of a text, which the model does not get.
    params.stride = 0;
    let is_pair = text.fields.len() == 2;
    if text.truncation.is_some() && params.strategy == TruncationStrategy::OnlySecond && !is_pair {
        let fields = &text.fields;
        problems.push(format!("text.truncation.strategy: only_second needs two text.fields, got {fields:?}"));
    }
    let max_length = params.max_length;
    if let Some(fixed) = fixed.filter(|fixed| max_length > *fixed) {
        problems.push(format!("text.truncation: {max_length} tokens are kept, but the model takes {fixed}"));
    }
    let added = added_tokens(inner, is_pair);
    if max_length == 0 || max_length < added {
        problems.push(format!(
            "text.truncation: {max_length} token(s) are kept, which is less than the {added} special \
             token(s) of {:?} and one",
            text.tokenizer
        ));
        return None;
    }
    Some(params)
}

/// The number of special tokens that are added to a text, or to a pair.
pub(super) fn added_tokens(inner: &tokenizers::Tokenizer, is_pair: bool) -> usize {
    inner.get_post_processor().map_or(0, |processor| processor.added_tokens(is_pair))
}

/// A warning about a fixed length of padding in the tokenizer's file. It is not applied, since the model does
/// not need it and each text would cost as much as the longest.
fn ignored_padding(
    inner: &tokenizers::Tokenizer,
    text: &TextDeclaration,
    fixed: Option<usize>,
) -> Option<String> {
    let PaddingStrategy::Fixed(length) = inner.get_padding()?.strategy else { return None };
    (text.padding.length.is_none() && fixed.is_none()).then(|| {
        format!(
            "{:?} pads every text to {length} tokens; the model takes any number, so texts are padded to the \
             longest of their call instead; declare text.padding.length: {length} in \"model.yaml\" to \
             follow the file",
            text.tokenizer
        )
    })
}

fn pad(
    inner: &tokenizers::Tokenizer,
    text: &TextDeclaration,
    fixed: Option<usize>,
    problems: &mut Vec<String>,
) -> Option<Pad> {
    let own = inner.get_padding();
    let declared = &text.padding;
    let length = declared.length.or(fixed).unwrap_or(0);
    let own_multiple = own.and_then(|own| own.pad_to_multiple_of).filter(|_| fixed.is_none());
    let multiple_of = declared.multiple_of.or(own_multiple).unwrap_or(1);
    if declared.length == Some(0) || multiple_of == 0 {
        problems.push("text.padding: 0 pads nothing, expected at least 1".to_owned());
        return None;
    }
    if let Some(fixed) = fixed.filter(|fixed| length.next_multiple_of(multiple_of) != *fixed) {
        let length = length.next_multiple_of(multiple_of);
        problems
            .push(format!("text.padding: texts are padded to {length} tokens, but the model takes {fixed}"));
    }
    let id = match &declared.token {
        Some(token) => inner
            .token_to_id(token)
            .ok_or(format!("text.padding.token: {:?} knows no token {token:?}", text.tokenizer)),
        None => own
            .map(|own| own.pad_id)
            .or_else(|| PAD_TOKENS.iter().find_map(|token| inner.token_to_id(token)))
            .ok_or(format!(
                "text.padding: {:?} names no padding token: declare text.padding.token",
                text.tokenizer
            )),
    };
    let own_side = own.map(|own| match own.direction {
        PaddingDirection::Left => Side::Left,
        PaddingDirection::Right => Side::Right,
    });
    let side = declared.side.or(own_side).unwrap_or_default();
    let id = id.map_err(|problem| problems.push(problem)).ok()?;
    Some(Pad { id, type_id: own.map_or(0, |own| own.pad_type_id), side, length, multiple_of })
}
