//! A vector to search for, with its numbers.

use crate::{Row, Sparse, Word};

/// A vector to search for.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    /// All numbers; zeros and ones for bits.
    Dense(Vec<f32>),
    /// The numbers that are not zero, and where they are, as [`Sparse`] has them.
    Sparse {
        /// The dimension.
        dim: usize,
        /// Positions from zero on, ascending.
        indices: Vec<Word>,
        /// The numbers at those positions.
        values: Vec<Word>,
    },
}

impl Query {
    /// A sparse one of numbers and their positions, which ascend from zero on.
    pub fn sparse(dim: usize, entries: impl Iterator<Item = (i32, f32)>) -> Self {
        let words = entries.map(|(index, value)| (index.to_le_bytes(), value.to_le_bytes()));
        let (indices, values) = words.unzip();
        Self::Sparse { dim, indices, values }
    }

    /// The query as a row.
    ///
    /// # Panics
    /// When a sparse one has not as many positions as numbers.
    #[must_use]
    pub fn row(&self) -> Row<'_> {
        match self {
            Self::Dense(numbers) => Row::Full(numbers),
            Self::Sparse { dim, indices, values } => {
                let sparse = Sparse::new(*dim, indices, values);
                Row::Sparse(sparse.expect("as many positions as numbers"))
            }
        }
    }
}

impl From<Row<'_>> for Query {
    fn from(row: Row<'_>) -> Self {
        match row {
            Row::Sparse(sparse) => Self::sparse(sparse.dim(), sparse.entries()),
            Row::Full(_) | Row::Half(_) | Row::Bits(_) => Self::Dense(row.to_f32().into_owned()),
        }
    }
}
