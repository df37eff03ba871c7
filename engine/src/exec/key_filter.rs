//! A join as a row filter: rows whose key is, or is not, among the keys of another input.

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{cast, max, min};
use arrow::datatypes::{DataType, Int64Type, Schema};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{binary, lit};
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt as _;

/// Bits that a set of whole numbers may take for each of them, and that any set may take.
const BITS_PER_KEY: u64 = 64;
const BITS_FREE: u64 = 1 << 16;

/// The other side of a join.
#[derive(Debug, Clone)]
pub(crate) struct KeyInput {
    /// The key of a row of the collection.
    pub(crate) on: Vec<Arc<dyn PhysicalExpr>>,
    /// Its columns are the keys.
    pub(crate) keys: Arc<dyn ExecutionPlan>,
    /// Whether rows without a match are wanted.
    pub(crate) negated: bool,
}

impl KeyInput {
    /// Reads the keys, and makes of them what says whether a row is wanted. The memory is accounted
    /// for as long as the result lives.
    pub(crate) async fn filter(
        &self,
        schema: &Schema,
        context: &Arc<TaskContext>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let memory = MemoryConsumer::new("keys of a join").register(context.memory_pool());
        let mut batches = Vec::new();
        let mut stream = self.keys.execute(0, Arc::clone(context))?;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            // For the keys, and for the set that is made of them.
            memory.try_grow(2 * batch.get_array_memory_size())?;
            batches.push(batch);
        }
        let keys = Keys::of(&self.keys.schema(), &batches)?;
        memory.try_resize(keys.memory_bytes())?;
        let bounds = keys.bounds().filter(|_| !self.negated);
        let (on, negated) = (self.on.clone(), self.negated);
        let filter = KeyFilter { on, keys: Arc::new(keys), negated, _memory: Arc::new(memory) };
        let mut filter: Arc<dyn PhysicalExpr> = Arc::new(filter);
        // Chunks are left out by what their zone maps say of these.
        if let (Some((least, most)), [key]) = (bounds, self.on.as_slice()) {
            let data_type = key.data_type(schema)?;
            for (bound, operator) in [(least, Operator::GtEq), (most, Operator::LtEq)] {
                let bound = lit(ScalarValue::Int64(Some(bound)).cast_to(&data_type)?);
                let within = binary(Arc::clone(key), operator, bound, schema)?;
                filter = binary(within, Operator::And, filter, schema)?;
            }
        }
        Ok(filter)
    }
}

/// A set of keys without NULLs, which equal nothing.
#[derive(Debug)]
enum Keys {
    /// Whole numbers that lie close together, as bits from the least on.
    Bits { least: i64, most: i64, words: Vec<u64> },
    /// Any keys, in the form in which equal ones have equal bytes.
    Rows { converter: RowConverter, rows: HashSet<Box<[u8]>> },
}

impl Keys {
    fn of(schema: &Schema, batches: &[RecordBatch]) -> Result<Self> {
        if let [field] = schema.fields().as_ref()
            && is_whole(field.data_type())
        {
            let whole = |batch: &RecordBatch| whole_numbers(batch.column(0));
            let numbers = batches.iter().map(whole).collect::<Result<Vec<_>>>()?;
            if let Some(bits) = Self::bits(&numbers) {
                return Ok(bits);
            }
        }
        let field =
            |field: &Arc<arrow::datatypes::Field>| SortField::new(field.data_type().clone());
        let converter = RowConverter::new(schema.fields().iter().map(field).collect())?;
        let mut rows = HashSet::new();
        for batch in batches {
            let converted = converter.convert_columns(batch.columns())?;
            let known = without_nulls(batch.columns());
            let kept = converted.iter().zip(known).filter(|(_, known)| *known);
            rows.extend(kept.map(|(row, _)| Box::from(row.data())));
        }
        Ok(Self::Rows { converter, rows })
    }

