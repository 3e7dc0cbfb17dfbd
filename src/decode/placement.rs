//! Placement of a table's cells in the model's inputs, for DataFrames and CSV.

use super::error::{Decoded, Located, refuse, twice};
use super::inputs::Inputs;
use super::named_columns::NamedColumns;
use super::scanner::Scanner;

pub(super) enum Placement {
    /// Cell i is element `places[i]` of the row of `width` elements; the elements in `absent` have no cell.
    Elements { width: usize, places: Places, absent: Vec<usize> },
    /// Cell i is a row of input `places[i]`.
    Inputs(Places),
    /// Each row is a row of the single input, in its order.
    Whole,
}

/// The place of each cell; `None` if the cell is ignored.
pub(super) type Places = Vec<Option<usize>>;

impl Placement {
    /// For columns with these names, in this order. A single input without named columns accepts any
    /// names.
    pub(super) fn of(inputs: &Inputs<'_>, names: &[String]) -> Decoded<Self> {
        let is_whole = NamedColumns::of(inputs).is_none()
            && matches!(&inputs.list[..], [only] if only.spec.shape.len() == 2);
        if is_whole { Ok(Self::Whole) } else { Self::by_name(inputs, names) }
    }

    /// For columns with the names of the model's columns or inputs.
    pub(super) fn by_name(inputs: &Inputs<'_>, names: &[String]) -> Decoded<Self> {
        let columns = NamedColumns::of(inputs);
        let mut places = Vec::with_capacity(names.len());
        let count = columns.as_ref().map_or(inputs.list.len(), |columns| columns.names.len());
        let mut filled = vec![false; count];
        for (position, name) in names.iter().enumerate() {
            let place = match &columns {
                Some(columns) => columns.find_known(name, position)?,
                None => inputs.find_known(name, position)?,
            };
            if place.is_some_and(|place| std::mem::replace(&mut filled[place], true)) {
                return Err(twice("column", name));
            }
            places.push(place);
        }
        match columns {
            Some(columns) => {
                let absent = columns.absent(inputs.signature, &filled)?;
                Ok(Self::Elements { width: count, places, absent })
            }
            // `Inputs::complete` checks for missing inputs after each row.
            None => Ok(Self::Inputs(places)),
        }
    }
}

/// Reads a JSON list with a cell for each of `places`.
pub(super) fn read_cells<'a>(
    scanner: &mut Scanner<'a>,
    places: &[Option<usize>],
    mut read: impl FnMut(usize, &mut Scanner<'a>) -> Decoded<()>,
) -> Decoded<()> {
    scanner.enter(b'[', "a list of cells")?;
    let mut count = 0;
    while scanner.another(b']')? {
        match places.get(count) {
            Some(Some(place)) => read(*place, scanner).at(count)?,
            Some(None) | None => scanner.skip()?,
        }
        count += 1;
    }
    if count != places.len() {
        return refuse(format!("expected {} cells, one a column, got {count}", places.len()));
    }
    Ok(())
}
