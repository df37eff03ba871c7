//! What DataFusion asks of us while it plans: names, tables, columns, rows, all at one read view.

mod catalog;
mod collection;
pub(crate) mod pg_catalog;
mod scope;
pub(crate) mod sequences;

pub(crate) use catalog::{DATABASE, DML_CATALOG, MEMORY_CATALOG, Names};
pub(crate) use collection::{CollectionProvider, ROW_ID};
pub(crate) use scope::Scope;
