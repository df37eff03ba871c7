//! What the tests of this binary share: a store on a simulated disk, one kind of table, and a model
//! of its row versions that knows nothing of the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray as _, FixedSizeListArray, Float32Array, Int32Array, Int64Array, RecordBatch,
    StringArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use catalog::{Collection, Column, ColumnType, Define, Defined, HnswOptions};
use storage::fs::{FileSystem, SimFileSystem};
use storage::memtable::{Definition, Rows, Table, arrow_type, vector_field};
use storage::{
    Applied, Command, Effect, OpenReport, StorageError, Store, StoreOptions, TableWrite,
};
use types::{
    Clock, CommitTs, Dim, Distance, RowId, RowOrdinal, SchemaId, SteppedClock, TableId, VectorKind,
};

/// What the clock shows when a test begins.
pub(crate) const START_MICROS: i64 = 1_700_000_000_000_000;
const DIM: Dim = Dim(3);

/// How much of a thing to try: on every change, or, with `AZIMUTH_GATE` set, before a release.
pub(crate) fn scaled(smoke: u64, gate: u64) -> u64 {
    if std::env::var_os("AZIMUTH_GATE").is_some() { gate } else { smoke }
}

pub(crate) fn clock_at(micros: i64) -> Arc<SteppedClock> {
    Arc::new(SteppedClock::new(micros))
}

/// Log files of a header and seven sectors, nothing in the background.
pub(crate) fn options() -> StoreOptions {
    StoreOptions {
        directory: "data".into(),
        log_file_bytes: 4 << 10,
        checkpoint_log_bytes: u64::MAX,
        // Chunks of four rows, so that few rows make many segments.
        chunk_bits: 2,
        index_threads: 0,
        automatic_checkpoints: false,
        checkpoint_bytes_per_second: 0,
        seed: 42,
    }
}

pub(crate) fn open(
    fs: &SimFileSystem,
    clock: &Arc<SteppedClock>,
) -> Result<(Store, OpenReport), StorageError> {
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    let clock: Arc<dyn Clock> = Arc::<SteppedClock>::clone(clock);
    Store::open(options(), fs, clock)
}

/// The definition that all tables share: `id` is the primary key, but where the name says there is
/// none.
pub(crate) fn create_table(schema: SchemaId, name: &str) -> Define {
    let columns = vec![
        Column::new("id", ColumnType::Int8, false),
        Column::new("value", ColumnType::Text, true),
        Column::new("embedding", ColumnType::Vector(DIM), true),
    ];
    let primary_key = if name.starts_with("keyless") { Vec::new() } else { vec![0] };
    Define::CreateCollection {
        schema,
        name: name.to_owned(),
        columns,
        primary_key,
        retention: None,
        checks: Vec::new(),
        sorted: Vec::new(),
        key_name: None,
        sequences: Vec::new(),
    }
}

/// Position of the vector column.
pub(crate) const EMBEDDING: usize = 2;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("value", DataType::Utf8, true),
        vector_field("embedding", VectorKind::Vector, DIM),
    ]))
}

pub(crate) fn public(store: &Store) -> SchemaId {
    let view = store.read_view();
    view.catalog().namespace("public", view.at()).unwrap().id
}

/// Makes a table in the namespace `public`.
pub(crate) fn make_table(store: &Store, name: &str) -> TableId {
    let define = create_table(public(store), name);
    made_table(&store.propose_blocking(Command::Define(define)).unwrap())
}

/// The table that a command made.
pub(crate) fn made_table(applied: &Applied) -> TableId {
    let Effect::Defined(Defined::Collection(id)) = &applied.effect else {
        panic!("no table was made: {applied:?}")
    };
    *id
}

/// Makes an index of the vectors.
pub(crate) fn create_index(table: TableId, name: &str) -> Command {
    Command::Define(Define::CreateIndex {
        table,
        name: name.to_owned(),
        column: EMBEDDING,
        distance: Distance::L2,
        options: HnswOptions::default(),
    })
}

/// A row to insert; its vector follows from its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: i64,
    pub(crate) value: String,
}

pub(crate) fn row(key: i64, value: &str) -> Row {
    Row { key, value: value.to_owned() }
}

