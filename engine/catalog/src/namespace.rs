//! A namespace: the unit of grants, quotas and files. SQL calls it a schema.

use serde::{Deserialize, Serialize};
use types::SchemaId;

use crate::Lifetime;

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its identity, also its `oid` in `pg_namespace`.
    pub id: SchemaId,
    /// Its name.
    pub name: String,
    /// When it exists.
    pub life: Lifetime,
}
