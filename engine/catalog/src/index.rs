//! An index: an access path of a collection, derived from its rows.

use serde::{Deserialize, Serialize};
use types::{Distance, IndexId, SchemaId, TableId};

use crate::Lifetime;

/// How an HNSW graph is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HnswOptions {
    /// Links per point and layer.
    pub m: u32,
    /// Candidates while building.
    pub ef_construction: u32,
}

impl Default for HnswOptions {
    fn default() -> Self {
        Self { m: 16, ef_construction: 200 }
    }
}

/// An index `USING hnsw (column opclass)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Its identity, also its `oid` in `pg_class`.
    pub id: IndexId,
    /// The namespace it is in: that of its table.
    pub schema: SchemaId,
    /// The table it serves.
    pub table: TableId,
    /// Its name.
    pub name: String,
    /// Position of the vector column.
    pub column: usize,
    /// The distance it answers.
    pub distance: Distance,
    /// How the graph is built.
    pub options: HnswOptions,
    /// When it exists.
    pub life: Lifetime,
}
