//! A collection's row versions, its primary key and its vector indexes.
//!
//! Rows of a segment are found by its own lookup table of keys; the map in memory holds the keys of
//! the rows that are in no segment yet.

mod fork;
mod lookup;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use catalog::{Collection, Index};
use parking_lot::{Mutex, RwLock};
use types::limits::TABLE_ROWS_MAX;
use types::{CommitTs, IndexId, RowId, RowOrdinal};

use self::fork::Base;
use super::chunk::Chunk;
use super::index::VectorIndex;
use super::layout::{Layout, Origin, Part};
use super::rows::{Files, HISTORY, Rows};
use super::schema::{Definition, fit};
use super::sorted::{Key, SortedIndex};
use crate::command::TableWrite;
use crate::error::{Rejection, StorageError};
use crate::segment::{Segment, hash_key};

/// Finds the versions of a row that are in no segment by primary key.
#[derive(Debug, Default, Clone)]
struct Keys {
    /// Newest version of every key.
    newest: HashMap<Key, RowId>,
    /// The version of the same key before a version.
    previous: HashMap<RowId, RowId>,
}

/// Rows and the indexes over them, which know rows by ordinal: the two go together.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The row versions.
    pub rows: Arc<Rows>,
    indexes: Arc<BTreeMap<IndexId, Arc<VectorIndex>>>,
}

impl Contents {
    /// The indexes, those that are being built included.
    pub fn indexes(&self) -> impl Iterator<Item = &Arc<VectorIndex>> {
        self.indexes.values()
    }

    /// An index by id.
    #[must_use]
    pub fn index(&self, id: IndexId) -> Option<&Arc<VectorIndex>> {
        self.indexes.get(&id)
    }
}

/// A collection in memory.
#[derive(Debug)]
pub struct Table {
    definition: RwLock<Arc<Definition>>,
    converter: Option<RowConverter>,
    /// Held while `now` is replaced by a version made from itself.
    changing: Mutex<()>,
    now: RwLock<Contents>,
    keys: RwLock<Keys>,
    /// Those of the definition, in their order.
    sorted: RwLock<Arc<[Arc<SortedIndex>]>>,
    /// The earliest instant that can be read.
    horizon: AtomicI64,
    /// What a transaction's own table stands on.
    base: Option<Base>,
}

/// Proof that a write was checked against the state it will be applied to.
#[derive(Debug)]
pub(crate) struct Checked {
    ended: Vec<RowId>,
    keys: Vec<Key>,
    /// Keys in every sorted index.
    sorted: Vec<Vec<Key>>,
}

