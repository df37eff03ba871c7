//! SQL functions over vectors, the text forms of values, and the checks of PostgreSQL's arithmetic.
//!
//! Functions are plain values over Arrow arrays: they know neither tables nor sessions. Names and
//! meaning are pgvector's; distances come from the kernels in `vector`.
#![forbid(unsafe_code)]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "SQL and Arrow have more kinds than any one place handles"
)]

mod aggregates;
mod arithmetic;
mod builder;
mod bytea;
mod error;
mod functions;
mod intervals;
mod numbers;
mod text;
mod value;

pub use aggregates::{aggregate_of_numbers, own_aggregate};
pub use arithmetic::{Arithmetic, arithmetic_function};
pub use builder::VectorBuilder;
pub use bytea::{parse_bytea, write_bytea};
pub use error::{ValueError, VectorError};
pub use functions::{DistanceFunction, VectorFunction, convert, distance_function, registry};
pub use numbers::CheckedFunction;
pub use text::{parse_vector, write_vector};
pub use value::{check_dimension, vector_of, vector_row, vector_shape, vector_type};
