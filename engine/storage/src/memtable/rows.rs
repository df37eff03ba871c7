//! The row versions of a table at one moment, as a list of chunks.
//!
//! Full chunks hold the same number of rows, a power of two, and stand at `ordinal / chunk_rows`;
//! they are in memory or in segments. Younger rows form a tail of smaller chunks in memory, merged
//! like the digits of a binary counter: a row is copied at most `log2(chunk_rows)` times however
//! small the writes are.

use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use types::{CommitTs, RowOrdinal};

use super::chunk::Chunk;
use crate::error::StorageError;

/// The row versions of a table at one moment. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Rows of a full chunk are two to the power of this.
    chunk_bits: u32,
    full: Arc<[Arc<Chunk>]>,
    tail: Vec<Arc<Chunk>>,
    len: u32,
    /// Rows not ended by the newest commit.
    live: u32,
    /// The first damage that reading vectors met. Vectors are read where an error cannot be
    /// returned; whoever reads them asks for it afterwards.
    damage: Arc<OnceLock<StorageError>>,
}

impl Rows {
    pub(crate) fn new(chunk_bits: u32) -> Self {
        Self {
            chunk_bits,
            full: Arc::new([]),
            tail: Vec::new(),
            len: 0,
            live: 0,
            damage: Arc::default(),
        }
    }

    /// Rows of a full chunk.
    pub(crate) fn chunk_rows(&self) -> usize {
        1 << self.chunk_bits
    }

    /// The full chunks, by ordinal.
    pub(crate) fn full(&self) -> &[Arc<Chunk>] {
        &self.full
    }

    /// Puts chunks of segments in the places of the same rows in memory.
    pub(super) fn replace(&mut self, chunks: impl Iterator<Item = (usize, Chunk)>) {
        let mut full = self.full.to_vec();
        for (at, chunk) in chunks {
            if let Some(place) = full.get_mut(at) {
                *place = Arc::new(chunk);
            }
        }
        self.full = full.into();
    }

    /// Tells of damage that a search met: its answer is worthless then.
    ///
    /// # Errors
    /// When reading a vector of this table failed since the store was opened.
    pub fn check_damage(&self) -> Result<(), StorageError> {
        self.damage.get().map_or(Ok(()), |damage| Err(damage.clone()))
    }

    /// All row versions, living and ended.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether no row was ever inserted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Row versions that have not ended.
    #[must_use]
    pub fn live(&self) -> u32 {
        self.live
    }

    /// The chunks in ordinal order.
    pub fn chunks(&self) -> impl DoubleEndedIterator<Item = &Arc<Chunk>> {
        self.full.iter().chain(&self.tail)
    }

    /// The chunk of a row and the row's place in it.
    #[must_use]
    pub fn locate(&self, ordinal: RowOrdinal) -> Option<(&Arc<Chunk>, usize)> {
        if ordinal.0 >= self.len {
            return None;
        }
        if let Some(chunk) = self.full.get((ordinal.0 >> self.chunk_bits) as usize) {
            return Some((chunk, ordinal.0 as usize & (self.chunk_rows() - 1)));
        }
        let after = self.tail.partition_point(|chunk| chunk.base() <= ordinal.0);
        let chunk = self.tail.get(after.checked_sub(1)?)?;
        Some((chunk, (ordinal.0 - chunk.base()) as usize))
    }

    /// Whether a row is visible at `at`.
    #[must_use]
    pub fn visible(&self, ordinal: RowOrdinal, at: CommitTs) -> bool {
        self.locate(ordinal).is_some_and(|(chunk, slot)| chunk.visible(slot, at))
    }

    /// Number of rows visible at `at`. `O(rows)` only in chunks with history.
    #[must_use]
    pub fn count_visible(&self, at: CommitTs) -> usize {
        self.chunks().map(|chunk| chunk.count_visible(at)).sum()
    }

    /// Ordinals visible at `at`, ascending.
    pub fn visible_ordinals(&self, at: CommitTs) -> impl Iterator<Item = u32> {
        self.chunks().flat_map(move |chunk| {
            let slots = 0..u32::try_from(chunk.len()).unwrap_or(0);
            let all = chunk.all_visible(at);
            slots
                .filter(move |slot| all || chunk.visible(*slot as usize, at))
                .map(move |slot| chunk.base() + slot)
        })
    }

