//! Vectors become a column, whatever they come from.

use std::sync::Arc;

use arrow::array::builder::{BooleanBufferBuilder, NullBufferBuilder};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeListArray, Float16Array, Float32Array,
    Int32Array, StructArray,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::DataType;
use datafusion_common::{DataFusionError, Result, ScalarValue};
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use types::VectorKind;
use types::limits::{BIT_LENGTH_MAX, DIM_MAX, SPARSE_DIM_MAX};
use vector::{Query, Row, Word};

use crate::value::{check_dimension, sparse_fields, vector_type};
use crate::{VectorError, parse_vector};

/// Builds a column of vectors.
#[derive(Debug)]
pub struct VectorBuilder {
    kind: VectorKind,
    /// Of every vector; 0 for that of the first, or for any of sparse ones.
    dim: usize,
    /// The numbers, in the place of the kind.
    full: Vec<f32>,
    half: Vec<f16>,
    bits: BooleanBufferBuilder,
    /// Of sparse vectors: dimensions, ends of their numbers in bytes, positions, and numbers.
    dims: Vec<i32>,
    ends: Vec<i32>,
    indices: Vec<Word>,
    values: Vec<Word>,
    nulls: NullBufferBuilder,
}

impl VectorBuilder {
    /// No vectors yet. A dimension of 0 stands for that of the first vector.
    #[must_use]
    pub fn new(kind: VectorKind, dim: usize) -> Self {
        Self {
            kind,
            dim,
            full: Vec::new(),
            half: Vec::new(),
            bits: BooleanBufferBuilder::new(0),
            dims: Vec::new(),
            ends: vec![0],
            indices: Vec::new(),
            values: Vec::new(),
            nulls: NullBufferBuilder::new(0),
        }
    }

