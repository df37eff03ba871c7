//! Zone maps: the least and the greatest value and the number of NULLs of each column in each chunk,
//! so that a scan can leave out chunks in which nothing can qualify.
//!
//! They are kept for integers, dates, timestamps and short text. Floats are left out, whose order has
//! NaN in it, and vectors, which have none.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, UInt64Array, new_null_array};
use arrow::compute::{SortOptions, concat_batches, sort_to_indices, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

/// Bytes of a text that is kept; longer ones are unknown.
const TEXT_BYTES_MAX: usize = 64;
/// Columns of a zone map for each column of the table.
const COLUMNS: usize = 3;

fn has_zones(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Date32
            | DataType::Timestamp(..)
            | DataType::Utf8
    )
}

/// Positions of the columns that have zones.
fn columns(schema: &Schema) -> impl Iterator<Item = usize> {
    let fields = schema.fields().iter().enumerate();
    fields.filter(|(_, field)| has_zones(field.data_type())).map(|(at, _)| at)
}

/// The columns of the zone map of a table; `None` when it has none.
pub(super) fn zone_schema(schema: &Schema) -> Option<SchemaRef> {
    let fields: Vec<Field> = columns(schema)
        .flat_map(|at| {
            let kept = schema.field(at).data_type().clone();
            [
                Field::new(format!("{at}.min"), kept.clone(), true),
                Field::new(format!("{at}.max"), kept, true),
                Field::new(format!("{at}.nulls"), DataType::UInt64, false),
            ]
        })
        .collect();
    (!fields.is_empty()).then(|| Arc::new(Schema::new(fields)))
}

fn extreme(column: &ArrayRef, descending: bool) -> Result<ArrayRef, ArrowError> {
    let options = SortOptions { descending, nulls_first: false };
    let first = sort_to_indices(column, Some(options), Some(1))?;
    let found = take(column, &first, None)?;
    let long = found
        .as_string_opt::<i32>()
        .is_some_and(|text| text.iter().flatten().any(|text| text.len() > TEXT_BYTES_MAX));
    Ok(if long || found.is_empty() { new_null_array(column.data_type(), 1) } else { found })
}

/// The zone map of one chunk: a row.
pub(super) fn zones_of(batch: &RecordBatch) -> Result<Option<RecordBatch>, ArrowError> {
    let Some(schema) = zone_schema(&batch.schema()) else { return Ok(None) };
    let mut out: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for at in columns(&batch.schema()) {
        let column = batch.column(at);
        out.push(extreme(column, false)?);
        out.push(extreme(column, true)?);
        out.push(Arc::new(UInt64Array::from(vec![column.null_count() as u64])));
    }
    RecordBatch::try_new(schema, out).map(Some)
}

/// The zone map of a segment from those of its chunks.
pub(super) fn join(zones: &[RecordBatch]) -> Result<Option<RecordBatch>, ArrowError> {
    let Some(first) = zones.first() else { return Ok(None) };
    concat_batches(&first.schema(), zones).map(Some)
}

/// The zones of one column: least values, greatest values, numbers of NULLs, each with a value per
/// chunk of a segment.
#[derive(Debug, Clone)]
pub struct Zones {
    /// Least values; NULL where it is not known or there is none.
    pub min: ArrayRef,
    /// Greatest values.
    pub max: ArrayRef,
    /// Numbers of NULLs.
    pub nulls: ArrayRef,
}

impl Zones {
    /// Those of column `column` of a table with the given schema.
    pub(super) fn of(zones: &RecordBatch, schema: &Schema, column: usize) -> Option<Self> {
        let place = COLUMNS * columns(schema).position(|at| at == column)?;
        let part = |at: usize| zones.columns().get(place + at).map(Arc::clone);
        Some(Self { min: part(0)?, max: part(1)?, nulls: part(2)? })
    }
}
