//! Parameter values from the wire, in the type the statement gave them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};
use bytes::Bytes;
use engine::{
    EngineError, Query, ScalarValue, VectorBuilder, parse_vector, pg_types, vector_shape,
};
use half::f16;
use types::limits::{BIT_LENGTH_MAX, SPARSE_DIM_MAX, SPARSE_ENTRIES_MAX};
use types::{SqlState, VectorKind};

use crate::encode::{EPOCH_DAYS, EPOCH_MICROS};
use crate::message::Format;
use crate::numeric;

/// The type `oid`.
const OID: u32 = 26;

/// Reads one value.
///
/// # Errors
/// When the bytes are not of the type's text or binary form.
pub(crate) fn read(
    field: &Field,
    format: Format,
    value: Option<&Bytes>,
) -> Result<ScalarValue, EngineError> {
    let data_type = field.data_type();
    let Some(bytes) = value else {
        return ScalarValue::try_new_null(data_type).map_err(EngineError::from);
    };
    match format {
        Format::Text => {
            let text = std::str::from_utf8(bytes).map_err(|_| {
                EngineError::new(
                    SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                    "invalid byte sequence for encoding \"UTF8\"",
                )
            })?;
            read_text(data_type, text)
        }
        Format::Binary => read_binary(data_type, bytes, pg_types::oid_of_field(field).0 == OID),
    }
}

fn checked(
    vector: &Query,
    (kind, expected): (VectorKind, usize),
) -> Result<ScalarValue, EngineError> {
    engine::check_dimension(kind, expected, vector.row().len())?;
    Ok(VectorBuilder::scalar(kind, vector)?)
}

fn read_text(data_type: &DataType, text: &str) -> Result<ScalarValue, EngineError> {
    let Some((kind, dim)) = vector_shape(data_type) else {
        return engine::scalar_from_text(data_type, text);
    };
    // Drivers without a vector type send `{1,2}`, an array.
    let bracketed = text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}'));
    let vector = match bracketed {
        Some(inner) if matches!(kind, VectorKind::Vector | VectorKind::Halfvec) => {
            parse_vector(kind, &format!("[{inner}]"))?
        }
        _ => parse_vector(kind, text)?,
    };
    checked(&vector, (kind, dim))
}

fn malformed(data_type: &DataType) -> EngineError {
    EngineError::new(
        SqlState::INVALID_BINARY_REPRESENTATION,
        format!("incorrect binary data format for a parameter of type {data_type}"),
    )
}

/// Microseconds, days, months.
fn interval_binary(bytes: &[u8]) -> Option<ScalarValue> {
    let (micros, rest) = bytes.split_first_chunk::<8>()?;
    let (days, months) = rest.split_first_chunk::<4>()?;
    let months = i32::from_be_bytes(months.try_into().ok()?);
    let nanos = i64::from_be_bytes(*micros).checked_mul(1_000)?;
    Some(ScalarValue::new_interval_mdn(months, i32::from_be_bytes(*days), nanos))
}

fn read_binary(
    data_type: &DataType,
    bytes: &[u8],
    is_oid: bool,
) -> Result<ScalarValue, EngineError> {
    let error = || malformed(data_type);
    let text = || match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(error()),
    };
    macro_rules! number {
        ($number:ty) => {
            <$number>::from_be_bytes(bytes.try_into().map_err(|_| error())?)
        };
    }
    Ok(match data_type {
        DataType::Boolean => match bytes {
            [byte] => ScalarValue::Boolean(Some(*byte != 0)),
            _ => return Err(error()),
        },
        DataType::Int16 => ScalarValue::Int16(Some(number!(i16))),
        DataType::Int32 => ScalarValue::Int32(Some(number!(i32))),
        // An oid is four bytes and is kept in eight.
        DataType::Int64 if is_oid => ScalarValue::Int64(Some(i64::from(number!(u32)))),
        DataType::Int64 => ScalarValue::Int64(Some(number!(i64))),
        DataType::Float32 => ScalarValue::Float32(Some(number!(f32))),
        DataType::Float64 => ScalarValue::Float64(Some(number!(f64))),
        DataType::Utf8 => ScalarValue::Utf8(Some(text()?)),
        DataType::Binary => ScalarValue::Binary(Some(bytes.to_vec())),
        DataType::Date32 => {
            let days = number!(i32);
            let days = days.checked_add(EPOCH_DAYS).filter(|_| days != i32::MIN);
            let days = days.ok_or_else(error)?;
            ScalarValue::Date32(Some(days))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            // The least number is PostgreSQL's -infinity, the greatest its infinity.
            let micros = number!(i64);
            let micros = micros.checked_add(EPOCH_MICROS).filter(|_| micros != i64::MIN);
            let micros = micros.ok_or_else(error)?;
            ScalarValue::TimestampMicrosecond(Some(micros), zone.clone())
        }
        DataType::Decimal128(..) => {
            let text = numeric::text(bytes).ok_or_else(error)?;
            engine::scalar_from_text(data_type, &text)?
        }
        DataType::FixedSizeBinary(16) if bytes.len() == 16 => {
            ScalarValue::FixedSizeBinary(16, Some(bytes.to_vec()))
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            let micros = number!(i64);
            let day = 0..=86_400_000_000;
            ScalarValue::Time64Microsecond(Some(micros).filter(|micros| day.contains(micros)))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            interval_binary(bytes).ok_or_else(error)?
        }
        DataType::List(item) => list_binary(item, bytes)?,
        other if let Some((kind, dim)) = vector_shape(other) => {
            let vector = match kind {
                VectorKind::Vector => vector_binary(bytes).map(Query::Dense),
                VectorKind::Halfvec => {
                    halfvec_binary(bytes).or_else(|| vector_binary(bytes)).map(Query::Dense)
                }
                VectorKind::Bit => bits_binary(bytes).map(Query::Dense),
                VectorKind::Sparsevec => sparse_binary(bytes),
            };
            checked(&vector.ok_or_else(error)?, (kind, dim))?
        }
        _ => {
            return Err(EngineError::unsupported(format!(
                "a binary parameter of type {data_type}"
            )));
        }
    })
}

