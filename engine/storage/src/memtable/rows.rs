//! The row versions of a table at one moment, as lists of chunks.
//!
//! An *ordinal* is the place of a row version, and what indexes know it by: `chunk << chunk_bits |
//! slot`. Chunks hold a power of two of rows; the last one of a segment may hold fewer, and the
//! ordinals it lacks name no row. Chunks that were taken out of the way because all their rows had
//! ended (*history*) have ordinals of their own, from [`HISTORY`] on, so that dropping them moves no
//! other row. A row's *id* never changes; its ordinal does when rows before it are dropped, so an
//! ordinal means something together with the [`Rows`] it was found in alone.
//!
//! The youngest rows form a tail of smaller chunks in memory, merged like the digits of a binary
//! counter: a row is copied at most `log2(chunk_rows)` times however small the writes are.

mod fork;

use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use types::{CommitTs, RowId, RowOrdinal};

use super::chunk::Chunk;
use crate::error::StorageError;
use crate::segment::Segment;

/// The first ordinal of history.
pub(crate) const HISTORY: u32 = 1 << 31;

/// The row versions of a table at one moment. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Rows of a full chunk are two to the power of this.
    chunk_bits: u32,
    files: Arc<Files>,
    full: Arc<[Arc<Chunk>]>,
    /// Younger chunks, and where they begin, counted from the end of the full ones.
    tail: Vec<(u32, Arc<Chunk>)>,
    tail_rows: u32,
    /// Row versions outside history.
    points: u32,
    /// Rows not ended by the newest commit.
    live: u32,
    /// The id of the next row.
    next_row: RowId,
    /// In the rows of a transaction, how many ordinals are those of the table they were taken from.
    shared: Option<u32>,
    /// The first damage that reading vectors met. Vectors are read where an error cannot be
    /// returned; whoever reads them asks for it afterwards.
    damage: Arc<OnceLock<StorageError>>,
}

/// The part of [`Rows`] that is in files.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// They hold the first of the full chunks.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// They hold the chunks of history.
    pub(crate) history: Vec<Arc<Segment>>,
    pub(crate) history_chunks: Vec<Arc<Chunk>>,
}

/// What a segment holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentState {
    /// Name of the file.
    pub file: String,
    /// Whether its rows ended before it was made.
    pub history: bool,
    /// The id of its first row.
    pub first_row: RowId,
    /// Its rows.
    pub rows: usize,
    /// Those of them that have ended.
    pub ended: usize,
    /// Bytes of the file.
    pub file_bytes: usize,
}

impl Rows {
    pub(crate) fn new(chunk_bits: u32) -> Self {
        Self {
            chunk_bits,
            files: Arc::default(),
            full: Arc::new([]),
            tail: Vec::new(),
            tail_rows: 0,
            points: 0,
            live: 0,
            next_row: RowId(0),
            shared: None,
            damage: Arc::default(),
        }
    }

    /// Rows in files with `full` chunks in front of a tail.
    pub(crate) fn restored(
        chunk_bits: u32,
        files: Files,
        full: Vec<Arc<Chunk>>,
        tail: Option<Arc<Chunk>>,
        next_row: RowId,
    ) -> Self {
        let mut rows = Self { full: full.into(), next_row, ..Self::new(chunk_bits) };
        rows.files = Arc::new(files);
        if let Some(tail) = tail {
            rows.tail_rows = u32::try_from(tail.len()).unwrap_or(u32::MAX);
            rows.tail.push((0, tail));
        }
        rows.count();
        rows
    }

    /// The same rows where `files` and `full`, which may lack ended ones, take the place of the files
    /// and of the first `covered` chunks.
    pub(super) fn relocated(&self, files: Files, full: Vec<Arc<Chunk>>, covered: usize) -> Self {
        let young = self.full[covered..].iter().map(Arc::clone);
        let full = full.into_iter().chain(young).collect();
        let mut rows = Self { files: Arc::new(files), full, ..self.clone() };
        rows.count();
        rows
    }

    /// No rows, ids going on where they were.
    pub(super) fn emptied(&self) -> Self {
        Self { next_row: self.next_row, ..Self::new(self.chunk_bits) }
    }

