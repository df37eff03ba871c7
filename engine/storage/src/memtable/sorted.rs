//! Sorted indexes in memory: the rows of a table in the order of their keys.
//!
//! Keys are `arrow::row`'s bytes, whose order is that of the columns. Rows in no segment are kept in a
//! tree. Of a segment, which never changes, the first bytes of all keys are sorted when they are first
//! asked for, with the rows they are of; what they leave open is told by the rows themselves. Nothing of
//! it is stored: an index costs 20 bytes a row in memory.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use catalog::SortedIndex as Declared;
use parking_lot::{Mutex, RwLock};
use types::{RowId, RowOrdinal};

use super::rows::Rows;
use super::schema::{Definition, fit};
use crate::error::StorageError;
use crate::segment::Segment;

/// The bytes of a key's beginning that are kept of rows in segments.
const PREFIX_BYTES: usize = 16;

/// A key's bytes, ordered as the index's columns are.
pub(super) type Key = Box<[u8]>;

/// Keys from the first one on, before the second one; everything when it is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyRange {
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

impl KeyRange {
    /// All keys that begin with `prefix`.
    fn of_prefix(prefix: &[u8]) -> Self {
        Self { from: prefix.to_vec(), to: successor(prefix) }
    }
}

/// The least key behind all that begin with `prefix`.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

/// The first bytes of a key as a number of the same order.
fn prefix_of(key: &[u8]) -> u128 {
    let mut bytes = [0; PREFIX_BYTES];
    let length = key.len().min(PREFIX_BYTES);
    bytes[..length].copy_from_slice(&key[..length]);
    u128::from_be_bytes(bytes)
}

/// The rows of a segment in the order of their keys.
#[derive(Debug)]
struct SegmentOrder {
    prefixes: Vec<u128>,
    /// Rows from the segment's first one.
    rows: Vec<u32>,
}

impl SegmentOrder {
    /// Rows whose keys may be in the range: all that are.
    fn rows(&self, range: &KeyRange) -> &[u32] {
        let first = prefix_of(&range.from);
        let from = self.prefixes.partition_point(|prefix| *prefix < first);
        let to = match &range.to {
            None => self.prefixes.len(),
            Some(end) => {
                let last = prefix_of(end);
                let cut = end.len() > PREFIX_BYTES;
                self.prefixes.partition_point(|prefix| *prefix < last || cut && *prefix == last)
            }
        };
        self.rows.get(from..to).unwrap_or_default()
    }
}

/// A segment and the order of its rows, once made.
type Ordered = (Arc<Segment>, Arc<SegmentOrder>);

/// An index of a table.
#[derive(Debug)]
pub(super) struct SortedIndex {
    declared: Declared,
    /// Types of its columns.
    types: Vec<DataType>,
    converter: RowConverter,
    young: RwLock<BTreeSet<(Key, RowId)>>,
    old: Mutex<Vec<Ordered>>,
    /// Whether it has all rows of a transaction's own table, not only those that are the transaction's.
    pub(super) whole: bool,
}

impl SortedIndex {
    /// An index of no rows.
    pub(super) fn new(declared: &Declared, definition: &Definition) -> Result<Self, ArrowError> {
        let types = types_of(declared, definition).ok_or_else(|| {
            ArrowError::InvalidArgumentError("an index of columns that are not there".to_owned())
        })?;
        let fields = types.iter().cloned().map(SortField::new).collect();
        Ok(Self {
            declared: declared.clone(),
            types,
            converter: RowConverter::new(fields)?,
            young: RwLock::default(),
            old: Mutex::default(),
            whole: false,
        })
    }

    /// Fills the index with the rows that are in no segment.
    pub(super) fn fill(&self, rows: &Rows, definition: &Definition) -> Result<(), StorageError> {
        for chunk in rows.chunks().filter(|chunk| !chunk.is_in_file()) {
            let keys = self.keys_of(chunk.batch()?, definition)?;
            let ids = (0..chunk.len()).map(|slot| chunk.row_id(slot));
            self.young.write().extend(keys.into_iter().zip(ids));
        }
        Ok(())
    }