/// The vector of a row; every fifth row has none.
fn embedding(key: i64) -> Option<[f32; 3]> {
    let first = f32::from(i16::try_from(key % 1_000).unwrap());
    (key % 5 != 0).then_some([first, 1.0, -2.5])
}

/// The number of a row in a column that was added: it follows from its key and the column's id.
pub(crate) fn added(key: i64, column: usize) -> i64 {
    10 * key + i64::try_from(column).unwrap()
}

/// What rows have in an added column that came before it, where it was added with a default.
pub(crate) const MISSING: i32 = 7;

/// A change of a table whose columns may have changed.
pub(crate) fn altered_write(
    collection: &Collection,
    version: u32,
    read_ts: CommitTs,
    (ended, begun): (&[usize], &[Row]),
) -> TableWrite {
    let mut write = table_write(collection.id, read_ts, ended, begun);
    write.version = version;
    let Some(first) = &write.begun else { return write };
    let column = |(at, column): (usize, &Column)| -> ArrayRef {
        let id = collection.column_id(at);
        let numbers = begun.iter().map(|row| added(row.key, id));
        if id <= EMBEDDING {
            Arc::clone(first.column(id))
        } else if column.column_type == ColumnType::Int4 {
            Arc::new(Int32Array::from_iter_values(numbers.map(|n| i32::try_from(n).unwrap())))
        } else {
            Arc::new(Int64Array::from_iter_values(numbers))
        }
    };
    let columns = collection.columns.iter().enumerate().map(column).collect();
    let schema = Definition::new(collection.clone());
    write.begun = Some(RecordBatch::try_new(Arc::clone(schema.schema()), columns).unwrap());
    write
}

fn batch(rows: &[Row]) -> RecordBatch {
    let keys = Int64Array::from_iter_values(rows.iter().map(|row| row.key));
    let values = StringArray::from_iter_values(rows.iter().map(|row| row.value.as_str()));
    let DataType::FixedSizeList(item, size) = arrow_type(ColumnType::Vector(DIM)) else {
        panic!("a vector is a list of fixed size")
    };
    let numbers = rows.iter().flat_map(|row| embedding(row.key).unwrap_or_default());
    let numbers = Float32Array::from_iter_values(numbers);
    let known: Vec<bool> = rows.iter().map(|row| embedding(row.key).is_some()).collect();
    let vectors =
        FixedSizeListArray::new(item, size, Arc::new(numbers), Some(NullBuffer::from(known)));
    let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(values), Arc::new(vectors)];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// A change of one table: versions by id that end, rows that begin.
pub(crate) fn table_write(
    table: TableId,
    read_ts: CommitTs,
    ended: &[usize],
    begun: &[Row],
) -> TableWrite {
    TableWrite {
        version: 0,
        table,
        read_ts,
        ended: ended.iter().map(|id| RowId(*id as u64)).collect(),
        begun: (!begun.is_empty()).then(|| batch(begun)),
    }
}

/// A change of one table as it is now.
pub(crate) fn current_write(
    store: &Store,
    table: TableId,
    ended: &[usize],
    begun: &[Row],
) -> TableWrite {
    let view = store.read_view();
    match view.catalog().collection_by_id(table) {
        Some(now) => altered_write(now, now.version, view.at(), (ended, begun)),
        None => table_write(table, view.at(), ended, begun),
    }
}

/// Proposes a change of one table.
pub(crate) fn change_rows(
    store: &Store,
    table: TableId,
    ended: &[usize],
    begun: &[Row],
) -> Result<Applied, StorageError> {
    let write = current_write(store, table, ended, begun);
    store.propose_blocking(Command::Write(vec![write]))
}

/// A row version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) key: i64,
    pub(crate) value: String,
    pub(crate) begin: CommitTs,
    pub(crate) end: CommitTs,
}

/// All row versions a table ever held, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Versions(pub(crate) Vec<Version>);

impl Versions {
    /// Ids of the versions that have not ended.
    pub(crate) fn living(&self) -> impl Iterator<Item = usize> {
        let versions = self.0.iter().enumerate();
        versions.filter(|(_, version)| version.end == CommitTs::INFINITY).map(|(at, _)| at)
    }

    /// The living version of a key.
    pub(crate) fn alive(&self, key: i64) -> Option<usize> {
        self.living().find(|at| self.0[*at].key == key)
    }

