//! A run of row versions: an immutable record batch in memory or in a segment, the instants at which
//! each row began, and the instants at which it ended.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array as _, FixedSizeListArray, Float32Array, RecordBatch};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use types::CommitTs;

use crate::error::StorageError;
use crate::segment::Segment;

/// The numbers of one vector column of a chunk, ready for kernels.
#[derive(Debug, Clone)]
pub struct VectorColumn {
    dim: usize,
    values: ScalarBuffer<f32>,
    nulls: Option<NullBuffer>,
}

impl VectorColumn {
    fn of(array: &dyn arrow::array::Array) -> Option<Self> {
        let list = array.as_any().downcast_ref::<FixedSizeListArray>()?;
        let dim = usize::try_from(list.value_length()).ok()?;
        let values = list.values().as_any().downcast_ref::<Float32Array>()?;
        Some(Self { dim, values: values.values().clone(), nulls: list.nulls().cloned() })
    }

    /// The vector of row `slot`.
    #[must_use]
    pub fn get(&self, slot: usize) -> Option<&[f32]> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(slot)) {
            return None;
        }
        self.values.get(slot * self.dim..(slot + 1) * self.dim)
    }
}

/// The columns of a chunk.
#[derive(Debug)]
struct Columns {
    batch: RecordBatch,
    vectors: Vec<Option<VectorColumn>>,
}

impl Columns {
    fn of(batch: RecordBatch) -> Self {
        let vectors = batch.columns().iter().map(|column| VectorColumn::of(column)).collect();
        Self { batch, vectors }
    }
}

/// Where the columns are.
#[derive(Debug)]
enum Place {
    Memory(Columns),
    /// In a chunk of a segment; read and checked when first asked for.
    Segment {
        segment: Arc<Segment>,
        at: usize,
        schema: SchemaRef,
        read: OnceLock<Result<Columns, StorageError>>,
    },
}

/// When rows ended; none did while nothing is stored. Shared by a chunk in memory and the one in a
/// segment that takes its place.
#[derive(Debug, Default)]
struct Ends {
    slots: OnceLock<Box<[AtomicI64]>>,
    any: AtomicBool,
}

impl Ends {
    fn get(&self, slot: usize) -> CommitTs {
        let end = self.slots.get().map(|slots| slots[slot].load(Ordering::Acquire));
        end.map_or(CommitTs::INFINITY, CommitTs)
    }

    fn set(&self, slot: usize, rows: usize, at: CommitTs) {
        let alive = || (0..rows).map(|_| AtomicI64::new(CommitTs::INFINITY.0)).collect();
        self.slots.get_or_init(alive)[slot].store(at.0, Ordering::Release);
        self.any.store(true, Ordering::Release);
    }
}

/// A run of row versions with ordinals `base..base + len`.
#[derive(Debug)]
pub struct Chunk {
    base: u32,
    begins: ScalarBuffer<i64>,
    ends: Arc<Ends>,
    place: Place,
}

impl Chunk {
    /// Rows that begin and have not ended.
    pub(crate) fn new(base: u32, batch: RecordBatch, begins: ScalarBuffer<i64>) -> Self {
        Self { base, begins, ends: Arc::default(), place: Place::Memory(Columns::of(batch)) }
    }

    /// Chunk `at` of a segment, with no ended rows.
    pub(crate) fn in_segment(segment: &Arc<Segment>, at: usize, schema: &SchemaRef) -> Self {
        let identity = segment.identity();
        let from = at * identity.chunk_rows;
        let rows = identity.chunk_rows.min(segment.rows() - from);
        Self {
            base: identity.base.0 + u32::try_from(from).unwrap_or(u32::MAX),
            begins: segment.begins().slice(from, rows),
            ends: Arc::default(),
            place: Place::Segment {
                segment: Arc::clone(segment),
                at,
                schema: Arc::clone(schema),
                read: OnceLock::new(),
            },
        }
    }

    /// The same rows in a segment. Rows that end later end in both.
    pub(super) fn moved_to(&self, segment: &Arc<Segment>, at: usize, schema: &SchemaRef) -> Self {
        Self { ends: Arc::clone(&self.ends), ..Self::in_segment(segment, at, schema) }
    }

    /// One chunk of two in memory that follow each other. Only the applying thread may call this:
    /// an end timestamp written meanwhile would be lost.
    pub(super) fn concat(&self, next: &Self) -> Result<Self, StorageError> {
        let (left, right) = (self.batch()?, next.batch()?);
        let batch =
            concat_batches(left.schema_ref(), [left, right]).map_err(StorageError::apply)?;
        let begins = [&*self.begins, &*next.begins].concat();
        let joined = Self::new(self.base, batch, begins.into());
        for (slot, end) in self.ended().chain(next.ended().map(|(s, e)| (s + self.len(), e))) {
            joined.end(slot, end);
        }
        Ok(joined)
    }

    /// Ordinal of the first row.
    #[must_use]
    pub fn base(&self) -> u32 {
        self.base
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
            Place::Segment { segment, at, schema, read } => read
                .get_or_init(|| segment.chunk(*at, schema).map(Columns::of))
                .as_ref()
                .map_err(StorageError::clone),
        }
    }

    /// The rows' columns, in the table's schema.
    ///
    /// # Errors
    /// When they are in a segment and damaged.
    pub fn batch(&self) -> Result<&RecordBatch, StorageError> {
        Ok(&self.columns()?.batch)
    }

    /// The numbers of vector column `column`; `None` for a column of another type.
    ///
    /// # Errors
    /// When they are in a segment and damaged.
    pub fn vectors(&self, column: usize) -> Result<Option<&VectorColumn>, StorageError> {
        Ok(self.columns()?.vectors.get(column).and_then(Option::as_ref))
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
        (0..self.len()).filter(|slot| self.visible(*slot, at)).count()
    }

    /// Whether all rows are visible at `at`, told without looking at each. Rows are in log order,
    /// so the last began last.
    #[must_use]
    pub fn all_visible(&self, at: CommitTs) -> bool {
        !self.ends.any.load(Ordering::Acquire)
            && self.begins.last().is_none_or(|begin| *begin <= at.0)
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
