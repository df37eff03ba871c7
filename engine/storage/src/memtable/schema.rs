//! Columns in Arrow's terms. A vector is `FixedSizeList<Float32, n>` with non-null items and the
//! extension name `azimuth.vector`, so that clients get numbers in rows without conversion and
//! know a vector from a list; `halfvec` and `bit` are the same of `Float16` and `Boolean`. A `sparsevec`
//! is a struct of its dimension and of two runs of bytes: the positions of its numbers from zero on,
//! as 32-bit integers, and the numbers, as 32-bit floats.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array, new_null_array};
use arrow::buffer::Buffer;
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use catalog::{Collection, Column, ColumnType, StoredColumn};
use types::{Dim, VectorKind};

use crate::command::{decode_body, encode_body};

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
/// The id of a column, where it may be another than its position.
const ID_KEY: &str = "azimuth.column";
/// What rows have in a column that were stored before it came.
const MISSING_KEY: &str = "azimuth.missing";

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
        ColumnType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
        ColumnType::Array(item) => {
            let item = Field::new_list_field(arrow_type(item.column_type()), true);
            DataType::List(Arc::new(item))
        }
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

/// The Arrow schema of columns.
#[must_use]
pub fn schema_of_columns(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(arrow_field).collect::<Vec<_>>()))
}

/// A collection, and its columns in Arrow's terms.
#[derive(Debug)]
pub struct Definition {
    collection: Collection,
    schema: SchemaRef,
    named: SchemaRef,
    stored: SchemaRef,
}

impl std::ops::Deref for Definition {
    type Target = Collection;

    fn deref(&self) -> &Collection {
        &self.collection
    }
}

impl Definition {
    /// The definition that goes with a version of a collection.
    #[must_use]
    pub fn new(collection: Collection) -> Self {
        let mut schema = schema_of_columns(&collection.columns);
        let (mut named, mut stored) = (Arc::clone(&schema), Arc::clone(&schema));
        if collection.has_ids() {
            // Rows that ended before a column came, or forbade NULL, have NULL there.
            let nullable = |field: &Arc<Field>| Field::clone(field).with_nullable(true);
            schema =
                Arc::new(Schema::new(schema.fields().iter().map(nullable).collect::<Vec<_>>()));
            let columns: Vec<StoredColumn> = collection.stored().collect();
            stored = schema_of_stored(&columns);
            let own = (0..collection.columns.len()).map(|at| stored.field(at).clone());
            named = Arc::new(Schema::new(own.collect::<Vec<_>>()));
        }
        Self { collection, schema, named, stored }
    }

    /// The columns. That one forbids NULL is said while no column changed, and is in the collection.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns with their ids, for [`fit`].
    #[must_use]
    pub fn named(&self) -> &SchemaRef {
        &self.named
    }

    /// The columns of rows as they are stored, those that were dropped included, with their ids.
    pub(crate) fn stored(&self) -> &SchemaRef {
        &self.stored
    }

    /// The same as the catalog keeps them.
    pub(crate) fn stored_columns(&self) -> Vec<StoredColumn> {
        self.collection.stored().collect()
    }

    /// The columns of rows whose manifest names `columns`.
    pub(crate) fn of_manifest(&self, columns: Option<&[StoredColumn]>) -> SchemaRef {
        match columns {
            Some(columns) => schema_of_stored(columns),
            None if self.has_ids() => schema_of_original(&self.original()),
            None => Arc::clone(&self.schema),
        }
    }

    /// Stored rows in [`Definition::schema`].
    ///
    /// # Errors
    /// As [`fit`].
    pub fn read(&self, stored: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        self.unname(fit(stored, &self.named)?)
    }

    /// Rows of [`Definition::schema`] with the ids of their columns.
    pub(crate) fn name(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        if !self.has_ids() {
            return Ok(batch.clone());
        }
        batch_of(&self.named, batch.columns().to_vec(), batch.num_rows())
    }

    /// The other way.
    pub(crate) fn unname(&self, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        if !self.has_ids() {
            return Ok(batch);
        }
        batch_of(&self.schema, batch.columns().to_vec(), batch.num_rows())
    }
}

