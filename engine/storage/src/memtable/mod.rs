//! Row versions in memory.
//!
//! A row version is visible at an instant `t` when `begin <= t < end`. Versions are appended in log
//! order; ending one writes its end timestamp. One thread applies, any number read: a reader that
//! meets an end timestamp younger than its own instant sees the row as alive, which
//! is what its instant asks for, so reading needs no lock beyond fetching the current [`Rows`].

mod chunk;
mod index;
mod layout;
mod rows;
mod schema;
mod sorted;
mod table;

pub use chunk::{Chunk, VectorColumn};
pub use index::{IndexSearch, SearchReport, Strategy, VectorIndex, exact_search};
pub use rows::{Rows, SegmentState, VectorRows};
pub use schema::{
    Definition, arrow_type, column_id, fit, is_vector_field, missing_as, missing_to_text,
    schema_of_columns, vector_field,
};
pub use table::{Contents, Table};

pub use crate::segment::Zones;

pub(crate) use chunk::RowIds;
pub use chunk::batch_bytes;
pub(crate) use index::IndexerOptions;
pub(crate) use layout::{Layout, Origin, Part};
pub(crate) use rows::{Files, HISTORY};
pub(crate) use schema::column_position;
