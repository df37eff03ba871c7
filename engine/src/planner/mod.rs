//! Statements that DataFusion does not plan: definitions, writes, and reading the past.

mod alter;
mod as_of;
mod changes;
mod columns;
mod copy;
mod copy_options;
mod create_as;
mod define;
mod describe;
mod on_conflict;
mod plan_write;
mod retention;
mod returning;
mod rules;
mod sequences;
mod sorted_index;
mod views;
mod write;

pub(crate) use alter::{Operation, altered_table, plan_alteration};
pub(crate) use as_of::AsOfPlanner;
pub(crate) use changes::{read_columns, truncations};
pub use copy::CopyIn;
pub(crate) use copy::CopyTarget;
pub use copy_options::{CopyFormat, CopyOptions};
pub(crate) use create_as::{CreateAs, plan_create_as};
pub(crate) use define::{define, remade, target};
pub(crate) use describe::{Declared, cast_parameters, declared_types, describe_plan};
pub(crate) use on_conflict::with_row_id;
pub(crate) use plan_write::{
    PlannedWrite, Verb, Write, condition, plan_copy, plan_write, rows_at_once,
};
pub(crate) use rules::{check_definition, constants, error_object};
pub(crate) use sorted_index::is_sorted;
pub(crate) use views::{expanded, plan_create_view};
pub(crate) use write::{InsertRows, WriteBuilder, key_detail};
