//! A collection's row versions, its primary key and its vector indexes.
//!
//! Rows of a segment are found by its own lookup table of keys; the map in memory holds the keys of
//! the rows that are in no segment yet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use catalog::{Collection, Index};
use parking_lot::{Mutex, RwLock};
use types::limits::TABLE_ROWS_MAX;
use types::{CommitTs, IndexId, RowId, RowOrdinal};

use super::chunk::Chunk;
use super::index::VectorIndex;
use super::rows::Rows;
use super::schema::arrow_schema;
use crate::command::TableWrite;
use crate::error::{Rejection, StorageError};
use crate::segment::{Segment, hash_key};

/// A primary key's bytes, ordered as the key's columns are (`arrow::row`).
type Key = Box<[u8]>;

/// Finds the versions of a row by primary key.
#[derive(Debug)]
struct Keys {
    /// Newest version in memory of every key.
    newest: HashMap<Key, u32>,
    /// The version in memory of the same key before a version.
    previous: HashMap<u32, u32>,
    /// Older rows, by ordinal.
    segments: Arc<[Arc<Segment>]>,
}

/// A collection in memory.
#[derive(Debug)]
pub struct Table {
    collection: Collection,
    schema: SchemaRef,
    converter: Option<RowConverter>,
    /// Held while `rows` is replaced by a version made from itself.
    changing: Mutex<()>,
    rows: RwLock<Arc<Rows>>,
    keys: RwLock<Keys>,
    indexes: RwLock<BTreeMap<IndexId, Arc<VectorIndex>>>,
}

/// Proof that a write was checked against the state it will be applied to.
#[derive(Debug)]
pub(crate) struct Checked {
    ended: Vec<RowOrdinal>,
    keys: Vec<Key>,
}

impl Table {
    /// An empty table.
    ///
    /// # Errors
    /// When a type cannot be a primary key, which `CREATE TABLE` refuses before.
    pub(crate) fn new(collection: Collection, chunk_bits: u32) -> Result<Self, ArrowError> {
        let schema = arrow_schema(&collection);
        let field = |at: &usize| SortField::new(schema.field(*at).data_type().clone());
        let fields: Vec<SortField> = collection.primary_key.iter().map(field).collect();
        let converter = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        Ok(Self {
            collection,
            schema,
            converter,
            changing: Mutex::new(()),
            rows: RwLock::new(Arc::new(Rows::new(chunk_bits))),
            keys: RwLock::new(Keys {
                newest: HashMap::new(),
                previous: HashMap::new(),
                segments: Arc::new([]),
            }),
            indexes: RwLock::default(),
        })
    }

    /// The definition.
    #[must_use]
    pub fn collection(&self) -> &Collection {
        &self.collection
    }

    /// The columns in Arrow's terms.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The row versions now. A read view may use versions younger than itself: timestamps tell.
    #[must_use]
    pub fn rows(&self) -> Arc<Rows> {
        Arc::clone(&self.rows.read())
    }

    /// The indexes now, those that are being built included.
    #[must_use]
    pub fn indexes(&self) -> Vec<Arc<VectorIndex>> {
        self.indexes.read().values().map(Arc::clone).collect()
    }

    /// An index by id.
    #[must_use]
    pub fn index(&self, id: IndexId) -> Option<Arc<VectorIndex>> {
        self.indexes.read().get(&id).map(Arc::clone)
    }

    /// The id of a row version. Ids are given in ordinal order and nothing is compacted yet, so the
    /// two coincide.
    #[must_use]
    pub fn row_id(ordinal: RowOrdinal) -> RowId {
        RowId(u64::from(ordinal.0))
    }

    fn ordinal(row: RowId) -> Option<RowOrdinal> {
        u32::try_from(row.0).ok().map(RowOrdinal)
    }

    /// The version with the given primary key that is visible at `at`. `key` has one row and the
    /// key's columns in key order.
    ///
    /// # Errors
    /// When the columns are not of the key's types, or the segment that has the row is damaged.
    pub fn find(&self, key: &[ArrayRef], at: CommitTs) -> Result<Option<RowOrdinal>, StorageError> {
        let Some(converter) = &self.converter else { return Ok(None) };
        let converted = converter.convert_columns(key).map_err(StorageError::apply)?;
        let key = converted.row(0);
        let keys = self.keys.read();
        let rows = self.rows();
        let mut version = keys.newest.get(key.data()).copied();
        while let Some(ordinal) = version {
            if rows.visible(RowOrdinal(ordinal), at) {
                return Ok(Some(RowOrdinal(ordinal)));
            }
            version = keys.previous.get(&ordinal).copied();
        }
        let segments = Arc::clone(&keys.segments);
        drop(keys);
        let visible = |chunk: &Chunk, slot| chunk.visible(slot, at);
        self.find_in(&segments, &rows, key.data(), visible, Err)
    }

