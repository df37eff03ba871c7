//! Vectors become a column, whatever they come from.

use std::sync::Arc;

use arrow::array::builder::NullBufferBuilder;
use arrow::array::{ArrayRef, BinaryArray, Int32Array, StructArray};
use arrow::buffer::{Buffer, OffsetBuffer};
use datafusion_common::{Result, ScalarValue};
use types::VectorKind;
use vector::{Query, Row, Word};

use crate::value::{check_dimension, sparse_fields, vector_array};
use crate::{VectorError, parse_vector};

/// Builds a column of vectors.
#[derive(Debug)]
pub struct VectorBuilder {
    kind: VectorKind,
    /// Of every vector; 0 for that of the first, or for any of sparse ones.
    dim: usize,
    /// All numbers; of sparse vectors none.
    numbers: Vec<f32>,
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
            numbers: Vec::new(),
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
        4 * (self.numbers.len() + 2 * self.indices.len() + self.dims.len() + self.ends.len())
    }

    /// Appends NULL.
    pub fn push_null(&mut self) {
        if self.kind == VectorKind::Sparsevec {
            self.end_sparse(0);
        } else {
            self.numbers.resize(self.numbers.len() + self.dim, 0.0);
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
    /// When it has another dimension.
    pub fn push(&mut self, row: Row<'_>) -> Result<(), VectorError> {
        check_dimension(self.kind, self.dim, row.len())?;
        if self.kind == VectorKind::Sparsevec {
            let dense: Vec<(i32, f32)>;
            let mut add = |entries: &mut dyn Iterator<Item = (i32, f32)>| {
                for (index, value) in entries {
                    self.indices.push(index.to_le_bytes());
                    self.values.push(value.to_le_bytes());
                }
            };
            if let Row::Sparse(sparse) = row {
                add(&mut sparse.entries());
            } else {
                let numbers = row.to_f32();
                let kept = (0..).zip(numbers.iter().copied()).filter(|(_, number)| *number != 0.0);
                dense = kept.collect();
                add(&mut dense.into_iter());
            }
            self.end_sparse(row.len());
        } else {
            self.dim = row.len();
            self.numbers.extend_from_slice(&row.to_f32());
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Appends bits, cut off at the end or with zeros added.
    pub fn push_cut(&mut self, row: Row<'_>) {
        let start = self.numbers.len();
        self.numbers.extend(row.to_f32().iter().take(self.dim));
        self.numbers.resize(start + self.dim, 0.0);
        self.nulls.append_non_null();
    }

    fn end_sparse(&mut self, dim: usize) {
        self.dims.push(i32::try_from(dim).unwrap_or(i32::MAX));
        self.ends.push(i32::try_from(4 * self.values.len()).unwrap_or(i32::MAX));
    }

    /// The column.
    ///
    /// # Errors
    /// When a number is none in the kind's precision, or the column is too large for Arrow.
    pub fn finish(mut self) -> Result<ArrayRef> {
        let nulls = self.nulls.finish();
        if self.kind != VectorKind::Sparsevec {
            return Ok(Arc::new(vector_array(self.kind, self.dim, self.numbers, nulls)?));
        }
        let bytes = |words: Vec<Word>| -> Result<ArrayRef> {
            let ends = OffsetBuffer::new(self.ends.clone().into());
            let bytes = Buffer::from_vec(words.into_flattened());
            Ok(Arc::new(BinaryArray::try_new(ends, bytes, None)?))
        };
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int32Array::from(self.dims)), bytes(self.indices)?, bytes(self.values)?];
        Ok(Arc::new(StructArray::try_new(sparse_fields(), columns, nulls)?))
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
}

impl VectorBuilder {
    /// A vector as a literal.
    ///
    /// # Errors
    /// When a number is none in the kind's precision.
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
