//! Texts: [`Tokenizer::load`] validates the `text` part of a `model.yaml` against the bundle's tokenizer and
//! the model's inputs, and [`Tokenizer::prepare`] turns the texts of one batch, or its pairs of texts, into
//! the model's tensors.

mod check;
mod declaration;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use declaration::{TOKENIZER, TextDeclaration};
pub use tokenizer::Tokenizer;
