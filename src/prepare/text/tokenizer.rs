//! The bundle's tokenizer, fitted to the model's inputs. Encodes on the caller's thread; safe to share.

use tokenizers::{
    Encoding, PaddingDirection, PaddingStrategy, PostProcessor, TruncationDirection, TruncationParams,
    TruncationStrategy, truncate_encodings,
};

use super::{Side, Text};
use crate::error::{Code, Rejection};
use crate::prepare::survive::survive;
use crate::signature::TensorSpec;
use crate::tensor::{ElementType, Elements, Tensor};

/// Names that a padding token usually has.
const PAD_TOKENS: [&str; 2] = ["[PAD]", "<pad>"];

/// Texts to token ids, checked against the model.
#[derive(Debug)]
pub struct Tokenizer {
    /// Cuts single texts; pairs are not left to it.
    inner: tokenizers::Tokenizer,
    /// How pairs are cut before special tokens are added.
    cut_pairs: Option<TruncationParams>,
    special_tokens: bool,
    /// What each of the model's inputs takes, in the model's order.
    inputs: Vec<(Role, ElementType)>,
    pad: Pad,
    max_bytes: usize,
    max_tokens: usize,
}

/// What an input of the model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Ids,
    Mask,
    Types,
}

#[derive(Debug)]
struct Pad {
    id: u32,
    type_id: u32,
    side: Side,
    /// At least so many tokens.
    length: usize,
    multiple_of: usize,
}

impl Tokenizer {
    /// From the bytes of the tokenizer's file, or every reason why it and its declaration do not fit the model.
    pub fn load(bytes: &[u8], text: &Text, inputs: &[TensorSpec]) -> Result<Self, Vec<String>> {
        let mut inner = guarded(|| tokenizers::Tokenizer::from_bytes(bytes)).map_err(|error| {
            vec![format!("text.tokenizer: {:?} is no tokenizer: {error}", text.tokenizer)]
        })?;
        let mut problems = Vec::new();
        if !matches!(&text.fields[..], [_] | [_, _])
            || text.fields.iter().any(String::is_empty)
            || text.fields.get(1) == text.fields.first()
        {
            problems
                .push(format!("text.fields: expected one name or two unlike ones, got {:?}", text.fields));
        }
        let roles = roles(text, inputs, &mut problems);
        let fixed = fixed_length(inputs, &mut problems);
        set_truncation(&mut inner, text, fixed, &mut problems);
        let pad = pad(&inner, text, fixed, &mut problems);
        let mut cut_pairs = None;
        if text.fields.len() == 2 {
            let added = inner.get_post_processor().map_or(0, |processor| processor.added_tokens(true));
            let added = if text.special_tokens { added } else { 0 };
            cut_pairs = inner.get_truncation().cloned();
            cut_pairs.iter_mut().for_each(|cut| cut.max_length = cut.max_length.saturating_sub(added));
            inner.with_truncation(None).map_err(|error| vec![format!("text.truncation: {error}")])?;
        }
        inner.with_padding(None);
        if text.max_bytes == 0 || text.max_tokens == 0 {
            problems.push(
                "text: a limit of 0 refuses every text, expected max_bytes and max_tokens of at least 1"
                    .to_owned(),
            );
        }
        match pad {
            Some(pad) if problems.is_empty() => Ok(Self {
                inner,
                cut_pairs,
                special_tokens: text.special_tokens,
                inputs: roles,
                pad,
                max_bytes: text.max_bytes,
                max_tokens: text.max_tokens,
            }),
            _ => Err(problems),
        }
    }

    /// Whether padding stands before a text's tokens.
    pub fn pads_before(&self) -> bool {
        self.pad.side == Side::Left
    }

