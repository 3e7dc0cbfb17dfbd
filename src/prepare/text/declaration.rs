//! The `text` part of a `model.yaml`, as data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The tokenizer's usual file.
pub const TOKENIZER: &str = "tokenizer.json";

/// The steps from texts to token ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TextDeclaration {
    /// The file in the bundle that holds the tokenizer, as the `tokenizers` and `transformers` packages save
    /// it.
    pub tokenizer: String,
    /// The name of a row's text in requests; two names for pairs of texts, such as a question and a passage,
    /// which the tokenizer joins as its file says.
    #[schemars(length(min = 1, max = 2))]
    pub fields: Vec<String>,
    /// Adds the tokens that mark a text's begin and end, such as `[CLS]` and `[SEP]`. Default: true.
    pub special_tokens: bool,
    /// The truncation of longer texts. Default: the tokenizer's own, without the further windows of its
    /// stride, and the model's own length if it is fixed.
    pub truncation: Option<Truncation>,
    /// The padding of a call's texts to one length. Default: the model's own length if it is fixed, otherwise
    /// that of the longest text. A length that the tokenizer's file fixes is not applied, since each text
    /// would cost as much as the longest.
    pub padding: Padding,
    /// The inputs of the model, by the values that they take.
    pub inputs: Inputs,
    /// The longest text accepted, in bytes of UTF-8. Default: 262144 (256 KiB).
    #[schemars(range(min = 1))]
    pub max_bytes: usize,
    /// Tokens of all texts of a request together, padding included. Default: 1048576 (1 Mi).
    #[schemars(range(min = 1))]
    pub max_tokens: usize,
}

impl Default for TextDeclaration {
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

/// The truncation of longer texts. Replaces all of the tokenizer's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Truncation {
    /// Tokens that are kept, special tokens included.
    #[schemars(range(min = 1))]
    pub max_length: usize,
    /// The side that is cut off.
    #[serde(default)]
    pub side: Side,
    /// The text of a pair that is cut.
    #[serde(default)]
    pub strategy: Strategy,
}

/// The text of a pair that is cut, by the names of the `transformers` package.
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

/// The padding of shorter texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Padding {
    /// The smallest number of tokens. Default: the model's own length if it is fixed, otherwise that of the
    /// longest text of the call.
    #[schemars(range(min = 1))]
    pub length: Option<usize>,
    /// Rounds the length up to a multiple of this. Default: the tokenizer's own, or 1.
    #[schemars(range(min = 1))]
    pub multiple_of: Option<usize>,
    /// The side that is padded. Default: the tokenizer's own, or `right`.
    pub side: Option<Side>,
    /// The padding token. Default: the tokenizer's own, or `[PAD]` or `<pad>` if it knows one of them.
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

/// The names of the model's inputs. Default: the key's own name, if the model has such an input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Inputs {
    /// Takes the ids of the tokens.
    pub input_ids: Option<String>,
    /// Takes 1 for every token and 0 for padding.
    pub attention_mask: Option<String>,
    /// Takes the number of the sequence that a token belongs to.
    pub token_type_ids: Option<String>,
}
