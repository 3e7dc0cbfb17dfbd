//! The named columns of a model with one `[batch, columns]` input, as its bundle declares them.

use std::cell::OnceCell;
use std::collections::HashMap;

use super::error::{Decoded, Located, quoted, refuse, twice, unknown};
use super::inputs::Inputs;
use super::scanner::Scanner;
use crate::tensor::signature::Signature;

pub(super) struct NamedColumns<'s> {
    pub(super) names: &'s [String],
    ignores_unknown: bool,
    /// Built when a key first comes out of order.
    places: OnceCell<HashMap<&'s str, usize>>,
}

impl<'s> NamedColumns<'s> {
    /// `None` if the model's columns have no names, or its input is no table.
    pub(super) fn of(inputs: &Inputs<'s>) -> Option<Self> {
        let names = inputs.signature.columns.as_deref()?;
        let is_table =
            inputs.signature.batched && inputs.list.len() == 1 && inputs.list[0].spec.shape.len() == 2;
        let ignores_unknown = inputs.signature.column_rules.ignores_unknown;
        is_table.then(|| Self { names, ignores_unknown, places: OnceCell::new() })
    }

    /// The position of the column called `name`. Tries `guess` first, since most clients keep the declared
    /// order.
    pub(super) fn find(&self, name: &str, guess: usize) -> Option<usize> {
        if self.names.get(guess).is_some_and(|column| column == name) {
            return Some(guess);
        }
        let places = || self.names.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
        self.places.get_or_init(places).get(name).copied()
    }

    /// Like `find`, with an error for an unknown column, or `None` if the bundle ignores unknown ones.
    pub(super) fn find_known(&self, name: &str, guess: usize) -> Decoded<Option<usize>> {
        match self.find(name, guess) {
            None if !self.ignores_unknown => {
                Err(unknown("column", name, self.names.iter().map(String::as_str)))
            }
            found => Ok(found),
        }
    }

    /// True if the next object has the inputs' names as keys, not those of columns.
    pub(super) fn is_input_next(&self, scanner: &Scanner<'_>, inputs: &Inputs<'_>) -> bool {
        scanner.first_key_is(|key| self.find(key, 0).is_none() && inputs.position(key, 0).is_some())
    }

    /// Reads `{"alcohol": 13.2, …}` as one row, its keys in any order.
    pub(super) fn read_row(&self, scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>) -> Decoded<()> {
        let begin = inputs.add_zeros(0, self.names.len())?;
        let mut filled = vec![false; self.names.len()];
        let find = |_: &Vec<bool>, key: &str, guess| self.find_known(key, guess);
        scanner.read_by_name(&mut filled, find, |filled, place, key, scanner| {
            if std::mem::replace(&mut filled[place], true) {
                return Err(twice("key", key));
            }
            inputs.set_cell(begin + place, scanner).in_key(key)
        })?;
        for place in self.absent(inputs.signature, &filled)? {
            inputs.set_nan(begin + place);
        }
        Ok(())
    }

    /// The columns that are not `filled`, all of which a row may leave out; an error that names another one.
    pub(super) fn absent(&self, signature: &Signature, filled: &[bool]) -> Decoded<Vec<usize>> {
        let is_optional = |place: usize| signature.column_rules.is_optional(place);
        let absent = || (0..filled.len()).filter(|place| !filled[*place]);
        match absent().find(|place| !is_optional(*place)) {
            None => Ok(absent().collect()),
            Some(place) => {
                let name = quoted(&self.names[place]);
                refuse(format!("expected a value for each of {} columns, got none for {name}", filled.len()))
            }
        }
    }
}