    pub(super) fn declared(&self) -> &Declared {
        &self.declared
    }

    /// Whether the index is the one declared, on the columns as they are now.
    pub(super) fn is_still(&self, declared: &Declared, definition: &Definition) -> bool {
        self.declared.oid == declared.oid
            && types_of(declared, definition).is_some_and(|types| types == self.types)
    }

    /// The same index under what it is called now.
    pub(super) fn renamed(self: &Arc<Self>, declared: &Declared) -> Result<Arc<Self>, ArrowError> {
        if self.declared == *declared {
            return Ok(Arc::clone(self));
        }
        let copy = self.copy()?;
        Ok(Arc::new(Self { declared: declared.clone(), ..copy }))
    }

    /// A copy, to be changed apart from it.
    pub(super) fn copy(&self) -> Result<Self, ArrowError> {
        let fields = self.types.iter().cloned().map(SortField::new).collect();
        Ok(Self {
            declared: self.declared.clone(),
            types: self.types.clone(),
            converter: RowConverter::new(fields)?,
            young: RwLock::new(self.young.read().clone()),
            old: Mutex::new(self.old.lock().clone()),
            whole: self.whole,
        })
    }

    /// The keys of rows as a definition has them.
    fn convert(
        &self,
        batch: &RecordBatch,
        definition: &Definition,
    ) -> Result<Vec<Key>, ArrowError> {
        let columns = columns_of(&self.declared, definition)
            .map(|at| at.map(|at| Arc::clone(batch.column(at))))
            .collect::<Option<Vec<ArrayRef>>>()
            .ok_or_else(|| ArrowError::SchemaError("a column is gone".to_owned()))?;
        let rows = self.converter.convert_columns(&columns)?;
        Ok(rows.iter().map(|row| row.data().into()).collect())
    }

    /// The keys of stored rows.
    fn keys_of(
        &self,
        batch: &RecordBatch,
        definition: &Definition,
    ) -> Result<Vec<Key>, StorageError> {
        let fitted = fit(batch, definition.named());
        let keys = fitted.and_then(|batch| self.convert(&batch, definition));
        keys.map_err(StorageError::apply)
    }

    /// The keys of new rows; `None` where a column is NULL, which no other row is equal to.
    pub(super) fn new_keys(
        &self,
        batch: &RecordBatch,
        definition: &Definition,
    ) -> Result<NewKeys, ArrowError> {
        let all = self.convert(batch, definition)?;
        let positions: Vec<usize> = columns_of(&self.declared, definition).flatten().collect();
        let has_null = |row| positions.iter().any(|at| batch.column(*at).is_null(row));
        let nulls = (0..batch.num_rows()).map(has_null).collect();
        Ok(NewKeys { all, nulls })
    }

    /// Enters rows from `first` on.
    pub(super) fn enter(&self, keys: Vec<Key>, first: RowId) {
        self.young.write().extend(keys.into_iter().zip((first.0..).map(RowId)));
    }

    /// Forgets rows before `first`, which came to segments, and segments that are not among `rows`.
    pub(super) fn forget(&self, first: RowId, rows: &Rows) {
        self.young.write().retain(|(_, row)| *row >= first);
        let is_there =
            |segment: &Arc<Segment>| rows.segments().any(|(_, known)| Arc::ptr_eq(known, segment));
        self.old.lock().retain(|(segment, _)| is_there(segment));
    }

    /// The order of a segment's rows, made where it was not yet.
    fn order(
        &self,
        segment: &Arc<Segment>,
        definition: &Definition,
    ) -> Result<Arc<SegmentOrder>, StorageError> {
        let mut old = self.old.lock();
        if let Some((_, order)) = old.iter().find(|(known, _)| Arc::ptr_eq(known, segment)) {
            return Ok(Arc::clone(order));
        }
        let mut sorted: Vec<(u128, u32)> = Vec::with_capacity(segment.rows());
        for at in 0..segment.chunks() {
            let keys = self.keys_of(&segment.chunk(at)?, definition)?;
            let first = u32::try_from(sorted.len()).unwrap_or(u32::MAX);
            sorted.extend(keys.iter().map(|key| prefix_of(key)).zip(first..));
        }
        sorted.sort_unstable();
        let (prefixes, rows) = sorted.into_iter().unzip();
        let order = Arc::new(SegmentOrder { prefixes, rows });
        old.push((Arc::clone(segment), Arc::clone(&order)));
        Ok(order)
    }

