//! Columns in Arrow's terms. A vector is `FixedSizeList<Float32, n>` with non-null items and the
//! extension name `azimuth.vector`, so that clients get numbers in rows without conversion and
//! know a vector from a list.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use catalog::{Collection, Column, ColumnType};
use types::Dim;

/// Arrow extension name of a vector column.
pub const VECTOR_EXTENSION: &str = "azimuth.vector";
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
        ColumnType::Text | ColumnType::Varchar => DataType::Utf8,
        ColumnType::Bytea => DataType::Binary,
        ColumnType::Date => DataType::Date32,
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        ColumnType::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ColumnType::Vector(dim) => {
            let item = Arc::new(Field::new("item", DataType::Float32, false));
            DataType::FixedSizeList(item, i32::try_from(dim.0).unwrap_or(i32::MAX))
        }
    }
}

/// A nullable field of type `vector(dim)`.
#[must_use]
pub fn vector_field(name: &str, dim: Dim) -> Field {
    let extension = HashMap::from([(EXTENSION_KEY.to_owned(), VECTOR_EXTENSION.to_owned())]);
    Field::new(name, arrow_type(ColumnType::Vector(dim)), true).with_metadata(extension)
}

/// Whether a field is a vector and not any other list.
#[must_use]
pub fn is_vector_field(field: &Field) -> bool {
    field.metadata().get(EXTENSION_KEY).is_some_and(|name| name == VECTOR_EXTENSION)
}

fn arrow_field(column: &Column) -> Field {
    match column.column_type {
        ColumnType::Vector(dim) => vector_field(&column.name, dim).with_nullable(column.nullable),
        other => Field::new(&column.name, arrow_type(other), column.nullable),
    }
}

/// The Arrow schema of a collection.
#[must_use]
pub fn arrow_schema(collection: &Collection) -> SchemaRef {
    Arc::new(Schema::new(collection.columns.iter().map(arrow_field).collect::<Vec<_>>()))
}
