//! A small table of values, for catalogs.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BooleanArray, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, ListArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int16Type, Int64Type, Schema};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::DataFusionError;

use crate::sql::types::PG_TYPE_KEY;

/// Numbers of texts that have spaces between them.
fn lists<'a, T>(cells: impl Iterator<Item = &'a Cell>) -> ListArray
where
    T: ArrowPrimitiveType,
    T::Native: FromStr,
{
    let numbers = |text: &str| -> Vec<Option<T::Native>> {
        text.split_whitespace().map(|number| number.parse().ok()).collect()
    };
    ListArray::from_iter_primitive::<T, _, _>(cells.map(|cell| cell.as_text().map(numbers)))
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

impl Cell {
    pub(super) fn as_boolean(&self) -> Option<bool> {
        if let Self::Boolean(value) = self { Some(*value) } else { None }
    }

    pub(super) fn as_integer(&self) -> Option<i64> {
        if let Self::Integer(value) = self { Some(*value) } else { None }
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        if let Self::Float(value) = self { Some(*value) } else { None }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        if let Self::Text(value) = self { Some(value) } else { None }
    }
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<u32> for Cell {
    fn from(value: u32) -> Self {
        Self::Integer(i64::from(value))
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

/// Columns, written `name:type`, and rows.
#[derive(Debug)]
pub(crate) struct CatalogTable {
    columns: Vec<(&'static str, &'static str)>,
    rows: Vec<Vec<Cell>>,
}

/// A row from values of different types.
macro_rules! row {
    ($($value:expr),* $(,)?) => { vec![$(super::table::Cell::from($value)),*] };
}
pub(super) use row;

impl CatalogTable {
    /// A table without rows. `columns` is a list like `oid:oid relname:name`.
    pub(crate) fn new(columns: &'static str) -> Self {
        let columns = columns.split_whitespace().filter_map(|c| c.split_once(':')).collect();
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row, with a value for each column.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.columns.len(), "a value for each column");
        self.rows.push(row);
    }

    fn column(&self, at: usize) -> (Field, ArrayRef) {
        let (name, kind) = self.columns[at];
        let cells = || self.rows.iter().map(|row| &row[at]);
        let integers = || cells().map(Cell::as_integer);
        let array: ArrayRef = match kind {
            "bool" => Arc::new(cells().map(Cell::as_boolean).collect::<BooleanArray>()),
            "int2" => Arc::new(
                integers().map(|v| v.and_then(|v| i16::try_from(v).ok())).collect::<Int16Array>(),
            ),
            "int4" => Arc::new(
                integers().map(|v| v.and_then(|v| i32::try_from(v).ok())).collect::<Int32Array>(),
            ),
            "float4" => Arc::new(integers().map(|v| v.map(|v| v as f32)).collect::<Float32Array>()),
            "float8" => Arc::new(cells().map(Cell::as_float).collect::<Float64Array>()),
            "timestamptz" => {
                Arc::new(integers().collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
            }
            // Access lists: nothing is granted yet, so all of them are NULL.
            "acl" => {
                let item = Arc::new(Field::new("item", DataType::Utf8, true));
                arrow::array::new_null_array(&DataType::List(item), self.rows.len())
            }
            "oidvector" => Arc::new(lists::<Int64Type>(cells())),
            "int2vector" | "int2[]" => Arc::new(lists::<Int16Type>(cells())),
            "int8" | "oid" | "xid" => Arc::new(integers().collect::<Int64Array>()),
            _ => Arc::new(cells().map(Cell::as_text).collect::<StringArray>()),
        };
        let metadata = HashMap::from([(PG_TYPE_KEY.to_owned(), kind.to_owned())]);
        let data_type: DataType = array.data_type().clone();
        (Field::new(name, data_type, true).with_metadata(metadata), array)
    }

    /// The table for DataFusion.
    pub(crate) fn provider(&self) -> Result<Arc<dyn TableProvider>, DataFusionError> {
        let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) =
            (0..self.columns.len()).map(|at| self.column(at)).unzip();
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
        Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
    }
}
