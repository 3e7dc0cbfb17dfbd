//! Open Inference Protocol v2 in JSON: `{"inputs": [{"name", "shape", "datatype", "data"}], "outputs": [{"name"}]}`.
//! Keys come in any order: `data` that comes before what describes it is passed over and read afterwards.

use super::Limits;
use super::body::{Inputs, check_missing, check_rows, input_named, quoted, twice};
use super::building::{Building, too_many_elements};
use super::number;
use super::scanner::Scanner;
use super::value::{Place, kind, shorten};
use crate::error::Rejection;
use crate::tensor::{Signature, Tensor, TensorSpec};

/// Whether the value of `inputs` is a list whose first entry is an object with `name` or `datatype`.
pub(crate) fn looks_like(mut ahead: Scanner<'_>) -> bool {
    let mut look = || -> Result<bool, Rejection> {
        if ahead.peek() != Some(b'[') || !ahead.open(b'[')? || ahead.peek() != Some(b'{') {
            return Ok(false);
        }
        let mut more = ahead.open(b'{')?;
        while more {
            if matches!(&*ahead.key()?, "name" | "datatype") {
                return Ok(true);
            }
            ahead.skip()?;
            more = ahead.another(b'{')?;
        }
        Ok(false)
    };
    look().unwrap_or(false)
}

/// Reads the value of `inputs`.
pub(crate) fn read(
    scanner: &mut Scanner<'_>,
    signature: &Signature,
    limits: &Limits,
) -> Result<Inputs, Rejection> {
    let root = Place::Root("inputs");
    let mut tensors: Vec<Option<Tensor>> = signature.inputs.iter().map(|_| None).collect();
    let mut rows: Option<usize> = None;
    let (mut entry, mut more) = (0, scanner.open(b'[')?);
    while more {
        let (index, tensor) =
            Entry::default().read(scanner, signature, limits, &Place::Item(&root, entry))?;
        let name = &signature.inputs[index].name;
        let first = tensor.shape.first().copied().unwrap_or(1);
        let expected = *rows.get_or_insert(first);
        if signature.batched && first != expected {
            return Err(Rejection::invalid(format!(
                "inputs: input \"{name}\" has {first} rows, but the one before has {expected}: all inputs need as many"
            )));
        }
        if tensors[index].replace(tensor).is_some() {
            return Err(Rejection::invalid(format!("inputs: input \"{name}\" is given twice")));
        }
        entry += 1;
        more = scanner.another(b'[')?;
    }
    let given: Vec<bool> = tensors.iter().map(Option::is_some).collect();
    check_missing(&given, signature, root)?;
    let rows = if signature.batched { rows.unwrap_or(1) } else { 1 };
    Ok((tensors.into_iter().flatten().collect(), rows))
}

/// What is known of one entry of `inputs`.
#[derive(Default)]
struct Entry<'a> {
    name: Option<String>,
    shape: Option<Vec<usize>>,
    datatype: Option<String>,
    /// Where `data` begins, when it came before the rest.
    data: Option<Scanner<'a>>,
    tensor: Option<(usize, Tensor)>,
}

impl<'a> Entry<'a> {
    fn read(
        mut self,
        scanner: &mut Scanner<'a>,
        signature: &Signature,
        limits: &Limits,
        place: &Place<'_>,
    ) -> Result<(usize, Tensor), Rejection> {
        let mut more = scanner.open(b'{')?;
        while more {
            let key = scanner.key()?;
            let here = Place::Key(place, &key);
            let again = match &*key {
                "name" => self.name.replace(text(scanner, &here)?).is_some(),
                "datatype" => self.datatype.replace(text(scanner, &here)?).is_some(),
                "shape" => self.shape.replace(shape(scanner, &here)?).is_some(),
                "data" if self.tensor.is_some() || self.data.is_some() => true,
                "data" if self.name.is_some() && self.shape.is_some() && self.datatype.is_some() => {
                    self.tensor = Some(self.tensor(scanner, signature, limits, place)?);
                    false
                }
                "data" => {
                    self.data = Some(*scanner);
                    scanner.skip()?;
                    false
                }
                "parameters" => {
                    refuse_binary(*scanner, &here)?;
                    scanner.skip()?;
                    false
                }
                _ => {
                    scanner.skip()?;
                    false
                }
            };
            if again {
                return Err(Rejection::invalid(format!("{place}: key \"{key}\" is given twice")));
            }
            more = scanner.another(b'{')?;
        }
        if let Some(tensor) = self.tensor {
            return Ok(tensor);
        }
        let Some(mut data) = self.data else { return Err(lacks(place, "data")) };
        self.tensor(&mut data, signature, limits, place)
    }

