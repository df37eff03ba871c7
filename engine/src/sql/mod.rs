//! From text to statements: tokens, dialect, parser, types, operators.

mod catalog_idioms;
pub(crate) mod create_tokens;
mod dialect;
mod fetch;
pub(crate) mod limited_range;
mod maintenance;
pub(crate) mod names;
pub(crate) mod operators;
mod parser;
pub(crate) mod rewrite;
pub(crate) mod scalar_casts;
mod sequence_tokens;
pub(crate) mod stored;
mod tokens;
pub(crate) mod types;
mod vector_cast;

pub(crate) use fetch::{Fetch, Forward};
pub(crate) use maintenance::Reindex;
pub(crate) use parser::Tree;
pub use parser::{ParsedStatement, Statement};
pub(crate) use parser::{highest_placeholder, parse};