/// PostgreSQL's array: dimensions, whether there are NULLs, type of the items, length and first place of
/// each dimension; per item its length, below zero for NULL, and its bytes.
fn list_binary(item: &FieldRef, bytes: &[u8]) -> Result<ScalarValue, EngineError> {
    let list_type = DataType::List(Arc::clone(item));
    let error = || malformed(&list_type);
    let mut rest = bytes;
    let mut word = || -> Option<i32> {
        let (word, tail) = rest.split_first_chunk::<4>()?;
        rest = tail;
        Some(i32::from_be_bytes(*word))
    };
    let (dimensions, _nulls, element) =
        word().zip(word()).zip(word()).map(|((a, b), c)| (a, b, c)).ok_or_else(error)?;
    if dimensions == 0 {
        return engine::array_of(item, Vec::new());
    }
    if dimensions != 1 {
        return Err(EngineError::unsupported("an array of more than one dimension"));
    }
    let is_oid = u32::try_from(element) == Ok(OID);
    let (length, _first) = word().zip(word()).ok_or_else(error)?;
    let mut items = Vec::new();
    for _ in 0..length {
        let (size, tail) = rest.split_first_chunk::<4>().ok_or_else(error)?;
        rest = tail;
        let Ok(size) = usize::try_from(i32::from_be_bytes(*size)) else {
            items.push(ScalarValue::try_new_null(item.data_type())?);
            continue;
        };
        let (value, tail) = rest.split_at_checked(size).ok_or_else(error)?;
        rest = tail;
        items.push(read_binary(item.data_type(), value, is_oid)?);
    }
    engine::array_of(item, items)
}

/// Dimension, zero, numbers of two bytes.
fn halfvec_binary(bytes: &[u8]) -> Option<Vec<f32>> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    let dim = usize::from(u16::from_be_bytes([head[0], head[1]]));
    if head[2..] != [0, 0] || dim == 0 || rest.len() != dim * 2 {
        return None;
    }
    let halves = rest.as_chunks::<2>().0.iter().map(|half| f16::from_be_bytes(*half).to_f32());
    let numbers: Vec<f32> = halves.collect();
    numbers.iter().all(|number| number.is_finite()).then_some(numbers)
}

/// Dimension, count, zero, ascending positions from zero on, numbers that are not zero.
fn sparse_binary(bytes: &[u8]) -> Option<Query> {
    let (words, []) = bytes.as_chunks::<4>() else { return None };
    let [dim, count, unused, rest @ ..] = words else { return None };
    let positive = |word: [u8; 4]| usize::try_from(i32::from_be_bytes(word)).ok();
    let (dim, count) = (positive(*dim).filter(|dim| *dim > 0)?, positive(*count)?);
    if *unused != [0; 4] || rest.len() != 2 * count || count > SPARSE_ENTRIES_MAX {
        return None;
    }
    let (indices, values) = rest.split_at(count);
    let indices: Vec<i32> = indices.iter().map(|word| i32::from_be_bytes(*word)).collect();
    let values: Vec<f32> = values.iter().map(|word| f32::from_be_bytes(*word)).collect();
    let ascending = indices.array_windows().all(|[a, b]| a < b);
    let inside = indices.first().is_none_or(|first| *first >= 0)
        && indices.last().is_none_or(|last| usize::try_from(*last).is_ok_and(|last| last < dim));
    let plain = values.iter().all(|value| value.is_finite() && *value != 0.0);
    (dim <= SPARSE_DIM_MAX as usize && ascending && inside && plain)
        .then(|| Query::sparse(dim, indices.into_iter().zip(values)))
}

/// Length, then bytes with the first bit in the highest place.
fn bits_binary(bytes: &[u8]) -> Option<Vec<f32>> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(i32::from_be_bytes(*head)).ok()?;
    if length == 0 || length > BIT_LENGTH_MAX as usize || rest.len() != length.div_ceil(8) {
        return None;
    }
    let bit = |at: usize| f32::from(rest[at / 8] >> (7 - at % 8) & 1);
    Some((0..length).map(bit).collect())
}

