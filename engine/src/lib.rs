//! The engine: SQL over collections, from text to record batches.
//!
//! One door for protocol crates, examples and tests: open an [`Engine`], make a [`Session`] for a
//! principal, [`Session::parse`] and [`Session::execute`]. Rows come as a stream of record batches
//! and dropping it cancels the work. The engine knows no wire protocol, opens no file itself and
//! reads no environment.
#![forbid(unsafe_code)]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "SQL and Arrow have more kinds than any one place handles"
)]

mod array_text;
mod engine;
mod error;
mod exec;
mod executor;
mod explain;
mod interval_text;
mod optimizer;
mod parse_value;
pub mod pg_types;
mod planner;
mod point_read;
mod prepared;
mod provider;
mod query;
mod search_config;
mod session;
pub mod settings;
mod sql;
mod tuner;
mod value_text;
mod values;

pub use array_text::array_of;
pub use datafusion::common::ScalarValue;
pub use engine::{Engine, EngineOptions, inspect};
pub use error::{EngineError, ErrorObject, Result};
pub use planner::{CopyFormat, CopyIn, CopyOptions};
pub use query::RowStream;
pub use session::{Canceller, passed, timed_out};
pub use session::{Described, Notice, Outcome, Session, TransactionStatus};
pub use settings::Settings;
pub use sql::{ParsedStatement, Statement, types::PG_TYPE_KEY};
pub use storage::fs::return_freed_memory;
pub use storage::{FileReport, OpenReport, StoreOptions};
pub use udfs::{
    VectorBuilder, check_dimension, parse_vector, vector_row, vector_shape, write_bytea,
    write_vector,
};
pub use value_text::{interval_parts, plain_values, write_value};
pub use values::{scalar_from_text, timestamp_text, uuid_text};
pub use vector::{Query, Row};
