//! A table as one transaction sees it: the rows of its instant with its own changes, which nobody
//! else knows until they are committed as one write.
//!
//! Keys of the transaction's own rows are in the fork's map; the others are looked up in the table it
//! stands on. Whether a key is free is asked of the newest rows, as PostgreSQL does, not of those of
//! the transaction's instant.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use catalog::Collection;
use types::{CommitTs, RowId, RowOrdinal};

use super::{Contents, Table};
use crate::error::StorageError;
use crate::memtable::rows::Rows;
use crate::memtable::schema::fit;
use crate::memtable::sorted::Key;

/// The table that a fork stands on.
#[derive(Debug, Clone)]
pub(super) struct Base {
    table: Arc<Table>,
    /// The id of the first row that is the fork's own.
    first_own: RowId,
}

impl Base {
    /// The id of the first row that is the fork's own.
    pub(super) fn first_own(&self) -> RowId {
        self.first_own
    }

    /// Whether a row is the fork's own.
    pub(super) fn is_own(&self, row: RowId) -> bool {
        row >= self.first_own
    }

    /// Whether a row of the table has not ended, told by its newest rows: those of the fork may have
    /// been copied before another commit ended it.
    pub(super) fn lives(&self, row: RowId) -> bool {
        let rows = self.table.rows();
        let found = rows.find_row(row).and_then(|ordinal| rows.locate(ordinal));
        found.is_some_and(|(chunk, slot)| chunk.life(slot).1 == CommitTs::INFINITY)
    }

    /// The earliest instant that can be read in the table.
    pub(super) fn horizon(&self) -> CommitTs {
        self.table.horizon()
    }

    /// The row of the table that has the key and is visible at `at` in the fork's `rows`.
    pub(super) fn find(
        &self,
        key: &[ArrayRef],
        at: CommitTs,
        rows: &Rows,
    ) -> Result<Option<RowOrdinal>, StorageError> {
        let (theirs, found) = self.table.find(key, at)?;
        let row = found.and_then(|ordinal| theirs.locate(ordinal));
        let ours = row.and_then(|(chunk, slot)| rows.find_version(chunk.row_id(slot)));
        Ok(ours.filter(|ordinal| rows.visible(*ordinal, at)))
    }

    pub(super) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Tells whether the fork has ended a row of the table; `rows` are the fork's.
    pub(super) fn gone<'a>(
        &'a self,
        rows: &'a Rows,
        ended: &'a dyn Fn(RowId) -> bool,
    ) -> impl Fn(RowId) -> bool + 'a {
        move |row: RowId| {
            // Rows that came later have the ids of the fork's own.
            let here = rows.find_row(row).filter(|_| row < self.first_own);
            let here = here.and_then(|ordinal| rows.locate(ordinal));
            here.is_some_and(|(chunk, slot)| ended(row) || chunk.life(slot).1 != CommitTs::INFINITY)
        }
    }

    /// Whether the table's newest rows have the key in one that the fork has not ended.
    pub(super) fn has(
        &self,
        key: &Key,
        rows: &Rows,
        ended: &dyn Fn(RowId) -> bool,
    ) -> Result<bool, StorageError> {
        let gone = self.gone(rows, ended);
        Ok(self.table.taken(std::slice::from_ref(key), &gone)?.is_some())
    }
}

impl Table {
    /// The table as of `at`, to be changed apart from this one.
    pub(crate) fn fork(self: &Arc<Self>, at: CommitTs) -> Result<Self, StorageError> {
        let Contents { rows, indexes } = self.contents();
        let rows = Arc::new(rows.fork(at)?);
        let base = Base { table: Arc::clone(self), first_own: rows.next_row() };
        self.with_contents(Contents { rows, indexes }, Some(base))
    }

    /// A copy of a fork, to be changed apart from it.
    pub(crate) fn copy(&self) -> Result<Self, StorageError> {
        let copy = self.with_contents(self.contents(), self.base.clone())?;
        copy.keys.write().clone_from(&self.keys.read());
        let sorted = self.sorted();
        let sorted = sorted.iter().map(|index| index.copy().map(Arc::new));
        let sorted = sorted.collect::<Result<Vec<_>, _>>().map_err(StorageError::apply)?;
        *copy.sorted.write() = sorted.into();
        Ok(copy)
    }

    fn with_contents(&self, contents: Contents, base: Option<Base>) -> Result<Self, StorageError> {
        let definition = self.definition();
        let table = Self::new(Collection::clone(&definition), contents.rows.chunk_bits());
        let table = table.map_err(StorageError::apply)?;
        *table.now.write() = contents;
        table.raise_horizon(self.horizon());
        Ok(Self { base, ..table })
    }

    /// Whether a row of a fork is its own.
    pub(crate) fn is_own(&self, row: RowId) -> bool {
        self.base.as_ref().is_none_or(|base| base.is_own(row))
    }

    /// The rows that a fork added and that live.
    pub(crate) fn own_rows(&self) -> Result<Option<RecordBatch>, StorageError> {
        let (mut own, definition) = (Vec::new(), self.definition());
        for chunk in self.rows().chunks() {
            if !self.is_own(chunk.row_id(chunk.len() - 1)) {
                continue;
            }
            let lives =
                |slot| self.is_own(chunk.row_id(slot)) && chunk.life(slot).1 == CommitTs::INFINITY;
            let mask: BooleanArray = (0..chunk.len()).map(|slot| Some(lives(slot))).collect();
            let batch = filter_record_batch(chunk.batch()?, &mask).map_err(StorageError::apply)?;
            if batch.num_rows() > 0 {
                own.push(fit(&batch, definition.named()).map_err(StorageError::apply)?);
            }
        }
        if own.is_empty() {
            return Ok(None);
        }
        let own = concat_batches(definition.named(), &own);
        own.and_then(|own| definition.unname(own)).map(Some).map_err(StorageError::apply)
    }
}
