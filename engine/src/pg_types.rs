//! PostgreSQL's types by object id, and their meaning in Arrow.
//!
//! Ids below 10,000 are PostgreSQL's own (`pg_type.dat`); `vector`, `halfvec` and `sparsevec` come from an
//! extension there and have no fixed ids, so they get some here.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef, TimeUnit};
use catalog::ColumnType;
use storage::memtable::vector_field;
use types::{Dim, VectorKind};

use crate::error::{EngineError, Result};
use crate::sql::types::{PG_TYPE_KEY, field_of};

/// A type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PgType {
    /// `pg_type.oid`
    pub oid: u32,
    /// `pg_type.typname`
    pub name: &'static str,
    /// `oid` of the array type, 0 without one.
    pub array: u32,
    /// `pg_type.typlen`: bytes, -1 for variable length.
    pub len: i16,
    /// `pg_type.typcategory`
    pub category: &'static str,
}

const fn pg(oid: u32, name: &'static str, array: u32, len: i16, category: &'static str) -> PgType {
    PgType { oid, name, array, len, category }
}

/// `vector`
pub const VECTOR: u32 = 16_385;
/// `halfvec`
pub const HALFVEC: u32 = 16_387;
/// `sparsevec`
pub const SPARSEVEC: u32 = 16_389;
/// `bit`
pub const BIT: u32 = 1560;
/// `numeric`
pub const NUMERIC: u32 = 1700;
/// `uuid`
pub const UUID: u32 = 2950;

/// Types that values can have.
pub const TYPES: [PgType; 32] = [
    pg(16, "bool", 1000, 1, "B"),
    pg(17, "bytea", 1001, -1, "U"),
    pg(18, "char", 1002, 1, "Z"),
    pg(19, "name", 1003, 64, "S"),
    pg(20, "int8", 1016, 8, "N"),
    pg(21, "int2", 1005, 2, "N"),
    pg(22, "int2vector", 1006, -1, "A"),
    pg(23, "int4", 1007, 4, "N"),
    pg(24, "regproc", 1008, 4, "N"),
    pg(25, "text", 1009, -1, "S"),
    pg(26, "oid", 1028, 4, "N"),
    pg(28, "xid", 1011, 4, "U"),
    pg(114, "json", 199, -1, "U"),
    pg(700, "float4", 1021, 4, "N"),
    pg(701, "float8", 1022, 8, "N"),
    pg(705, "unknown", 0, -2, "X"),
    pg(1042, "bpchar", 1014, -1, "S"),
    pg(1043, "varchar", 1015, -1, "S"),
    pg(1082, "date", 1182, 4, "D"),
    pg(1083, "time", 1183, 8, "D"),
    pg(1114, "timestamp", 1115, 8, "D"),
    pg(1184, "timestamptz", 1185, 8, "D"),
    pg(1186, "interval", 1187, 16, "T"),
    pg(BIT, "bit", 1561, -1, "V"),
    pg(NUMERIC, "numeric", 1231, -1, "N"),
    pg(2205, "regclass", 2210, 4, "N"),
    pg(2206, "regtype", 2211, 4, "N"),
    pg(UUID, "uuid", 2951, 16, "U"),
    pg(3802, "jsonb", 3807, -1, "U"),
    pg(VECTOR, "vector", 16_386, -1, "U"),
    pg(HALFVEC, "halfvec", 16_388, -1, "U"),
    pg(SPARSEVEC, "sparsevec", 16_392, -1, "U"),
];

/// Looks a type up by name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static PgType> {
    TYPES.iter().find(|t| t.name == name)
}

/// Looks a type up by id.
#[must_use]
pub fn by_oid(oid: u32) -> Option<&'static PgType> {
    TYPES.iter().find(|t| t.oid == oid)
}

/// Name of a column's type in `pg_type`.
pub(crate) fn name_of_column(column_type: ColumnType) -> &'static str {
    by_oid(oid_of_column(column_type)).map_or("text", |known| known.name)
}

/// Type modifier of a column's type: of `varchar` and `numeric` as PostgreSQL codes it, of vectors their
/// dimension, as pgvector does.
#[must_use]
pub fn typmod_of_column(column_type: ColumnType) -> i32 {
    match column_type {
        ColumnType::Array(item) => typmod_of_column(item.column_type()),
        ColumnType::VarcharN(length) => i32::try_from(length).map_or(-1, |length| length + 4),
        ColumnType::Numeric { precision, scale } => {
            (i32::from(precision) << 16 | i32::from(scale)) + 4
        }
        other => {
            let dim = other.vector().and_then(|(_, dim)| i32::try_from(dim.0).ok());
            dim.unwrap_or(-1)
        }
    }
}

/// Id of a column's type.
#[must_use]
pub fn oid_of_column(column_type: ColumnType) -> u32 {
    match column_type {
        ColumnType::Boolean => 16,
        ColumnType::Int2 => 21,
        ColumnType::Int4 => 23,
        ColumnType::Int8 => 20,
        ColumnType::Float4 => 700,
        ColumnType::Float8 => 701,
        ColumnType::Text => 25,
        ColumnType::Varchar | ColumnType::VarcharN(_) => 1043,
        ColumnType::Numeric { .. } => NUMERIC,
        ColumnType::Uuid => UUID,
        ColumnType::Time => 1083,
        ColumnType::Bytea => 17,
        ColumnType::Date => 1082,
        ColumnType::Timestamp => 1114,
        ColumnType::TimestampTz => 1184,
        ColumnType::Interval => 1186,
        ColumnType::Array(item) => {
            by_oid(oid_of_column(item.column_type())).map_or(1009, |item| item.array)
        }
        ColumnType::Vector(_) => VECTOR,
        ColumnType::Halfvec(_) => HALFVEC,
        ColumnType::Bit(_) => BIT,
        ColumnType::Sparsevec(_) => SPARSEVEC,
    }
}

