//! Converts the engine's tensors to ONNX Runtime's values and back: the only file that uses both.

use std::fmt::Debug;

use ort::session::SessionInputValue;
use ort::value::{
    DowncastableTarget, DynMapValueType, DynSequenceValueType, DynTensor, DynTensorValueType, DynValue,
    IntoTensorElementType as _, Map, Sequence, Tensor as OrtTensor, TensorElementType, TensorRef, Value,
    ValueType, ValueTypeMarker,
};

use crate::for_each_number_type;
use crate::tensor::{Composite, ElementType, Elements, Output, Show, Tensor, View};

/// A tensor that ONNX Runtime reads without a copy; only strings and booleans are copied.
pub(crate) fn input_value<'a>(shape: &'a [usize], elements: View<'a>) -> ort::Result<SessionInputValue<'a>> {
    macro_rules! number_value {
        ($(($variant:ident, $rust:ty)),+ $(,)?) => {
            match elements {
                View::String(text) => OrtTensor::from_string_array((shape, text))?.into(),
                View::Bytes(_) => return Err(ort::Error::new("an ONNX model takes no bytes")),
                View::Composite([one]) => composite_value(one)?,
                View::Composite(_) => return Err(ort::Error::new("one input takes one map or one sequence")),
                $(View::$variant(values) => TensorRef::from_array_view((shape, values))?.into(),)+
            }
        };
    }
    Ok(for_each_number_type!(number_value))
}

/// Copies a map or a sequence.
fn composite_value(composite: &Composite) -> ort::Result<SessionInputValue<'static>> {
    let (keys, values) = match composite {
        Composite::Sequence(tensors) => {
            let own = |tensor: &Tensor| owned(&tensor.shape, &tensor.elements);
            let tensors = tensors.iter().map(own).collect::<ort::Result<Vec<DynTensor>>>()?;
            return Ok(Sequence::new(tensors)?.into());
        }
        Composite::Map { keys, values } => (keys, values),
    };
    let length = [keys.len()];
    macro_rules! tensor {
        (String, $values:expr) => {
            OrtTensor::from_string_array((length, &$values[..]))?
        };
        ($variant:ident, $values:expr) => {
            OrtTensor::from_array((length, $values.clone()))?
        };
    }
    macro_rules! map {
        ($($key:ident to $value:ident),+) => {
            match (keys, values) {
                $((Elements::$key(keys), Elements::$value(values)) => {
                    Map::new_kv(tensor!($key, keys), tensor!($value, values))?.into()
                })+
                _ => return Err(ort::Error::new("no operator takes a map of these types")),
            }
        };
    }
    Ok(map!(String to I64, String to F32, String to F64, I64 to F32, I64 to F64, I64 to String))
}

/// The types of the maps that ONNX's operators take.
pub(crate) fn map_types(
    key: TensorElementType,
    value: TensorElementType,
) -> Option<(ElementType, ElementType)> {
    use TensorElementType::{Float32, Float64, Int64, String};
    let is_known =
        matches!((key, value), (String, Int64 | Float32 | Float64) | (Int64, String | Float32 | Float64));
    is_known.then(|| Some((element_type(key)?, element_type(value)?))).flatten()
}

fn owned(shape: &[usize], elements: &Elements) -> ort::Result<DynTensor> {
    macro_rules! own {
        ($(($variant:ident, $rust:ty)),+ $(,)?) => {
            match elements {
                Elements::String(texts) => OrtTensor::from_string_array((shape, &texts[..]))?.upcast(),
                $(Elements::$variant(values) => OrtTensor::from_array((shape, values.clone()))?.upcast(),)+
                Elements::Bytes(_) | Elements::Composite(_) => {
                    return Err(ort::Error::new("a sequence holds tensors of numbers or strings"));
                }
            }
        };
    }
    Ok(for_each_number_type!(own))
}