    /// The vectors of one column, addressed by ordinal.
    #[must_use]
    pub fn vectors(&self, column: usize, dim: usize) -> VectorRows<'_> {
        VectorRows { rows: self, column, dim }
    }

    /// The rows after `batch` was appended at `at`.
    pub(super) fn append(&self, batch: &RecordBatch, at: CommitTs) -> Result<Self, StorageError> {
        let mut next = self.clone();
        let mut from = 0;
        while from < batch.num_rows() {
            let room = self.chunk_rows() - next.len as usize % self.chunk_rows();
            let count = room.min(batch.num_rows() - from);
            let begins = vec![at.0; count].into();
            next.push(Chunk::new(next.len, batch.slice(from, count), begins), count)?;
            from += count;
        }
        next.live += u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
        Ok(next)
    }

    fn push(&mut self, chunk: Chunk, count: usize) -> Result<(), StorageError> {
        self.tail.push(Arc::new(chunk));
        self.len += u32::try_from(count).unwrap_or(u32::MAX);
        let complete = (self.len as usize).is_multiple_of(self.chunk_rows());
        while let [.., left, right] = self.tail.as_slice() {
            if !complete && left.len() > right.len() {
                break;
            }
            let merged = Arc::new(left.concat(right)?);
            self.tail.truncate(self.tail.len() - 2);
            self.tail.push(merged);
        }
        if complete {
            let full = self.full.iter().map(Arc::clone);
            self.full = full.chain(self.tail.drain(..)).collect();
        }
        Ok(())
    }

    /// Ends a row; it must be alive.
    pub(super) fn end(&mut self, ordinal: RowOrdinal, at: CommitTs) {
        if let Some((chunk, slot)) = self.locate(ordinal) {
            chunk.end(slot, at);
            self.live -= 1;
        }
    }

    /// Puts back a chunk that a manifest names; its ended rows have their ends.
    pub(crate) fn restore(&mut self, chunk: Chunk) -> Result<(), StorageError> {
        let count = chunk.len();
        self.live += u32::try_from(count - chunk.ended().count()).unwrap_or(0);
        self.push(chunk, count)
    }
}

/// The vectors of one column of [`Rows`].
#[derive(Debug, Clone, Copy)]
pub struct VectorRows<'a> {
    rows: &'a Rows,
    column: usize,
    dim: usize,
}

impl vector::Vectors for VectorRows<'_> {
    fn dim(&self) -> usize {
        self.dim
    }

    fn vector(&self, ordinal: u32) -> Option<&[f32]> {
        let (chunk, slot) = self.rows.locate(RowOrdinal(ordinal))?;
        match chunk.vectors(self.column) {
            Ok(vectors) => vectors?.get(slot),
            Err(damage) => {
                let _ = self.rows.damage.set(damage);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use proptest::prelude::*;

    fn batch(values: std::ops::Range<i64>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
        RecordBatch::try_from_iter([("v", column)]).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn rows_keep_their_ordinals_however_they_arrive(
            sizes in prop::collection::vec(prop_oneof![1_i64..5, 100_i64..5_000], 1..30),
            ends in prop::collection::vec(any::<u32>(), 0..20),
        ) {
            let mut rows = Rows::new(12);
            let mut total = 0;
            let mut model: Vec<(i64, i64)> = Vec::new();
            for (step, size) in sizes.iter().enumerate() {
                let at = i64::try_from(step).unwrap() * 10 + 10;
                rows = rows.append(&batch(total..total + size), CommitTs(at)).unwrap();
                total += size;
                model.resize(usize::try_from(total).unwrap(), (at, i64::MAX));
                if let Some(pick) = ends.get(step) {
                    let ordinal = *pick as usize % model.len();
                    if model[ordinal].1 == i64::MAX {
                        model[ordinal].1 = at + 5;
                        let ordinal = u32::try_from(ordinal).unwrap();
                        rows.end(RowOrdinal(ordinal), CommitTs(at + 5));
                    }
                }
            }
            prop_assert_eq!(rows.len() as usize, model.len());
            prop_assert!(rows.tail.len() <= 13, "{} pieces", rows.tail.len());
            for (ordinal, life) in model.iter().enumerate() {
                let at = RowOrdinal(u32::try_from(ordinal).unwrap());
                let (chunk, slot) = rows.locate(at).unwrap();
                let column = chunk.batch().unwrap().column(0).as_any().downcast_ref::<Int64Array>().unwrap();
                prop_assert_eq!(column.value(slot), i64::try_from(ordinal).unwrap());
                prop_assert_eq!(chunk.life(slot), (CommitTs(life.0), CommitTs(life.1)));
            }
            for instant in [0, 14, 15, 20, 155, 400] {
                let expected: Vec<u32> = (0..).zip(&model)
                    .filter(|(_, life)| life.0 <= instant && instant < life.1)
                    .map(|(ordinal, _)| ordinal).collect();
                let at = CommitTs(instant);
                prop_assert_eq!(rows.count_visible(at), expected.len());
                prop_assert_eq!(rows.visible_ordinals(at).collect::<Vec<_>>(), expected);
            }
        }
    }
}
