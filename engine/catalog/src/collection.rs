//! A collection: typed columns and a primary key. SQL calls it a table.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::limits::{NUMERIC_PRECISION_MAX, NUMERIC_SCALE_DEFAULT, RETENTION_DEFAULT_MICROS};
use types::{Dim, SchemaId, SequenceId, TableId, VectorKind};

use crate::alter::StoredColumn;
use crate::{Lifetime, SortedIndex};

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
    /// `character varying(n)`: at most so many characters
    VarcharN(u32),
    /// `numeric(precision, scale)`: decimal digits in all and after the point
    Numeric {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most `precision`.
        scale: u8,
    },
    /// `uuid`
    Uuid,
    /// `time without time zone`, microseconds
    Time,
    /// `bytea`
    Bytea,
    /// `date`
    Date,
    /// `timestamp without time zone`, microseconds
    Timestamp,
    /// `timestamp with time zone`, microseconds UTC
    TimestampTz,
    /// `interval`: months, days and microseconds
    Interval,
    /// Values of a type in one dimension, `type[]`
    Array(ItemType),
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
    /// `numeric` without digits
    pub const NUMERIC: Self =
        Self::Numeric { precision: NUMERIC_PRECISION_MAX, scale: NUMERIC_SCALE_DEFAULT };

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
            Self::VarcharN(length) => format!("character varying({length})"),
            Self::Numeric { precision, scale } => format!("numeric({precision},{scale})"),
            Self::Uuid => "uuid".to_owned(),
            Self::Time => "time without time zone".to_owned(),
            Self::Bytea => "bytea".to_owned(),
            Self::Date => "date".to_owned(),
            Self::Timestamp => "timestamp without time zone".to_owned(),
            Self::TimestampTz => "timestamp with time zone".to_owned(),
            Self::Interval => "interval".to_owned(),
            Self::Array(item) => format!("{}[]", item.column_type().sql_name()),
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
            | Self::VarcharN(_)
            | Self::Numeric { .. }
            | Self::Uuid
            | Self::Time
            | Self::Bytea
            | Self::Date
            | Self::Timestamp
            | Self::TimestampTz
            | Self::Interval
            | Self::Array(_) => None,
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

/// The type of the items of an array: those of [`ColumnType`] that are no arrays and no vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "as in ColumnType")]
pub enum ItemType {
    Boolean,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Text,
    Varchar,
    VarcharN(u32),
    Numeric { precision: u8, scale: u8 },
    Uuid,
    Time,
    Bytea,
    Date,
    Timestamp,
    TimestampTz,
    Interval,
}

impl ItemType {
    /// The type as that of an item; `None` where it cannot be one.
    #[must_use]
    pub fn of(column_type: ColumnType) -> Option<Self> {
        Some(match column_type {
            ColumnType::Boolean => Self::Boolean,
            ColumnType::Int2 => Self::Int2,
            ColumnType::Int4 => Self::Int4,
            ColumnType::Int8 => Self::Int8,
            ColumnType::Float4 => Self::Float4,
            ColumnType::Float8 => Self::Float8,
            ColumnType::Text => Self::Text,
            ColumnType::Varchar => Self::Varchar,
            ColumnType::VarcharN(length) => Self::VarcharN(length),
            ColumnType::Numeric { precision, scale } => Self::Numeric { precision, scale },
            ColumnType::Uuid => Self::Uuid,
            ColumnType::Time => Self::Time,
            ColumnType::Bytea => Self::Bytea,
            ColumnType::Date => Self::Date,
            ColumnType::Timestamp => Self::Timestamp,
            ColumnType::TimestampTz => Self::TimestampTz,
            ColumnType::Interval => Self::Interval,
            ColumnType::Array(_)
            | ColumnType::Vector(_)
            | ColumnType::Halfvec(_)
            | ColumnType::Bit(_)
            | ColumnType::Sparsevec(_) => return None,
        })
    }

