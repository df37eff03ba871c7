//! Statements that DataFusion does not plan: definitions, writes, and reading the past.

mod as_of;
mod copy;
mod define;
mod describe;
mod plan_write;
mod retention;
mod write;

pub(crate) use as_of::AsOfPlanner;
pub use copy::CopyIn;
pub(crate) use copy::{CopyOptions, CopyTarget};
pub(crate) use define::{define, target};
pub(crate) use describe::{cast_parameters, declared_types, describe_plan};
pub(crate) use plan_write::{Verb, plan_write};
pub(crate) use write::{InsertRows, WriteBuilder};
