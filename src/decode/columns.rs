//! `{"inputs": {"x": [[…], …], "y": …}}`, or `{"inputs": [[…], …]}` for a model of one input: whole tensors.

use super::Limits;
use super::body::{Inputs, check_missing, check_rows, input_named, quoted, twice};
use super::building::Building;
use super::scanner::Scanner;
use super::value::{Place, kind};
use crate::error::Rejection;
use crate::tensor::Signature;

/// Reads the value of `inputs`.
pub(crate) fn read(
    scanner: &mut Scanner<'_>,
    signature: &Signature,
    limits: &Limits,
) -> Result<Inputs, Rejection> {
    let root = Place::Root("inputs");
    let mut buildings: Vec<_> =
        signature.inputs.iter().map(|spec| Building::new(spec, signature.batched, limits)).collect();
    if scanner.peek() == Some(b'{') {
        let mut given = vec![false; buildings.len()];
        let mut more = scanner.open(b'{')?;
        while more {
            let name = scanner.key()?;
            let index = input_named(&name, signature, root)?;
            if std::mem::replace(&mut given[index], true) {
                return Err(twice(&name));
            }
            buildings[index].read(scanner, 0, &Place::Key(&root, &name))?;
            more = scanner.another(b'{')?;
        }
        check_missing(&given, signature, root)?;
    } else if let [only] = &mut buildings[..] {
        only.read(scanner, 0, &root)?;
    } else {
        let found = kind(scanner)?;
        return Err(Rejection::invalid(format!(
            "inputs: expected an object by input name ({}), got {found}",
            quoted(signature.inputs.iter().map(|input| input.name.as_str()))
        )));
    }
    let rows = if signature.batched { Some(rows_of(&buildings, limits)?) } else { None };
    Ok((buildings.into_iter().map(|building| building.finish(rows)).collect(), rows.unwrap_or(1)))
}

/// The rows that all inputs have in common.
fn rows_of(buildings: &[Building<'_>], limits: &Limits) -> Result<usize, Rejection> {
    let mut rows = None;
    for building in buildings {
        let found = building.first_length().unwrap_or(0);
        let expected = *rows.get_or_insert(found);
        if found != expected {
            return Err(Rejection::invalid(format!(
                "inputs: input \"{}\" has {found} rows, but \"{}\" has {expected}: all inputs need as many",
                building.spec.name, buildings[0].spec.name
            )));
        }
    }
    let rows = rows.unwrap_or(0);
    check_rows(rows, "inputs", limits)?;
    Ok(rows)
}