    /// Makes sure that all segments of `rows` are in order, before a write that needs them is in the log
    /// and can no longer be refused.
    pub(super) fn check(&self, rows: &Rows, definition: &Definition) -> Result<(), StorageError> {
        rows.segments().try_for_each(|(_, segment)| self.order(segment, definition).map(drop))
    }

    /// Ordinals of rows whose keys may be in a range, ascending: all of those that are, whether they are
    /// visible or not; `None` when there are more than `most`. The rows they are among are fetched while
    /// no row can leave the index.
    pub(super) fn candidates(
        &self,
        range: &KeyRange,
        rows: impl FnOnce() -> Arc<Rows>,
        (young_only, most): (bool, usize),
        definition: &Definition,
    ) -> Result<(Arc<Rows>, Option<Vec<RowOrdinal>>), StorageError> {
        let young = self.young.read();
        let rows = rows();
        let mut found: Vec<RowOrdinal> = Vec::new();
        let from = Bound::Included((range.from.as_slice().into(), RowId(0)));
        let to = range
            .to
            .as_ref()
            .map_or(Bound::Unbounded, |to| Bound::Excluded((to.as_slice().into(), RowId(0))));
        for (_, row) in young.range((from, to)) {
            found.extend(rows.find_row(*row));
            if found.len() > most {
                return Ok((rows, None));
            }
        }
        drop(young);
        if !young_only {
            for (base, segment) in rows.segments() {
                let order = self.order(segment, definition)?;
                let here = order.rows(range);
                if found.len() + here.len() > most {
                    return Ok((Arc::clone(&rows), None));
                }
                found.extend(here.iter().map(|row| RowOrdinal(base + row)));
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok((rows, Some(found)))
    }

    /// Ordinals of rows that have the key.
    pub(super) fn equal(
        &self,
        key: &[u8],
        rows: impl FnOnce() -> Arc<Rows>,
        young_only: bool,
        definition: &Definition,
    ) -> Result<(Arc<Rows>, Vec<RowOrdinal>), StorageError> {
        let range = KeyRange::of_prefix(key);
        let (rows, found) = self.candidates(&range, rows, (young_only, usize::MAX), definition)?;
        let mut found = found.unwrap_or_default();
        if key.len() > PREFIX_BYTES {
            let mut kept = Vec::with_capacity(found.len());
            for ordinal in found {
                let Some((chunk, slot)) = rows.locate(ordinal) else { continue };
                let own = self.keys_of(&chunk.batch()?.slice(slot, 1), definition)?;
                if own.first().is_some_and(|own| **own == *key) {
                    kept.push(ordinal);
                }
            }
            found = kept;
        }
        Ok((rows, found))
    }

    /// Whether a stored row has the values, of the columns' types, in the index's columns.
    pub(super) fn has_values(
        &self,
        row: &RecordBatch,
        values: &[ArrayRef],
        definition: &Definition,
    ) -> Result<bool, StorageError> {
        let wanted = self.converter.convert_columns(values).map_err(StorageError::apply)?;
        let own = self.keys_of(row, definition)?;
        Ok(own.first().is_some_and(|own| **own == *wanted.row(0).data()))
    }

    /// The range of keys in which the first columns are `equal`, and the next one is between the bounds.
    /// Values are arrays of one row, of the columns' types.
    pub(super) fn range(
        &self,
        equal: &[ArrayRef],
        (from, to): (Bound<&ArrayRef>, Bound<&ArrayRef>),
    ) -> Result<KeyRange, ArrowError> {
        let bytes = |last: Option<&ArrayRef>| -> Result<Vec<u8>, ArrowError> {
            let columns: Vec<ArrayRef> = equal.iter().chain(last).map(Arc::clone).collect();
            if columns.is_empty() {
                return Ok(Vec::new());
            }
            let fields = self.types.iter().take(columns.len()).cloned().map(SortField::new);
            let rows = RowConverter::new(fields.collect())?.convert_columns(&columns)?;
            Ok(rows.row(0).data().to_vec())
        };
        let behind = |key: Vec<u8>| successor(&key);
        let all = bytes(None)?;
        let first = match from {
            Bound::Included(value) => bytes(Some(value))?,
            Bound::Excluded(value) => behind(bytes(Some(value))?).unwrap_or_default(),
            Bound::Unbounded => all.clone(),
        };
        let last = match to {
            Bound::Included(value) => behind(bytes(Some(value))?),
            Bound::Excluded(value) => Some(bytes(Some(value))?),
            Bound::Unbounded => successor(&all),
        };
        Ok(KeyRange { from: first, to: last })
    }

    /// Bytes that the index takes.
    pub(super) fn memory_bytes(&self) -> usize {
        let young = self.young.read();
        let key = young.first().map_or(0, |(key, _)| key.len());
        let entry = size_of::<(Key, RowId)>() + key;
        let old = self.old.lock();
        let rows: usize = old.iter().map(|(_, order)| order.rows.len()).sum();
        young.len() * entry + rows * (size_of::<u128>() + size_of::<u32>())
    }
}

/// Keys of rows that are to be entered.
#[derive(Debug)]
pub(super) struct NewKeys {
    pub(super) all: Vec<Key>,
    /// Rows of which a column is NULL.
    pub(super) nulls: Vec<bool>,
}

fn columns_of<'a>(
    declared: &'a Declared,
    definition: &'a Definition,
) -> impl Iterator<Item = Option<usize>> + 'a {
    declared.columns.iter().map(|column| definition.position_of(column.column))
}