pub(crate) fn element_type(ort: TensorElementType) -> Option<ElementType> {
    macro_rules! number_type {
        ($(($variant:ident, $rust:ty)),+ $(,)?) => {
            match ort {
                TensorElementType::String => Some(ElementType::String),
                $(number if number == <$rust>::into_tensor_element_type() => Some(ElementType::$variant),)+
                _ => None,
            }
        };
    }
    for_each_number_type!(number_type)
}

/// One output of a graph, copied as far as it cannot be lent from ONNX Runtime's memory.
#[derive(Debug)]
pub(crate) enum OutputValue {
    /// A tensor whose elements stay in ONNX Runtime's memory.
    Lent {
        element: ElementType,
        shape: Vec<usize>,
    },
    /// A tensor of strings.
    Owned(Tensor),
    /// The values of a map, or of a sequence of maps with the same keys. The keys name the innermost
    /// dimension.
    Named {
        elements: Elements,
        shape: Vec<usize>,
        names: Vec<String>,
    },
    Sequence(Vec<Tensor>),
    /// An optional output that the model omitted.
    Missing,
}

impl OutputValue {
    /// # Errors
    /// A sentence when no response can show the value's type.
    pub(crate) fn of(value: &DynValue) -> Result<Self, String> {
        match value.dtype() {
            ValueType::Tensor { ty, shape, .. } => {
                let shape = shape.iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect();
                match element_type(*ty) {
                    Some(ElementType::String) => {
                        let text = value.try_extract_strings().map_err(sentence)?.1;
                        Ok(Self::Owned(Tensor { shape, elements: Elements::String(text) }))
                    }
                    Some(element) => Ok(Self::Lent { element, shape }),
                    None => Err(format!("it has the element type {ty}, which is not supported")),
                }
            }
            ValueType::Map { .. } => {
                let map = value.view().downcast::<DynMapValueType>().map_err(sentence)?;
                let (names, elements) = entries(&map)?;
                Ok(Self::Named { shape: vec![names.len()], elements, names })
            }
            ValueType::Sequence(inner) if matches!(**inner, ValueType::Map { .. }) => maps(value),
            ValueType::Sequence(_) => tensors(value),
            ValueType::Optional(_) => Err("it is an optional value, which is not supported".to_owned()),
        }
    }

    /// Lends the output under `name`. `value` is the value that it was made from; `parts` gets the tensors of
    /// a sequence.
    pub(crate) fn lend<'a>(
        &'a self,
        name: &'a str,
        value: &'a DynValue,
        parts: &'a mut Vec<Output<'a>>,
    ) -> Result<Output<'a>, String> {
        let output = |shape, elements, show| Output { name, shape, elements, show };
        let nothing = View::U8(&[]);
        Ok(match self {
            Self::Lent { element, shape } => output(shape, view(value, *element)?, Show::Values),
            Self::Owned(Tensor { shape, elements }) => output(shape, elements.view(), Show::Values),
            Self::Named { elements, shape, names } => output(shape, elements.view(), Show::Named(names)),
            Self::Sequence(tensors) => {
                let part = |tensor: &'a Tensor| output(&tensor.shape, tensor.elements.view(), Show::Values);
                parts.extend(tensors.iter().map(part));
                output(&[0], nothing, Show::Sequence(parts))
            }
            Self::Missing => output(&[0], nothing, Show::Missing),
        })
    }
}

/// The value of a scalar bool.
pub(crate) fn is_true(value: &DynValue) -> Result<bool, String> {
    Ok(value.try_extract_tensor::<bool>().map_err(sentence)?.1.first() == Some(&true))
}

fn sentence(error: ort::Error) -> String {
    error.message().to_owned()
}

fn view(value: &DynValue, element: ElementType) -> Result<View<'_>, String> {
    macro_rules! number_view {
        ($(($variant:ident, $rust:ty)),+ $(,)?) => {
            match element {
                $(ElementType::$variant => {
                    View::$variant(value.try_extract_tensor::<$rust>().map_err(sentence)?.1)
                })+
                ElementType::String | ElementType::Bytes | ElementType::Composite => {
                    return Err(format!("{element} elements cannot be lent"));
                }
            }
        };
    }
    Ok(for_each_number_type!(number_view))
}