    /// Reads `data`, after everything else was held against the model.
    fn tensor(
        &self,
        data: &mut Scanner<'_>,
        signature: &Signature,
        limits: &Limits,
        place: &Place<'_>,
    ) -> Result<(usize, Tensor), Rejection> {
        let name = self.name.as_deref().ok_or_else(|| lacks(place, "name"))?;
        let datatype = self.datatype.as_deref().ok_or_else(|| lacks(place, "datatype"))?;
        let shape = self.shape.as_deref().ok_or_else(|| lacks(place, "shape"))?;
        let index = input_named(name, signature, place)?;
        let spec = &signature.inputs[index];
        if datatype != spec.element.datatype() {
            return Err(Rejection::invalid(format!(
                "{place}: input \"{name}\" has datatype {} ({}), got \"{}\"",
                spec.element.datatype(),
                spec.describe(),
                shorten(datatype)
            )));
        }
        check_shape(shape, spec, signature.batched, limits, place)?;
        let count = shape.iter().try_fold(1usize, |count, length| count.checked_mul(*length));
        let count = count.filter(|count| *count <= limits.max_elements);
        let count = count.ok_or_else(|| too_many_elements(name, limits.max_elements))?;
        let mut building = Building::new(spec, signature.batched, limits);
        building.read_flat(data, count, &Place::Key(place, "data"))?;
        Ok((index, Tensor { shape: shape.to_vec(), elements: building.elements }))
    }
}

fn check_shape(
    shape: &[usize],
    spec: &TensorSpec,
    batched: bool,
    limits: &Limits,
    place: &Place<'_>,
) -> Result<(), Rejection> {
    let counted = usize::from(batched);
    let fits = shape.len() == spec.shape.len()
        && shape
            .iter()
            .zip(&spec.shape)
            .skip(counted)
            .all(|(given, dim)| dim.fixed().is_none_or(|fixed| fixed == *given));
    if !fits {
        return Err(Rejection::invalid(format!(
            "{place}: expected a shape that fits {}, got {shape:?} for input \"{}\"",
            spec.describe(),
            spec.name
        )));
    }
    match shape.first() {
        Some(rows) if batched => check_rows(*rows, &place.to_string(), limits),
        _ => Ok(()),
    }
}

/// The outputs asked for; empty when the list is.
pub(crate) fn read_outputs(
    scanner: &mut Scanner<'_>,
    signature: &Signature,
) -> Result<Vec<String>, Rejection> {
    let root = Place::Root("outputs");
    let mut wanted: Vec<String> = Vec::new();
    let (mut entry, mut more) = (0, scanner.open(b'[')?);
    while more {
        let place = Place::Item(&root, entry);
        let mut name = None;
        let mut more_keys = scanner.open(b'{')?;
        while more_keys {
            let key = scanner.key()?;
            if key == "name" {
                name = Some(text(scanner, &Place::Key(&place, "name"))?);
            } else {
                scanner.skip()?;
            }
            more_keys = scanner.another(b'{')?;
        }
        let name = name.ok_or_else(|| lacks(&place, "name"))?;
        if !signature.outputs.iter().any(|output| output.name == name) {
            return Err(Rejection::invalid(format!(
                "{place}: no output is named \"{}\"; the model gives {}",
                shorten(&name),
                quoted(signature.outputs.iter().map(|output| output.name.as_str()))
            )));
        }
        if wanted.contains(&name) {
            return Err(twice(&name));
        }
        wanted.push(name);
        entry += 1;
        more = scanner.another(b'[')?;
    }
    Ok(wanted)
}

fn text(scanner: &mut Scanner<'_>, place: &Place<'_>) -> Result<String, Rejection> {
    if scanner.peek() == Some(b'"') {
        return scanner.string().map(String::from);
    }
    let found = kind(scanner)?;
    Err(Rejection::invalid(format!("{place}: expected a string, got {found}")))
}

fn shape(scanner: &mut Scanner<'_>, place: &Place<'_>) -> Result<Vec<usize>, Rejection> {
    /// No model's input has more dimensions.
    const MOST: usize = 8;
    let wrong = || Rejection::invalid(format!("{place}: expected a list of at most {MOST} whole numbers"));
    if scanner.peek() != Some(b'[') {
        return Err(wrong());
    }
    let mut shape = Vec::with_capacity(MOST);
    let mut more = scanner.open(b'[')?;
    while more {
        if shape.len() == MOST || !matches!(scanner.peek(), Some(b'0'..=b'9')) {
            return Err(wrong());
        }
        let length = number::scan(scanner)?.integer().ok().and_then(|length| usize::try_from(length).ok());
        shape.push(length.ok_or_else(wrong)?);
        more = scanner.another(b'[')?;
    }
    Ok(shape)
}

fn refuse_binary(mut parameters: Scanner<'_>, place: &Place<'_>) -> Result<(), Rejection> {
    if parameters.peek() != Some(b'{') {
        return Ok(());
    }
    let mut more = parameters.open(b'{')?;
    while more {
        if parameters.key()? == "binary_data_size" {
            return Err(Rejection::invalid(format!(
                "{place}: \"binary_data_size\" is not supported in a JSON body; send the values as \"data\""
            )));
        }
        parameters.skip()?;
        more = parameters.another(b'{')?;
    }
    Ok(())
}

fn lacks(place: &Place<'_>, key: &str) -> Rejection {
    Rejection::invalid(format!("{place}: \"{key}\" is missing"))
}
