//! Vector search as pure mathematics: distance kernels, exact search, the HNSW graph, recall.
//!
//! No file, no clock, no async, no Arrow: callers lend rows through [`Vectors`] and get
//! ordinals and distances back. Everything here is generic over who may be seen, so deletes,
//! filters and instants of the past are part of the search and not a step after it.
//!
//! Code is free of `unsafe` outside `kernels` and `pages`.
#![deny(unsafe_code)]

pub mod flat;
pub mod hnsw;
pub mod kernels;
mod metric;
mod pages;
pub mod quantize;
mod query;
pub mod recall;
mod row;
mod sparse;
mod top_k;

pub use metric::{Metric, Probe};
pub use query::Query;
pub use row::{Bits, Row};
pub use sparse::{InvertedLists, Sparse, Word};
pub use top_k::{Neighbor, TopK};

/// Row-addressed access to the vectors of one column, shape `[rows, dim]`.
pub trait Vectors: Sync {
    /// Dimension of every vector.
    fn dim(&self) -> usize;

    /// The vector of row `ordinal`; `None` when the row has no vector (SQL NULL) or does not exist
    /// in this view of the column.
    fn row(&self, ordinal: u32) -> Option<Row<'_>>;
}

/// A dense `[rows, dim]` row-major matrix, for tests and measurements.
#[derive(Debug, Clone)]
pub struct Matrix {
    dim: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// Takes `values` as rows of `dim` numbers.
    ///
    /// # Panics
    /// When `dim` is zero or does not divide the number of values.
    #[must_use]
    pub fn new(dim: usize, values: Vec<f32>) -> Self {
        assert!(dim > 0 && values.len().is_multiple_of(dim), "values must fill whole rows");
        Self { dim, values }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.values.len() / self.dim
    }

    /// Row `ordinal`; `None` behind the last.
    #[must_use]
    pub fn vector(&self, ordinal: u32) -> Option<&[f32]> {
        let start = ordinal as usize * self.dim;
        self.values.get(start..start + self.dim)
    }
}

impl Vectors for Matrix {
    fn dim(&self) -> usize {
        self.dim
    }

    fn row(&self, ordinal: u32) -> Option<Row<'_>> {
        self.vector(ordinal).map(Row::Full)
    }
}
