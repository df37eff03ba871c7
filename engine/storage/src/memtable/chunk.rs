//! A run of row versions: an immutable record batch in memory or in a segment, the instants at which
//! each row began, and the instants at which it ended.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::{
    Array as _, AsArray as _, BinaryArray, FixedSizeListArray, RecordBatch, StructArray,
    UInt64Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float16Type, Float32Type, Int32Type, SchemaRef};
use half::f16;
use types::{CommitTs, RowId};
use vector::{Bits, Row, Sparse, Word};

use super::schema::{column_id, fit};
use crate::error::StorageError;
use crate::segment::{Segment, Zones};

/// The numbers of one vector column of a chunk, ready for kernels.
#[derive(Debug, Clone)]
pub struct VectorColumn {
    dim: usize,
    values: Values,
    nulls: Option<NullBuffer>,
}

#[derive(Debug, Clone)]
enum Values {
    Full(ScalarBuffer<f32>),
    Half(ScalarBuffer<f16>),
    Bits(BooleanBuffer),
    Sparse(Box<SparseValues>),
}

/// The parts of sparse vectors.
#[derive(Debug, Clone)]
struct SparseValues {
    dims: ScalarBuffer<i32>,
    indices: BinaryArray,
    numbers: BinaryArray,
}

impl VectorColumn {
    fn of(array: &dyn arrow::array::Array) -> Option<Self> {
        if let Some(sparse) = array.as_struct_opt() {
            return Self::of_sparse(sparse);
        }
        let list = array.as_any().downcast_ref::<FixedSizeListArray>()?;
        let dim = usize::try_from(list.value_length()).ok()?;
        let numbers = list.values();
        let values = match numbers.data_type() {
            DataType::Float32 => {
                Values::Full(numbers.as_primitive::<Float32Type>().values().clone())
            }
            DataType::Float16 => {
                Values::Half(numbers.as_primitive::<Float16Type>().values().clone())
            }
            DataType::Boolean => Values::Bits(numbers.as_boolean().values().clone()),
            _ => return None,
        };
        Some(Self { dim, values, nulls: list.nulls().cloned() })
    }

    fn of_sparse(array: &StructArray) -> Option<Self> {
        let [dims, indices, numbers] = array.columns() else { return None };
        let values = Values::Sparse(Box::new(SparseValues {
            dims: dims.as_primitive_opt::<Int32Type>()?.values().clone(),
            indices: indices.as_binary_opt()?.clone(),
            numbers: numbers.as_binary_opt()?.clone(),
        }));
        Some(Self { dim: 0, values, nulls: array.nulls().cloned() })
    }

    /// The vector of row `slot`.
    #[must_use]
    pub fn get(&self, slot: usize) -> Option<Row<'_>> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(slot)) {
            return None;
        }
        let (from, to) = (slot * self.dim, (slot + 1) * self.dim);
        match &self.values {
            Values::Full(values) => values.get(from..to).map(Row::Full),
            Values::Half(values) => values.get(from..to).map(Row::Half),
            Values::Bits(values) if to <= values.len() => {
                let bits = Bits::new(values.values(), values.offset() + from, self.dim);
                bits.map(Row::Bits)
            }
            Values::Bits(_) => None,
            Values::Sparse(sparse) => {
                let SparseValues { dims, indices, numbers } = &**sparse;
                let dim = usize::try_from(*dims.get(slot)?).ok()?;
                let words = |array| -> &[Word] { BinaryArray::value(array, slot).as_chunks().0 };
                Sparse::new(dim, words(indices), words(numbers)).map(Row::Sparse)
            }
        }
    }
}

/// The columns of a chunk.
#[derive(Debug, Clone)]
struct Columns {
    batch: RecordBatch,
    /// By id of the column.
    vectors: Vec<Option<VectorColumn>>,
}

