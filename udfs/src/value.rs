//! Vectors as Arrow values: `FixedSizeList<Float32 not null, n>`. Dimension 0 stands for a vector
//! type without a dimension, which a cast `::vector` or a parameter may have and a value never has.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, FixedSizeListArray, Float32Array};
use arrow::datatypes::{DataType, Field, Float32Type};
use datafusion_common::ScalarValue;

use crate::VectorError;

/// The Arrow type of `vector(dim)`.
#[must_use]
pub fn vector_type(dim: usize) -> DataType {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    DataType::FixedSizeList(item, i32::try_from(dim).unwrap_or(i32::MAX))
}

/// The dimension of a vector type; `None` for any other type.
#[must_use]
pub fn vector_dimension(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::FixedSizeList(item, dim) if item.data_type() == &DataType::Float32 => {
            usize::try_from(*dim).ok()
        }
        _ => None,
    }
}

/// A vector as a literal.
#[must_use]
pub fn vector_scalar(values: Vec<f32>) -> ScalarValue {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let dim = i32::try_from(values.len()).unwrap_or(i32::MAX);
    let values: ArrayRef = Arc::new(Float32Array::from(values));
    ScalarValue::FixedSizeList(Arc::new(FixedSizeListArray::new(item, dim, values, None)))
}

/// The numbers of row `row`; `None` when it is NULL or the array holds no vectors.
#[must_use]
pub fn vector_slice(array: &FixedSizeListArray, row: usize) -> Option<&[f32]> {
    if array.is_null(row) {
        return None;
    }
    let dim = usize::try_from(array.value_length()).ok()?;
    let values = array.values().as_primitive_opt::<Float32Type>()?;
    values.values().get(row * dim..(row + 1) * dim)
}

/// Checks a value against a type's dimension; 0 accepts any.
///
/// # Errors
/// When they differ.
pub fn check_dimension(expected: usize, got: usize) -> Result<(), VectorError> {
    if expected == 0 || expected == got {
        return Ok(());
    }
    Err(VectorError::Dimension { expected, got })
}
