//! SQL functions over vectors, and the text form of vectors.
//!
//! Functions are plain values over Arrow arrays: they know neither tables nor sessions. Names and
//! meaning are pgvector's; distances come from the kernels in `vector`.
#![forbid(unsafe_code)]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "SQL and Arrow have more kinds than any one place handles"
)]

mod error;
mod functions;
mod text;
mod value;

pub use error::VectorError;
pub use functions::{DistanceFunction, VectorFunction, distance_function, registry};
pub use text::{parse_vector, write_vector};
pub use value::{check_dimension, vector_scalar, vector_slice, vector_type};
