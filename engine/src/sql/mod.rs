//! From text to statements: tokens, dialect, parser, types, operators.

mod dialect;
mod fetch;
pub(crate) mod operators;
mod parser;
pub(crate) mod rewrite;
mod tokens;
pub(crate) mod types;
mod vector_cast;

pub(crate) use fetch::{Fetch, Forward};
pub(crate) use parser::Tree;
pub(crate) use parser::parse;
pub use parser::{ParsedStatement, Statement};