    /// Ids of the versions visible at an instant.
    pub(crate) fn visible(&self, at: CommitTs) -> Vec<u64> {
        let versions = (0..).zip(&self.0);
        let visible = versions.filter(|(_, version)| version.begin <= at && at < version.end);
        visible.map(|(ordinal, _)| ordinal).collect()
    }

    /// Applies a change that is known to be acceptable.
    pub(crate) fn apply(&mut self, ended: &[usize], begun: &[Row], at: CommitTs) {
        for ordinal in ended {
            self.0[*ordinal].end = at;
        }
        self.0.extend(begun.iter().map(|row| Version {
            key: row.key,
            value: row.value.clone(),
            begin: at,
            end: CommitTs::INFINITY,
        }));
    }
}

/// All row versions a table does hold; it must not have dropped any.
pub(crate) fn history(table: &Table) -> Versions {
    read_history(table).unwrap()
}

/// The same, or what is damaged.
pub(crate) fn read_history(table: &Table) -> Result<Versions, StorageError> {
    let kept = read_kept(table)?;
    assert!((0..).zip(kept.keys()).all(|(expected, id)| expected == *id), "a version is missing");
    Ok(Versions(kept.into_values().collect()))
}

/// The row versions a table does hold, by id.
pub(crate) fn read_kept(table: &Table) -> Result<BTreeMap<u64, Version>, StorageError> {
    let rows = table.rows();
    let mut versions = BTreeMap::new();
    for (base, chunk) in rows.placed() {
        let batch = chunk.batch()?;
        let keys = batch.column(0).as_primitive::<Int64Type>();
        let values = batch.column(1).as_string::<i32>();
        let vectors = chunk.vectors(EMBEDDING)?.unwrap();
        for slot in 0..chunk.len() {
            let (begin, end) = chunk.life(slot);
            let (key, value) = (keys.value(slot), values.value(slot).to_owned());
            let expected = embedding(key);
            assert_eq!(
                vectors.get(slot),
                expected.as_ref().map(|v| vector::Row::Full(v)),
                "vector of {key}"
            );
            let id = chunk.row_id(slot);
            let ordinal = RowOrdinal(base + u32::try_from(slot).unwrap());
            let located = rows.locate(ordinal).map(|(chunk, slot)| chunk.row_id(slot));
            assert_eq!(located, Some(id), "where row {id} is");
            if end == CommitTs::INFINITY {
                assert_eq!(rows.find_row(id), Some(ordinal), "row {id} by its id");
            }
            let version = Version { key, value, begin, end };
            assert!(versions.insert(id.0, version).is_none(), "row {id} is there twice");
        }
    }
    Ok(versions)
}

/// The same of a table that may not exist.
pub(crate) fn kept_of(store: &Store, table: TableId) -> BTreeMap<u64, Version> {
    store.read_view().table(table).map_or_else(BTreeMap::new, |table| read_kept(table).unwrap())
}

/// Makes sure that `kept` are `versions`, less some that ended before the table's horizon; how many.
pub(crate) fn assert_kept(
    table: &Table,
    kept: &BTreeMap<u64, Version>,
    versions: &Versions,
    context: &str,
) -> usize {
    let horizon = table.horizon();
    let mut dropped = 0;
    for (id, version) in (0..).zip(&versions.0) {
        match kept.get(&id) {
            Some(kept) => assert_eq!(kept, version, "{context}, row {id}"),
            None => {
                assert!(version.end <= horizon, "{context}: row {id} is missing");
                dropped += 1;
            }
        }
    }
    let first = versions.0.len() as u64;
    assert!(kept.range(first..).next().is_none(), "{context}: a row too many");
    dropped
}

/// Ids of the row versions visible at an instant.
pub(crate) fn visible_rows(rows: &Rows, at: CommitTs) -> Vec<u64> {
    let located = |ordinal| rows.locate(RowOrdinal(ordinal)).unwrap();
    let ids = rows.visible_ordinals(at).map(located).map(|(chunk, slot)| chunk.row_id(slot).0);
    let mut ids: Vec<u64> = ids.collect();
    ids.sort_unstable();
    ids
}

/// All row versions of a table that may not exist.
pub(crate) fn history_of(store: &Store, table: TableId) -> Versions {
    store.read_view().table(table).map_or_else(Versions::default, |table| history(table))
}
