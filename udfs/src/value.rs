//! Vectors as Arrow values: `FixedSizeList<T not null, n>` with `Float32` for `vector`, `Float16` for
//! `halfvec` and `Boolean` for `bit`, and a struct for `sparsevec`. Dimension 0 stands for a type without a dimension, which a cast
//! `::vector` or a parameter may have and a value never has.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float16Type, Float32Type, Int32Type};
use datafusion_common::ScalarValue;
use types::VectorKind;
use vector::{Bits, Query, Row, Sparse, Word};

use crate::VectorError;

/// The type of the numbers; `None` where they are no list.
fn item_type(kind: VectorKind) -> Option<DataType> {
    Some(match kind {
        VectorKind::Vector => DataType::Float32,
        VectorKind::Halfvec => DataType::Float16,
        VectorKind::Bit => DataType::Boolean,
        VectorKind::Sparsevec => return None,
    })
}

/// The columns of a sparse vector: its dimension, the positions of its numbers from zero on as 32-bit
/// integers, and the numbers as 32-bit floats, both with the least significant byte first. Bytes, because
/// plans compare constants, and cannot compare structs of lists.
pub(crate) fn sparse_fields() -> Fields {
    Fields::from(vec![
        Field::new("dim", DataType::Int32, false),
        Field::new("indices", DataType::Binary, false),
        Field::new("values", DataType::Binary, false),
    ])
}

/// The Arrow type of vectors of a kind; that of a `sparsevec` does not say the dimension.
#[must_use]
pub fn vector_type(kind: VectorKind, dim: usize) -> DataType {
    let Some(item) = item_type(kind) else { return DataType::Struct(sparse_fields()) };
    let item = Arc::new(Field::new("item", item, false));
    DataType::FixedSizeList(item, i32::try_from(dim).unwrap_or(i32::MAX))
}

/// Kind and dimension of a vector type, 0 where it does not say; `None` for any other type.
#[must_use]
pub fn vector_shape(data_type: &DataType) -> Option<(VectorKind, usize)> {
    if let DataType::Struct(fields) = data_type {
        let same =
            |(a, b): (&FieldRef, &FieldRef)| a.name() == b.name() && a.data_type() == b.data_type();
        let known = sparse_fields();
        let is_sparse = fields.len() == known.len() && fields.iter().zip(&known).all(same);
        return is_sparse.then_some((VectorKind::Sparsevec, 0));
    }
    let DataType::FixedSizeList(item, dim) = data_type else { return None };
    let mut kinds = VectorKind::ALL.into_iter();
    let kind = kinds.find(|kind| item_type(*kind).as_ref() == Some(item.data_type()))?;
    Some((kind, usize::try_from(*dim).ok()?))
}

/// The vector of row `row`; `None` when it is NULL or the array holds no vectors.
#[must_use]
pub fn vector_row(array: &dyn Array, row: usize) -> Option<Row<'_>> {
    if array.is_null(row) {
        return None;
    }
    if let Some(sparse) = array.as_struct_opt() {
        return sparse_row(sparse, row);
    }
    let list = array.as_fixed_size_list_opt()?;
    let dim = usize::try_from(list.value_length()).ok()?;
    let (from, to) = (row * dim, (row + 1) * dim);
    let items = list.values();
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

fn sparse_row(array: &StructArray, row: usize) -> Option<Row<'_>> {
    let [dims, indices, values] = array.columns() else { return None };
    let dim = *dims.as_primitive_opt::<Int32Type>()?.values().get(row)?;
    let (indices, values) = (words(indices, row)?, words(values, row)?);
    Sparse::new(usize::try_from(dim).ok()?, indices, values).map(Row::Sparse)
}

fn words(array: &ArrayRef, row: usize) -> Option<&[Word]> {
    Some(array.as_binary_opt::<i32>()?.value(row).as_chunks().0)
}

/// The vector of a literal; `None` for NULL and for what is no vector.
#[must_use]
pub fn vector_of(value: &ScalarValue) -> Option<Query> {
    let array: &dyn Array = match value {
        ScalarValue::FixedSizeList(list) => &**list,
        ScalarValue::Struct(sparse) => &**sparse,
        _ => return None,
    };
    vector_row(array, 0).map(Query::from)
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
        VectorKind::Vector | VectorKind::Halfvec | VectorKind::Sparsevec => {
            VectorError::Dimension { expected, got }
        }
        VectorKind::Bit => VectorError::Length { expected, got },
    })
}
