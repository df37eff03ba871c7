//! Words that every other crate shares: identifiers, log positions, commit timestamps, distances,
//! SQLSTATE codes, limits, and the two seams that make time and randomness replaceable.
//!
//! This crate holds values and small pure functions. It opens no file, starts no thread and knows
//! neither Arrow nor SQL.
#![forbid(unsafe_code)]

mod clock;
mod distance;
mod error;
mod float_text;
mod ids;
pub mod limits;
mod principal;
mod quantization;
mod rng;

pub use clock::{Clock, SteppedClock, SystemClock};
pub use distance::{Distance, VectorKind};
pub use error::{Coded, Fault, SqlState};
pub use float_text::{write_float4, write_float8};
pub use ids::{
    CommitTs, Dim, FIRST_USER_OID, IndexId, Lsn, RowId, RowOrdinal, SchemaId, SequenceId, TableId,
    Term,
};
pub use principal::Principal;
pub use quantization::Quantization;
pub use rng::SplitMix64;