    /// The youngest version in `segments` that has the key and satisfies `wanted`. `unreadable` says
    /// what a row is whose key has the same hash and cannot be read.
    fn find_in(
        &self,
        segments: &[Arc<Segment>],
        rows: &Rows,
        key: &[u8],
        wanted: impl Fn(&Chunk, usize) -> bool,
        unreadable: impl Fn(StorageError) -> Result<bool, StorageError>,
    ) -> Result<Option<RowOrdinal>, StorageError> {
        let hash = hash_key(key);
        let same = |chunk: &Chunk, slot| match chunk.batch() {
            Ok(batch) => Ok(self.keys_of(&batch.slice(slot, 1))?[0].as_ref() == key),
            Err(damage) => unreadable(damage),
        };
        for segment in segments.iter().rev() {
            let base = segment.identity().base.0;
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

    fn keys_of(&self, batch: &RecordBatch) -> Result<Vec<Key>, StorageError> {
        self.convert_keys(batch).map_err(StorageError::apply)
    }

    /// Hashes of the rows' keys, for a segment; `None` without a primary key.
    pub(crate) fn hashes_of(&self, batch: &RecordBatch) -> Result<Option<Vec<u64>>, StorageError> {
        let hashes = |keys: Vec<Key>| keys.iter().map(|key| hash_key(key)).collect();
        self.converter.as_ref().map(|_| self.keys_of(batch).map(hashes)).transpose()
    }

    fn convert_keys(&self, batch: &RecordBatch) -> Result<Vec<Key>, ArrowError> {
        let Some(converter) = &self.converter else { return Ok(Vec::new()) };
        let column = |at: &usize| Arc::clone(batch.column(*at));
        let columns: Vec<ArrayRef> = self.collection.primary_key.iter().map(column).collect();
        let rows = converter.convert_columns(&columns)?;
        Ok(rows.iter().map(|row| row.data().into()).collect())
    }

    /// Makes sure that the lookup tables of keys can be read, before a write that needs them is in
    /// the log and can no longer be refused.
    pub(crate) fn check_lookup(&self) -> Result<(), StorageError> {
        self.segments().iter().try_for_each(|segment| segment.check_keys())
    }

    /// Whether `write` can be applied to the state as it is.
    pub(crate) fn check(
        &self,
        write: &TableWrite,
    ) -> Result<Result<Checked, Rejection>, StorageError> {
        let rows = self.rows();
        let mut ended = Vec::with_capacity(write.ended.len());
        let mut ended_set = HashSet::with_capacity(write.ended.len());
        for row in &write.ended {
            let Some(ordinal) = Self::ordinal(*row) else { return Ok(Err(Rejection::Conflict)) };
            let alive = rows
                .locate(ordinal)
                .is_some_and(|(chunk, slot)| chunk.life(slot).1 == CommitTs::INFINITY);
            if !alive || !ended_set.insert(ordinal.0) {
                return Ok(Err(Rejection::Conflict));
            }
            ended.push(ordinal);
        }
        let Some(batch) = &write.begun else {
            return Ok(Ok(Checked { ended, keys: Vec::new() }));
        };
        if u64::from(rows.len()) + batch.num_rows() as u64 > TABLE_ROWS_MAX {
            return Ok(Err(Rejection::TableFull(TABLE_ROWS_MAX)));
        }
        let types = |schema: &SchemaRef| -> Vec<DataType> {
            schema.fields().iter().map(|field| field.data_type().clone()).collect()
        };
        if types(&batch.schema()) != types(&self.schema) {
            return Ok(Err(Rejection::Malformed("rows are not of the table's types")));
        }
        let Ok(converted) = self.convert_keys(batch) else {
            return Ok(Err(Rejection::Malformed("no key of the rows")));
        };
        if let Some(row) = self.taken(&converted, &ended_set, &rows)? {
            let constraint = self.collection.primary_key_name();
            return Ok(Err(Rejection::DuplicateKey { constraint, row }));
        }
        Ok(Ok(Checked { ended, keys: converted }))
    }

    /// The first of new rows whose key another row has that will live on.
    fn taken(
        &self,
        converted: &[Key],
        ended: &HashSet<u32>,
        rows: &Rows,
    ) -> Result<Option<usize>, StorageError> {
        let keys = self.keys.read();
        let mut seen = HashSet::with_capacity(converted.len());
        for (row, key) in converted.iter().enumerate() {
            let lives_on = |chunk: &Chunk, slot: usize| {
                let ordinal = chunk.base() + u32::try_from(slot).unwrap_or(u32::MAX);
                chunk.life(slot).1 == CommitTs::INFINITY && !ended.contains(&ordinal)
            };
            let taken = match keys.newest.get(key) {
                // Older versions have ended.
                Some(ordinal) => rows
                    .locate(RowOrdinal(*ordinal))
                    .is_some_and(|(chunk, slot)| lives_on(chunk, slot)),
                // What is decided here must not depend on damage: an equal hash is an equal key but
                // for one case in 2^64.
                None => {
                    let found = self.find_in(&keys.segments, rows, key, lives_on, |_| Ok(true));
                    found?.is_some()
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
        let mut rows = Rows::clone(&self.rows.read());
        for ordinal in checked.ended {
            rows.end(ordinal, at);
        }
        if let Some(batch) = &write.begun {
            let first = rows.len();
            rows = rows.append(batch, at)?;
            self.enter_keys(checked.keys, first);
        }
        *self.rows.write() = Arc::new(rows);
        Ok(())
    }

    fn enter_keys(&self, converted: Vec<Key>, first: u32) {
        let mut keys = self.keys.write();
        for (ordinal, key) in (first..).zip(converted) {
            if let Some(previous) = keys.newest.insert(key, ordinal) {
                keys.previous.insert(ordinal, previous);
            }
        }
    }

    /// Puts back rows that a manifest names: those of `segments`, which hold full chunks alone, with
    /// their ends, then younger ones in memory.
    pub(crate) fn restore(
        &self,
        segments: Vec<Arc<Segment>>,
        chunks: Vec<Chunk>,
    ) -> Result<(), StorageError> {
        let in_segments = segments.iter().map(|segment| segment.rows()).sum::<usize>();
        let mut rows = Rows::clone(&self.rows.read());
        for chunk in chunks {
            if chunk.base() as usize >= in_segments {
                self.enter_keys(self.keys_of(chunk.batch()?)?, chunk.base());
            }
            rows.restore(chunk)?;
        }
        self.keys.write().segments = segments.into();
        *self.rows.write() = Arc::new(rows);
        Ok(())
    }

    /// Reads rows from `segments`, which hold full chunks from the first ordinal on, in place of
    /// memory or of older segments with the same rows.
    pub(crate) fn move_to(&self, segments: Vec<Arc<Segment>>) {
        let _guard = self.changing.lock();
        let mut rows = Rows::clone(&self.rows.read());
        let old = self.segments();
        let (mut moved, mut next) = (Vec::new(), 0);
        for segment in &segments {
            let chunks = segment.rows() / rows.chunk_rows();
            if !old.iter().any(|old| Arc::ptr_eq(old, segment)) {
                let chunk = |at: usize| rows.full()[next + at].moved_to(segment, at, &self.schema);
                moved.extend((0..chunks).map(|at| (next + at, chunk(at))));
            }
            next += chunks;
        }
        let first = u32::try_from(next * rows.chunk_rows()).unwrap_or(u32::MAX);
        rows.replace(moved.into_iter());
        *self.rows.write() = Arc::new(rows);
        let mut keys = self.keys.write();
        keys.segments = segments.into();
        keys.newest.retain(|_, ordinal| *ordinal >= first);
        keys.previous.retain(|ordinal, previous| *ordinal >= first && *previous >= first);
        let left = 2 * keys.newest.len();
        keys.newest.shrink_to(left);
        keys.previous.shrink_to(left);
    }

    /// The segments that hold the oldest rows, by ordinal.
    pub(crate) fn segments(&self) -> Arc<[Arc<Segment>]> {
        Arc::clone(&self.keys.read().segments)
    }

    /// Checks every byte of the table's segments.
    ///
    /// # Errors
    /// With the first block that is damaged.
    pub fn check_segments(&self) -> Result<(), StorageError> {
        self.segments().iter().try_for_each(|segment| segment.check())
    }

    pub(crate) fn add_index(&self, index: Arc<VectorIndex>) {
        self.indexes.write().insert(index.definition().id, index);
    }

    pub(crate) fn drop_index(&self, definition: &Index) {
        self.indexes.write().remove(&definition.id);
    }
}