    fn bits(numbers: &[Int64Array]) -> Option<Self> {
        let least = numbers.iter().filter_map(min::<Int64Type>).min()?;
        let most = numbers.iter().filter_map(max::<Int64Type>).max()?;
        let count: usize = numbers.iter().map(|part| part.len() - part.null_count()).sum();
        let span = most.abs_diff(least);
        if span > BITS_FREE.saturating_add(BITS_PER_KEY.saturating_mul(count as u64)) {
            return None;
        }
        let mut words = vec![0_u64; usize::try_from(span / 64 + 1).ok()?];
        for number in numbers.iter().flatten().flatten() {
            let at = number.abs_diff(least);
            words[usize::try_from(at / 64).ok()?] |= 1 << (at % 64);
        }
        Some(Self::Bits { least, most, words })
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::Bits { words, .. } => words.capacity() * size_of::<u64>(),
            Self::Rows { rows, .. } => {
                let keys: usize = rows.iter().map(|row| row.len()).sum();
                rows.capacity() * (size_of::<Box<[u8]>>() + 1) + keys
            }
        }
    }

    /// The least and the largest, of whole numbers.
    fn bounds(&self) -> Option<(i64, i64)> {
        match self {
            Self::Bits { least, most, .. } => Some((*least, *most)),
            Self::Rows { .. } => None,
        }
    }

    fn contains(&self, columns: &[ArrayRef]) -> Result<Vec<bool>> {
        match self {
            Self::Bits { least, most, words } => {
                let Some(column) = columns.first() else { return Ok(Vec::new()) };
                let numbers = whole_numbers(column)?;
                let within = |number: Option<i64>| {
                    number.filter(|number| (least..=most).contains(&number)).is_some_and(|number| {
                        let at = number.abs_diff(*least);
                        let word = usize::try_from(at / 64).ok().and_then(|at| words.get(at));
                        word.is_some_and(|word| word >> (at % 64) & 1 == 1)
                    })
                };
                Ok(numbers.iter().map(within).collect())
            }
            Self::Rows { converter, rows } => {
                let converted = converter.convert_columns(columns)?;
                let known = without_nulls(columns);
                let within =
                    |(row, known): (arrow::row::Row<'_>, bool)| known && rows.contains(row.data());
                Ok(converted.iter().zip(known).map(within).collect())
            }
        }
    }
}

/// Whether all values of the type are whole numbers of 64 bits, and no other values are equal to them.
fn is_whole(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int16 | DataType::Int32 | DataType::Int64)
}

fn whole_numbers(column: &ArrayRef) -> Result<Int64Array> {
    Ok(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// For each row whether all columns have a value.
fn without_nulls(columns: &[ArrayRef]) -> impl Iterator<Item = bool> {
    let rows = columns.first().map_or(0, |column| column.len());
    (0..rows).map(|row| columns.iter().all(|column| column.is_valid(row)))
}

/// `(a, b) IN`, or `(a, b) NOT IN`.
pub(super) fn membership(on: &[Arc<dyn PhysicalExpr>], negated: bool) -> String {
    let on: Vec<String> = on.iter().map(ToString::to_string).collect();
    format!("({}) {}", on.join(", "), if negated { "NOT IN" } else { "IN" })
}

/// Whether a row's key is in a set; never NULL.
#[derive(Debug)]
struct KeyFilter {
    on: Vec<Arc<dyn PhysicalExpr>>,
    keys: Arc<Keys>,
    negated: bool,
    _memory: Arc<MemoryReservation>,
}

impl PartialEq for KeyFilter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.keys, &other.keys) && self.on == other.on && self.negated == other.negated
    }
}

impl Eq for KeyFilter {}

impl Hash for KeyFilter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.on.hash(state);
        self.negated.hash(state);
    }
}

impl fmt::Display for KeyFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (...)", membership(&self.on, self.negated))
    }
}

impl PhysicalExpr for KeyFilter {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let value = |key: &Arc<dyn PhysicalExpr>| key.evaluate(batch)?.into_array(batch.num_rows());
        let columns = self.on.iter().map(value).collect::<Result<Vec<_>>>()?;
        let found = self.keys.contains(&columns)?;
        let wanted: BooleanArray =
            found.into_iter().map(|found| Some(found != self.negated)).collect();
        Ok(ColumnarValue::Array(Arc::new(wanted)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.on.iter().collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        on: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let (keys, memory) = (Arc::clone(&self.keys), Arc::clone(&self._memory));
        Ok(Arc::new(Self { on, keys, negated: self.negated, _memory: memory }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
