//! Texts: what `text:` in a `model.yaml` declares. [`Tokenizer::load`] judges it against the bundle's tokenizer and the
//! model's inputs, [`Tokenizer::prepare`] turns the texts of one batch, or its pairs of texts, into the model's tensors.

#[cfg(test)]
mod tests;
mod tokenizer;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use tokenizer::Tokenizer;

/// The tokenizer's usual file.
pub const TOKENIZER: &str = "tokenizer.json";

/// How texts become token ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Text {
    /// The file in the bundle that holds the tokenizer, as the `tokenizers` and `transformers` packages save it.
    pub tokenizer: String,
    /// What requests call the text of a row; two names for pairs of texts, such as a question and a passage, which the
    /// tokenizer joins as its file says.
    #[schemars(length(min = 1, max = 2))]
    pub fields: Vec<String>,
    /// Whether the tokens that mark a text's begin and end are added, such as `[CLS]` and `[SEP]`.
    pub special_tokens: bool,
    /// How longer texts are cut. Default: what the tokenizer's file says, but for the further windows of its
    /// stride, which are dropped; and the model's own length if it is fixed.
    pub truncation: Option<Truncation>,
    /// How the texts of a call are brought to one length. Default: the model's own length if it is fixed,
    /// else the longest text's. A length that the tokenizer's file fixes is not followed, since each text
    /// would cost as much as the longest.
    pub padding: Padding,
    /// Which inputs of the model take what.
    pub inputs: Inputs,
    /// The longest text accepted, in bytes of UTF-8. Default: 262144 (256 KiB).
    #[schemars(range(min = 1))]
    pub max_bytes: usize,
    /// Tokens of all texts of a request together, padding included. Default: 1048576 (1 Mi).
    #[schemars(range(min = 1))]
    pub max_tokens: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            tokenizer: TOKENIZER.to_owned(),
            fields: vec!["text".to_owned()],
            special_tokens: true,
            truncation: None,
            padding: Padding::default(),
            inputs: Inputs::default(),
            max_bytes: 256 << 10,
            max_tokens: 1 << 20,
        }
    }
}

/// How longer texts are cut. It takes the place of all that the tokenizer's file says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Truncation {
    /// Tokens that are kept, special tokens included.
    #[schemars(range(min = 1))]
    pub max_length: usize,
    /// The side that is cut off.
    #[serde(default)]
    pub side: Side,
    /// Which text of a pair is cut.
    #[serde(default)]
    pub strategy: Strategy,
}

/// Which text of a pair is cut, by the names of the `transformers` package.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The longer one first, then both.
    #[default]
    LongestFirst,
    /// The first alone. A pair whose second text leaves no room is refused.
    OnlyFirst,
    /// The second alone, which needs two `fields`. A pair whose first text leaves no room is refused.
    OnlySecond,
}

/// How shorter texts are filled up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Padding {
    /// Tokens that every text has at least. Default: the model's own length if it is fixed, else as many as
    /// the longest text of the call has.
    #[schemars(range(min = 1))]
    pub length: Option<usize>,
    /// The length is rounded up to a multiple of this. Default: what the tokenizer's file says, else 1.
    #[schemars(range(min = 1))]
    pub multiple_of: Option<usize>,
    /// The side that is filled up. Default: what the tokenizer's file says, else `right`.
    pub side: Option<Side>,
    /// The token to fill up with. Default: what the tokenizer's file says, else `[PAD]` or `<pad>`, where it knows one.
    pub token: Option<String>,
}

/// A side of a text, in the order of its tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The begin.
    Left,
    /// The end.
    #[default]
    Right,
}

/// The names of the model's inputs. Default: each is found by the key's own name, where the model has such an input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Inputs {
    /// Takes the tokens' numbers.
    pub input_ids: Option<String>,
    /// Takes 1 for every token and 0 for padding.
    pub attention_mask: Option<String>,
    /// Takes the number of the sequence that a token belongs to.
    pub token_type_ids: Option<String>,
}