    /// Bytes held so far, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let words = self.full.len() + self.dims.len() + self.ends.len() + 2 * self.values.len();
        4 * words + 2 * self.half.len() + self.bits.len() / 8
    }

    /// Appends NULL.
    pub fn push_null(&mut self) {
        let dim = self.dim;
        match self.kind {
            VectorKind::Vector => self.full.resize(self.full.len() + dim, 0.0),
            VectorKind::Halfvec => self.half.resize(self.half.len() + dim, f16::ZERO),
            VectorKind::Bit => self.bits.append_n(dim, false),
            VectorKind::Sparsevec => self.end_sparse(0),
        }
        self.nulls.append_null();
    }

    /// Appends a vector in its text form.
    ///
    /// # Errors
    /// When the text is no vector of the kind or has another dimension.
    pub fn push_text(&mut self, text: &str) -> Result<(), VectorError> {
        self.push(parse_vector(self.kind, text)?.row())
    }

    /// Appends a vector, of this kind or another.
    ///
    /// # Errors
    /// When it has another dimension, or more than the kind can have, or numbers that the kind cannot
    /// hold.
    pub fn push(&mut self, row: Row<'_>) -> Result<(), VectorError> {
        let kind = self.kind;
        check_dimension(kind, self.dim, row.len())?;
        let max = match kind {
            VectorKind::Vector | VectorKind::Halfvec => DIM_MAX,
            VectorKind::Bit => BIT_LENGTH_MAX,
            VectorKind::Sparsevec => SPARSE_DIM_MAX,
        };
        if row.is_empty() {
            return Err(VectorError::Empty(kind));
        }
        if row.len() > max as usize {
            return Err(VectorError::TooLong { kind, max });
        }
        if kind == VectorKind::Sparsevec {
            self.push_sparse(row)?;
            self.nulls.append_non_null();
            return Ok(());
        }
        self.dim = row.len();
        let numbers = row.to_f32();
        match kind {
            VectorKind::Vector | VectorKind::Sparsevec => self.full.extend_from_slice(&numbers),
            VectorKind::Halfvec => {
                let start = self.half.len();
                self.half.resize(start + numbers.len(), f16::ZERO);
                self.half[start..].convert_from_f32_slice(&numbers);
                let mut pairs = self.half[start..].iter().zip(&*numbers);
                if let Some((_, number)) = pairs.find(|(h, n)| h.is_infinite() && n.is_finite()) {
                    return Err(VectorError::OutOfRange(kind, number.to_string()));
                }
            }
            VectorKind::Bit => numbers.iter().for_each(|number| self.bits.append(*number != 0.0)),
        }
        self.nulls.append_non_null();
        Ok(())
    }

    fn push_sparse(&mut self, row: Row<'_>) -> Result<(), VectorError> {
        let kind = self.kind;
        let dense;
        let entries: &mut dyn Iterator<Item = (i32, f32)> = match row {
            Row::Sparse(sparse) => &mut sparse.entries(),
            Row::Full(_) | Row::Half(_) | Row::Bits(_) => {
                dense = row.to_f32();
                &mut (0..).zip(dense.iter().copied())
            }
        };
        let mut next = 0;
        for (index, value) in entries {
            if value.is_nan() {
                return Err(VectorError::NotFinite(kind, "NaN"));
            }
            if value.is_infinite() {
                return Err(VectorError::NotFinite(kind, "infinite value"));
            }
            if usize::try_from(index).map_or(true, |index| index < next || index >= row.len()) {
                return Err(VectorError::Index);
            }
            next = usize::try_from(index).unwrap_or(0) + 1;
            if value != 0.0 {
                self.indices.push(index.to_le_bytes());
                self.values.push(value.to_le_bytes());
            }
        }
        self.end_sparse(row.len());
        Ok(())
    }

    /// Appends bits, cut off at the end or with zeros added.
    pub fn push_cut(&mut self, row: Row<'_>) {
        let numbers = row.to_f32();
        let bit = |at| numbers.get(at).is_some_and(|number| *number != 0.0);
        (0..self.dim).for_each(|at| self.bits.append(bit(at)));
        self.nulls.append_non_null();
    }

    fn end_sparse(&mut self, dim: usize) {
        self.dims.push(i32::try_from(dim).unwrap_or(i32::MAX));
        self.ends.push(i32::try_from(4 * self.values.len()).unwrap_or(i32::MAX));
    }

    /// The column.
    ///
    /// # Errors
    /// When it is too large for Arrow.
    pub fn finish(mut self) -> Result<ArrayRef> {
        let nulls = self.nulls.finish();
        let items: ArrayRef = match self.kind {
            VectorKind::Vector => Arc::new(Float32Array::from(self.full)),
            VectorKind::Halfvec => Arc::new(Float16Array::from(self.half)),
            VectorKind::Bit => Arc::new(BooleanArray::new(self.bits.finish(), None)),
            VectorKind::Sparsevec => {
                if i32::try_from(4 * self.values.len()).is_err() {
                    let message = "more than 2 GiB of sparse vectors at once";
                    return Err(DataFusionError::ResourcesExhausted(message.to_owned()));
                }
                let bytes = |words: Vec<Word>| -> Result<ArrayRef> {
                    let ends = OffsetBuffer::new(self.ends.clone().into());
                    let bytes = Buffer::from_vec(words.into_flattened());
                    Ok(Arc::new(BinaryArray::try_new(ends, bytes, None)?))
                };
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(Int32Array::from(self.dims)),
                    bytes(self.indices)?,
                    bytes(self.values)?,
                ];
                return Ok(Arc::new(StructArray::try_new(sparse_fields(), columns, nulls)?));
            }
        };
        let DataType::FixedSizeList(item, width) = vector_type(self.kind, self.dim) else {
            return Err(DataFusionError::Internal("a vector is a fixed-size list".to_owned()));
        };
        Ok(Arc::new(FixedSizeListArray::try_new(item, width, items, nulls)?))
    }

    /// A text as a literal.
    ///
    /// # Errors
    /// As of [`VectorBuilder::push_text`].
    pub fn literal(kind: VectorKind, dim: usize, text: &str) -> Result<ScalarValue> {
        let mut builder = Self::new(kind, dim);
        builder.push_text(text)?;
        ScalarValue::try_from_array(&builder.finish()?, 0)
    }

    /// A vector as a literal.
    ///
    /// # Errors
    /// As of [`VectorBuilder::push`].
    pub fn scalar(kind: VectorKind, query: &Query) -> Result<ScalarValue> {
        let mut builder = Self::new(kind, 0);
        builder.push(query.row())?;
        ScalarValue::try_from_array(&builder.finish()?, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};

    #[test]
    fn equal_vectors_are_equal_literals() {
        let texts = [
            (VectorKind::Vector, "[1,0,2]"),
            (VectorKind::Halfvec, "[1,0,2]"),
            (VectorKind::Bit, "101"),
            (VectorKind::Sparsevec, "{1:1,3:2}/3"),
        ];
        for (kind, text) in texts {
            let literal = || VectorBuilder::literal(kind, 0, text).unwrap();
            let hash = |value: &ScalarValue| {
                let mut state = DefaultHasher::new();
                value.hash(&mut state);
                state.finish()
            };
            assert_eq!(literal(), literal());
            assert_eq!(hash(&literal()), hash(&literal()), "{text}");
        }
    }
}