    /// The same as the type of a column.
    #[must_use]
    pub fn column_type(self) -> ColumnType {
        match self {
            Self::Boolean => ColumnType::Boolean,
            Self::Int2 => ColumnType::Int2,
            Self::Int4 => ColumnType::Int4,
            Self::Int8 => ColumnType::Int8,
            Self::Float4 => ColumnType::Float4,
            Self::Float8 => ColumnType::Float8,
            Self::Text => ColumnType::Text,
            Self::Varchar => ColumnType::Varchar,
            Self::VarcharN(length) => ColumnType::VarcharN(length),
            Self::Numeric { precision, scale } => ColumnType::Numeric { precision, scale },
            Self::Uuid => ColumnType::Uuid,
            Self::Time => ColumnType::Time,
            Self::Bytea => ColumnType::Bytea,
            Self::Date => ColumnType::Date,
            Self::Timestamp => ColumnType::Timestamp,
            Self::TimestampTz => ColumnType::TimestampTz,
            Self::Interval => ColumnType::Interval,
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
    /// What the column holds when a statement gives it no value; `None` for NULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<ColumnDefault>,
}

impl Column {
    /// A column without a default.
    #[must_use]
    pub fn new(name: &str, column_type: ColumnType, nullable: bool) -> Self {
        Self { name: name.to_owned(), column_type, nullable, default: None }
    }

    /// The sequence that gives the column its values.
    #[must_use]
    pub fn sequence(&self) -> Option<(SequenceId, Numbered)> {
        match self.default {
            Some(ColumnDefault::Sequence { id, numbered }) => Some((id, numbered)),
            Some(ColumnDefault::Expression(_)) | None => None,
        }
    }
}

/// What a column holds when a statement gives it no value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnDefault {
    /// An expression without columns, in SQL.
    Expression(String),
    /// The next value of a sequence that belongs to the column.
    Sequence {
        /// The sequence; assigned when the table is made.
        id: SequenceId,
        /// How the column was declared.
        numbered: Numbered,
    },
}

/// How a column that a sequence numbers was declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Numbered {
    /// `serial` and its kin
    Serial,
    /// `GENERATED BY DEFAULT AS IDENTITY`
    ByDefault,
    /// `GENERATED ALWAYS AS IDENTITY`
    Always,
}

/// A condition that every row meets, or is NULL for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its identity in `pg_constraint`; assigned when it is made.
    #[serde(default)]
    pub oid: u32,
    /// The constraint's name, unique among those of the table.
    pub name: String,
    /// The condition in SQL, over the table's columns.
    pub expression: String,
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
    /// Conditions of its rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// Sorted indexes, those of `UNIQUE` among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sorted: Vec<SortedIndex>,
    /// How often anything but the retention changed.
    #[serde(default)]
    pub version: u32,
    /// Ids of the columns; empty while they are their positions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ids: Vec<usize>,
    /// Columns that were dropped: rows of before have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) gone: Vec<StoredColumn>,
    /// What rows have in a column, by its id, that were stored before it came.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) missing: BTreeMap<usize, String>,
    /// Types of the columns before the first change; empty before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) original: Vec<ColumnType>,
    /// Name of the primary key's constraint; `None` for the one that follows from the table's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) primary_key_name: Option<String>,
    /// How long ended row versions can be read, in microseconds; `None` for the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<i64>,
    /// When it exists.
    pub life: Lifetime,
}

impl Collection {
    /// A collection that nothing was changed in.
    #[must_use]
    pub fn new(
        (id, schema, name): (TableId, SchemaId, &str),
        (columns, primary_key): (&[Column], &[usize]),
        primary_key_oid: u32,
        life: Lifetime,
    ) -> Self {
        Self {
            id,
            schema,
            name: name.to_owned(),
            columns: columns.to_vec(),
            primary_key: primary_key.to_vec(),
            primary_key_oid,
            checks: Vec::new(),
            sorted: Vec::new(),
            version: 0,
            ids: Vec::new(),
            gone: Vec::new(),
            missing: BTreeMap::new(),
            original: Vec::new(),
            primary_key_name: None,
            retention: None,
            life,
        }
    }

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
        self.primary_key_name.clone().unwrap_or_else(|| format!("{}_pkey", self.name))
    }
}
