//! Any tokenizer.json and any texts, with a zero byte between them, give rows of one length within the limit,
//! or an error, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use predictd::prepare::catch_panic::is_catching_panics;
use predictd::prepare::text::{TextDeclaration, Tokenizer};
use predictd::tensor::ElementType;
use predictd::tensor::signature::{Dim, TensorSpec, ValueKind};

const MOST: usize = 1 << 12;

/// Ignores the panics of the crate `tokenizers` that predictd catches; cargo-fuzz would end at any panic.
fn ignore_caught_panics() {
    let end = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !is_catching_panics() {
            end(panic);
        }
    }));
}

fuzz_target!(init: ignore_caught_panics(), |data: &[u8]| {
    let mut parts = data.split(|byte| *byte == 0);
    let file = parts.next().unwrap_or_default();
    let texts: Vec<String> = parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    let dims = ["batch", "tokens"].map(|name| Dim::Any(name.to_owned()));
    let inputs = ["input_ids", "attention_mask"].map(|name| TensorSpec {
        name: name.to_owned(),
        element: ElementType::I64,
        shape: dims.to_vec(),
        kind: ValueKind::Tensor,
    });
    let text = TextDeclaration { max_tokens: MOST, max_bytes: 1 << 10, ..TextDeclaration::default() };
    let Ok(tokenizer) = Tokenizer::load(file, &text, &inputs) else { return };
    if let Ok((tensors, lengths)) = tokenizer.prepare(&texts, None) {
        assert_eq!(lengths.len(), texts.len());
        for tensor in tensors {
            assert_eq!(tensor.shape[0], texts.len());
            assert_eq!(tensor.elements.len(), tensor.shape[0] * tensor.shape[1]);
            assert!(tensor.elements.len() <= MOST);
        }
    }
});
