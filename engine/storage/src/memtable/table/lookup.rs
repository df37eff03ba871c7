//! What the sorted indexes of a table are for: keys that may be there once, and rows by key.
//!
//! A transaction's own table has in its indexes the rows that are its own; the others are asked of the
//! table it stands on. An index that came in the transaction has all of them.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use types::{CommitTs, RowId, RowOrdinal};

use super::{Key, Table};
use crate::error::{Rejection, StorageError};
use crate::memtable::chunk::Chunk;
use crate::memtable::rows::{HISTORY, Rows};
use crate::memtable::schema::Definition;
use crate::memtable::sorted::{NewKeys, SortedIndex};

/// Rows by ordinal, and what they are among; `None` when there are too many.
type Found = (Arc<Rows>, Option<Vec<RowOrdinal>>);

impl Table {
    pub(super) fn sorted(&self) -> Arc<[Arc<SortedIndex>]> {
        Arc::clone(&self.sorted.read())
    }

    pub(super) fn sorted_index(&self, oid: u32) -> Option<Arc<SortedIndex>> {
        self.sorted().iter().find(|index| index.declared().oid == oid).map(Arc::clone)
    }

    /// The indexes of a definition: those that are there stay.
    pub(super) fn sorted_for(
        &self,
        definition: &Definition,
    ) -> Result<Arc<[Arc<SortedIndex>]>, StorageError> {
        let before = self.sorted();
        let index = |declared| -> Result<Arc<SortedIndex>, StorageError> {
            if let Some(known) = before.iter().find(|index| index.is_still(declared, definition)) {
                return known.renamed(declared).map_err(StorageError::apply);
            }
            let mut made = SortedIndex::new(declared, definition).map_err(StorageError::apply)?;
            made.whole = self.base.is_some();
            made.fill(&self.rows(), definition)?;
            Ok(Arc::new(made))
        };
        definition.sorted.iter().map(index).collect()
    }

    /// The keys of new rows in every sorted index, or that one of them is taken.
    pub(super) fn check_sorted(
        &self,
        batch: &RecordBatch,
        definition: &Definition,
        ended: &dyn Fn(RowId) -> bool,
    ) -> Result<Result<Vec<Vec<Key>>, Rejection>, StorageError> {
        let mut all = Vec::new();
        for index in self.sorted().iter() {
            let Ok(keys) = index.new_keys(batch, definition) else {
                return Ok(Err(Rejection::Malformed("no key of the rows")));
            };
            if index.declared().unique
                && let Some(row) = self.taken_in(index, &keys, definition, ended)?
            {
                let constraint = index.declared().name.clone();
                return Ok(Err(Rejection::DuplicateKey { constraint, row }));
            }
            all.push(keys.all);
        }
        Ok(Ok(all))
    }

