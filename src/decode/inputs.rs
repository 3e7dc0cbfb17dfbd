//! Owns the tensors while a body is read: typed buffers that fill in the body's order, and shapes held against the signature.

use std::borrow::Cow;

use super::composite::{self, Left};
use super::nested::{Rule, grow, plural, read_nested, reserve, set_element, too_many};
use super::padding::fill_up;
use super::scanner::Scanner;
use super::{Limits, Request, ResponseSpec, binary, rules, weight};
use crate::decode::error;
use crate::decode::error::{DecodeError, Decoded, quoted};
use crate::tensor::signature::{Dim, Padding, Signature, TensorSpec, ValueKind};
use crate::tensor::{Elements, Tensor};

/// One input as far as it was read.
pub(super) struct Input<'s> {
    pub(super) spec: &'s TensorSpec,
    /// Each dimension's length: declared, else as the first array has it, else not yet known.
    pub(super) dims: Vec<Option<usize>>,
    pub(super) elements: Elements,
    /// How many values were read: rows, or the whole tensor as one.
    pub(super) times: usize,
    padding: Option<&'s Padding>,
    pub(super) missing: Option<&'s Elements>,
    /// Floats, and a missing value is refused all the same.
    pub(super) never_missing: bool,
    /// Takes `true` and `false` for 1 and 0.
    is_boolean: bool,
    /// Each row's length in the padded dimension.
    lengths: Vec<usize>,
    /// How many times `null` came in place of an optional value.
    nulls: usize,
}

impl Input<'_> {
    /// Whether its values must be looked at one by one, also those of a whole tensor.
    fn is_read_by_row(&self) -> bool {
        let is_list = !self.spec.shape.is_empty();
        is_list && (self.padding.is_some() || self.missing.is_some() || self.never_missing || self.is_boolean)
    }

    #[cold]
    fn in_some_rows(&self) -> Box<DecodeError> {
        let (name, what) = (quoted(&self.spec.name), self.spec.describe());
        DecodeError::new(format!(
            "expected input {name} ({what}) in all rows or in none, got it in some; send them apart"
        ))
    }

    /// The shape of a whole tensor, as the request gives it and [`Inputs::check_shape`] let it pass.
    fn take_shape(&mut self, shape: &[usize]) {
        self.dims = shape.iter().map(|length| Some(*length)).collect();
        if let Some(padding) = self.padding {
            self.lengths = vec![shape[padding.axis]; shape[0]];
        }
    }
}

pub(super) struct Inputs<'s> {
    pub(super) signature: &'s Signature,
    pub(super) limits: Limits,
    pub(super) list: Vec<Input<'s>>,
    /// Elements in all inputs, each counted by its [`weight`].
    pub(super) total: usize,
}

impl<'s> Inputs<'s> {
    /// Empty inputs for a body of `length` bytes, each with room for one row of the declared shape.
    pub(super) fn new(signature: &'s Signature, limits: Limits, length: usize) -> Self {
        let lengths = |dim: &Dim| if let Dim::Fixed(n) = dim { Some(*n) } else { None };
        // A body has no more elements than half its bytes: a digit and a comma each.
        let mut left = (length / 2).min(limits.max_elements);
        let mut room = |spec: &TensorSpec| {
            let row = spec.shape.iter().filter_map(lengths).try_fold(1_usize, usize::checked_mul);
            let row = row.unwrap_or(usize::MAX).min(left / weight(spec.element));
            left -= row * weight(spec.element);
            row
        };
        let start = |(index, spec): (usize, &'s TensorSpec)| Input {
            spec,
            padding: signature.padding.iter().find(|padding| padding.input == index),
            missing: signature.missing.iter().find(|(input, _)| *input == index).map(|(_, value)| value),
            never_missing: signature.column_rules.never_missing.contains(&index),
            is_boolean: signature.columns.is_none() && signature.column_rules.is_boolean(index),
            lengths: Vec::new(),
            nulls: 0,
            dims: spec
                .shape
                .iter()
                .map(|dim| if let Dim::Fixed(n) = dim { Some(*n) } else { None })
                .collect(),
            elements: Elements::with_capacity(spec.element, room(spec)),
            times: 0,
        };
        Self { signature, limits, list: signature.inputs.iter().enumerate().map(start).collect(), total: 0 }
    }

    /// Counts `times` elements of this weight that are about to be added without a value in the body.
    pub(super) fn count(&mut self, weight: usize, times: usize) -> Decoded<()> {
        let more = weight.checked_mul(times).and_then(|more| more.checked_add(self.total));
        self.total = more
            .filter(|total| *total <= self.limits.max_elements)
            .ok_or_else(|| too_many(self.limits.max_elements, weight))?;
        Ok(())
    }

