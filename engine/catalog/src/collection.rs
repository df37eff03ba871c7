//! A collection: typed columns and a primary key. SQL calls it a table.

use serde::{Deserialize, Serialize};
use types::limits::RETENTION_DEFAULT_MICROS;
use types::{Dim, SchemaId, TableId, VectorKind};

use crate::Lifetime;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// `boolean`
    Boolean,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `text`
    Text,
    /// `character varying` without a length
    Varchar,
    /// `bytea`
    Bytea,
    /// `date`
    Date,
    /// `timestamp without time zone`, microseconds
    Timestamp,
    /// `timestamp with time zone`, microseconds UTC
    TimestampTz,
    /// `vector(n)`, `f32`
    Vector(Dim),
    /// `halfvec(n)`, `f16`
    Halfvec(Dim),
    /// `bit(n)`
    Bit(Dim),
    /// `sparsevec(n)`
    Sparsevec(Dim),
}

impl ColumnType {
    /// The type's SQL name, as PostgreSQL's `format_type` prints it.
    #[must_use]
    pub fn sql_name(&self) -> String {
        match self {
            Self::Boolean => "boolean".to_owned(),
            Self::Int2 => "smallint".to_owned(),
            Self::Int4 => "integer".to_owned(),
            Self::Int8 => "bigint".to_owned(),
            Self::Float4 => "real".to_owned(),
            Self::Float8 => "double precision".to_owned(),
            Self::Text => "text".to_owned(),
            Self::Varchar => "character varying".to_owned(),
            Self::Bytea => "bytea".to_owned(),
            Self::Date => "date".to_owned(),
            Self::Timestamp => "timestamp without time zone".to_owned(),
            Self::TimestampTz => "timestamp with time zone".to_owned(),
            Self::Vector(dim) | Self::Halfvec(dim) | Self::Bit(dim) | Self::Sparsevec(dim) => {
                let name = self.vector().map_or("", |(kind, _)| kind.name());
                format!("{name}({dim})")
            }
        }
    }

    /// The kind and the dimension of a vector; `None` for other types.
    #[must_use]
    pub fn vector(&self) -> Option<(VectorKind, Dim)> {
        match self {
            Self::Vector(dim) => Some((VectorKind::Vector, *dim)),
            Self::Halfvec(dim) => Some((VectorKind::Halfvec, *dim)),
            Self::Bit(dim) => Some((VectorKind::Bit, *dim)),
            Self::Sparsevec(dim) => Some((VectorKind::Sparsevec, *dim)),
            Self::Boolean
            | Self::Int2
            | Self::Int4
            | Self::Int8
            | Self::Float4
            | Self::Float8
            | Self::Text
            | Self::Varchar
            | Self::Bytea
            | Self::Date
            | Self::Timestamp
            | Self::TimestampTz => None,
        }
    }

    /// The type of vectors of a kind.
    #[must_use]
    pub fn of_vector(kind: VectorKind, dim: Dim) -> Self {
        match kind {
            VectorKind::Vector => Self::Vector(dim),
            VectorKind::Halfvec => Self::Halfvec(dim),
            VectorKind::Bit => Self::Bit(dim),
            VectorKind::Sparsevec => Self::Sparsevec(dim),
        }
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub column_type: ColumnType,
    /// Whether NULL is allowed.
    pub nullable: bool,
}

/// A collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// Its identity, also its `oid` in `pg_class`.
    pub id: TableId,
    /// The namespace it is in.
    pub schema: SchemaId,
    /// Its name.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Positions of the primary key's columns, in key order; empty without one.
    pub primary_key: Vec<usize>,
    /// `oid` of the primary key's constraint and index in PostgreSQL's catalog views.
    pub primary_key_oid: u32,
    /// How long ended row versions can be read, in microseconds; `None` for the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<i64>,
    /// When it exists.
    pub life: Lifetime,
}

impl Collection {
    /// How long ended row versions can be read, in microseconds.
    #[must_use]
    pub fn retention_micros(&self) -> i64 {
        self.retention.unwrap_or(RETENTION_DEFAULT_MICROS)
    }

    /// Position of a column by name.
    #[must_use]
    pub fn column_position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Name of the primary key's constraint.
    #[must_use]
    pub fn primary_key_name(&self) -> String {
        format!("{}_pkey", self.name)
    }
}
