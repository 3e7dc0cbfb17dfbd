//! Just enough of ONNX's protobuf (onnx.proto3) to see which files beside the model its weights are in.

/// The field numbers of ModelProto.graph, GraphProto.initializer, TensorProto.external_data, StringStringEntryProto.
const GRAPH: u64 = 7;
const INITIALIZER: u64 = 5;
const EXTERNAL_DATA: u64 = 13;
const KEY: u64 = 1;
const VALUE: u64 = 2;

/// The `location`s of all externally stored initializers, each once, in order.
///
/// # Errors
/// A sentence when `model` is no protobuf message.
pub(super) fn external_files(model: &[u8]) -> Result<Vec<String>, String> {
    let broken = || "the model file is no ONNX model (not a protobuf message)".to_owned();
    let mut files = Vec::new();
    for graph in Fields(model).named(GRAPH) {
        for tensor in Fields(graph.ok_or_else(broken)?).named(INITIALIZER) {
            for entry in Fields(tensor.ok_or_else(broken)?).named(EXTERNAL_DATA) {
                let entry = entry.ok_or_else(broken)?;
                let text = |field| {
                    Fields(entry).named(field).next().flatten().map(|bytes| String::from_utf8_lossy(bytes))
                };
                if let (Some(key), Some(value)) = (text(KEY), text(VALUE))
                    && key == "location"
                    && !files.iter().any(|file| *file == value)
                {
                    files.push(value.into_owned());
                }
            }
        }
    }
    Ok(files)
}

/// The length-delimited fields of one protobuf message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Those with this number; `None` once where the message is broken.
    fn named(self, number: u64) -> impl Iterator<Item = Option<&'a [u8]>> {
        self.filter_map(move |field| match field {
            Some((n, bytes)) if n == number => Some(Some(bytes)),
            Some(_) => None,
            None => Some(None),
        })
    }
}

impl<'a> Iterator for Fields<'a> {
    /// Number and content; a scalar's content is empty; `None` inside for a broken message, then the end.
    type Item = Option<(u64, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = field(&mut self.0);
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let tag = varint(rest)?;
    let content = match tag & 7 {
        0 => {
            varint(rest)?;
            &[][..]
        }
        1 => take(rest, 8)?,
        2 => {
            let length = varint(rest)?;
            take(rest, usize::try_from(length).ok()?)?
        }
        5 => take(rest, 4)?,
        _ => return None,
    };
    Some((tag >> 3, content))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        bytes.extend_from_slice(content);
        bytes
    }

    #[test]
    fn external_weights_are_found() {
        let entry = |key: &str, value: &str| {
            message(13, &[message(1, key.as_bytes()), message(2, value.as_bytes())].concat())
        };
        let tensor = message(5, &[entry("offset", "0"), entry("location", "weights.bin")].concat());
        let model = [vec![8, 9], message(7, &[tensor.clone(), tensor].concat())].concat();
        assert_eq!(external_files(&model), Ok(vec!["weights.bin".to_owned()]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = external_files(&bytes);
        }
    }
}
