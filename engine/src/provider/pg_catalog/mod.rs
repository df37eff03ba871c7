//! PostgreSQL's catalog, made from ours when a statement asks for it.
//!
//! Tables are built at the statement's read view. Object ids are the catalog's own, so they last.
//! Columns that tools read are there; columns for features this server lacks hold what PostgreSQL
//! holds for an object that does not use them.

pub(crate) mod array_functions;
mod constraints;
mod functions;
mod information_schema;
mod relations;
mod table;
mod type_rows;
mod views;

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;

use super::scope::Scope;
use crate::sql::rewrite::EMPTY_CATALOGS;

pub(crate) use functions::registry;

/// A schema of catalog tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    PgCatalog,
    InformationSchema,
    Azimuth,
}

impl Set {
    /// The set that a schema is.
    pub(crate) fn of(schema: &str) -> Option<Self> {
        match schema {
            "pg_catalog" => Some(Self::PgCatalog),
            "information_schema" => Some(Self::InformationSchema),
            "azimuth" => Some(Self::Azimuth),
            _ => None,
        }
    }
}

/// `oid` of the namespace `pg_catalog`, PostgreSQL's own.
const PG_CATALOG_OID: i64 = 11;
/// `oid` of the role that owns everything, PostgreSQL's bootstrap superuser.
const OWNER_OID: i64 = 10;

/// `oid` of the one database.
const DATABASE_OID: i64 = 16_384;

/// Names of the tables of a set.
pub(crate) fn names(set: Set) -> impl Iterator<Item = &'static str> {
    let (tables, empty): (&[&str], &[&str]) = match set {
        Set::PgCatalog => (&relations::TABLES, &EMPTY_CATALOGS),
        Set::InformationSchema => (&information_schema::TABLES, &[]),
        Set::Azimuth => (&views::VIEWS, &[]),
    };
    tables.iter().chain(empty).copied()
}

/// A table of a set, with the rows of the statement's read view.
pub(crate) fn table(
    set: Set,
    name: &str,
    scope: &Scope,
) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
    if !names(set).any(|known| known == name) {
        return Ok(None);
    }
    let (view, settings) = (scope.view(), scope.settings());
    // What the server is doing is a matter of what is committed.
    let committed = || scope.store().read_view();
    let built = match set {
        Set::PgCatalog if name.starts_with("pg_stat_") => {
            relations::pg_catalog(name, &committed(), &settings)
        }
        Set::PgCatalog => relations::pg_catalog(name, &view, &settings),
        Set::InformationSchema => information_schema::information_schema(name, &view),
        Set::Azimuth => views::azimuth(name, &committed(), scope),
    };
    built.provider().map(Some)
}