/// Id and type modifier of a result column; text for what has no better type.
#[must_use]
pub fn oid_of_field(field: &Field) -> (u32, i32) {
    if let Some(named) = field.metadata().get(PG_TYPE_KEY).and_then(|name| by_name(name)) {
        return (named.oid, -1);
    }
    if let Some((kind, dim)) = udfs::vector_shape(field.data_type()) {
        let dim = i32::try_from(dim).ok().filter(|dim| *dim > 0);
        return (oid_of_vector(kind), dim.unwrap_or(-1));
    }
    let oid = match field.data_type() {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            let (element, _) = oid_of_field(item);
            by_oid(element).map_or(1009, |t| t.array)
        }
        other => oid_of_data_type(other),
    };
    (oid, -1)
}

/// Id of a kind of vectors.
#[must_use]
pub fn oid_of_vector(kind: VectorKind) -> u32 {
    match kind {
        VectorKind::Vector => VECTOR,
        VectorKind::Halfvec => HALFVEC,
        VectorKind::Bit => BIT,
        VectorKind::Sparsevec => SPARSEVEC,
    }
}

fn oid_of_data_type(data_type: &DataType) -> u32 {
    match data_type {
        DataType::Boolean => 16,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => 21,
        DataType::Int32 | DataType::UInt16 => 23,
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => 20,
        DataType::Decimal128(..) | DataType::Decimal256(..) => NUMERIC,
        DataType::FixedSizeBinary(16) => UUID,
        DataType::Float16 | DataType::Float32 => 700,
        DataType::Float64 => 701,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => 17,
        DataType::Date32 | DataType::Date64 => 1082,
        DataType::Time32(_) | DataType::Time64(_) => 1083,
        DataType::Timestamp(_, None) => 1114,
        DataType::Timestamp(_, Some(_)) => 1184,
        DataType::Interval(_) | DataType::Duration(_) => 1186,
        _ => 25,
    }
}

/// A parameter type that a client declares: its name in SQL and its field; `None` for a type that
/// parameters cannot have.
#[must_use]
pub fn parameter(oid: u32) -> Option<(&'static str, FieldRef)> {
    let plain = |data_type| Arc::new(Field::new("", data_type, true));
    // Drivers want to be told the type that they declared.
    let told = |name: &str| {
        let named = HashMap::from([(PG_TYPE_KEY.to_owned(), name.to_owned())]);
        Arc::new(Field::new("", DataType::Utf8, true).with_metadata(named))
    };
    Some(match oid {
        16 => ("bool", field_of(ColumnType::Boolean)),
        17 => ("bytea", field_of(ColumnType::Bytea)),
        20 => ("int8", field_of(ColumnType::Int8)),
        21 => ("int2", field_of(ColumnType::Int2)),
        23 => ("int4", field_of(ColumnType::Int4)),
        25 => ("text", field_of(ColumnType::Text)),
        19 => ("text", told("name")),
        1042 => ("text", told("bpchar")),
        26 => ("oid", plain(DataType::Int64)),
        700 => ("float4", field_of(ColumnType::Float4)),
        701 => ("float8", field_of(ColumnType::Float8)),
        1043 => ("varchar", told("varchar")),
        1082 => ("date", field_of(ColumnType::Date)),
        1083 => ("time", field_of(ColumnType::Time)),
        NUMERIC => ("numeric", field_of(ColumnType::NUMERIC)),
        UUID => ("uuid", field_of(ColumnType::Uuid)),
        1114 => ("timestamp", plain(DataType::Timestamp(TimeUnit::Microsecond, None))),
        1184 => ("timestamptz", field_of(ColumnType::TimestampTz)),
        1186 => ("interval", field_of(ColumnType::Interval)),
        VECTOR => ("vector", Arc::new(vector_field("", VectorKind::Vector, Dim(0)))),
        SPARSEVEC => ("sparsevec", Arc::new(vector_field("", VectorKind::Sparsevec, Dim(0)))),
        HALFVEC => ("halfvec", Arc::new(vector_field("", VectorKind::Halfvec, Dim(0)))),
        oid => {
            let element = TYPES.iter().find(|t| t.array == oid && oid != 0)?;
            let (_, item) = parameter(element.oid)?;
            let item = Field::new_list_field(item.data_type().clone(), true);
            (array_name(element.oid)?, plain(DataType::List(Arc::new(item))))
        }
    })
}

/// The name of an array type that a cast can have.
fn array_name(element: u32) -> Option<&'static str> {
    Some(match element {
        16 => "bool[]",
        17 => "bytea[]",
        20 => "int8[]",
        21 => "int2[]",
        23 => "int4[]",
        25 | 1042 | 1043 => "text[]",
        700 => "float4[]",
        701 => "float8[]",
        1082 => "date[]",
        1114 => "timestamp[]",
        1184 => "timestamptz[]",
        1083 => "time[]",
        1186 => "interval[]",
        NUMERIC => "numeric[]",
        UUID => "uuid[]",
        _ => return None,
    })
}

/// Makes sure that a result has the types that a client was told.
///
/// # Errors
/// When it has not, because the statement was prepared for tables that are others now.
pub fn check_described(described: Option<&SchemaRef>, result: &SchemaRef) -> Result<()> {
    let oid = |field: &FieldRef| oid_of_field(field).0;
    let sent = result.fields().iter().map(oid);
    if described.is_some_and(|described| described.fields().iter().map(oid).eq(sent)) {
        return Ok(());
    }
    Err(EngineError::unsupported("a cached plan whose result type has changed")
        .with_hint("Prepare the statement again."))
}
