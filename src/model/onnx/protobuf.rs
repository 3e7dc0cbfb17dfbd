//! Protobuf's wire format, read and written field by field, which is enough to inspect and change an ONNX
//! model.
//!
//! Reads any bytes without a panic. A broken message yields `None` once, and then ends.

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) number: u64,
    pub(crate) value: Value<'a>,
    /// The bytes of the field in the message, with its number.
    pub(crate) whole: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    /// A message, a text or bytes.
    Bytes(&'a [u8]),
    /// Four or eight bytes: floats and fixed integers, which nothing here reads.
    Fixed,
}

impl<'a> Value<'a> {
    pub(crate) fn bytes(self) -> Option<&'a [u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }
}

/// The fields of one message, in order; `None` for a broken message, then the end.
pub(crate) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// The messages, texts or bytes of this field; `None` once if the message is broken.
    pub(crate) fn named(self, number: u64) -> impl Iterator<Item = Option<&'a [u8]>> {
        self.filter_map(move |field| match field {
            Some(field) if field.number == number => field.value.bytes().map(Some),
            Some(_) => None,
            None => Some(None),
        })
    }

    /// The last message, text or bytes of this field: protobuf's rule for fields that are not repeated.
    pub(crate) fn last(self, number: u64) -> Option<&'a [u8]> {
        self.named(number).flatten().last()
    }

    /// The last number of this field.
    pub(crate) fn varint(self, number: u64) -> Option<u64> {
        let value = |field: Field<'_>| match field.value {
            Value::Varint(value) if field.number == number => Some(value),
            _ => None,
        };
        self.flatten().filter_map(value).last()
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let before = self.0;
        let field = field(&mut self.0).map(|(number, value)| {
            let whole = &before[..before.len() - self.0.len()];
            Field { number, value, whole }
        });
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = varint(rest)?;
    let value = match tag & 7 {
        0 => Value::Varint(varint(rest)?),
        1 => take(rest, 8).map(|_| Value::Fixed)?,
        2 => {
            let length = varint(rest)?;
            Value::Bytes(take(rest, usize::try_from(length).ok()?)?)
        }
        5 => take(rest, 4).map(|_| Value::Fixed)?,
        _ => return None,
    };
    Some((tag >> 3, value))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

/// The numbers of a packed field; ends at the first broken one.
pub(crate) fn varints(mut packed: &[u8]) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || varint(&mut packed))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(rest, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A message that is being written.
#[derive(Debug, Default)]
pub(crate) struct Message(pub(super) Vec<u8>);

impl Message {
    pub(crate) fn number(mut self, number: u64, value: u64) -> Self {
        self.push_varint(number << 3);
        self.push_varint(value);
        self
    }

    /// A message, a text or bytes.
    pub(crate) fn bytes(mut self, number: u64, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        self.push_varint(number << 3 | 2);
        self.push_varint(content.len() as u64);
        self.0.extend_from_slice(content);
        self
    }

    /// Whole fields, copied from another message.
    pub(crate) fn raw(mut self, fields: &[u8]) -> Self {
        self.0.extend_from_slice(fields);
        self
    }

    fn push_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn written_fields_are_read_back(numbers: Vec<u64>, texts: Vec<Vec<u8>>) {
            let mut message = Message::default();
            for number in &numbers {
                message = message.number(3, *number);
            }
            for text in &texts {
                message = message.bytes(2000, text);
            }
            let fields: Vec<_> = Fields(&message.0).map(|field| field.unwrap()).collect();
            let values: Vec<_> = fields.iter().map(|field| (field.number, field.value)).collect();
            let expected: Vec<_> = numbers.iter().map(|number| (3, Value::Varint(*number)))
                .chain(texts.iter().map(|text| (2000, Value::Bytes(text)))).collect();
            prop_assert_eq!(values, expected);
            let whole: Vec<u8> = fields.iter().flat_map(|field| field.whole).copied().collect();
            prop_assert_eq!(whole, message.0);
        }

        #[test]
        fn a_broken_message_is_reported_once(bytes: Vec<u8>) {
            let fields: Vec<_> = Fields(&bytes).collect();
            let broken = fields.iter().position(Option::is_none);
            prop_assert!(broken.is_none_or(|at| at + 1 == fields.len()));
        }
    }
}
