//! From text to statements: tokens, dialect, parser, types, operators.

mod dialect;
pub(crate) mod operators;
mod parser;
pub(crate) mod rewrite;
mod tokens;
pub(crate) mod types;
mod vector_cast;

pub(crate) use parser::Tree;
pub(crate) use parser::parse;
pub use parser::{ParsedStatement, Statement};