    /// One tensor `[texts, tokens]` for each of the model's inputs, and how many tokens of each text are its own. `seconds` has the second text of
    /// every pair, where the declaration has two fields.
    pub fn prepare(
        &self,
        texts: &[String],
        seconds: Option<&[String]>,
    ) -> Result<(Vec<Tensor>, Vec<usize>), Rejection> {
        if texts.is_empty() {
            return Err(Rejection::invalid("expected at least one text, but none came"));
        }
        let mut encodings = Vec::with_capacity(texts.len());
        let mut longest = self.pad.length;
        for (index, text) in texts.iter().enumerate() {
            let second = seconds.map(|seconds| seconds[index].as_str());
            let came = text.len().max(second.map_or(0, str::len));
            if came > self.max_bytes {
                let most = self.max_bytes;
                let message =
                    format!("text {index} has {came} bytes, at most {most} are allowed; send a shorter one");
                return Err(Rejection::new(Code::InputTooLarge, message));
            }
            let encoded = guarded(|| match second {
                Some(second) => self.encode_pair(text, second),
                None => self.inner.encode_fast(text.as_str(), self.special_tokens),
            });
            let encoding = encoded
                .map_err(|error| Rejection::invalid(format!("text {index} cannot be tokenized: {error}")))?;
            longest = longest.max(encoding.len());
            let width = longest.next_multiple_of(self.pad.multiple_of);
            let tokens = width.saturating_mul(texts.len());
            if tokens > self.max_tokens {
                let (texts, most) = (texts.len(), self.max_tokens);
                let message = format!(
                    "{texts} text(s) of {width} tokens with padding make {tokens}, at most {most} are allowed; send fewer or \
                     shorter ones"
                );
                return Err(Rejection::new(Code::InputTooLarge, message));
            }
            encodings.push(encoding);
        }
        let width = longest.next_multiple_of(self.pad.multiple_of);
        if width == 0 {
            return Err(Rejection::invalid("expected at least one token, but every text is empty"));
        }
        let tensors = self.inputs.iter().map(|(role, element)| {
            let elements = self.elements(&encodings, width, *role, *element);
            Tensor { shape: vec![encodings.len(), width], elements }
        });
        Ok((tensors.collect(), encodings.iter().map(Encoding::len).collect()))
    }

    /// As the tokenizer's own `encode` of a pair, but cut as `tokenizers` has it since 0.23.3 and had it before 0.23: in between,
    /// both texts are cut to the whole length first, and which one is the longer is lost.
    fn encode_pair(&self, first: &str, second: &str) -> tokenizers::Result<Encoding> {
        let mut pair = [self.inner.encode(first, false)?, self.inner.encode(second, false)?];
        let count = pair[1].len();
        pair[1].set_type_ids(vec![1; count]);
        let [first, second] = pair;
        let (first, second) = match &self.cut_pairs {
            Some(cut) => truncate_encodings(first, Some(second), cut)?,
            None => (first, Some(second)),
        };
        self.inner.post_process(first, second, self.special_tokens)
    }

    fn elements(&self, encodings: &[Encoding], width: usize, role: Role, element: ElementType) -> Elements {
        let (values, filler): (fn(&Encoding) -> &[u32], u32) = match role {
            Role::Ids => (Encoding::get_ids, self.pad.id),
            Role::Mask => (Encoding::get_attention_mask, 0),
            Role::Types => (Encoding::get_type_ids, self.pad.type_id),
        };
        let rows = encodings.iter().flat_map(|encoding| {
            let values = values(encoding);
            let missing = width - values.len();
            let (before, after) = if self.pad.side == Side::Left { (missing, 0) } else { (0, missing) };
            let fill = |count| std::iter::repeat_n(filler, count);
            fill(before).chain(values.iter().copied()).chain(fill(after))
        });
        match element {
            ElementType::I64 => Elements::I64(rows.map(i64::from).collect()),
            ElementType::I32 => Elements::I32(rows.map(u32::cast_signed).collect()),
            ElementType::F32 => Elements::F32(rows.map(|value| value as f32).collect()),
            other => unreachable!("an input of {other} was accepted"),
        }
    }
}

/// A file that `tokenizers` panics on, or a text, must cost no more than its version or its request.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    survive(work).unwrap_or_else(|| Err("it defeats the tokenizer".into()))
}

