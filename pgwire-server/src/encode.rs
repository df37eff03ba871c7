//! Arrow values in PostgreSQL's text and binary forms.
//!
//! A column is taken apart once per batch and then written value by value, so that the inner loop
//! asks nothing about types.

use arrow::array::{Array, ArrayRef, AsArray as _};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, IntervalUnit, Time64MicrosecondType, TimestampMicrosecondType,
};
use bytes::{BufMut as _, BytesMut};
use engine::{EngineError, Row, interval_parts, pg_types, plain_values, write_value};

use crate::message::Format;
use crate::numeric;

/// Days from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
pub(crate) const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
pub(crate) const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;

/// The type `int2vector`.
const INT2VECTOR: u32 = 22;

/// A column ready to be written.
#[derive(Debug)]
pub(crate) struct Column {
    array: ArrayRef,
    oid: u32,
    format: Format,
}

impl Column {
    /// Prepares a column for the type that was described to the client.
    ///
    /// # Errors
    /// When the type has no binary form here and the client asks for one.
    pub(crate) fn new(array: &ArrayRef, oid: u32, format: Format) -> Result<Self, EngineError> {
        let array = plain_values(array)?;
        if format == Format::Binary && !has_binary(array.data_type(), oid) {
            let name = pg_types::by_oid(oid).map_or("this type", |t| t.name);
            return Err(EngineError::unsupported(format!("the binary form of {name}"))
                .with_hint("Ask for the text form."));
        }
        Ok(Self { array, oid, format })
    }

