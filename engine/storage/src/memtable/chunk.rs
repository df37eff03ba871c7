//! A run of row versions: an immutable record batch, the instants at which each row began, and the
//! instants at which it ended.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use arrow::array::{Array as _, FixedSizeListArray, Float32Array, RecordBatch};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use types::CommitTs;

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

/// A run of row versions with ordinals `base..base + len`.
#[derive(Debug)]
pub struct Chunk {
    base: u32,
    batch: RecordBatch,
    begin: Vec<i64>,
    end: Vec<AtomicI64>,
    any_ended: AtomicBool,
    vectors: Vec<Option<VectorColumn>>,
}

impl Chunk {
    /// Rows that begin and have not ended.
    pub(super) fn new(base: u32, batch: RecordBatch, begin: Vec<i64>) -> Self {
        let end = begin.iter().map(|_| AtomicI64::new(CommitTs::INFINITY.0)).collect();
        Self::with_ends(base, batch, begin, end)
    }

    fn with_ends(base: u32, batch: RecordBatch, begin: Vec<i64>, end: Vec<AtomicI64>) -> Self {
        let ended = |end: &AtomicI64| end.load(Ordering::Relaxed) != CommitTs::INFINITY.0;
        let any_ended = AtomicBool::new(end.iter().any(ended));
        let vectors = batch.columns().iter().map(|column| VectorColumn::of(column)).collect();
        Self { base, batch, begin, end, any_ended, vectors }
    }

    /// One chunk of two that follow each other. Only the applying thread may call this: an end
    /// timestamp written meanwhile would be lost.
    pub(super) fn concat(&self, next: &Self) -> Result<Self, ArrowError> {
        let batch = concat_batches(self.batch.schema_ref(), [&self.batch, &next.batch])?;
        let begin = [self.begin.as_slice(), next.begin.as_slice()].concat();
        let copy = |end: &AtomicI64| AtomicI64::new(end.load(Ordering::Relaxed));
        let end = self.end.iter().chain(&next.end).map(copy).collect();
        Ok(Self::with_ends(self.base, batch, begin, end))
    }

    /// Ordinal of the first row.
    #[must_use]
    pub fn base(&self) -> u32 {
        self.base
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.begin.len()
    }

    /// Whether there are no rows, which is never the case for a chunk of a table.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.begin.is_empty()
    }

    /// The rows' columns, in the table's schema.
    #[must_use]
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// The numbers of vector column `column`; `None` for a column of another type.
    #[must_use]
    pub fn vectors(&self, column: usize) -> Option<&VectorColumn> {
        self.vectors.get(column)?.as_ref()
    }

    /// When row `slot` begins and ends.
    #[must_use]
    pub fn life(&self, slot: usize) -> (CommitTs, CommitTs) {
        (CommitTs(self.begin[slot]), CommitTs(self.end[slot].load(Ordering::Acquire)))
    }

    /// Whether row `slot` is visible at `at`.
    #[must_use]
    pub fn visible(&self, slot: usize, at: CommitTs) -> bool {
        self.begin[slot] <= at.0 && at.0 < self.end[slot].load(Ordering::Acquire)
    }

    /// Whether all rows are visible at `at`, told without looking at each. Rows are in log order,
    /// so the last began last.
    #[must_use]
    pub fn all_visible(&self, at: CommitTs) -> bool {
        !self.any_ended.load(Ordering::Acquire)
            && self.begin.last().is_none_or(|begin| *begin <= at.0)
    }

    /// Ends row `slot`.
    pub(super) fn end(&self, slot: usize, at: CommitTs) {
        self.any_ended.store(true, Ordering::Release);
        self.end[slot].store(at.0, Ordering::Release);
    }

    /// Instants at which the rows begin.
    pub(crate) fn begins(&self) -> &[i64] {
        &self.begin
    }

    /// Instants at which the rows end as seen at `at`: later ends are not yet known.
    pub(crate) fn ends_at(&self, at: CommitTs) -> Vec<i64> {
        let known = |end: &AtomicI64| match end.load(Ordering::Acquire) {
            later if later > at.0 => CommitTs::INFINITY.0,
            end => end,
        };
        self.end.iter().map(known).collect()
    }

    pub(crate) fn restore(base: u32, batch: RecordBatch, begin: Vec<i64>, end: &[i64]) -> Self {
        let end = end.iter().map(|end| AtomicI64::new(*end)).collect();
        Self::with_ends(base, batch, begin, end)
    }
}
