//! Vectors as Arrow values: `FixedSizeList<T not null, n>` with `Float32` for `vector`, `Float16` for
//! `halfvec` and `Boolean` for `bit`. Dimension 0 stands for a type without a dimension, which a cast
//! `::vector` or a parameter may have and a value never has.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray as _, BooleanArray, FixedSizeListArray, Float16Array, Float32Array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Float16Type, Float32Type};
use datafusion_common::ScalarValue;
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use types::VectorKind;
use vector::{Bits, Row};

use crate::VectorError;

fn item_type(kind: VectorKind) -> DataType {
    match kind {
        VectorKind::Vector => DataType::Float32,
        VectorKind::Halfvec => DataType::Float16,
        VectorKind::Bit => DataType::Boolean,
    }
}

/// The Arrow type of `vector(dim)`, `halfvec(dim)` or `bit(dim)`.
#[must_use]
pub fn vector_type(kind: VectorKind, dim: usize) -> DataType {
    let item = Arc::new(Field::new("item", item_type(kind), false));
    DataType::FixedSizeList(item, i32::try_from(dim).unwrap_or(i32::MAX))
}

/// Kind and dimension of a vector type; `None` for any other type.
#[must_use]
pub fn vector_shape(data_type: &DataType) -> Option<(VectorKind, usize)> {
    let DataType::FixedSizeList(item, dim) = data_type else { return None };
    let mut kinds = VectorKind::ALL.into_iter();
    let kind = kinds.find(|kind| item.data_type() == &item_type(*kind))?;
    Some((kind, usize::try_from(*dim).ok()?))
}

/// The dimension of a vector type; `None` for any other type.
#[must_use]
pub fn vector_dimension(data_type: &DataType) -> Option<usize> {
    vector_shape(data_type).map(|(_, dim)| dim)
}

/// Vectors of `dim` numbers each: rounded to `f16` for `halfvec`, all but zero set for `bit`.
///
/// # Errors
/// When a finite number is none in `f16`.
///
/// # Panics
/// When the numbers are not `dim` for each row.
pub fn vector_array(
    kind: VectorKind,
    dim: usize,
    numbers: Vec<f32>,
    nulls: Option<NullBuffer>,
) -> Result<FixedSizeListArray, VectorError> {
    let items: ArrayRef = match kind {
        VectorKind::Vector => Arc::new(Float32Array::from(numbers)),
        VectorKind::Halfvec => {
            let mut halves = vec![f16::ZERO; numbers.len()];
            halves.convert_from_f32_slice(&numbers);
            let mut pairs = halves.iter().zip(&numbers);
            if let Some((_, number)) = pairs.find(|(h, n)| h.is_infinite() && n.is_finite()) {
                return Err(VectorError::OutOfRange(kind, number.to_string()));
            }
            Arc::new(Float16Array::from(halves))
        }
        VectorKind::Bit => {
            Arc::new(numbers.iter().map(|number| Some(*number != 0.0)).collect::<BooleanArray>())
        }
    };
    let item = Arc::new(Field::new("item", item_type(kind), false));
    let width = i32::try_from(dim).unwrap_or(i32::MAX);
    Ok(FixedSizeListArray::new(item, width, items, nulls))
}

/// A vector as a literal.
///
/// # Errors
/// When a finite number is none in `f16`.
pub fn vector_scalar(kind: VectorKind, numbers: Vec<f32>) -> Result<ScalarValue, VectorError> {
    let array = vector_array(kind, numbers.len(), numbers, None)?;
    Ok(ScalarValue::FixedSizeList(Arc::new(array)))
}

/// The vector of row `row`; `None` when it is NULL or the array holds no vectors.
#[must_use]
pub fn vector_row(array: &FixedSizeListArray, row: usize) -> Option<Row<'_>> {
    if array.is_null(row) {
        return None;
    }
    let dim = usize::try_from(array.value_length()).ok()?;
    let (from, to) = (row * dim, (row + 1) * dim);
    let items = array.values();
    match items.data_type() {
        DataType::Float32 => {
            items.as_primitive::<Float32Type>().values().get(from..to).map(Row::Full)
        }
        DataType::Float16 => {
            items.as_primitive::<Float16Type>().values().get(from..to).map(Row::Half)
        }
        DataType::Boolean => {
            let bits = items.as_boolean().values();
            Bits::new(bits.values(), bits.offset() + from, dim).map(Row::Bits)
        }
        _ => None,
    }
}

/// Checks a value against a type's dimension; 0 accepts any.
///
/// # Errors
/// When they differ.
pub fn check_dimension(kind: VectorKind, expected: usize, got: usize) -> Result<(), VectorError> {
    if expected == 0 || expected == got {
        return Ok(());
    }
    Err(match kind {
        VectorKind::Vector | VectorKind::Halfvec => VectorError::Dimension { expected, got },
        VectorKind::Bit => VectorError::Length { expected, got },
    })
}