impl Columns {
    fn of(batch: RecordBatch) -> Self {
        let mut vectors = Vec::new();
        for (at, column) in batch.columns().iter().enumerate() {
            let Some(column) = VectorColumn::of(column) else { continue };
            let id = column_id(batch.schema_ref(), at);
            vectors.resize(vectors.len().max(id + 1), None);
            vectors[id] = Some(column);
        }
        Self { batch, vectors }
    }
}

/// Bytes of the rows of a batch, which may be a part of larger arrays.
#[must_use]
pub fn batch_bytes(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

/// Where the columns are.
#[derive(Debug, Clone)]
enum Place {
    Memory(Columns),
    /// In a chunk of a segment; read and checked when first asked for.
    Segment {
        segment: Arc<Segment>,
        at: usize,
        read: OnceLock<Result<Columns, StorageError>>,
    },
}

/// When rows ended; none did while nothing is stored. Shared by a chunk in memory and the one in a
/// segment that takes its place.
#[derive(Debug)]
struct Ends {
    slots: OnceLock<Box<[AtomicI64]>>,
    /// Rows that ended, and when the last of them did.
    count: AtomicUsize,
    last: AtomicI64,
}

impl Default for Ends {
    fn default() -> Self {
        Self { slots: OnceLock::new(), count: AtomicUsize::new(0), last: AtomicI64::new(i64::MIN) }
    }
}

impl Ends {
    fn get(&self, slot: usize) -> CommitTs {
        let end = self.slots.get().map(|slots| slots[slot].load(Ordering::Acquire));
        end.map_or(CommitTs::INFINITY, CommitTs)
    }

    /// One thread at a time.
    fn set(&self, slot: usize, rows: usize, at: CommitTs) {
        let alive = || (0..rows).map(|_| AtomicI64::new(CommitTs::INFINITY.0)).collect();
        let before = self.slots.get_or_init(alive)[slot].swap(at.0, Ordering::AcqRel);
        self.last.fetch_max(at.0, Ordering::AcqRel);
        if before == CommitTs::INFINITY.0 {
            self.count.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Ids of a chunk's rows, ascending.
#[derive(Debug, Clone)]
pub(crate) enum RowIds {
    /// One after the other from this one on.
    From(u64),
    Listed(ScalarBuffer<u64>),
}

/// A run of row versions in log order. Where it stands among a table's chunks, and so its rows'
/// ordinals, is not its own business: chunks move when history is dropped.
#[derive(Debug)]
pub struct Chunk {
    ids: RowIds,
    begins: ScalarBuffer<i64>,
    ends: Arc<Ends>,
    place: Place,
}

impl Chunk {
    /// Rows that begin and have not ended.
    pub(crate) fn new(first: RowId, batch: RecordBatch, begins: ScalarBuffer<i64>) -> Self {
        let ids = RowIds::From(first.0);
        Self { ids, begins, ends: Arc::default(), place: Place::Memory(Columns::of(batch)) }
    }

    /// Chunk `at` of a segment, with no ended rows.
    pub(crate) fn in_segment(segment: &Arc<Segment>, at: usize) -> Self {
        let identity = segment.identity();
        let from = at * identity.chunk_rows;
        let rows = identity.chunk_rows.min(segment.rows() - from);
        Self {
            ids: segment.row_ids(from, rows),
            begins: segment.begins().slice(from, rows),
            ends: Arc::default(),
            place: Place::Segment { segment: Arc::clone(segment), at, read: OnceLock::new() },
        }
    }

    /// The same rows in a segment. Rows that end later end in both.
    pub(super) fn moved_to(&self, segment: &Arc<Segment>, at: usize) -> Self {
        Self { ends: Arc::clone(&self.ends), ..Self::in_segment(segment, at) }
    }

    /// One chunk of two in memory whose rows follow each other; rows of different columns get those of
    /// `stored`. Only the applying thread may call this: an end timestamp written meanwhile would be
    /// lost.
    pub(super) fn concat(&self, next: &Self, stored: &SchemaRef) -> Result<Self, StorageError> {
        let (left, right) = (self.batch()?, next.batch()?);
        let batch = if left.schema_ref() == right.schema_ref() {
            concat_batches(left.schema_ref(), [left, right])
        } else {
            let fitted = fit(left, stored).and_then(|left| Ok([left, fit(right, stored)?]));
            fitted.and_then(|both| concat_batches(stored, &both))
        };
        let batch = batch.map_err(StorageError::apply)?;
        let begins = [&*self.begins, &*next.begins].concat();
        let ids = match (&self.ids, &next.ids) {
            (RowIds::From(first), RowIds::From(then)) if first + self.len() as u64 == *then => {
                RowIds::From(*first)
            }
            // The part of a segment that a transaction took.
            _ => RowIds::Listed(
                [self.row_ids().values(), next.row_ids().values()]
                    .map(|ids| &**ids)
                    .concat()
                    .into(),
            ),
        };
        let joined = Self { ids, ..Self::new(self.row_id(0), batch, begins.into()) };
        for (slot, end) in self.ended().chain(next.ended().map(|(s, e)| (s + self.len(), e))) {
            joined.end(slot, end);
        }
        Ok(joined)
    }

    /// The same rows, which end by themselves from now on.
    pub(super) fn own(&self) -> Self {
        let (ids, begins, place) = (self.ids.clone(), self.begins.clone(), self.place.clone());
        let own = Self { ids, begins, ends: Arc::default(), place };
        self.ended().for_each(|(slot, end)| own.end(slot, end));
        own
    }

    /// The first `rows` of the rows, which end by themselves from now on.
    pub(super) fn first(&self, rows: usize) -> Result<Self, StorageError> {
        let ids = match &self.ids {
            RowIds::From(first) => RowIds::From(*first),
            RowIds::Listed(ids) => RowIds::Listed(ids.slice(0, rows)),
        };
        let place = Place::Memory(Columns::of(self.batch()?.slice(0, rows)));
        let first = Self { ids, begins: self.begins.slice(0, rows), ends: Arc::default(), place };
        let ended = self.ended().filter(|(slot, _)| *slot < rows);
        ended.for_each(|(slot, end)| first.end(slot, end));
        Ok(first)
    }

    /// The id of row `slot`.
    #[must_use]
    pub fn row_id(&self, slot: usize) -> RowId {
        RowId(match &self.ids {
            RowIds::From(first) => first + slot as u64,
            RowIds::Listed(ids) => ids[slot],
        })
    }

    /// The ids of all rows.
    #[must_use]
    pub fn row_ids(&self) -> UInt64Array {
        match &self.ids {
            RowIds::From(first) => (*first..first + self.len() as u64).collect(),
            RowIds::Listed(ids) => UInt64Array::new(ids.clone(), None),
        }
    }

    /// The place of the row that has the id.
    pub(crate) fn slot_of(&self, row: RowId) -> Option<usize> {
        let slot = match &self.ids {
            RowIds::From(first) => usize::try_from(row.0.checked_sub(*first)?).ok()?,
            RowIds::Listed(ids) => ids.binary_search(&row.0).ok()?,
        };
        (slot < self.len()).then_some(slot)
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.begins.len()
    }

    /// Whether there are no rows, which is never the case for a chunk of a table.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.begins.is_empty()
    }

    fn columns(&self) -> Result<&Columns, StorageError> {
        match &self.place {
            Place::Memory(columns) => Ok(columns),
            Place::Segment { segment, at, read } => read
                .get_or_init(|| segment.chunk(*at).map(Columns::of))
                .as_ref()
                .map_err(StorageError::clone),
        }
    }

    /// The rows' columns as they were stored, which [`fit`] puts into those of the table.
    ///
    /// # Errors
    /// When they are in a segment and damaged.
    pub fn batch(&self) -> Result<&RecordBatch, StorageError> {
        Ok(&self.columns()?.batch)
    }

    /// The numbers of the vector column that has the id; `None` for a column of another type and one
    /// that came after the rows.
    ///
    /// # Errors
    /// When they are in a segment and damaged.
    pub fn vectors(&self, column: usize) -> Result<Option<&VectorColumn>, StorageError> {
        Ok(self.columns()?.vectors.get(column).and_then(Option::as_ref))
    }

    /// Whether the rows are in a segment, which has zones.
    #[must_use]
    pub fn is_in_file(&self) -> bool {
        matches!(self.place, Place::Segment { .. })
    }

    /// The zones of the column that has the id, and the place of this chunk in them; `None` where there
    /// are none. They are of the type that the column had when the rows were written.
    #[must_use]
    pub fn zones(&self, column: usize) -> Option<(Zones, usize)> {
        match &self.place {
            Place::Memory(_) => None,
            Place::Segment { segment, at, .. } => Some((segment.zones(column)?, *at)),
        }
    }

    /// When row `slot` begins and ends.
    #[must_use]
    pub fn life(&self, slot: usize) -> (CommitTs, CommitTs) {
        (CommitTs(self.begins[slot]), self.ends.get(slot))
    }

    /// Whether row `slot` is visible at `at`.
    #[must_use]
    pub fn visible(&self, slot: usize, at: CommitTs) -> bool {
        self.begins[slot] <= at.0 && at < self.ends.get(slot)
    }

    /// Number of rows visible at `at`.
    #[must_use]
    pub fn count_visible(&self, at: CommitTs) -> usize {
        if self.all_visible(at) {
            return self.len();
        }
        if self.none_visible(at) {
            return 0;
        }
        (0..self.len()).filter(|slot| self.visible(*slot, at)).count()
    }

    /// Whether no row is visible at `at`, told without looking at each. False says nothing.
    #[must_use]
    pub fn none_visible(&self, at: CommitTs) -> bool {
        self.all_ended_by(at) || self.begins.first().is_none_or(|begin| *begin > at.0)
    }

    /// Whether all rows ended at or before `at`.
    pub(crate) fn all_ended_by(&self, at: CommitTs) -> bool {
        let all_ended = self.ends.count.load(Ordering::Acquire) == self.len();
        all_ended && self.ends.last.load(Ordering::Acquire) <= at.0
    }

    /// Number of rows that have ended.
    pub(crate) fn ended_count(&self) -> usize {
        self.ends.count.load(Ordering::Acquire)
    }

    /// Whether all rows are visible at `at`, told without looking at each. Rows are in log order,
    /// so the last began last.
    #[must_use]
    pub fn all_visible(&self, at: CommitTs) -> bool {
        self.ends.count.load(Ordering::Acquire) == 0
            && self.begins.last().is_none_or(|begin| *begin <= at.0)
    }

    /// Bytes in memory, those of files not counted.
    pub(crate) fn memory_bytes(&self) -> usize {
        let ends = self.ends.slots.get().map_or(0, |slots| size_of_val(&**slots));
        ends + match &self.place {
            Place::Memory(columns) => batch_bytes(&columns.batch) + 8 * self.len(),
            Place::Segment { .. } => 0,
        }
    }

    /// Ends row `slot`.
    pub(crate) fn end(&self, slot: usize, at: CommitTs) {
        self.ends.set(slot, self.len(), at);
    }

    /// Number of rows that began at or before `at`.
    pub(crate) fn begun_at(&self, at: CommitTs) -> usize {
        self.begins.partition_point(|begin| *begin <= at.0)
    }

    /// Instants at which the rows begin.
    pub(crate) fn begins(&self) -> &[i64] {
        &self.begins
    }

    /// The rows that ended, and when.
    pub(crate) fn ended(&self) -> impl Iterator<Item = (usize, CommitTs)> + '_ {
        let slots = self.ends.slots.get().map_or(&[][..], |slots| slots);
        let ends = slots.iter().map(|end| CommitTs(end.load(Ordering::Acquire)));
        ends.enumerate().filter(|(_, end)| *end != CommitTs::INFINITY)
    }
}