/// What each input takes; every input of the model must take something.
fn roles(text: &Text, inputs: &[TensorSpec], problems: &mut Vec<String>) -> Vec<(Role, ElementType)> {
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
                problems.push(format!("text.inputs: {one} and {other} both name input {name:?}, expected one each"));
            }
            (None, _) => problems.push(format!(
                "text: nothing is known for input {name:?}: name it under text.inputs as input_ids, attention_mask or \
                 token_type_ids"
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

/// Tokens of every text, where the model fixes that.
fn fixed_length(inputs: &[TensorSpec], problems: &mut Vec<String>) -> Option<usize> {
    let mut fixed = None;
    for input in inputs {
        let fits = matches!(input.element, ElementType::I64 | ElementType::I32 | ElementType::F32);
        let [_, length] = input.shape.as_slice() else {
            problems.push(format!(
                "text: input {:?} is {}, expected int64, int32 or float32 of [batch, tokens]",
                input.name,
                input.describe()
            ));
            continue;
        };
        if !fits {
            problems.push(format!(
                "text: input {:?} is {}, expected int64, int32 or float32",
                input.name,
                input.describe()
            ));
        }
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

fn set_truncation(
    inner: &mut tokenizers::Tokenizer,
    text: &Text,
    fixed: Option<usize>,
    problems: &mut Vec<String>,
) {
    let own = inner.get_truncation().map(|own| (own.max_length, own.direction));
    let declared = text.truncation.map(|declared| (declared.max_length, truncation_side(declared.side)));
    let Some((max_length, direction)) = declared.or_else(|| match (own, fixed) {
        (Some((length, side)), Some(fixed)) => Some((length.min(fixed), side)),
        (own, fixed) => own.or_else(|| Some((fixed?, TruncationDirection::Right))),
    }) else {
        return;
    };
    if let Some(fixed) = fixed.filter(|fixed| max_length > *fixed) {
        problems.push(format!("text.truncation: {max_length} tokens are kept, but the model takes {fixed}"));
    }
    let added =
        inner.get_post_processor().map_or(0, |processor| processor.added_tokens(text.fields.len() == 2));
    if max_length == 0 || max_length < added {
        problems.push(format!(
            "text.truncation: {max_length} token(s) are kept, which is less than the {added} special token(s) of {:?} and one",
            text.tokenizer
        ));
        return;
    }
    let params =
        TruncationParams { max_length, direction, strategy: TruncationStrategy::LongestFirst, stride: 0 };
    if let Err(error) = inner.with_truncation(Some(params)) {
        problems.push(format!("text.truncation: {error}"));
    }
}

fn pad(
    inner: &tokenizers::Tokenizer,
    text: &Text,
    fixed: Option<usize>,
    problems: &mut Vec<String>,
) -> Option<Pad> {
    let own = inner.get_padding();
    let declared = &text.padding;
    let own_length = own.and_then(|own| match own.strategy {
        PaddingStrategy::Fixed(length) => Some(length),
        PaddingStrategy::BatchLongest => None,
    });
    let length = declared.length.or(fixed).or(own_length).unwrap_or(0);
    let own_multiple = own.and_then(|own| own.pad_to_multiple_of).filter(|_| fixed.is_none());
    let multiple_of = declared.multiple_of.or(own_multiple).unwrap_or(1);
    if declared.length == Some(0) || multiple_of == 0 {
        problems.push("text.padding: 0 fills up nothing, expected at least 1".to_owned());
        return None;
    }
    if let Some(fixed) = fixed.filter(|fixed| length.next_multiple_of(multiple_of) != *fixed) {
        let length = length.next_multiple_of(multiple_of);
        problems
            .push(format!("text.padding: texts are brought to {length} tokens, but the model takes {fixed}"));
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
    match id {
        Ok(id) => Some(Pad { id, type_id: own.map_or(0, |own| own.pad_type_id), side, length, multiple_of }),
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

fn truncation_side(side: Side) -> TruncationDirection {
    match side {
        Side::Left => TruncationDirection::Left,
        Side::Right => TruncationDirection::Right,
    }
}
