//! Columns in Arrow's terms. A vector is `FixedSizeList<Float32, n>` with non-null items and the
//! extension name `azimuth.vector`, so that clients get numbers in rows without conversion and
//! know a vector from a list; `halfvec` and `bit` are the same of `Float16` and `Boolean`. A `sparsevec`
//! is a struct of its dimension and of two runs of bytes: the positions of its numbers from zero on,
//! as 32-bit integers, and the numbers, as 32-bit floats.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use catalog::{Collection, Column, ColumnType};
use types::{Dim, VectorKind};

/// Arrow extension name of a kind of vectors.
fn vector_extension(kind: VectorKind) -> &'static str {
    match kind {
        VectorKind::Vector => "azimuth.vector",
        VectorKind::Halfvec => "azimuth.halfvec",
        VectorKind::Bit => "azimuth.bit",
        VectorKind::Sparsevec => "azimuth.sparsevec",
    }
}

const EXTENSION_KEY: &str = "ARROW:extension:name";

/// The Arrow type of a column type.
#[must_use]
pub fn arrow_type(column_type: ColumnType) -> DataType {
    match column_type {
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Int2 => DataType::Int16,
        ColumnType::Int4 => DataType::Int32,
        ColumnType::Int8 => DataType::Int64,
        ColumnType::Float4 => DataType::Float32,
        ColumnType::Float8 => DataType::Float64,
        ColumnType::Text | ColumnType::Varchar | ColumnType::VarcharN(_) => DataType::Utf8,
        ColumnType::Numeric { precision, scale } => {
            DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(i8::MAX))
        }
        ColumnType::Uuid => DataType::FixedSizeBinary(16),
        ColumnType::Time => DataType::Time64(TimeUnit::Microsecond),
        ColumnType::Bytea => DataType::Binary,
        ColumnType::Date => DataType::Date32,
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        ColumnType::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ColumnType::Vector(dim) => list(DataType::Float32, dim),
        ColumnType::Halfvec(dim) => list(DataType::Float16, dim),
        ColumnType::Bit(dim) => list(DataType::Boolean, dim),
        ColumnType::Sparsevec(_) => sparse_type(),
    }
}

/// The Arrow type of every `sparsevec`.
fn sparse_type() -> DataType {
    DataType::Struct(Fields::from(vec![
        Field::new("dim", DataType::Int32, false),
        Field::new("indices", DataType::Binary, false),
        Field::new("values", DataType::Binary, false),
    ]))
}

fn list(item: DataType, dim: Dim) -> DataType {
    let item = Arc::new(Field::new("item", item, false));
    DataType::FixedSizeList(item, i32::try_from(dim.0).unwrap_or(i32::MAX))
}

/// A nullable field of vectors.
#[must_use]
pub fn vector_field(name: &str, kind: VectorKind, dim: Dim) -> Field {
    let extension = (EXTENSION_KEY.to_owned(), vector_extension(kind).to_owned());
    let data_type = arrow_type(ColumnType::of_vector(kind, dim));
    Field::new(name, data_type, true).with_metadata(HashMap::from([extension]))
}

/// Whether a field is a vector and not any other list.
#[must_use]
pub fn is_vector_field(field: &Field) -> bool {
    let name = field.metadata().get(EXTENSION_KEY);
    name.is_some_and(|name| VectorKind::ALL.into_iter().any(|kind| vector_extension(kind) == name))
}

fn arrow_field(column: &Column) -> Field {
    match column.column_type.vector() {
        Some((kind, dim)) => vector_field(&column.name, kind, dim).with_nullable(column.nullable),
        None => Field::new(&column.name, arrow_type(column.column_type), column.nullable),
    }
}

/// The Arrow schema of a collection.
#[must_use]
pub fn arrow_schema(collection: &Collection) -> SchemaRef {
    schema_of_columns(&collection.columns)
}

/// The Arrow schema of columns.
#[must_use]
pub fn schema_of_columns(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(arrow_field).collect::<Vec<_>>()))
}