    /// The first of new rows whose key another row has that will live on.
    fn taken_in(
        &self,
        index: &SortedIndex,
        keys: &NewKeys,
        definition: &Definition,
        ended: &dyn Fn(RowId) -> bool,
    ) -> Result<Option<usize>, StorageError> {
        let mut seen = HashSet::with_capacity(keys.all.len());
        for (row, (key, has_null)) in keys.all.iter().zip(&keys.nulls).enumerate() {
            if *has_null {
                continue;
            }
            if !seen.insert(key) || self.has_living(index, key, definition, ended)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Whether a row that has the key will live on, `ended` ones not counted.
    fn has_living(
        &self,
        index: &SortedIndex,
        key: &Key,
        definition: &Definition,
        ended: &dyn Fn(RowId) -> bool,
    ) -> Result<bool, StorageError> {
        let young_only = self.base.is_some() && !index.whole;
        let (rows, found) = index.equal(key, || self.rows(), young_only, definition)?;
        let lives_on = |(chunk, slot): (&Arc<Chunk>, usize)| {
            chunk.life(slot).1 == CommitTs::INFINITY && !ended(chunk.row_id(slot))
        };
        let mut young = found.into_iter().filter(|ordinal| ordinal.0 < HISTORY);
        if young.any(|ordinal| rows.locate(ordinal).is_some_and(lives_on)) {
            return Ok(true);
        }
        let Some(base) = self.base.as_ref().filter(|_| young_only) else { return Ok(false) };
        let gone = base.gone(&rows, ended);
        let table = base.table();
        // An index that went meanwhile, or is another: the commit will not come to pass.
        let Some(theirs) = table.sorted_index(index.declared().oid) else { return Ok(false) };
        table.has_living(&theirs, key, &table.definition(), &gone)
    }

    /// The row with the given values in the columns of a unique index that is visible at `at`, and the
    /// rows in which the ordinal names it. `key` has one row and the index's columns in order; nothing is
    /// found where one of them is NULL.
    ///
    /// # Errors
    /// When the columns are not of the index's types, or a segment is damaged.
    pub fn find_unique(
        &self,
        oid: u32,
        key: &[ArrayRef],
        at: CommitTs,
    ) -> Result<(Arc<Rows>, Option<RowOrdinal>), StorageError> {
        let definition = self.definition();
        if definition.primary_key_oid == oid {
            return self.find(key, at);
        }
        if key.iter().any(|column| column.is_null(0)) {
            return Ok((self.rows(), None));
        }
        let unbounded = (Bound::Unbounded, Bound::Unbounded);
        let found = self.find_range((oid, key), unbounded, usize::MAX, at)?;
        let (rows, ordinals) = found.unwrap_or_else(|| (self.rows(), None));
        let Some(index) = self.sorted_index(oid) else { return Ok((rows, None)) };
        let same = |ordinal: &RowOrdinal| {
            let Some((chunk, slot)) = rows.locate(*ordinal) else { return Ok(false) };
            index.has_values(&chunk.batch()?.slice(slot, 1), key, &definition)
        };
        for ordinal in ordinals.unwrap_or_default() {
            if same(&ordinal)? {
                return Ok((rows, Some(ordinal)));
            }
        }
        Ok((rows, None))
    }

    /// Rows visible at `at` whose first columns of an index may be `equal` and whose next one may be
    /// between the bounds: all of those, ascending, and perhaps others, or `None` in their place when
    /// there are more than `most`. `None` when the table has no such index. Values are arrays of one row,
    /// of the columns' types.
    ///
    /// # Errors
    /// When values are not of the columns' types, or a segment is damaged.
    pub fn find_range(
        &self,
        (oid, equal): (u32, &[ArrayRef]),
        bounds: (Bound<&ArrayRef>, Bound<&ArrayRef>),
        most: usize,
        at: CommitTs,
    ) -> Result<Option<Found>, StorageError> {
        let Some(index) = self.sorted_index(oid) else { return Ok(None) };
        let definition = self.definition();
        let range = index.range(equal, bounds).map_err(StorageError::apply)?;
        let young_only = self.base.is_some() && !index.whole;
        let limits = (young_only, most);
        let (rows, found) = index.candidates(&range, || self.rows(), limits, &definition)?;
        let Some(mut found) = found else { return Ok(Some((rows, None))) };
        if let Some(base) = self.base.as_ref().filter(|_| young_only) {
            let theirs = base.table().find_range((oid, equal), bounds, most, at)?;
            let Some((their_rows, theirs)) = theirs else { return Ok(None) };
            let Some(theirs) = theirs else { return Ok(Some((rows, None))) };
            let row_ids = theirs.into_iter().filter_map(|ordinal| their_rows.locate(ordinal));
            let ours = row_ids.filter_map(|(chunk, slot)| rows.find_version(chunk.row_id(slot)));
            found.extend(ours);
            found.sort_unstable();
            found.dedup();
        }
        found.retain(|ordinal| rows.visible(*ordinal, at));
        Ok(Some((rows, Some(found))))
    }
}