    /// The position of the input called `name`; tries `guess` first, since most clients keep the model's order.
    pub(super) fn position(&self, name: &str, guess: usize) -> Option<usize> {
        if self.list.get(guess).is_some_and(|input| input.spec.name == name) {
            return Some(guess);
        }
        self.list.iter().position(|input| input.spec.name == name)
    }

    /// The same; `None` for an input that is passed over, an error for one that must not be there.
    pub(super) fn find_known(&self, name: &str, guess: usize) -> Decoded<Option<usize>> {
        match self.position(name, guess) {
            None if !self.signature.column_rules.ignores_unknown => Err(self.unknown(name)),
            found => Ok(found),
        }
    }

    #[cold]
    fn unknown(&self, name: &str) -> Box<DecodeError> {
        if self.signature.defaults.iter().any(|input| input == name) {
            let name = quoted(name);
            return DecodeError::new(format!(
                "input {name} has a value of its own in the model, which is always taken; leave it out"
            ));
        }
        let names: Vec<&str> = self.list.iter().map(|input| input.spec.name.as_str()).collect();
        DecodeError::new(format!(
            "expected {}, got unknown input {}{}",
            named("input", &names),
            quoted(name),
            error::did_you_mean(name, &names)
        ))
    }

    /// Appends one value whose shape is the input's from dimension `level` on: 1 for a row, 0 for the whole tensor.
    pub(super) fn read(&mut self, index: usize, scanner: &mut Scanner<'_>, level: usize) -> Decoded<()> {
        match self.list[index].spec.kind {
            ValueKind::Tensor => {}
            ValueKind::OpenRank => self.learn_rank(index, scanner, level),
            ValueKind::Optional => {
                if scanner.word("null") {
                    self.list[index].nulls += 1;
                    return Ok(());
                }
            }
            ValueKind::Map { .. } | ValueKind::Sequence { .. } => return self.read_composite(index, scanner),
        }
        if level == 0 && self.list[index].is_read_by_row() {
            return self.read_by_row(index, scanner);
        }
        if self.is_taken_as_missing(index, scanner)? {
            return Ok(());
        }
        if self.list[index].is_boolean
            && let Some(digit) = boolean(scanner)
        {
            return self.read(index, &mut Scanner::new(digit)?, level);
        }
        let (input, rule) = self.rule(index);
        let before = input.elements.len();
        if let Some(padding) = input.padding {
            input.dims[padding.axis] = None;
        }
        let dims = input.dims.get_mut(level..).unwrap_or_default();
        read_nested(&mut input.elements, scanner, dims, &rule)?;
        if let Some(padding) = input.padding {
            input.lengths.push(input.dims[padding.axis].unwrap_or(0));
        }
        input.times += 1;
        let input = &self.list[index];
        self.total += (input.elements.len() - before) * weight(input.spec.element);
        Ok(())
    }

    /// Where the model does not say how many dimensions there are, the first value does.
    fn learn_rank(&mut self, index: usize, scanner: &Scanner<'_>, level: usize) {
        let input = &mut self.list[index];
        if input.times == 0 {
            input.dims.resize(input.dims.len().max(level + composite::rank(scanner)), None);
        }
    }

    /// A map or a sequence of tensors.
    fn read_composite(&mut self, index: usize, scanner: &mut Scanner<'_>) -> Decoded<()> {
        let max_elements = self.limits.max_elements;
        let before = max_elements.saturating_sub(self.total);
        let mut left = Left { elements: before, of: max_elements };
        let input = &mut self.list[index];
        let composite = composite::read(input.spec, scanner, &mut left)?;
        let Elements::Composite(all) = &mut input.elements else {
            unreachable!("the elements of such an input are composites")
        };
        all.push(composite);
        input.times += 1;
        self.total += before - left.elements;
        Ok(())
    }

    /// A whole tensor whose rows may differ in length, or be missing.
    fn read_by_row(&mut self, index: usize, scanner: &mut Scanner<'_>) -> Decoded<()> {
        if !scanner.open(b'[')? {
            return Err(scanner.unexpected(&format!("an array ({})", self.list[index].spec.describe())));
        }
        let mut rows = 0;
        while scanner.another(rows == 0, b']')? {
            check_rows(rows + 1, self.limits.max_rows)?;
            self.read(index, scanner, 1).map_err(|error| error.at(rows))?;
            rows += 1;
        }
        let (input, rule) = self.rule(index);
        if let Some(expected) = input.spec.shape[0].fixed()
            && expected != rows
        {
            return Err(rule.length(expected, input.dims.len(), rows));
        }
        input.dims[0] = Some(rows);
        input.times = 1;
        Ok(())
    }

