//! Columns: `{"inputs": {"x": [[…]], "y": …}}`, or the bare value of a single input.

use super::fault::{Fault, Read, shown};
use super::inputs::Inputs;
use super::scanner::Scanner;

/// Reads what stands under `inputs`: whole tensors.
pub(super) fn read(scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>) -> Read<()> {
    if scanner.peek() != Some(b'{') {
        if inputs.list.len() != 1 {
            return Err(scanner.unexpected("an object with a value for every input").within("inputs"));
        }
        return inputs.read(0, scanner, 0).map_err(|fault| fault.within("inputs"));
    }
    scanner.open(b'{')?;
    let mut keys = 0;
    while let Some(key) = scanner.key(keys == 0)? {
        let input = inputs.find(&key, keys).map_err(|fault| fault.within("inputs"))?;
        if inputs.list[input].times > 0 {
            return Err(
                Fault::new(format!("expected each key once, got {} twice", shown(&key))).within("inputs")
            );
        }
        inputs.read(input, scanner, 0).map_err(|fault| fault.within(&format!("input {}", shown(&key))))?;
        keys += 1;
    }
    inputs.complete_whole().map_err(|fault| fault.within("inputs"))
}