/// The values of a sequence.
fn sequence<T: ValueTypeMarker + DowncastableTarget + Debug>(
    value: &DynValue,
) -> Result<Vec<Value<T>>, String> {
    let sequence = value.view().downcast::<DynSequenceValueType>().map_err(sentence)?;
    sequence.try_extract_sequence().map_err(sentence)
}

/// A sequence of maps, one for each row: scikit-learn's ZipMap.
fn maps(value: &DynValue) -> Result<OutputValue, String> {
    let rows: Vec<Value<DynMapValueType>> = sequence(value)?;
    let mut all: Option<(Vec<String>, Elements)> = None;
    for map in &rows {
        let (names, mut elements) = entries(map)?;
        match &mut all {
            None => all = Some((names, elements)),
            Some((known, joined)) if *known == names => joined.append(&mut elements),
            Some((known, _)) => {
                return Err(format!("its maps have different keys, such as {known:?} and {names:?}"));
            }
        }
    }
    let (names, elements) = all.unwrap_or((Vec::new(), Elements::F32(Vec::new())));
    Ok(OutputValue::Named { shape: vec![rows.len(), names.len()], elements, names })
}

fn tensors(value: &DynValue) -> Result<OutputValue, String> {
    let own = |part: Value<DynTensorValueType>| {
        let part = part.into_dyn();
        match OutputValue::of(&part)? {
            OutputValue::Lent { element, shape } => {
                Ok(Tensor { elements: view(&part, element)?.to_elements(), shape })
            }
            OutputValue::Owned(tensor) => Ok(tensor),
            OutputValue::Named { .. } | OutputValue::Sequence(_) | OutputValue::Missing => {
                Err("it is nested deeper than a sequence of tensors".to_owned())
            }
        }
    };
    sequence(value)?.into_iter().map(own).collect::<Result<_, String>>().map(OutputValue::Sequence)
}

/// The keys of a map, as strings in order, and their values.
fn entries(map: &Value<DynMapValueType>) -> Result<(Vec<String>, Elements), String> {
    let ValueType::Map { key, value } = map.dtype() else { return Err("it is no map".to_owned()) };
    macro_rules! entries {
        ($key:ty, $value:ty, $variant:ident) => {{
            let mut entries = map.try_extract_key_values::<$key, $value>().map_err(sentence)?;
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            let (keys, values): (Vec<$key>, Vec<$value>) = entries.into_iter().unzip();
            Ok((keys.into_iter().map(|key| key.to_string()).collect(), Elements::$variant(values)))
        }};
    }
    match (key, value) {
        (TensorElementType::String, TensorElementType::Float32) => entries!(String, f32, F32),
        (TensorElementType::String, TensorElementType::Float64) => entries!(String, f64, F64),
        (TensorElementType::String, TensorElementType::Int64) => entries!(String, i64, I64),
        (TensorElementType::Int64, TensorElementType::Float32) => entries!(i64, f32, F32),
        (TensorElementType::Int64, TensorElementType::Float64) => entries!(i64, f64, F64),
        (TensorElementType::Int64, TensorElementType::Int64) => entries!(i64, i64, I64),
        _ => Err(format!("it is a map from {key} to {value}, which is not supported")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_maps_that_operators_take_are_inputs() {
        use TensorElementType::{Float16, Float32, Float64, Int32, Int64, String};
        assert_eq!(map_types(String, Float32), Some((ElementType::String, ElementType::F32)));
        assert_eq!(map_types(Int64, String), Some((ElementType::I64, ElementType::String)));
        for (key, value) in [(String, String), (Int64, Int64), (String, Float16), (Int32, Float64)] {
            assert_eq!(map_types(key, value), None);
        }
    }
}