    fn count(&mut self) {
        let of = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let ended: usize = self.young().map(|(_, chunk)| chunk.ended_count()).sum();
        let points: usize = self.young().map(|(_, chunk)| chunk.len()).sum();
        (self.points, self.live) = (of(points), of(points - ended));
    }

    /// Rows of a full chunk.
    pub(crate) fn chunk_rows(&self) -> usize {
        1 << self.chunk_bits
    }

    /// Bits of an ordinal within a chunk.
    pub(crate) fn chunk_bits(&self) -> u32 {
        self.chunk_bits
    }

    /// The chunks that are not in the tail nor in history, by ordinal.
    pub(crate) fn full(&self) -> &[Arc<Chunk>] {
        &self.full
    }

    /// The chunks outside history from chunk `full` on, those of the tail included.
    pub(crate) fn behind(&self, full: usize) -> impl Iterator<Item = &Arc<Chunk>> {
        self.full[full..].iter().chain(self.tail.iter().map(|(_, chunk)| chunk))
    }

    /// The chunks of history, by ordinal.
    pub(crate) fn history(&self) -> &[Arc<Chunk>] {
        &self.files.history_chunks
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// The segments with the ordinal of their first row, the youngest rows first, history last.
    pub(super) fn segments<'a>(&'a self) -> impl Iterator<Item = (u32, &'a Arc<Segment>)> {
        let ordinals = |chunks: usize| u32::try_from(chunks << self.chunk_bits).unwrap_or(u32::MAX);
        let placed = move |segments: &'a [Arc<Segment>], first: u32| {
            let mut chunks = segments.iter().map(|segment| segment.chunks()).sum::<usize>();
            segments.iter().rev().map(move |segment| {
                chunks -= segment.chunks();
                (first + ordinals(chunks), segment)
            })
        };
        placed(&self.files.segments, 0).chain(placed(&self.files.history, HISTORY))
    }

    /// The segments, those of history last.
    pub fn segment_states(&self) -> impl Iterator<Item = SegmentState> {
        let state = |segment: &Arc<Segment>, chunks: &[Arc<Chunk>], history| SegmentState {
            file: segment.name(),
            history,
            first_row: segment.identity().first_row,
            rows: segment.rows(),
            ended: chunks.iter().map(|chunk| chunk.ended_count()).sum(),
            file_bytes: segment.file_bytes(),
        };
        let kinds = [
            (&self.files.segments, &*self.full, false),
            (&self.files.history, self.history(), true),
        ];
        kinds.into_iter().flat_map(move |(segments, chunks, history)| {
            let mut next = 0;
            segments.iter().map(move |segment| {
                let first = next;
                next += segment.chunks();
                state(segment, &chunks[first..next], history)
            })
        })
    }

    /// Row versions outside history with ordinals below `ordinal`.
    #[must_use]
    pub fn points_below(&self, ordinal: u32) -> usize {
        let below = self.young().take_while(|(base, _)| *base < ordinal);
        below.map(|(base, chunk)| chunk.len().min((ordinal - base) as usize)).sum()
    }

    /// Tells of damage that a search met: its answer is worthless then.
    ///
    /// # Errors
    /// When reading a vector of this table failed since the store was opened.
    pub fn check_damage(&self) -> Result<(), StorageError> {
        self.damage.get().map_or(Ok(()), |damage| Err(damage.clone()))
    }

    /// Ordinals outside history are below this.
    #[must_use]
    pub fn len(&self) -> u32 {
        let full = u32::try_from(self.full.len() << self.chunk_bits).unwrap_or(u32::MAX);
        full.saturating_add(self.tail_rows)
    }

    /// Whether there are no row versions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points == 0 && self.history().is_empty()
    }

    /// Row versions outside history, living and ended.
    #[must_use]
    pub fn points(&self) -> u32 {
        self.points
    }

    /// Row versions that have not ended.
    #[must_use]
    pub fn live(&self) -> u32 {
        self.live
    }

    /// The id of the next row.
    #[must_use]
    pub fn next_row(&self) -> RowId {
        self.next_row
    }

    /// The id of the first row that began after `at`.
    pub(super) fn next_row_at(&self, at: CommitTs) -> RowId {
        let later = self.young().find(|(_, chunk)| chunk.begun_at(at) < chunk.len());
        later.map_or(self.next_row, |(_, chunk)| chunk.row_id(chunk.begun_at(at)))
    }

    fn tail_base(&self) -> u32 {
        self.len() - self.tail_rows
    }

    /// The chunks outside history and the ordinals of their first rows, ascending.
    fn young(&self) -> impl DoubleEndedIterator<Item = (u32, &Arc<Chunk>)> {
        let base = |at: usize| u32::try_from(at << self.chunk_bits).unwrap_or(u32::MAX);
        let full = self.full.iter().enumerate().map(move |(at, chunk)| (base(at), chunk));
        let tail = self.tail_base();
        full.chain(self.tail.iter().map(move |(from, chunk)| (tail + from, chunk)))
    }

    /// All chunks and the ordinals of their first rows, ascending.
    pub fn placed(&self) -> impl Iterator<Item = (u32, &Arc<Chunk>)> {
        let base = |at: usize| HISTORY + u32::try_from(at << self.chunk_bits).unwrap_or(0);
        let history = self.history().iter().enumerate();
        self.young().chain(history.map(move |(at, chunk)| (base(at), chunk)))
    }

    /// All chunks by ordinal.
    pub fn chunks(&self) -> impl Iterator<Item = &Arc<Chunk>> {
        self.placed().map(|(_, chunk)| chunk)
    }

    /// The chunk of a row and the row's place in it.
    #[must_use]
    pub fn locate(&self, ordinal: RowOrdinal) -> Option<(&Arc<Chunk>, usize)> {
        let (chunk, slot) = (
            (ordinal.0 & !HISTORY) >> self.chunk_bits,
            ordinal.0 as usize & (self.chunk_rows() - 1),
        );
        let full = if ordinal.0 < HISTORY { &*self.full } else { self.history() };
        if let Some(chunk) = full.get(chunk as usize) {
            return (slot < chunk.len()).then_some((chunk, slot));
        }
        let place = ordinal.0.checked_sub(self.tail_base())?;
        if place >= self.tail_rows {
            return None;
        }
        let after = self.tail.partition_point(|(from, _)| *from <= place);
        let (from, chunk) = self.tail.get(after.checked_sub(1)?)?;
        Some((chunk, (place - from) as usize))
    }

    /// The row version that has the id, unless it ended and was taken to history or dropped.
    #[must_use]
    pub fn find_row(&self, row: RowId) -> Option<RowOrdinal> {
        let after = self.full.partition_point(|chunk| chunk.row_id(0) <= row);
        let in_chunk = |(base, chunk): (u32, &Arc<Chunk>)| {
            Some(RowOrdinal(base + u32::try_from(chunk.slot_of(row)?).ok()?))
        };
        if let Some((from, chunk)) = self.tail.iter().rfind(|(_, chunk)| chunk.row_id(0) <= row) {
            return in_chunk((self.tail_base() + from, chunk));
        }
        let at = after.checked_sub(1)?;
        in_chunk((u32::try_from(at << self.chunk_bits).ok()?, self.full.get(at)?))
    }

    /// The id of the first row of the tail.
    pub(super) fn first_in_tail(&self) -> RowId {
        self.tail.first().map_or(self.next_row, |(_, chunk)| chunk.row_id(0))
    }

    /// The number of ordinals, from the first, outside history that hold all rows older than `row`.
    #[must_use]
    pub fn ordinals_before(&self, row: RowId) -> u32 {
        let older = self.young().take_while(|(_, chunk)| chunk.row_id(0) < row);
        older.last().map_or(0, |(base, chunk)| {
            let slots = (0..chunk.len()).take_while(|slot| chunk.row_id(*slot) < row);
            base + u32::try_from(slots.count()).unwrap_or(0)
        })
    }

    /// Whether a row is visible at `at`.
    #[must_use]
    pub fn visible(&self, ordinal: RowOrdinal, at: CommitTs) -> bool {
        self.locate(ordinal).is_some_and(|(chunk, slot)| chunk.visible(slot, at))
    }

    /// Whether all rows outside history are visible at `at`, told without looking at each.
    #[must_use]
    pub fn all_points_visible(&self, at: CommitTs) -> bool {
        self.young().all(|(_, chunk)| chunk.all_visible(at))
    }

    /// Number of rows visible at `at`. `O(rows)` only in chunks with history.
    #[must_use]
    pub fn count_visible(&self, at: CommitTs) -> usize {
        self.chunks().map(|chunk| chunk.count_visible(at)).sum()
    }

    /// Ordinals visible at `at`, ascending.
    pub fn visible_ordinals(&self, at: CommitTs) -> impl Iterator<Item = u32> {
        self.visible_from(at, 0)
    }

    /// Ordinals from `from` on that are visible at `at`, ascending.
    pub fn visible_from(&self, at: CommitTs, from: u32) -> impl Iterator<Item = u32> {
        self.placed().flat_map(move |(base, chunk)| {
            let len = u32::try_from(chunk.len()).unwrap_or(0);
            let all = chunk.all_visible(at);
            let none = base.saturating_add(len) <= from || chunk.none_visible(at);
            let slots = if none { 0..0 } else { from.saturating_sub(base)..len };
            slots
                .filter(move |slot| all || chunk.visible(*slot as usize, at))
                .map(move |slot| base + slot)
        })
    }

    /// The vectors of the column that has the id, addressed by ordinal.
    #[must_use]
    pub fn vectors(&self, column: usize, dim: usize) -> VectorRows<'_> {
        VectorRows { rows: self, column, dim }
    }

    /// The rows after `batch` was appended at `at`. Where columns changed since the last rows came, all
    /// of the chunk get those of `stored`.
    pub(super) fn append(
        &self,
        batch: &RecordBatch,
        at: CommitTs,
        stored: &SchemaRef,
    ) -> Result<Self, StorageError> {
        let mut next = self.clone();
        let mut from = 0;
        while from < batch.num_rows() {
            let count = (self.chunk_rows() - next.tail_rows as usize).min(batch.num_rows() - from);
            let begins = vec![at.0; count].into();
            next.push(Chunk::new(next.next_row, batch.slice(from, count), begins), stored)?;
            from += count;
        }
        Ok(next)
    }

    fn push(&mut self, chunk: Chunk, stored: &SchemaRef) -> Result<(), StorageError> {
        let count = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        self.tail.push((self.tail_rows, Arc::new(chunk)));
        self.tail_rows += count;
        self.points += count;
        self.live += count;
        self.next_row.0 += u64::from(count);
        let complete = self.tail_rows as usize == self.chunk_rows();
        while let [.., (from, left), (_, right)] = self.tail.as_slice() {
            if !complete && left.len() > right.len() {
                break;
            }
            let merged = (*from, Arc::new(left.concat(right, stored)?));
            self.tail.truncate(self.tail.len() - 2);
            self.tail.push(merged);
        }
        if complete {
            let full = self.full.iter().map(Arc::clone);
            self.full = full.chain(self.tail.drain(..).map(|(_, chunk)| chunk)).collect();
            self.tail_rows = 0;
        }
        Ok(())
    }

    /// Ends a row; it must be alive.
    pub(super) fn end(&mut self, row: RowId, at: CommitTs) {
        let ordinal = self.find_row(row);
        if let Some((chunk, slot)) = ordinal.and_then(|ordinal| self.locate(ordinal)) {
            chunk.end(slot, at);
            self.live -= 1;
        }
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

    fn row(&self, ordinal: u32) -> Option<vector::Row<'_>> {
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
                let added = batch(total..total + size);
                rows = rows.append(&added, CommitTs(at), added.schema_ref()).unwrap();
                total += size;
                model.resize(usize::try_from(total).unwrap(), (at, i64::MAX));
                if let Some(pick) = ends.get(step) {
                    let ordinal = *pick as usize % model.len();
                    if model[ordinal].1 == i64::MAX {
                        model[ordinal].1 = at + 5;
                        let ordinal = u32::try_from(ordinal).unwrap();
                        rows.end(RowId(u64::from(ordinal)), CommitTs(at + 5));
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