    /// Writes the length and the bytes of row `row`.
    ///
    /// # Errors
    /// When the value cannot be formatted.
    pub(crate) fn write(&self, row: usize, out: &mut BytesMut) -> Result<(), EngineError> {
        if self.array.data_type().is_null() || self.array.is_null(row) {
            out.put_i32(-1);
            return Ok(());
        }
        let at = out.len();
        out.put_i32(0);
        match self.format {
            Format::Text => self.text(row, out)?,
            Format::Binary => self.binary(row, out),
        }
        let length = i32::try_from(out.len() - at - 4).map_err(|_| {
            EngineError::new(
                types::SqlState::CONFIGURATION_LIMIT_EXCEEDED,
                "a value is longer than 2 GiB",
            )
        })?;
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn text(&self, row: usize, out: &mut BytesMut) -> Result<(), EngineError> {
        let array = &self.array;
        match array.data_type() {
            DataType::Utf8 => out.put_slice(array.as_string::<i32>().value(row).as_bytes()),
            DataType::Boolean => {
                out.put_u8(if array.as_boolean().value(row) { b't' } else { b'f' });
            }
            // Numbers with spaces between them.
            DataType::List(_) if self.oid == INT2VECTOR => {
                let numbers = array.as_list::<i32>().value(row);
                for (at, number) in numbers.as_primitive::<Int16Type>().iter().flatten().enumerate()
                {
                    let space = if at > 0 { " " } else { "" };
                    out.put_slice(format!("{space}{number}").as_bytes());
                }
            }
            _ => {
                let mut text = String::new();
                write_value(&mut text, array, row)?;
                out.put_slice(text.as_bytes());
            }
        }
        Ok(())
    }

    fn binary(&self, row: usize, out: &mut BytesMut) {
        let array = &self.array;
        match array.data_type() {
            DataType::Boolean => out.put_u8(u8::from(array.as_boolean().value(row))),
            DataType::Int16 => out.put_i16(array.as_primitive::<Int16Type>().value(row)),
            DataType::Int32 => out.put_i32(array.as_primitive::<Int32Type>().value(row)),
            DataType::Int64 if self.oid == 26 => {
                let oid = array.as_primitive::<Int64Type>().value(row);
                out.put_u32(u32::try_from(oid).unwrap_or(0));
            }
            DataType::Int64 => out.put_i64(array.as_primitive::<Int64Type>().value(row)),
            DataType::Float32 => out.put_f32(array.as_primitive::<Float32Type>().value(row)),
            DataType::Float64 => out.put_f64(array.as_primitive::<Float64Type>().value(row)),
            DataType::Utf8 => out.put_slice(array.as_string::<i32>().value(row).as_bytes()),
            DataType::Binary => out.put_slice(array.as_binary::<i32>().value(row)),
            DataType::Date32 => {
                out.put_i32(array.as_primitive::<Date32Type>().value(row) - EPOCH_DAYS);
            }
            DataType::Timestamp(..) => {
                let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
                out.put_i64(micros - EPOCH_MICROS);
            }
            DataType::Time64(_) => {
                out.put_i64(array.as_primitive::<Time64MicrosecondType>().value(row));
            }
            DataType::Decimal128(_, scale) => {
                let value = array.as_primitive::<Decimal128Type>().value(row);
                numeric::put(value, u8::try_from(*scale).unwrap_or(0), out);
            }
            DataType::FixedSizeBinary(_) => out.put_slice(array.as_fixed_size_binary().value(row)),
            DataType::List(item) => {
                let items = array.as_list::<i32>().value(row);
                let (oid, _) = pg_types::oid_of_field(item);
                // What has a binary form was asked when the column was prepared.
                let Ok(items) = Self::new(&items, oid, Format::Binary) else { return };
                out.put_i32(i32::from(!items.array.is_empty()));
                out.put_i32(i32::from(items.array.null_count() > 0));
                out.put_u32(oid);
                if !items.array.is_empty() {
                    out.put_i32(i32::try_from(items.array.len()).unwrap_or(i32::MAX));
                    out.put_i32(1);
                }
                for at in 0..items.array.len() {
                    if items.array.is_null(at) {
                        out.put_i32(-1);
                        continue;
                    }
                    let start = out.len();
                    out.put_i32(0);
                    items.binary(at, out);
                    let length = i32::try_from(out.len() - start - 4).unwrap_or(i32::MAX);
                    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
                }
            }
            DataType::Interval(_) | DataType::Duration(_) => {
                let (months, days, micros) = interval_parts(array, row).unwrap_or_default();
                out.put_i64(micros);
                out.put_i32(days);
                out.put_i32(months);
            }
            _ => {
                // `has_binary` lets nothing else through but vectors.
                if let Some(vector) = engine::vector_row(&**array, row) {
                    put_vector(vector, out);
                }
            }
        }
    }
}

fn is_vector(data_type: &DataType) -> bool {
    engine::vector_shape(data_type).is_some()
}

/// pgvector's form, dimension, zero, numbers; PostgreSQL's of bits, length and bytes with the first bit
/// in the highest place. Of a sparse vector dimension, count, zero, positions from zero on, numbers.
fn put_vector(vector: Row<'_>, out: &mut BytesMut) {
    let dimension = u16::try_from(vector.len()).unwrap_or(u16::MAX);
    match vector {
        Row::Full(numbers) => {
            out.put_u16(dimension);
            out.put_u16(0);
            numbers.iter().for_each(|number| out.put_f32(*number));
        }
        Row::Half(halves) => {
            out.put_u16(dimension);
            out.put_u16(0);
            halves.iter().for_each(|half| out.put_u16(half.to_bits()));
        }
        Row::Bits(bits) => {
            out.put_i32(i32::try_from(bits.len()).unwrap_or(i32::MAX));
            for first in (0..bits.len()).step_by(8) {
                let bit = |at: usize| u8::from(bits.is_set(first + at)) << (7 - at);
                out.put_u8((0..8).map(bit).sum());
            }
        }
        Row::Sparse(sparse) => {
            out.put_i32(i32::try_from(sparse.dim()).unwrap_or(i32::MAX));
            out.put_i32(i32::try_from(sparse.entries().len()).unwrap_or(i32::MAX));
            out.put_i32(0);
            sparse.entries().for_each(|(index, _)| out.put_i32(index));
            sparse.entries().for_each(|(_, value)| out.put_f32(value));
        }
    }
}

fn has_binary(data_type: &DataType, oid: u32) -> bool {
    match data_type {
        DataType::FixedSizeList(..) | DataType::Struct(_) => is_vector(data_type),
        // One dimension, of items that have a binary form.
        DataType::List(item) => {
            let (oid, _) = pg_types::oid_of_field(item);
            !matches!(item.data_type(), DataType::List(_)) && has_binary(item.data_type(), oid)
        }
        // Catalog columns may be described as a type whose binary form they do not hold.
        DataType::Utf8 => matches!(oid, 18 | 19 | 25 | 1042 | 1043),
        DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Binary
        | DataType::Date32
        | DataType::Timestamp(..)
        | DataType::Time64(_)
        | DataType::FixedSizeBinary(16)
        | DataType::Interval(IntervalUnit::MonthDayNano)
        | DataType::Duration(_)
        | DataType::Null => true,
        DataType::Decimal128(_, scale) => *scale >= 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use arrow::array::{
        BinaryArray, BooleanArray, Date32Array, Float32Array, Float64Array, Int32Array, ListArray,
        StringArray, TimestampNanosecondArray,
    };
    use types::VectorKind;

    fn written(array: &ArrayRef, format: Format) -> String {
        let field = arrow::datatypes::Field::new("c", array.data_type().clone(), true);
        let (oid, _) = pg_types::oid_of_field(&field);
        let column = Column::new(array, oid, format).unwrap();
        let mut out = BytesMut::new();
        column.write(0, &mut out).unwrap();
        let length = i32::from_be_bytes(*out.first_chunk().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), out.len() - 4);
        match format {
            Format::Text => String::from_utf8(out[4..].to_vec()).unwrap(),
            Format::Binary => out[4..].iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    #[test]
    fn values_look_as_from_postgresql() {
        let vector = |kind, numbers: &[f32]| {
            let query = engine::Query::Dense(numbers.to_vec());
            engine::VectorBuilder::scalar(kind, &query).unwrap().to_array().unwrap()
        };
        let list: ArrayRef =
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![
                Some(1),
                None,
                Some(3),
            ])]));
        let cases: [(ArrayRef, &str, &str); 13] = [
            (Arc::new(Int32Array::from(vec![258])), "258", "00000102"),
            (Arc::new(BooleanArray::from(vec![true])), "t", "01"),
            (Arc::new(Float32Array::from(vec![0.5])), "0.5", "3f000000"),
            (Arc::new(Float64Array::from(vec![1e20])), "1e+20", "4415af1d78b58c40"),
            (Arc::new(StringArray::from(vec!["é"])), "é", "c3a9"),
            (Arc::new(BinaryArray::from_vec(vec![b"\x00\xff"])), "\\x00ff", "00ff"),
            (Arc::new(Date32Array::from(vec![EPOCH_DAYS + 1])), "2000-01-02", "00000001"),
            (
                Arc::new(
                    TimestampNanosecondArray::from(vec![EPOCH_MICROS * 1_000 + 1_500_000_000])
                        .with_timezone("UTC"),
                ),
                "2000-01-01 00:00:01.5+00",
                "000000000016e360",
            ),
            (vector(VectorKind::Vector, &[1.0, -2.5]), "[1,-2.5]", "000200003f800000c0200000"),
            (vector(VectorKind::Halfvec, &[1.0, 0.1]), "[1,0.099975586]", "000200003c002e66"),
            (vector(VectorKind::Bit, &[1.0, 0.0, 1.0]), "101", "00000003a0"),
            (vector(VectorKind::Bit, &[1.0; 9]), "111111111", "00000009ff80"),
            (
                vector(VectorKind::Sparsevec, &[1.5, 0.0, -2.0, 0.0, 0.0]),
                "{1:1.5,3:-2}/5",
                "00000005000000020000000000000000000000023fc00000c0000000",
            ),
        ];
        for (array, text, binary) in cases {
            assert_eq!(written(&array, Format::Text), text);
            assert_eq!(written(&array, Format::Binary), binary, "{text}");
        }
        assert_eq!(written(&list, Format::Text), "{1,NULL,3}");
    }
}