    /// A tensor's shape as the model has it: `[rows]` and `[rows, 1]` are the same column, whichever a client sends.
    fn as_declared<'a>(&self, index: usize, shape: &'a [usize]) -> Cow<'a, [usize]> {
        let spec = self.list[index].spec;
        match shape {
            _ if spec.kind == ValueKind::OpenRank => shape.into(),
            [rest @ .., 1] if !rest.is_empty() && rest.len() == spec.shape.len() => rest.into(),
            [_, ..] if shape.len() + 1 == spec.shape.len() && spec.shape.last() == Some(&Dim::Fixed(1)) => {
                [shape, &[1]].concat().into()
            }
            _ => shape.into(),
        }
    }

    /// How many elements a tensor of this input has whose shape the request gives; the shape fits the declared one, and the
    /// elements the limits.
    pub(super) fn check_shape(&self, index: usize, shape: &[usize]) -> Decoded<usize> {
        let declared = self.list[index].spec;
        let fits = |(dim, length): (&Dim, &usize)| matches!(dim, Dim::Any(_)) || *dim == Dim::Fixed(*length);
        let has_rank = match declared.kind {
            ValueKind::OpenRank => shape.len() >= declared.shape.len(),
            _ => shape.len() == declared.shape.len(),
        };
        if !has_rank || !declared.shape.iter().zip(shape).all(fits) {
            return Err(DecodeError::new(format!(
                "expected a shape that fits {}, got {shape:?}",
                declared.describe()
            )));
        }
        let most = self.limits.max_elements;
        let product = |each: fn(usize) -> usize| {
            let weight = weight(declared.element);
            let product = shape.iter().try_fold(weight, |product, length| product.checked_mul(each(*length)));
            product.filter(|product| *product <= most).map(|product| product / weight)
        };
        let count = if shape.contains(&0) { Some(0) } else { product(|length| length) };
        let count = count.ok_or_else(|| {
            DecodeError::too_large(format!("expected at most {most} elements, got shape {shape:?}"))
        })?;
        // Without elements there are still the lists that hold none: rows, whose lengths are noted, and what
        // a response writes.
        if product(|length| length.max(1)).is_none() {
            return Err(DecodeError::too_large(format!(
                "expected at most {most} lists without elements, got shape {shape:?}"
            )));
        }
        Ok(count)
    }

    /// Takes a whole tensor from bytes: little-endian elements side by side, strings with their lengths before them.
    pub(super) fn read_binary(&mut self, index: usize, bytes: &[u8], shape: &[usize]) -> Decoded<()> {
        let shape = &*self.as_declared(index, shape);
        let count = self.check_shape(index, shape)?;
        let (input, rule) = self.rule(index);
        if count > rule.limit {
            return Err(rule.too_many());
        }
        input.elements = binary::read(input.spec.element, bytes, count)?;
        input.take_shape(shape);
        input.times += 1;
        self.total += count * weight(self.list[index].spec.element);
        Ok(())
    }

    /// Reads the data of a tensor whose shape the request gives: nested as the shape says, or flat.
    pub(super) fn read_shaped(
        &mut self,
        index: usize,
        scanner: &mut Scanner<'_>,
        shape: &[usize],
    ) -> Decoded<()> {
        let declared = self.as_declared(index, shape);
        let count = self.check_shape(index, &declared)?;
        let (input, mut rule) = self.rule(index);
        rule.has_shape = true;
        let mut ahead = scanner.clone();
        let flat = !(ahead.take(b'[') && ahead.peek() == Some(b'['));
        let mut dims: Vec<Option<usize>> =
            if flat { vec![None] } else { shape.iter().map(|length| Some(*length)).collect() };
        // The shape is only a claim: the body's own length bounds what can come (a digit and a comma each).
        reserve(&mut input.elements, count.min(rule.limit).min(scanner.bytes.len() / 2));
        let is_column =
            matches!(shape, [_] | [_, 1]) && matches!(&input.spec.shape[..], [_] | [_, Dim::Fixed(1)]);
        if flat && is_column && input.padding.is_none() && input.is_read_by_row() {
            self.read_by_row(index, scanner)?;
            self.list[index].times = 0;
        } else {
            read_nested(&mut input.elements, scanner, &mut dims, &rule)?;
            self.total += input.elements.len() * weight(input.spec.element);
        }
        let input = &mut self.list[index];
        let got = input.elements.len();
        if got != count {
            let plural = plural(count);
            return Err(DecodeError::new(format!(
                "expected {count} value{plural} for shape {shape:?}, got {got}"
            )));
        }
        input.take_shape(&declared);
        input.times += 1;
        Ok(())
    }

    fn rule(&mut self, index: usize) -> (&mut Input<'s>, Rule<'s>) {
        let max_elements = self.limits.max_elements;
        let input = &mut self.list[index];
        let left = max_elements.saturating_sub(self.total) / weight(input.spec.element);
        let limit = input.elements.len() + left;
        let may_be_padded = self.signature.batched;
        let rule = Rule { spec: input.spec, limit, max_elements, has_shape: false, may_be_padded };
        (input, rule)
    }

    /// Appends a row of zeros to the one `[batch, width]` input, for [`Self::set`] to fill; answers where it begins.
    pub(super) fn blank_row(&mut self, width: usize) -> Decoded<usize> {
        self.blank(0, width)
    }

    /// Appends a row of so many zeros to a `[batch, width]` input, or one zero to a `[batch]` input; answers where it begins.
    pub(super) fn blank(&mut self, index: usize, width: usize) -> Decoded<usize> {
        let (input, rule) = self.rule(index);
        let begin = input.elements.len();
        if begin + width > rule.limit {
            return Err(rule.too_many());
        }
        if let Some(padding) = input.padding {
            input.dims[padding.axis] = None;
            input.lengths.push(width);
        }
        if let Some(length) = input.dims.get_mut(1)
            && let Some(expected) = length.replace(width)
            && expected != width
        {
            return Err(rule.length(expected, 1, width));
        }
        grow(&mut input.elements, begin + width);
        input.times += 1;
        self.total += width * weight(input.spec.element);
        Ok(begin)
    }

    /// Where [`Self::blank`] left zeros to be filled.
    pub(super) fn elements(&mut self, index: usize) -> &mut Elements {
        &mut self.list[index].elements
    }

    /// Reads one element into place `at` of the one input, whose columns are named.
    pub(super) fn set(&mut self, at: usize, scanner: &mut Scanner<'_>) -> Decoded<()> {
        let rules = &self.signature.column_rules.rules;
        if !rules.is_empty()
            && self.signature.column_rules.is_boolean(at % rules.len())
            && let Some(digit) = boolean(scanner)
        {
            return set_element(&mut self.list[0].elements, at, &mut Scanner::new(digit)?);
        }
        set_element(&mut self.list[0].elements, at, scanner)
    }

    /// Takes the rows of [`Self::blank_row`] for one whole tensor.
    pub(super) fn are_whole(&mut self, rows: usize) {
        let input = &mut self.list[0];
        input.dims[0] = Some(rows);
        input.times = 1;
    }

    /// The inputs in the order in which a row without names has them.
    pub(super) fn in_order(&self) -> Vec<usize> {
        if self.signature.column_rules.order.is_empty() {
            return (0..self.list.len()).collect();
        }
        self.signature.column_rules.order.clone()
    }

    /// Makes room for `times` as much as is there, within the limits.
    pub(super) fn expect_times(&mut self, times: usize) {
        let mut left = self.limits.max_elements.saturating_sub(self.total);
        for input in &mut self.list {
            let weight = weight(input.spec.element);
            let more = input.elements.len().saturating_mul(times).min(left / weight);
            left -= more * weight;
            reserve(&mut input.elements, more);
        }
    }

    /// Whether a value for this input may be an object that is no mapping from names: `{"b64": …}`.
    pub(super) fn is_text(&self, index: usize) -> bool {
        matches!(self.list[index].elements, Elements::String(_) | Elements::Bytes(_))
    }

    /// Fails, naming it, where an input was read less than `times` times and nothing is declared for that.
    pub(super) fn complete(&mut self, times: usize) -> Decoded<()> {
        for index in 0..self.list.len() {
            if self.list[index].times < times {
                self.take_missing(index)?;
            }
        }
        let is_there = |input: &&Input<'_>| {
            // What the others have, an optional one may leave out as a whole.
            input.times >= times || (input.spec.kind == ValueKind::Optional && input.times == 0)
        };
        match self.list.iter().find(|input| !is_there(input)) {
            None => Ok(()),
            Some(input) if input.spec.kind == ValueKind::Optional => Err(input.in_some_rows()),
            Some(input) => {
                let (name, what) = (quoted(&input.spec.name), input.spec.describe());
                Err(DecodeError::new(format!(
                    "expected a value for every input, got none for {name} ({what})"
                )))
            }
        }
    }

    /// The request, with `answer`'s form of a response. `rows` is given where the body listed rows one by one.
    pub(super) fn finish(self, rows: Option<usize>, response: ResponseSpec) -> Decoded<Request> {
        let mut own_lengths = Vec::new();
        if !self.signature.unpads.is_empty() {
            own_lengths.resize(self.signature.padding.len(), Vec::new());
        }
        let batched = self.signature.batched;
        let max_rows = self.limits.max_rows;
        let mut left = self.limits.max_elements;
        let mut first: Option<(&str, usize)> = None;
        let mut tensors = Vec::with_capacity(self.list.len());
        for (index, input) in self.list.into_iter().enumerate() {
            if input.spec.kind == ValueKind::Optional && input.times == 0 {
                tensors.push(Tensor::left_out(input.spec.element));
                continue;
            }
            if input.nulls > 0 {
                return Err(input.in_some_rows());
            }
            let Input { spec, dims, mut elements, padding, lengths, .. } = input;
            if let Elements::String(texts) = &elements
                && texts.iter().any(|text| text.contains('\0'))
            {
                let message =
                    "expected strings without NUL (U+0000), which ONNX Runtime ends them at, got one";
                return Err(DecodeError::new(message).within(&format!("input {}", quoted(&spec.name))));
            }
            // A length that no array showed is that of an array inside an empty one.
            let mut shape: Vec<usize> = dims.into_iter().map(|length| length.unwrap_or(0)).collect();
            if self.signature.row_by_row
                && let (Some(rows), Some(length)) = (rows, shape.first_mut())
            {
                check_rows(rows, max_rows)?;
                *length = rows;
            }
            if batched && let (Some(length), Some(dim)) = (shape.first_mut(), spec.shape.first()) {
                *length = rows.unwrap_or(*length);
                let count = *length;
                let wrong = |message: String| {
                    Err(DecodeError::new(message).within(&format!("input {}", quoted(&spec.name))))
                };
                if count == 0 {
                    return wrong("expected at least one row, got none".to_owned());
                }
                check_rows(count, max_rows)?;
                if matches!(dim, Dim::Fixed(n) if *n != count) {
                    return wrong(format!("expected {dim} rows ({}), got {count}", spec.describe()));
                }
                let (name, expected) = *first.get_or_insert((&spec.name, count));
                if count != expected {
                    return wrong(format!(
                        "expected {expected} rows as in input {}, got {count}",
                        quoted(name)
                    ));
                }
            }
            if let Some(padding) = padding {
                let most = self.limits.max_elements;
                elements = fill_up(padding, &lengths, &mut shape, elements, most, &mut left)
                    .map_err(|error| error.within(&format!("input {}", quoted(&spec.name))))?;
                let place = self.signature.padding.iter().position(|padding| padding.input == index);
                if let Some(own) = place.and_then(|place| own_lengths.get_mut(place)) {
                    *own = lengths;
                }
            }
            let instances = rows.filter(|_| !batched && !self.signature.row_by_row).unwrap_or(1);
            let (count, expected) = (elements.len(), shape.iter().product::<usize>() * instances);
            if count != expected {
                // Joined with others it would end the worker.
                let message = format!(
                    "expected {expected} elements for shape {shape:?}, got {count}, which is an error in predictd"
                );
                return Err(DecodeError::new(message).within(&format!("input {}", quoted(&spec.name))));
            }
            tensors.push(Tensor { shape, elements });
        }
        let rows = first.map_or(rows.unwrap_or(1), |(_, rows)| rows);
        rules::check(self.signature, &tensors)?;
        Ok(Request { inputs: tensors, rows, lengths: own_lengths, response })
    }
}

/// Consumes `true` or `false` and answers the digit that stands for it.
fn boolean(scanner: &mut Scanner<'_>) -> Option<&'static [u8]> {
    if scanner.word("true") {
        return Some(b"1");
    }
    scanner.word("false").then_some(b"0")
}

pub(super) fn check_rows(rows: usize, max_rows: usize) -> Decoded<()> {
    if rows <= max_rows {
        return Ok(());
    }
    Err(DecodeError::too_large(format!(
        "expected at most {max_rows} rows, got more; send them in several messages"
    )))
}

/// `input "x"`, or `one of the inputs "x", "y"`.
pub(super) fn named(kind: &str, names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().take(20).map(|name| error::quoted(name)).collect();
    let more = if names.len() > 20 { ", …" } else { "" };
    if names.len() == 1 {
        return format!("{kind} {}", quoted[0]);
    }
    format!("one of the {kind}s {}{more}", quoted.join(", "))
}