/// pgvector's form (dimension, zero, numbers) or PostgreSQL's array of `float4` or `float8`.
fn vector_binary(bytes: &[u8]) -> Option<Vec<f32>> {
    let finite = |values: Vec<f32>| values.iter().all(|v| v.is_finite()).then_some(values);
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    let dim = usize::from(u16::from_be_bytes([head[0], head[1]]));
    if head[2..] == [0, 0] && dim > 0 && rest.len() == dim * 4 {
        return finite(rest.as_chunks::<4>().0.iter().map(|n| f32::from_be_bytes(*n)).collect());
    }
    let word =
        |at: usize| Some(u32::from_be_bytes(bytes.get(at * 4..at * 4 + 4)?.try_into().ok()?));
    let (dimensions, nulls, element, length) = (word(0)?, word(1)?, word(2)?, word(3)?);
    let element = pg_types::by_oid(element)?.name;
    let length = usize::try_from(length).ok()?;
    if dimensions != 1 || nulls != 0 {
        return None;
    }
    let mut values = Vec::new();
    let mut rest = bytes.get(20..)?;
    for _ in 0..length {
        let (size, tail) = rest.split_first_chunk::<4>()?;
        let size = usize::try_from(u32::from_be_bytes(*size)).ok()?;
        let (number, tail) = tail.split_at_checked(size)?;
        values.push(match (element, number) {
            ("float4", [a, b, c, d]) => f32::from_be_bytes([*a, *b, *c, *d]),
            #[expect(clippy::cast_possible_truncation, reason = "float8[] becomes a vector of f32")]
            ("float8", number) => f64::from_be_bytes(number.try_into().ok()?) as f32,
            _ => return None,
        });
        rest = tail;
    }
    if values.is_empty() { None } else { finite(values) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Field;
    use types::Coded as _;

    fn field(data_type: DataType) -> Field {
        Field::new("", data_type, true)
    }

    fn scalar(kind: VectorKind, numbers: &[f32]) -> ScalarValue {
        VectorBuilder::scalar(kind, &Query::Dense(numbers.to_vec())).unwrap()
    }

    fn vector_field(dim: usize) -> Field {
        field(scalar(VectorKind::Vector, &vec![0.0; dim]).data_type())
    }

    #[test]
    fn vectors_come_in_four_forms() {
        let expected = scalar(VectorKind::Vector, &[1.0, 2.0]);
        let array = |oid: u32, items: &[&[u8]]| {
            let mut bytes = Vec::new();
            for word in [1, 0, oid, 2, 1] {
                bytes.extend(u32::to_be_bytes(word));
            }
            for item in items {
                bytes.extend(u32::try_from(item.len()).unwrap().to_be_bytes());
                bytes.extend(*item);
            }
            bytes
        };
        let own = [&[0, 2, 0, 0][..], &1.0_f32.to_be_bytes(), &2.0_f32.to_be_bytes()].concat();
        let float4 = array(700, &[&1.0_f32.to_be_bytes(), &2.0_f32.to_be_bytes()]);
        let float8 = array(701, &[&1.0_f64.to_be_bytes(), &2.0_f64.to_be_bytes()]);
        let cases = [
            (Format::Text, b"[1,2]".to_vec()),
            (Format::Text, b"{1,2}".to_vec()),
            (Format::Binary, own),
            (Format::Binary, float4),
            (Format::Binary, float8),
        ];
        for (format, bytes) in cases {
            let got = read(&vector_field(2), format, Some(&bytes.into())).unwrap();
            assert_eq!(got, expected);
        }
        let wrong = read(&vector_field(3), Format::Text, Some(&Bytes::from_static(b"[1,2]")));
        assert_eq!(wrong.unwrap_err().sql_state().code(), "22000");
    }

    #[test]
    fn the_other_kinds_come_in_binary() {
        let sparse = [0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0x3f, 0x80, 0, 0];
        let cases: [(ScalarValue, &[u8]); 3] = [
            (scalar(VectorKind::Halfvec, &[1.0, -2.0]), &[0, 2, 0, 0, 0x3c, 0, 0xc0, 0]),
            (scalar(VectorKind::Bit, &[1.0, 0.0, 1.0]), &[0, 0, 0, 3, 0xa0]),
            (scalar(VectorKind::Sparsevec, &[0.0, 0.0, 1.0]), &sparse),
        ];
        for (expected, bytes) in cases {
            let field = field(expected.data_type());
            let bytes = Bytes::copy_from_slice(bytes);
            assert_eq!(read(&field, Format::Binary, Some(&bytes)).unwrap(), expected);
            let cut = bytes.slice(..bytes.len() - 1);
            let error = read(&field, Format::Binary, Some(&cut)).unwrap_err();
            assert_eq!(error.sql_state().code(), "22P03");
        }
    }

    #[test]
    fn bytes_of_the_wrong_length_are_refused() {
        for data_type in [DataType::Int32, DataType::Float64, DataType::Boolean, DataType::Date32] {
            let got = read(&field(data_type), Format::Binary, Some(&Bytes::from_static(b"abc")));
            assert_eq!(got.unwrap_err().sql_state().code(), "22P03");
        }
    }
}
