//! The bundle's tokenizer, fitted to the model's inputs. Encodes on the caller's thread; safe to share.

use tokenizers::utils::truncation::TruncationError;
use tokenizers::{
    Encoding, PaddingDirection, PaddingStrategy, PostProcessor, TruncationDirection, TruncationParams,
    TruncationStrategy, truncate_encodings,
};

use super::{Side, Strategy, Text};
use crate::error::{Code, Rejection};
use crate::prepare::survive::survive;
use crate::tensor::signature::TensorSpec;
use crate::tensor::{ElementType, Elements, Tensor};

/// Names that a padding token usually has.
const PAD_TOKENS: [&str; 2] = ["[PAD]", "<pad>"];

/// Oniguruma reads an expression by recursion, 4096 deep at most: more than the 2 MiB that threads usually
/// have.
const PARSING_STACK: usize = 64 << 20;

/// Texts to token ids, checked against the model.
#[derive(Debug)]
pub struct Tokenizer {
    /// Cuts single texts; pairs are not left to it.
    inner: tokenizers::Tokenizer,
    /// How texts are cut, special tokens included.
    truncation: Option<TruncationParams>,
    /// Special tokens of a pair.
    added_to_pairs: usize,
    special_tokens: bool,
    /// What each of the model's inputs takes, in the model's order.
    inputs: Vec<(Role, ElementType)>,
    pad: Pad,
    max_bytes: usize,
    max_tokens: usize,
    /// The part of the tokenizer's file that is not followed.
    warning: Option<String>,
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
        let mut inner = parse(bytes).map_err(|error| {
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
        let truncation = truncation(&inner, text, fixed, &mut problems);
        let pad = pad(&inner, text, fixed, &mut problems);
        let warning = unfollowed_padding(&inner, text, fixed);
        let is_pair = text.fields.len() == 2;
        let added_to_pairs = if text.special_tokens && is_pair { added_tokens(&inner, true) } else { 0 };
        inner
            .with_truncation(truncation.clone().filter(|_| !is_pair))
            .map_err(|error| vec![format!("text.truncation: {error}")])?;
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
                truncation,
                added_to_pairs,
                special_tokens: text.special_tokens,
                inputs: roles,
                pad,
                max_bytes: text.max_bytes,
                max_tokens: text.max_tokens,
                warning,
            }),
            _ => Err(problems),
        }
    }

    /// Whether padding stands before a text's tokens.
    pub fn pads_before(&self) -> bool {
        self.pad.side == Side::Left
    }

    /// The part of the tokenizer's file that is not followed, for the operator.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
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
            let encoding = encoded.map_err(|error| match error.downcast_ref::<TruncationError>() {
                Some(_) => self.does_not_fit(index),
                None => Rejection::invalid(format!("text {index} cannot be tokenized: {error}")),
            })?;
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

    /// The text that may be cut leaves no room for the other, or is not there.
    fn does_not_fit(&self, index: usize) -> Rejection {
        let (most, cut) = self.truncation.as_ref().map_or((0, ""), |cut| {
            (cut.max_length, if cut.strategy == TruncationStrategy::OnlyFirst { "first" } else { "second" })
        });
        let message = format!(
            "text {index} is too long: {most} tokens are kept and only the {cut} text of a pair is cut; send a shorter one"
        );
        Rejection::new(Code::InputTooLarge, message)
    }

    /// As the tokenizer's own `encode` of a pair, but cut as `tokenizers` has it since 0.23.3 and had it before 0.23: in between,
    /// both texts are cut to the whole length first, and which one is the longer is lost.
    fn encode_pair(&self, first: &str, second: &str) -> tokenizers::Result<Encoding> {
        let mut pair = [self.inner.encode(first, false)?, self.inner.encode(second, false)?];
        let count = pair[1].len();
        pair[1].set_type_ids(vec![1; count]);
        let [first, second] = pair;
        let (mut first, mut second) = match &self.truncation {
            Some(cut) => {
                let max_length = cut.max_length - self.added_to_pairs;
                truncate_encodings(first, Some(second), &TruncationParams { max_length, ..cut.clone() })?
            }
            None => (first, Some(second)),
        };
        // The windows that were cut off, which joining the texts would pair each with each.
        first.take_overflowing();
        second.as_mut().map(Encoding::take_overflowing);
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

fn parse(bytes: &[u8]) -> tokenizers::Result<tokenizers::Tokenizer> {
    std::thread::scope(|scope| {
        let parse = || guarded(|| tokenizers::Tokenizer::from_bytes(bytes));
        let thread = std::thread::Builder::new().stack_size(PARSING_STACK).spawn_scoped(scope, parse)?;
        thread.join().unwrap_or_else(|_| Err("it defeats the tokenizer".into()))
    })
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

/// How texts are cut: as declared, else as the tokenizer's file says; to the model's own length where that is
/// fixed.
fn truncation(
    inner: &tokenizers::Tokenizer,
    text: &Text,
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
    // It changes the further windows of a text, none of which the model gets.
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
            "text.truncation: {max_length} token(s) are kept, which is less than the {added} special token(s) of {:?} and one",
            text.tokenizer
        ));
        return None;
    }
    Some(params)
}

fn added_tokens(inner: &tokenizers::Tokenizer, is_pair: bool) -> usize {
    inner.get_post_processor().map_or(0, |processor| processor.added_tokens(is_pair))
}

fn own_fixed_padding(inner: &tokenizers::Tokenizer) -> Option<usize> {
    match inner.get_padding()?.strategy {
        PaddingStrategy::Fixed(length) => Some(length),
        PaddingStrategy::BatchLongest => None,
    }
}

/// A length that the file was saved with, not one that the model needs: each text would cost as much as the
/// longest.
fn unfollowed_padding(inner: &tokenizers::Tokenizer, text: &Text, fixed: Option<usize>) -> Option<String> {
    let length = own_fixed_padding(inner)?;
    (text.padding.length.is_none() && fixed.is_none()).then(|| {
        format!(
            "{:?} pads every text to {length} tokens; the model takes any number, so texts are padded to the longest of their \
             call instead; declare text.padding.length: {length} in \"model.yaml\" to follow the file",
            text.tokenizer
        )
    })
}

fn pad(
    inner: &tokenizers::Tokenizer,
    text: &Text,
    fixed: Option<usize>,
    problems: &mut Vec<String>,
) -> Option<Pad> {
    let own = inner.get_padding();
    let declared = &text.padding;
    let length = declared.length.or(fixed).unwrap_or(0);
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
