//! `{"instances": […]}` or a bare list: one entry a row, as Vertex AI, TensorFlow Serving and MLflow send them.
//!
//! An entry is the row's value when the model has one input, else an object by input name; where the signature names
//! the columns of its one input, an object by column name too.

use std::collections::HashMap;

use super::Limits;
use super::body::{Inputs, check_missing, check_rows, input_named, quoted, twice};
use super::building::{Building, with_elements};
use super::scanner::Scanner;
use super::value::{Place, Value, kind, shorten};
use crate::error::Rejection;
use crate::tensor::{ElementType, Elements, Signature};

/// Reads the list of rows that comes next; `place` is what errors call it.
pub(crate) fn read(
    scanner: &mut Scanner<'_>,
    place: &str,
    signature: &Signature,
    limits: &Limits,
) -> Result<Inputs, Rejection> {
    if scanner.peek() != Some(b'[') {
        let found = kind(scanner)?;
        return Err(Rejection::invalid(format!("{place}: expected a list of rows, got {found}")));
    }
    let root = Place::Root(place);
    let mut reader = Reader::new(signature, limits);
    let mut rows = 0;
    let mut more = scanner.open(b'[')?;
    while more {
        if !signature.batched && rows > 0 {
            return Err(Rejection::invalid(format!(
                "{place}: the model has no batch dimension: expected exactly one entry, got more"
            )));
        }
        check_rows(rows + 1, place, limits)?;
        let from = scanner.at;
        reader.row(scanner, &Place::Item(&root, rows))?;
        if rows == 0 {
            let alike = (scanner.bytes.len() - scanner.at) / (scanner.at - from).max(1) + 1;
            reader.reserve(alike.min(limits.max_rows));
        }
        rows += 1;
        more = scanner.another(b'[')?;
    }
    check_rows(rows, place, limits)?;
    let counted = signature.batched.then_some(rows);
    Ok((reader.buildings.into_iter().map(|building| building.finish(counted)).collect(), rows))
}

struct Reader<'s> {
    signature: &'s Signature,
    buildings: Vec<Building<'s>>,
    columns: Option<Columns<'s>>,
    /// Which inputs the row at hand has given; kept for its allocation.
    given: Vec<bool>,
    depth: usize,
}

/// The named columns of the one input, and which of them the row at hand has given.
struct Columns<'s> {
    names: &'s [String],
    index: HashMap<&'s str, usize>,
    given: Vec<bool>,
}

impl<'s> Reader<'s> {
    fn new(signature: &'s Signature, limits: &Limits) -> Self {
        let buildings =
            signature.inputs.iter().map(|spec| Building::new(spec, signature.batched, limits)).collect();
        Self {
            signature,
            buildings,
            columns: None,
            given: vec![false; signature.inputs.len()],
            depth: usize::from(signature.batched),
        }
    }

    fn reserve(&mut self, rows: usize) {
        for building in &mut self.buildings {
            building.reserve_rows(rows);
        }
    }

    #[inline]
    fn row(&mut self, scanner: &mut Scanner<'_>, place: &Place<'_>) -> Result<(), Rejection> {
        match (scanner.peek(), &mut self.buildings[..]) {
            (Some(b'{'), _) => self.object(scanner, place),
            (_, [only]) => only.read(scanner, self.depth, place),
            _ => {
                let found = kind(scanner)?;
                Err(Rejection::invalid(format!(
                    "{place}: expected an object by input name ({}), got {found}",
                    quoted(self.signature.inputs.iter().map(|input| input.name.as_str()))
                )))
            }
        }
    }

    fn object(&mut self, scanner: &mut Scanner<'_>, place: &Place<'_>) -> Result<(), Rejection> {
        if let [only] = &mut self.buildings[..] {
            // Both are told apart by the first key, read on a copy of the cursor.
            let mut ahead = *scanner;
            let first = if ahead.open(b'{')? { Some(ahead.key()?) } else { None };
            let names_input = first.as_deref() == Some(&only.spec.name);
            if let (Some(names), 2, true) =
                (&self.signature.columns, only.spec.shape.len(), self.signature.batched)
                && (!names_input || names.contains(&only.spec.name))
            {
                let columns = self.columns.get_or_insert_with(|| Columns::new(names));
                return columns.read(scanner, only, place);
            }
            let bare = only.spec.shape.len() == self.depth && only.spec.element == ElementType::Text;
            if bare && !names_input && first.as_deref() == Some("b64") {
                return only.read(scanner, self.depth, place);
            }
        }
        self.given.fill(false);
        let mut more = scanner.open(b'{')?;
        while more {
            let name = scanner.key()?;
            let index = input_named(&name, self.signature, place)?;
            if std::mem::replace(&mut self.given[index], true) {
                return Err(twice(&name));
            }
            self.buildings[index].read(scanner, self.depth, &Place::Key(place, &name))?;
            more = scanner.another(b'{')?;
        }
        check_missing(&self.given, self.signature, place)
    }
}

impl<'s> Columns<'s> {
    fn new(names: &'s [String]) -> Self {
        let index = names.iter().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
        Self { names, index, given: vec![false; names.len()] }
    }

    fn read(
        &mut self,
        scanner: &mut Scanner<'_>,
        building: &mut Building<'_>,
        place: &Place<'_>,
    ) -> Result<(), Rejection> {
        building.expect_row_of(self.names.len(), place)?;
        with_elements!(&mut building.elements, buffer => self.read_into(scanner, buffer, place))
    }

    fn read_into<T: Value>(
        &mut self,
        scanner: &mut Scanner<'_>,
        buffer: &mut Vec<T>,
        place: &Place<'_>,
    ) -> Result<(), Rejection> {
        let row = buffer.len();
        buffer.resize(row + self.names.len(), T::default());
        self.given.fill(false);
        let mut next = 0;
        let mut more = scanner.open(b'{')?;
        while more {
            let name = scanner.key()?;
            // Clients mostly keep the model's order, which spares the look-up.
            let expected = self.names.get(next).is_some_and(|expected| *expected == *name);
            let column = if expected { Some(next) } else { self.index.get(&*name).copied() };
            let Some(column) = column else {
                return Err(Rejection::invalid(format!(
                    "{place}: no column is named \"{}\"; the model takes {}",
                    shorten(&name),
                    quoted(self.names.iter().map(String::as_str))
                )));
            };
            if std::mem::replace(&mut self.given[column], true) {
                return Err(twice(&name));
            }
            buffer[row + column] = T::read(scanner, &Place::Key(place, &name))?;
            next = column + 1;
            more = scanner.another(b'{')?;
        }
        if self.given.iter().all(|given| *given) {
            return Ok(());
        }
        let missing =
            self.names.iter().zip(&self.given).filter(|(_, given)| !**given).map(|(name, _)| name.as_str());
        Err(Rejection::invalid(format!("{place}: column {} is missing", quoted(missing))))
    }
}