impl Table {
    /// An empty table.
    ///
    /// # Errors
    /// When a type cannot be a primary key, which `CREATE TABLE` refuses before.
    pub(crate) fn new(collection: Collection, chunk_bits: u32) -> Result<Self, ArrowError> {
        let definition = Definition::new(collection);
        let field = |at: &usize| SortField::new(definition.schema().field(*at).data_type().clone());
        let fields: Vec<SortField> = definition.primary_key.iter().map(field).collect();
        let converter = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        let sorted = definition.sorted.iter();
        let sorted = sorted.map(|index| SortedIndex::new(index, &definition).map(Arc::new));
        let sorted = sorted.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            definition: RwLock::new(Arc::new(definition)),
            converter,
            changing: Mutex::new(()),
            now: RwLock::new(Contents {
                rows: Arc::new(Rows::new(chunk_bits)),
                indexes: Arc::default(),
            }),
            keys: RwLock::default(),
            sorted: RwLock::new(sorted.into()),
            horizon: AtomicI64::new(i64::MIN),
            base: None,
        })
    }

    /// The newest definition; that of a read view is in its catalog.
    #[must_use]
    pub fn definition(&self) -> Arc<Definition> {
        Arc::clone(&self.definition.read())
    }

    /// The definition of a version.
    #[must_use]
    pub fn definition_of(&self, seen: &Collection) -> Arc<Definition> {
        let newest = self.definition();
        if newest.version == seen.version {
            return newest;
        }
        Arc::new(Definition::new(seen.clone()))
    }

    /// Takes a new version of the definition. What is the primary key stays.
    pub(crate) fn redefine(&self, definition: Arc<Definition>) -> Result<(), StorageError> {
        let sorted = self.sorted_for(&definition)?;
        *self.definition.write() = definition;
        *self.sorted.write() = sorted;
        Ok(())
    }

    /// The row versions and indexes now. A read view may use versions younger than itself:
    /// timestamps tell.
    #[must_use]
    pub fn contents(&self) -> Contents {
        self.now.read().clone()
    }

    /// The row versions now.
    #[must_use]
    pub fn rows(&self) -> Arc<Rows> {
        Arc::clone(&self.now.read().rows)
    }

    /// The id of the first row that began after `at`, of a transaction's own table that of its first own
    /// row: what [`catalog::Define::Alter`] is told when all rows before were checked.
    #[must_use]
    pub fn next_row_at(&self, at: CommitTs) -> RowId {
        let own = self.base.as_ref().map(Base::first_own);
        own.unwrap_or_else(|| self.rows().next_row_at(at))
    }

    /// The earliest instant that can be read: versions that ended at or before it may be gone.
    #[must_use]
    pub fn horizon(&self) -> CommitTs {
        let own = CommitTs(self.horizon.load(Ordering::Acquire));
        self.base.as_ref().map_or(own, |base| own.max(base.horizon()))
    }

    /// Moves the earliest instant that can be read up; reads before it are refused from now on.
    pub(crate) fn raise_horizon(&self, to: CommitTs) {
        self.horizon.fetch_max(to.0, Ordering::AcqRel);
    }

    /// The version with the given primary key that is visible at `at`, and the rows in which the
    /// ordinal names it. `key` has one row and the key's columns in key order.
    ///
    /// # Errors
    /// When the columns are not of the key's types, or the segment that has the row is damaged.
    pub fn find(
        &self,
        key: &[ArrayRef],
        at: CommitTs,
    ) -> Result<(Arc<Rows>, Option<RowOrdinal>), StorageError> {
        let Some(converter) = &self.converter else { return Ok((self.rows(), None)) };
        let converted = converter.convert_columns(key).map_err(StorageError::apply)?;
        let own = converted.row(0);
        let keys = self.keys.read();
        // Rows leave the map after they came to segments: rows fetched under its lock have them in
        // one or the other.
        let rows = self.rows();
        let mut version = keys.newest.get(own.data()).copied();
        while let Some(row) = version {
            let ordinal = rows.find_row(row);
            if ordinal.is_some_and(|ordinal| rows.visible(ordinal, at)) {
                return Ok((rows, ordinal));
            }
            version = keys.previous.get(&row).copied();
        }
        drop(keys);
        if let Some(base) = &self.base {
            let found = base.find(key, at, &rows)?;
            return Ok((rows, found));
        }
        let key = own;
        let visible = |chunk: &Chunk, slot| chunk.visible(slot, at);
        let found = self.find_in(&rows, rows.segments(), key.data(), visible, Err)?;
        Ok((rows, found))
    }

    /// The youngest version in `segments` that has the key and satisfies `wanted`. `unreadable` says
    /// what a row is whose key has the same hash and cannot be read.
    fn find_in<'a>(
        &self,
        rows: &Rows,
        segments: impl Iterator<Item = (u32, &'a Arc<Segment>)>,
        key: &[u8],
        wanted: impl Fn(&Chunk, usize) -> bool,
        unreadable: impl Fn(StorageError) -> Result<bool, StorageError>,
    ) -> Result<Option<RowOrdinal>, StorageError> {
        let hash = hash_key(key);
        let same = |chunk: &Chunk, slot| match chunk.batch() {
            Ok(batch) => Ok(self.keys_of(&batch.slice(slot, 1))?[0].as_ref() == key),
            Err(damage) => unreadable(damage),
        };
        for (base, segment) in segments {
            for row in segment.rows_of_key(hash)? {
                let ordinal = RowOrdinal(base + row);
                let Some((chunk, slot)) = rows.locate(ordinal) else { continue };
                if wanted(chunk, slot) && same(chunk, slot)? {
                    return Ok(Some(ordinal));
                }
            }
        }
        Ok(None)
    }

    /// The keys of stored rows.
    fn keys_of(&self, batch: &RecordBatch) -> Result<Vec<Key>, StorageError> {
        // The one and the other by the same definition: a position may be another in the next.
        let definition = self.definition();
        let fitted = fit(batch, definition.named());
        let keys = fitted.and_then(|batch| self.convert_keys(&batch, &definition));
        keys.map_err(StorageError::apply)
    }

    /// Hashes of the rows' keys, for a segment; `None` without a primary key.
    pub(crate) fn hashes_of(&self, batch: &RecordBatch) -> Result<Option<Vec<u64>>, StorageError> {
        let hashes = |keys: Vec<Key>| keys.iter().map(|key| hash_key(key)).collect();
        self.converter.as_ref().map(|_| self.keys_of(batch).map(hashes)).transpose()
    }

    /// The keys of rows in the columns of a definition.
    fn convert_keys(
        &self,
        batch: &RecordBatch,
        definition: &Definition,
    ) -> Result<Vec<Key>, ArrowError> {
        let Some(converter) = &self.converter else { return Ok(Vec::new()) };
        let column = |at: &usize| Arc::clone(batch.column(*at));
        let columns: Vec<ArrayRef> = definition.primary_key.iter().map(column).collect();
        let rows = converter.convert_columns(&columns)?;
        Ok(rows.iter().map(|row| row.data().into()).collect())
    }

    /// Makes sure that the lookup tables of keys can be read, before a write that needs them is in
    /// the log and can no longer be refused.
    pub(crate) fn check_lookup(&self) -> Result<(), StorageError> {
        let (rows, definition) = (self.rows(), self.definition());
        for index in self.sorted().iter().filter(|index| index.declared().unique) {
            index.check(&rows, &definition)?;
        }
        rows.files().segments.iter().try_for_each(|segment| segment.check_keys())
    }

    /// Whether `write` can be applied to the state as it is.
    pub(crate) fn check(
        &self,
        write: &TableWrite,
    ) -> Result<Result<Checked, Rejection>, StorageError> {
        let (rows, definition) = (self.rows(), self.definition());
        if write.version != definition.version {
            return Ok(Err(Rejection::Conflict));
        }
        let mut ended = Vec::with_capacity(write.ended.len());
        let mut ended_set = HashSet::with_capacity(write.ended.len());
        for row in &write.ended {
            let alive = rows
                .find_row(*row)
                .and_then(|ordinal| rows.locate(ordinal))
                .is_some_and(|(chunk, slot)| chunk.life(slot).1 == CommitTs::INFINITY);
            let stays = self.base.as_ref().is_none_or(|base| base.is_own(*row) || base.lives(*row));
            if !alive || !stays || !ended_set.insert(*row) {
                return Ok(Err(Rejection::Conflict));
            }
            ended.push(*row);
        }
        let Some(batch) = &write.begun else {
            return Ok(Ok(Checked { ended, keys: Vec::new(), sorted: Vec::new() }));
        };
        if u64::from(rows.live()) + batch.num_rows() as u64 > TABLE_ROWS_MAX {
            return Ok(Err(Rejection::TableFull(TABLE_ROWS_MAX)));
        }
        let types = |schema: &SchemaRef| -> Vec<DataType> {
            schema.fields().iter().map(|field| field.data_type().clone()).collect()
        };
        if types(&batch.schema()) != types(definition.schema()) {
            return Ok(Err(Rejection::Malformed("rows are not of the table's types")));
        }
        let Ok(converted) = self.convert_keys(batch, &definition) else {
            return Ok(Err(Rejection::Malformed("no key of the rows")));
        };
        if let Some(row) = self.taken(&converted, &|row| ended_set.contains(&row))? {
            let constraint = definition.primary_key_name();
            return Ok(Err(Rejection::DuplicateKey { constraint, row }));
        }
        let ends = |row: RowId| ended_set.contains(&row);
        match self.check_sorted(batch, &definition, &ends)? {
            Ok(sorted) => Ok(Ok(Checked { ended, keys: converted, sorted })),
            Err(rejection) => Ok(Err(rejection)),
        }
    }

    /// The first of new rows whose key another row has that will live on, `ended` ones not counted.
    fn taken(
        &self,
        converted: &[Key],
        ended: &dyn Fn(RowId) -> bool,
    ) -> Result<Option<usize>, StorageError> {
        let keys = self.keys.read();
        // Fetched under the lock, as in `find`: older ones may lack the segment that a key went to.
        let rows = self.rows();
        let mut seen = HashSet::with_capacity(converted.len());
        for (row, key) in converted.iter().enumerate() {
            let lives_on = |chunk: &Chunk, slot: usize| {
                chunk.life(slot).1 == CommitTs::INFINITY && !ended(chunk.row_id(slot))
            };
            let newest = keys.newest.get(key).map(|row| {
                let found = rows.find_row(*row).and_then(|ordinal| rows.locate(ordinal));
                found.is_some_and(|(chunk, slot)| lives_on(chunk, slot))
            });
            let taken = match (newest, &self.base) {
                (Some(true), _) => true,
                (_, Some(base)) => base.has(key, &rows, ended)?,
                // Older versions have ended.
                (Some(false), None) => false,
                // What is decided here must not depend on damage: an equal hash is an equal key but
                // for one case in 2^64.
                (None, None) => {
                    let young = rows.segments().filter(|(base, _)| *base < HISTORY);
                    self.find_in(&rows, young, key, lives_on, |_| Ok(true))?.is_some()
                }
            };
            if taken || !seen.insert(key) {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Applies a write that was checked against this very state.
    pub(crate) fn apply(
        &self,
        write: &TableWrite,
        checked: Checked,
        at: CommitTs,
    ) -> Result<(), StorageError> {
        let _guard = self.changing.lock();
        let mut rows = Rows::clone(&self.rows());
        if self.base.is_some() {
            rows.end_own(&checked.ended, at);
        } else {
            checked.ended.into_iter().for_each(|row| rows.end(row, at));
        }
        if let Some(batch) = &write.begun {
            let (first, definition) = (rows.next_row(), self.definition());
            let batch = definition.name(batch).map_err(StorageError::apply)?;
            rows = rows.append(&batch, at, definition.stored())?;
            self.enter_keys(checked.keys, first);
            for (index, keys) in self.sorted().iter().zip(checked.sorted) {
                index.enter(keys, first);
            }
        }
        self.now.write().rows = Arc::new(rows);
        Ok(())
    }

    fn enter_keys(&self, converted: Vec<Key>, first: RowId) {
        let mut keys = self.keys.write();
        for (row, key) in (first.0..).map(RowId).zip(converted) {
            if let Some(previous) = keys.newest.insert(key, row) {
                keys.previous.insert(row, previous);
            }
        }
    }

    /// Puts back rows that a manifest names.
    pub(crate) fn restore(
        &self,
        files: Files,
        full: Vec<Arc<Chunk>>,
        tail: Option<Arc<Chunk>>,
        next_row: RowId,
    ) -> Result<(), StorageError> {
        if let Some(tail) = &tail {
            self.enter_keys(self.keys_of(tail.batch()?)?, tail.row_id(0));
        }
        let chunk_bits = self.rows().chunk_bits();
        let rows = Rows::restored(chunk_bits, files, full, tail, next_row);
        let definition = self.definition();
        self.sorted().iter().try_for_each(|index| index.fill(&rows, &definition))?;
        self.now.write().rows = Arc::new(rows);
        Ok(())
    }

    /// Reads rows from the segments of `layout` from now on. `indexes` know the new ordinals; one
    /// that is not among them is built again. Rows that ended since the layout was made stay
    /// ended.
    pub(crate) fn relocate(&self, layout: Layout, indexes: Option<Vec<Arc<VectorIndex>>>) {
        let _guard = self.changing.lock();
        let now = self.contents();
        let old = &now.rows;
        let chunks = |part: &Part, from: &[Arc<Chunk>]| -> Vec<Arc<Chunk>> {
            let segment = &part.segment;
            match &part.origin {
                Origin::Same(range) => from[range.clone()].to_vec(),
                Origin::Chunks(range) => {
                    let moved =
                        |(at, chunk): (usize, &Arc<Chunk>)| Arc::new(chunk.moved_to(segment, at));
                    from[range.clone()].iter().enumerate().map(moved).collect()
                }
                Origin::Rows(ordinals) => {
                    let chunk = |at| Arc::new(Chunk::in_segment(segment, at));
                    let chunks: Vec<_> = (0..segment.chunks()).map(chunk).collect();
                    for (place, ordinal) in ordinals.iter().enumerate() {
                        let Some((chunk, slot)) = old.locate(RowOrdinal(*ordinal)) else {
                            continue;
                        };
                        let end = chunk.life(slot).1;
                        if end != CommitTs::INFINITY {
                            chunks[place / old.chunk_rows()].end(place % old.chunk_rows(), end);
                        }
                    }
                    chunks
                }
            }
        };
        let full = layout.young.iter().flat_map(|part| chunks(part, old.full())).collect();
        let history = layout.history.iter().flat_map(|part| chunks(part, old.history()));
        let history_chunks = history.collect();
        let covered = layout.covered;
        let young = old.full().get(covered).map(|chunk| chunk.row_id(0));
        let segments = |parts: Vec<Part>| parts.into_iter().map(|part| part.segment).collect();
        let files = Files {
            segments: segments(layout.young),
            history: segments(layout.history),
            history_chunks,
        };
        let rows = Arc::new(old.relocated(files, full, covered));
        let first = young.unwrap_or_else(|| rows.first_in_tail());
        let indexes = match indexes {
            None => Arc::clone(&now.indexes),
            Some(known) => {
                let index = |(id, old): (&IndexId, &Arc<VectorIndex>)| {
                    let known = known.iter().find(|index| index.definition().id == *id);
                    let again =
                        || Arc::new(VectorIndex::new(old.definition().clone(), &self.definition()));
                    (*id, known.map_or_else(again, Arc::clone))
                };
                Arc::new(now.indexes.iter().map(index).collect())
            }
        };
        *self.now.write() = Contents { rows, indexes };
        self.forget_keys(first);
    }

    /// Forgets the keys of rows before `first`.
    fn forget_keys(&self, first: RowId) {
        let mut keys = self.keys.write();
        keys.newest.retain(|_, row| *row >= first);
        keys.previous.retain(|row, previous| *row >= first && *previous >= first);
        let left = 2 * keys.newest.len();
        keys.newest.shrink_to(left);
        keys.previous.shrink_to(left);
        let rows = self.rows();
        self.sorted().iter().for_each(|index| index.forget(first, &rows));
    }

    /// Forgets all rows; the table was dropped before the horizon.
    pub(crate) fn clear(&self) {
        let _guard = self.changing.lock();
        let rows = Arc::new(self.rows().emptied());
        let first = rows.next_row();
        *self.now.write() = Contents { rows, indexes: Arc::default() };
        self.forget_keys(first);
    }

    /// Bytes of rows in no segment, of their keys, of the ends of rows, and of graphs and codes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let now = self.contents();
        let rows: usize = now.rows.chunks().map(|chunk| chunk.memory_bytes()).sum();
        let graphs: usize = now.indexes().map(|index| index.memory_bytes()).sum();
        let keys = self.keys.read();
        // A key's own bytes are as many in every row, or nearly so.
        let key = keys.newest.keys().next().map_or(0, |key| key.len());
        let newest = keys.newest.capacity() * (size_of::<(Key, RowId)>() + 1);
        let previous = keys.previous.capacity() * (size_of::<(RowId, RowId)>() + 1);
        let sorted: usize = self.sorted().iter().map(|index| index.memory_bytes()).sum();
        rows + graphs + sorted + newest + previous + keys.newest.len() * key
    }

    /// Checks every byte of the table's segments.
    ///
    /// # Errors
    /// With the first block that is damaged.
    pub(crate) fn check_segments(&self) -> Result<(), StorageError> {
        let rows = self.rows();
        let files = rows.files();
        files.segments.iter().chain(&files.history).try_for_each(|segment| segment.check())
    }

    pub(crate) fn add_index(&self, definition: &Index) {
        let index = VectorIndex::new(definition.clone(), &self.definition());
        self.put_index(Arc::new(index));
    }

    pub(crate) fn put_index(&self, index: Arc<VectorIndex>) {
        let _guard = self.changing.lock();
        let mut indexes = BTreeMap::clone(&self.now.read().indexes);
        indexes.insert(index.definition().id, index);
        self.now.write().indexes = Arc::new(indexes);
    }

    pub(crate) fn drop_index(&self, definition: &Index) {
        let _guard = self.changing.lock();
        let mut indexes = BTreeMap::clone(&self.now.read().indexes);
        indexes.remove(&definition.id);
        self.now.write().indexes = Arc::new(indexes);
    }
}