/// The Arrow schema of stored columns, with their ids.
fn schema_of_stored(columns: &[StoredColumn]) -> SchemaRef {
    let field = |column: &StoredColumn| {
        let field = arrow_field(&Column::new("", column.column_type, true));
        let id = (ID_KEY.to_owned(), column.id.to_string());
        let missing = column.missing.clone().map(|missing| (MISSING_KEY.to_owned(), missing));
        let own = field.metadata().clone().into_iter();
        let metadata = own.chain([id]).chain(missing).collect();
        field.with_metadata(metadata).with_name(column.id.to_string())
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// The Arrow schema of rows that were stored before their table first changed.
fn schema_of_original(types: &[ColumnType]) -> SchemaRef {
    let column = |column_type: &ColumnType| Column::new("", *column_type, true);
    schema_of_columns(&types.iter().map(column).collect::<Vec<_>>())
}

/// The id of the column at a position.
#[must_use]
pub fn column_id(schema: &Schema, position: usize) -> usize {
    let id = schema.fields().get(position).and_then(|field| field.metadata().get(ID_KEY));
    id.and_then(|id| id.parse().ok()).unwrap_or(position)
}

/// The position of the column that has an id.
#[must_use]
pub(crate) fn column_position(schema: &Schema, id: usize) -> Option<usize> {
    let at = |position: &usize| column_id(schema, *position) == id;
    Some(id).filter(|id| *id < schema.fields().len()).filter(at).or_else(|| {
        let mut positions = 0..schema.fields().len();
        positions.find(at)
    })
}

fn batch_of(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    // A chunk may hold rows of before a column forbade NULL and of after it no longer did.
    let fields = schema.fields().iter().zip(&columns);
    let lacks =
        fields.clone().any(|(field, column)| !field.is_nullable() && column.null_count() > 0);
    if lacks {
        let nullable = |(field, _): (&Arc<Field>, _)| Field::clone(field).with_nullable(true);
        let schema = Arc::new(Schema::new(fields.map(nullable).collect::<Vec<_>>()));
        return RecordBatch::try_new_with_options(schema, columns, &options);
    }
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

/// The columns that `to` names, of rows that may have been stored with others: one that came later has
/// what it was made with, one whose type changed is converted, back, too.
///
/// # Errors
/// When a value has no place in the other type, which no change of a type allows.
pub fn fit(batch: &RecordBatch, to: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let from = batch.schema_ref();
    if Arc::ptr_eq(from, to) || from == to {
        return Ok(batch.clone());
    }
    let rows = batch.num_rows();
    let column = |(at, field): (usize, &Arc<Field>)| {
        match column_position(from, column_id(to, at)) {
            Some(position) if from.field(position).data_type() == field.data_type() => {
                Ok(Arc::clone(batch.column(position)))
            }
            Some(position) => {
                // Back in time there may be rows that are too large, which are not visible there.
                let options = CastOptions { safe: true, ..CastOptions::default() };
                cast_with_options(batch.column(position), field.data_type(), &options)
            }
            None => absent(field, rows),
        }
    };
    let columns = to.fields().iter().enumerate().map(column).collect::<Result<_, _>>()?;
    batch_of(to, columns, rows)
}

/// What rows have in a column that they were stored without.
fn absent(field: &Field, rows: usize) -> Result<ArrayRef, ArrowError> {
    let Some(missing) = field.metadata().get(MISSING_KEY) else {
        return Ok(new_null_array(field.data_type(), rows));
    };
    let value = missing_from_text(missing, field)?;
    take(&value, &UInt64Array::from(vec![0; rows]), None)
}

/// A value of one row as the catalog keeps it, [`StoredColumn::missing`].
///
/// # Errors
/// When it cannot be encoded.
pub fn missing_to_text(value: &ArrayRef) -> Result<String, ArrowError> {
    let field = Field::new("", value.data_type().clone(), true);
    let batch = batch_of(&Arc::new(Schema::new(vec![field])), vec![Arc::clone(value)], 1)?;
    let (message, body) = encode_body(&batch)?;
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_le_bytes();
    let bytes = [&length[..], &message, &body].concat();
    Ok(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit).collect())
}

/// The same as a value of another type.
///
/// # Errors
/// When it is malformed, or no value of that type.
pub fn missing_as(text: &str, from: ColumnType, to: ColumnType) -> Result<String, ArrowError> {
    let value = missing_from_text(text, &Field::new("", arrow_type(from), true))?;
    let options = CastOptions { safe: false, ..CastOptions::default() };
    missing_to_text(&cast_with_options(&value, &arrow_type(to), &options)?)
}

fn digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).unwrap_or('0')
}

fn missing_from_text(text: &str, field: &Field) -> Result<ArrayRef, ArrowError> {
    let malformed = || ArrowError::IpcError("a malformed value of a column".to_owned());
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
    let bytes = bytes.ok_or_else(malformed)?;
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(malformed)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (message, body) = rest.split_at_checked(length).ok_or_else(malformed)?;
    let schema = Arc::new(Schema::new(vec![Field::new("", field.data_type().clone(), true)]));
    let batch = decode_body(message, &Buffer::from(body), &schema);
    let batch = batch.map_err(|error| ArrowError::IpcError(error.to_string()))?;
    batch.columns().first().map(Arc::clone).filter(|v| v.len() == 1).ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray as _, Int32Array, StringArray};
    use arrow::datatypes::{Int32Type, Int64Type};

    #[test]
    fn rows_fit_later_columns_and_earlier_ones() {
        let stored = |id, column_type, missing| StoredColumn { id, column_type, missing };
        let seven: ArrayRef = Arc::new(StringArray::from(vec!["seven"]));
        let missing = Some(missing_to_text(&seven).unwrap());
        let first = schema_of_original(&[ColumnType::Int4, ColumnType::Text]);
        let then = schema_of_stored(&[
            stored(2, ColumnType::Text, missing),
            stored(0, ColumnType::Int8, None),
            stored(3, ColumnType::Float8, None),
        ]);
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        let rows = batch_of(&first, vec![numbers, texts], 3).unwrap();
        let later = fit(&rows, &then).unwrap();
        assert_eq!(
            later.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(),
            ["seven"; 3]
        );
        let numbers = later.column(1).as_primitive::<Int64Type>();
        assert_eq!(numbers.iter().collect::<Vec<_>>(), [Some(1), None, Some(3)]);
        assert_eq!(later.column(2).null_count(), 3);
        let back = fit(&later, &first).unwrap();
        let numbers = back.column(0).as_primitive::<Int32Type>();
        assert_eq!(numbers.iter().collect::<Vec<_>>(), [Some(1), None, Some(3)]);
        assert_eq!(back.column(1).null_count(), 3, "the column was dropped");
    }
}