fn types_of(declared: &Declared, definition: &Definition) -> Option<Vec<DataType>> {
    let data_type = |at: Option<usize>| Some(definition.named().field(at?).data_type().clone());
    columns_of(declared, definition).map(data_type).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        // No key of an index begins with another one, which zeros behind it could be taken for.
        #[test]
        fn a_segment_has_all_rows_of_a_range(
            keys in prop::collection::vec(prop::collection::vec(1_u8..4, 1..24), 1..60),
            from in prop::collection::vec(1_u8..4, 0..20),
            to in prop::collection::vec(1_u8..4, 1..20),
        ) {
            let mut sorted: Vec<(u128, u32)> =
                keys.iter().map(|key| prefix_of(key)).zip(0..).collect();
            sorted.sort_unstable();
            let (prefixes, rows) = sorted.into_iter().unzip();
            let order = SegmentOrder { prefixes, rows };
            for range in [
                KeyRange { from: from.clone(), to: Some(to.clone()) },
                KeyRange::of_prefix(&to),
                KeyRange { from, to: None },
            ] {
                let found = order.rows(&range);
                for (row, key) in (0..).zip(&keys) {
                    let inside = *key >= range.from && range.to.as_ref().is_none_or(|to| key < to);
                    prop_assert!(!inside || found.contains(&row), "{range:?} {key:?}");
                }
                // Those beside it share their first bytes with a bound.
                for row in found {
                    let prefix = prefix_of(&keys[*row as usize]);
                    prop_assert!(prefix >= prefix_of(&range.from));
                    prop_assert!(range.to.as_ref().is_none_or(|to| prefix <= prefix_of(to)));
                }
            }
        }

        #[test]
        fn keys_behind_a_prefix_are_behind_all_that_begin_with_it(
            prefix in prop::collection::vec(250_u8..=255, 0..6),
            rest in prop::collection::vec(any::<u8>(), 0..6),
        ) {
            let key = [prefix.clone(), rest].concat();
            let range = KeyRange::of_prefix(&prefix);
            prop_assert!(key >= range.from);
            prop_assert!(range.to.is_none_or(|to| key < to));
        }
    }
}
