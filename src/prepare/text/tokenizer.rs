//! Texts to token ids, for the model's inputs. Encodes on the caller's thread; threads may share a tokenizer.

use tokenizers::utils::truncation::TruncationError;
use tokenizers::{Encoding, TruncationParams, TruncationStrategy, truncate_encodings};

use super::check::{Checked, Role, added_tokens, check};
use super::declaration::{Side, TextDeclaration};
use crate::error::{Code, Rejection};
use crate::prepare::catch_panic::catch_panic;
use crate::tensor::signature::TensorSpec;
use crate::tensor::{ElementType, Elements, Tensor};

/// Oniguruma parses an expression recursively, up to 4096 levels deep: more than the usual stack of 2 MiB
/// holds.
const PARSING_STACK: usize = 64 << 20;

const PANICKED: &str = "the tokenizer library failed on it";

#[derive(Debug)]
pub struct Tokenizer {
    /// Truncates single texts. [`Self::encode_pair`] truncates pairs.
    inner: tokenizers::Tokenizer,
    checked: Checked,
    /// Special tokens that are added to a pair.
    added_to_pairs: usize,
    special_tokens: bool,
    max_bytes: usize,
    max_tokens: usize,
}

impl Tokenizer {
    /// Reads the tokenizer's file and validates the declaration against it and the model.
    ///
    /// # Errors
    /// Every problem of the file or the declaration.
    pub fn load(bytes: &[u8], text: &TextDeclaration, inputs: &[TensorSpec]) -> Result<Self, Vec<String>> {
        let mut inner = parse(bytes).map_err(|error| {
            vec![format!("text.tokenizer: {:?} is no tokenizer: {error}", text.tokenizer)]
        })?;
        let checked = check(&inner, text, inputs)?;
        let is_pair = text.fields.len() == 2;
        let added_to_pairs = if text.special_tokens && is_pair { added_tokens(&inner, true) } else { 0 };
        inner
            .with_truncation(checked.truncation.clone().filter(|_| !is_pair))
            .map_err(|error| vec![format!("text.truncation: {error}")])?;
        inner.with_padding(None);
        Ok(Self {
            inner,
            checked,
            added_to_pairs,
            special_tokens: text.special_tokens,
            max_bytes: text.max_bytes,
            max_tokens: text.max_tokens,
        })
    }

    /// True when padding precedes a text's tokens.
    pub fn pads_before(&self) -> bool {
        self.checked.pad.side == Side::Left
    }

    /// Describes the part of the tokenizer's file that is not applied, for the operator.
    pub fn warning(&self) -> Option<&str> {
        self.checked.warning.as_deref()
    }

    /// One tensor `[texts, tokens]` for each of the model's inputs, and the number of tokens of each text
    /// without padding. `seconds` holds the second text of every pair if the declaration has two fields.
    pub fn prepare(
        &self,
        texts: &[String],
        seconds: Option<&[String]>,
    ) -> Result<(Vec<Tensor>, Vec<usize>), Rejection> {
        if texts.is_empty() {
            return Err(Rejection::invalid("expected at least one text, got none"));
        }
        let mut encodings = Vec::with_capacity(texts.len());
        let mut longest = self.checked.pad.length;
        for (index, text) in texts.iter().enumerate() {
            let second = seconds.map(|seconds| seconds[index].as_str());
            let length = text.len().max(second.map_or(0, str::len));
            if length > self.max_bytes {
                let most = self.max_bytes;
                let message = format!(
                    "text {index} has {length} bytes, at most {most} are allowed; send a shorter one"
                );
                return Err(Rejection::new(Code::InputTooLarge, message));
            }
            let encoded = guarded(|| match second {
                Some(second) => self.encode_pair(text, second),
                None => self.inner.encode_fast(text.as_str(), self.special_tokens),
            });
            let encoding = encoded.map_err(|error| match error.downcast_ref::<TruncationError>() {
                Some(_) => self.does_not_fit(index),
                None => Rejection::invalid(format!("cannot tokenize text {index}: {error}")),
            })?;
            longest = longest.max(encoding.len());
            let width = longest.next_multiple_of(self.checked.pad.multiple_of);
            let tokens = width.saturating_mul(texts.len());
            if tokens > self.max_tokens {
                let (texts, most) = (texts.len(), self.max_tokens);
                let message = format!(
                    "{texts} text(s) of {width} tokens with padding make {tokens}, at most {most} are \
                     allowed; send fewer or shorter ones"
                );
                return Err(Rejection::new(Code::InputTooLarge, message));
            }
            encodings.push(encoding);
        }
        let width = longest.next_multiple_of(self.checked.pad.multiple_of);
        if width == 0 {
            return Err(Rejection::invalid("expected at least one token, got empty texts"));
        }
        let tensors = self.checked.inputs.iter().map(|(role, element)| {
            let elements = self.elements(&encodings, width, *role, *element);
            Tensor { shape: vec![encodings.len(), width], elements }
        });
        Ok((tensors.collect(), encodings.iter().map(Encoding::len).collect()))
    }

    /// The error for a pair whose other text leaves no room for the one that is truncated.
    fn does_not_fit(&self, index: usize) -> Rejection {
        let (most, cut) = self.checked.truncation.as_ref().map_or((0, ""), |cut| {
            (cut.max_length, if cut.strategy == TruncationStrategy::OnlyFirst { "first" } else { "second" })
        });
        let message = format!(
            "text {index} is too long: {most} tokens are kept and only the {cut} text of a pair is \
             truncated; send a shorter one"
        );
        Rejection::new(Code::InputTooLarge, message)
    }

    /// Encodes a pair like the tokenizer's own `encode`, but truncates it as `tokenizers` does before 0.23
    /// and since 0.23.3. The versions between cut both texts to the whole length first, which hides the
    /// longer one.
    fn encode_pair(&self, first: &str, second: &str) -> tokenizers::Result<Encoding> {
        let mut pair = [self.inner.encode(first, false)?, self.inner.encode(second, false)?];
        let count = pair[1].len();
        pair[1].set_type_ids(vec![1; count]);
        let [first, second] = pair;
        let (mut first, mut second) = match &self.checked.truncation {
            Some(cut) => {
                let max_length = cut.max_length - self.added_to_pairs;
                truncate_encodings(first, Some(second), &TruncationParams { max_length, ..cut.clone() })?
            }
            None => (first, Some(second)),
        };
        // Drops the windows that were cut off: joining the texts would combine each window with each other.
        first.take_overflowing();
        second.as_mut().map(Encoding::take_overflowing);
        self.inner.post_process(first, second, self.special_tokens)
    }

    fn elements(&self, encodings: &[Encoding], width: usize, role: Role, element: ElementType) -> Elements {
        let (values, filler): (fn(&Encoding) -> &[u32], u32) = match role {
            Role::Ids => (Encoding::get_ids, self.checked.pad.id),
            Role::Mask => (Encoding::get_attention_mask, 0),
            Role::Types => (Encoding::get_type_ids, self.checked.pad.type_id),
        };
        let rows = encodings.iter().flat_map(|encoding| {
            let values = values(encoding);
            let missing = width - values.len();
            let (before, after) =
                if self.checked.pad.side == Side::Left { (missing, 0) } else { (0, missing) };
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
        thread.join().unwrap_or_else(|_| Err(PANICKED.into()))
    })
}

/// Reports a panic of `tokenizers` as an error, so that it costs only its own version or request.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    catch_panic(work).unwrap_or_else(|| Err(PANICKED.into()))
}
