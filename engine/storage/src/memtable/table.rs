//! A collection's row versions, its primary key and its vector indexes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use catalog::{Collection, Index};
use parking_lot::RwLock;
use types::limits::TABLE_ROWS_MAX;
use types::{CommitTs, IndexId, RowId, RowOrdinal};

use super::index::VectorIndex;
use super::rows::Rows;
use super::schema::arrow_schema;
use crate::command::TableWrite;
use crate::error::Rejection;

/// A primary key's bytes, ordered as the key's columns are (`arrow::row`).
type Key = Box<[u8]>;

/// Finds the versions of a row by primary key.
#[derive(Debug, Default)]
struct Keys {
    /// Newest version of every key that was ever inserted.
    newest: HashMap<Key, u32>,
    /// The version of the same key before a version.
    previous: HashMap<u32, u32>,
}

/// A collection in memory.
#[derive(Debug)]
pub struct Table {
    collection: Collection,
    schema: SchemaRef,
    converter: Option<RowConverter>,
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
    pub(crate) fn new(collection: Collection) -> Result<Self, ArrowError> {
        let schema = arrow_schema(&collection);
        let field = |at: &usize| SortField::new(schema.field(*at).data_type().clone());
        let fields: Vec<SortField> = collection.primary_key.iter().map(field).collect();
        let converter = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        Ok(Self {
            collection,
            schema,
            converter,
            rows: RwLock::default(),
            keys: RwLock::default(),
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
    /// When the columns are not of the key's types.
    pub fn find(&self, key: &[ArrayRef], at: CommitTs) -> Result<Option<RowOrdinal>, ArrowError> {
        let Some(converter) = &self.converter else { return Ok(None) };
        let converted = converter.convert_columns(key)?;
        let keys = self.keys.read();
        let rows = self.rows();
        let mut version = keys.newest.get(converted.row(0).data()).copied();
        while let Some(ordinal) = version {
            if rows.visible(RowOrdinal(ordinal), at) {
                return Ok(Some(RowOrdinal(ordinal)));
            }
            version = keys.previous.get(&ordinal).copied();
        }
        Ok(None)
    }

    fn convert_keys(&self, batch: &RecordBatch) -> Result<Vec<Key>, ArrowError> {
        let Some(converter) = &self.converter else { return Ok(Vec::new()) };
        let column = |at: &usize| Arc::clone(batch.column(*at));
        let columns: Vec<ArrayRef> = self.collection.primary_key.iter().map(column).collect();
        let rows = converter.convert_columns(&columns)?;
        Ok(rows.iter().map(|row| row.data().into()).collect())
    }

    /// Whether `write` can be applied to the state as it is.
    pub(crate) fn check(&self, write: &TableWrite) -> Result<Checked, Rejection> {
        let rows = self.rows();
        let mut ended = Vec::with_capacity(write.ended.len());
        let mut ended_set = HashSet::with_capacity(write.ended.len());
        for row in &write.ended {
            let ordinal = Self::ordinal(*row).ok_or(Rejection::Conflict)?;
            let alive = rows
                .locate(ordinal)
                .is_some_and(|(chunk, slot)| chunk.life(slot).1 == CommitTs::INFINITY);
            if !alive || !ended_set.insert(ordinal.0) {
                return Err(Rejection::Conflict);
            }
            ended.push(ordinal);
        }
        let Some(batch) = &write.begun else { return Ok(Checked { ended, keys: Vec::new() }) };
        if u64::from(rows.len()) + batch.num_rows() as u64 > TABLE_ROWS_MAX {
            return Err(Rejection::TableFull(TABLE_ROWS_MAX));
        }
        let types = |schema: &SchemaRef| -> Vec<DataType> {
            schema.fields().iter().map(|field| field.data_type().clone()).collect()
        };
        if types(&batch.schema()) != types(&self.schema) {
            return Err(Rejection::Malformed("rows are not of the table's types"));
        }
        let converted = self.convert_keys(batch);
        let converted = converted.map_err(|_| Rejection::Malformed("no key of the rows"))?;
        self.check_unique(&converted, &ended_set, &rows)?;
        Ok(Checked { ended, keys: converted })
    }

    fn check_unique(
        &self,
        converted: &[Key],
        ended: &HashSet<u32>,
        rows: &Rows,
    ) -> Result<(), Rejection> {
        let keys = self.keys.read();
        let mut seen = HashSet::with_capacity(converted.len());
        for (row, key) in converted.iter().enumerate() {
            let taken = keys.newest.get(key).is_some_and(|ordinal| {
                let life = rows.locate(RowOrdinal(*ordinal)).map(|(chunk, slot)| chunk.life(slot));
                !ended.contains(ordinal) && life.is_some_and(|life| life.1 == CommitTs::INFINITY)
            });
            if taken || !seen.insert(key) {
                let constraint = self.collection.primary_key_name();
                return Err(Rejection::DuplicateKey { constraint, row });
            }
        }
        Ok(())
    }

    /// Applies a write that was checked against this very state.
    pub(crate) fn apply(
        &self,
        write: &TableWrite,
        checked: Checked,
        at: CommitTs,
    ) -> Result<(), ArrowError> {
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

    /// Puts back rows read from a checkpoint.
    pub(crate) fn restore(&self, chunk: super::Chunk) -> Result<(), ArrowError> {
        let keys = self.convert_keys(chunk.batch())?;
        self.enter_keys(keys, chunk.base());
        let mut rows = Rows::clone(&self.rows.read());
        rows.restore(chunk)?;
        *self.rows.write() = Arc::new(rows);
        Ok(())
    }

    pub(crate) fn add_index(&self, index: Arc<VectorIndex>) {
        self.indexes.write().insert(index.definition().id, index);
    }

    pub(crate) fn drop_index(&self, definition: &Index) {
        self.indexes.write().remove(&definition.id);
    }
}
