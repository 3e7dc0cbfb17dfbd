//! Columns: `{"inputs": {"x": [[…]], "y": …}}`, by the names of inputs or of a table's columns, or the bare value of a single input.

use super::fault::{Fault, Read, shown};
use super::inputs::{Inputs, check_rows};
use super::rows::{Columns, first_key_is};
use super::scanner::Scanner;

/// Reads what stands under `inputs`: whole tensors.
pub(super) fn read(scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>) -> Read<()> {
    if scanner.peek() != Some(b'{') {
        if inputs.list.len() != 1 {
            return Err(scanner.unexpected("an object with a value for every input").within("inputs"));
        }
        return inputs.read(0, scanner, 0).map_err(|fault| fault.within("inputs"));
    }
    if let Some(table) = Columns::of(inputs)
        && !first_key_is(scanner, |key| table.find(key, 0).is_none() && inputs.find(key, 0).is_ok())
    {
        return by_column(scanner, inputs, &table).map_err(|fault| fault.within("inputs"));
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

/// Reads `{"alcohol": [13.2, …], …}`: the columns of the one input, as long as each other.
fn by_column(scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>, table: &Columns<'_>) -> Read<()> {
    scanner.open(b'{')?;
    let width = table.names.len();
    let mut filled = vec![false; width];
    let (mut keys, mut rows) = (0, 0);
    while let Some(key) = scanner.key(keys == 0)? {
        let place = table.find(&key, keys).ok_or_else(|| table.unknown(&key))?;
        if std::mem::replace(&mut filled[place], true) {
            return Err(Fault::new(format!("expected each key once, got {} twice", shown(&key))));
        }
        let within = |fault: Box<Fault>| fault.within(&format!("[{}]", shown(&key)));
        if !scanner.open(b'[')? {
            return Err(within(scanner.unexpected("a list of values, one a row")));
        }
        let mut count = 0;
        while scanner.another(count == 0, b']')? {
            if keys == 0 {
                check_rows(count + 1, inputs.limits.max_rows)?;
                inputs.blank_row(width)?;
            } else if count == rows {
                return Err(within(Fault::new(format!("expected {rows} values as before it, got more"))));
            }
            inputs.set(count * width + place, scanner).map_err(|fault| within(fault.at(count)))?;
            count += 1;
        }
        if keys > 0 && count != rows {
            return Err(within(Fault::new(format!("expected {rows} values as before it, got {count}"))));
        }
        rows = count;
        keys += 1;
    }
    for place in table.left_out(inputs.signature, &filled)? {
        for row in 0..rows {
            inputs.set_missing(row * width + place);
        }
    }
    inputs.are_whole(rows);
    Ok(())
}
