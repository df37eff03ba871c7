//! Random commands against a model: the catalog as a value, and the row versions of every table.
//! The store must agree on every answer, and on every instant, after every reopening.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, Int32Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use catalog::{
    Alteration, Catalog, Collection, Column, ColumnType, Define, Defined, HnswOptions,
    SortedColumn, SortedIndex,
};
use storage::fs::{CrashPolicy, SimFileSystem};
use storage::memtable::{Table, missing_as, missing_to_text};
use storage::{Command, Effect, Outcome, ReadView, Rejection, StorageError, Store, Transacted};
use types::{
    Clock as _, CommitTs, Distance, IndexId, Lsn, RowId, SplitMix64, SteppedClock, TableId,
};

use crate::support::{
    EMBEDDING, MISSING, Row, START_MICROS, Version, Versions, added, altered_write, assert_kept,
    clock_at, create_table, open, read_kept, row, scaled, table_write, visible_rows,
};

const OPENINGS: u64 = 5;
const COMMANDS: u64 = 60;
const CLOCK_STEP_MAX: i64 = 10_000_000;

/// Rows of one table that end, by id, and that begin.
#[derive(Debug)]
struct RowsChange {
    table: TableId,
    ended: Vec<usize>,
    begun: Vec<Row>,
    /// Whether it is made for another version of the table's columns.
    stale: bool,
}

#[derive(Debug)]
enum Change {
    Define(Define),
    /// The same as a transaction.
    Transaction(Define),
    Write(Vec<RowsChange>),
    Tick,
}

impl Change {
    fn command(&self, read_ts: CommitTs, catalog: &Catalog) -> Command {
        let write = |c: &RowsChange| match catalog.collection_by_id(c.table) {
            Some(collection) => {
                let version = collection.version + u32::from(c.stale);
                altered_write(collection, version, read_ts, (&c.ended, &c.begun))
            }
            None => table_write(c.table, read_ts, &c.ended, &c.begun),
        };
        match self {
            Self::Transaction(define) => Command::Transaction(Transacted {
                next_id: catalog.next_id(),
                defines: vec![define.clone()],
                writes: Vec::new(),
            }),
            Self::Define(define) => Command::Define(define.clone()),
            Self::Write(changes) => Command::Write(changes.iter().map(write).collect()),
            Self::Tick => Command::Tick,
        }
    }
}

#[derive(Debug)]
struct Model {
    catalog: Catalog,
    tables: BTreeMap<TableId, Versions>,
}

impl Model {
    fn apply(&mut self, change: &Change, at: CommitTs) -> Outcome {
        match change {
            Change::Define(define) => self.define(define, at),
            Change::Transaction(define) => self.define(define, at).map(|_| Effect::Written),
            Change::Tick => Ok(Effect::Ticked),
            Change::Write(changes) => {
                changes.iter().try_for_each(|change| self.check(change, at))?;
                for change in changes {
                    let versions = self.tables.get_mut(&change.table).unwrap();
                    versions.apply(&change.ended, &change.begun, at);
                }
                Ok(Effect::Written)
            }
        }
    }

    fn define(&mut self, define: &Define, at: CommitTs) -> Outcome {
        if let Define::Alter { table, rows: Some(rows), .. } = define
            && self.tables[table].0.len() as u64 != rows.0
        {
            return Err(Rejection::Conflict);
        }
        let (catalog, defined) = self.catalog.define(define, at)?;
        if let Defined::Collection(id) = &defined {
            self.tables.insert(*id, Versions::default());
        }
        self.catalog = catalog;
        Ok(Effect::Defined(defined))
    }

    fn check(&self, change: &RowsChange, at: CommitTs) -> Result<(), Rejection> {
        let collection = self.catalog.collection_by_id(change.table);
        let collection = collection.filter(|c| c.life.contains(at)).ok_or(Rejection::TableGone)?;
        if change.stale {
            return Err(Rejection::Conflict);
        }
        let versions = &self.tables[&change.table];
        let living: BTreeSet<usize> = versions.living().collect();
        let mut ended = BTreeSet::new();
        if !change.ended.iter().all(|at| living.contains(at) && ended.insert(*at)) {
            return Err(Rejection::Conflict);
        }
        let mut keys = BTreeSet::new();
        for (row, begun) in change.begun.iter().enumerate() {
            let taken = versions.alive(begun.key).is_some_and(|at| !ended.contains(&at));
            let keyed = !collection.primary_key.is_empty();
            if keyed && (taken || !keys.insert(begun.key)) {
                let constraint = collection.primary_key_name();
                return Err(Rejection::DuplicateKey { constraint, row });
            }
        }
        for index in collection.sorted.iter().filter(|index| index.unique) {
            let mut keys = BTreeSet::new();
            for (row, begun) in change.begun.iter().enumerate() {
                let same = |at: &usize| versions.0[*at].key == begun.key && !ended.contains(at);
                if living.iter().any(same) || !keys.insert(begun.key) {
                    let constraint = index.name.clone();
                    return Err(Rejection::DuplicateKey { constraint, row });
                }
            }
        }
        Ok(())
    }
}

fn pick<T>(rng: &mut SplitMix64, items: Vec<T>) -> Option<T> {
    let at = usize::try_from(rng.below(items.len() as u64)).unwrap();
    items.into_iter().nth(at)
}

/// Chooses what happens next: mostly what is possible, sometimes what has to be rejected.
struct Chooser<'a> {
    model: &'a Model,
    now: CommitTs,
    rng: &'a mut SplitMix64,
}

impl Chooser<'_> {
    fn change(&mut self) -> Change {
        let define = match self.rng.below(100) {
            0..=3 => Some(Define::CreateNamespace { name: format!("s{}", self.rng.below(4)) }),
            4..=9 => self.create_table(),
            10..=13 => self.create_index(),
            14..=15 => self.drop_index(),
            16..=17 => self.living_table().map(|id| Define::DropCollection { id }),
            18 => self.drop_namespace(),
            23..=27 => self.set_retention(),
            28..=35 => {
                let alter = self.alter();
                let transaction = self.rng.below(2) == 0;
                return alter.map_or(Change::Tick, |alter| match transaction {
                    true => Change::Transaction(alter),
                    false => Change::Define(alter),
                });
            }
            19..=22 => return Change::Tick,
            _ => return Change::Write(self.writes()),
        };
        define.map_or(Change::Tick, Change::Define)
    }

    fn create_table(&mut self) -> Option<Define> {
        let schemas = self.model.catalog.namespaces(self.now).map(|namespace| namespace.id);
        let schema = pick(self.rng, schemas.collect())?;
        let kind = if self.rng.below(3) == 0 { "keyless" } else { "t" };
        Some(create_table(schema, &format!("{kind}{}", self.rng.below(6))))
    }

    fn living_table(&mut self) -> Option<TableId> {
        let tables = self.model.catalog.collections(self.now).map(|collection| collection.id);
        pick(self.rng, tables.collect())
    }

    fn create_index(&mut self) -> Option<Define> {
        let (table, name) = (self.living_table()?, format!("i{}", self.rng.below(6)));
        let (distance, options) = (Distance::L2, HnswOptions::default());
        Some(Define::CreateIndex { table, name, column: EMBEDDING, distance, options })
    }

    fn drop_index(&mut self) -> Option<Define> {
        let indexes = self.model.catalog.indexes(self.now).map(|index| index.id);
        pick(self.rng, indexes.collect()).map(|id| Define::DropIndex { id })
    }

    fn drop_namespace(&mut self) -> Option<Define> {
        let namespaces = self.model.catalog.namespaces(self.now);
        let others = namespaces.filter(|n| n.name != "public").map(|n| n.id);
        let id = pick(self.rng, others.collect())?;
        Some(Define::DropNamespace { id, cascade: self.rng.below(2) == 0 })
    }

    fn set_retention(&mut self) -> Option<Define> {
        let retentions =
            vec![None, Some(0), Some(0), Some(2 * CLOCK_STEP_MAX), Some(20 * CLOCK_STEP_MAX)];
        let id = self.living_table()?;
        Some(Define::SetRetention { id, retention: pick(self.rng, retentions)? })
    }

    fn alter(&mut self) -> Option<Define> {
        let table = self.living_table()?;
        let collection = self.model.catalog.collection_by_id(table)?;
        let ids = (0..collection.columns.len()).map(|at| collection.column_id(at));
        let own = pick(self.rng, ids.filter(|id| *id > EMBEDDING).collect());
        let name = format!("c{}", self.rng.below(4));
        let int = ColumnType::Int4;
        let change = match (self.rng.below(12), own) {
            (0, _) => Alteration::Rename { name: format!("t{}", self.rng.below(6)) },
            (1..=2, Some(column)) => Alteration::DropColumn { column, checks: Vec::new() },
            (3, Some(column)) => Alteration::RenameColumn { column, name, checks: Vec::new() },
            (4..=5, Some(column)) => {
                let from = collection.column_by_id(column)?.column_type;
                let to = ColumnType::Int8;
                let missing = collection.missing(column);
                let missing = missing.map(|missing| missing_as(missing, from, to).unwrap());
                Alteration::SetType { column, column_type: to, missing }
            }
            (6..=7, _) => {
                let sorted =
                    |column| SortedColumn { column, descending: false, nulls_first: false };
                let columns = pick(self.rng, vec![vec![0], vec![0, 1], vec![1], vec![1, 0]])?;
                let unique = columns == [0] && self.rng.below(2) == 0;
                let (name, columns) =
                    (format!("b{}", self.rng.below(6)), columns.into_iter().map(sorted).collect());
                let index = SortedIndex { oid: 0, name, columns, unique, constraint: unique };
                Alteration::AddSorted { index }
            }
            (8, _) if !collection.sorted.is_empty() => {
                let names = collection.sorted.iter().map(|index| index.name.clone());
                Alteration::DropSorted { name: pick(self.rng, names.collect())? }
            }
            _ => {
                let value: ArrayRef = Arc::new(Int32Array::from(vec![MISSING]));
                let missing = (self.rng.below(2) == 0).then(|| missing_to_text(&value).unwrap());
                let column = Column::new(&name, int, true);
                Alteration::AddColumn { column, missing, sequence: None }
            }
        };
        let stale = u32::from(self.rng.below(12) == 0);
        let rows = match self.rng.below(8) {
            0 => Some(RowId(self.model.tables[&table].0.len() as u64 + 1)),
            1..=2 => Some(RowId(self.model.tables[&table].0.len() as u64)),
            _ => None,
        };
        Some(Define::Alter { table, version: collection.version + stale, rows, change })
    }

    fn writes(&mut self) -> Vec<RowsChange> {
        let mut tables = BTreeSet::new();
        for _ in 0..=self.rng.below(2) {
            let table = if self.rng.below(20) == 0 {
                let ever = self.model.catalog.collections_ever().map(|collection| collection.id);
                pick(self.rng, ever.collect())
            } else {
                self.living_table()
            };
            tables.extend(table);
        }
        tables.into_iter().map(|table| self.rows_change(table)).collect()
    }

    fn rows_change(&mut self, table: TableId) -> RowsChange {
        let model = self.model;
        let versions = &model.tables[&table];
        let living: Vec<usize> = versions.living().collect();
        let (mut ended, mut begun): (Vec<usize>, Vec<Row>) = (Vec::new(), Vec::new());
        match self.rng.below(20) {
            0..=9 => {
                for _ in 0..=self.rng.below(4) {
                    let key = i64::try_from(self.rng.below(400)).unwrap();
                    begun.push(self.row(key));
                }
            }
            10..=13 => ended.extend(pick(self.rng, living)),
            14..=18 => {
                ended.extend(pick(self.rng, living));
                begun.extend(ended.iter().map(|at| versions.0[*at].key).map(|key| self.row(key)));
            }
            _ => {
                // Perhaps ended already, perhaps past the end.
                let ids: Vec<usize> = (0..versions.0.len() + 2).collect();
                ended.extend(pick(self.rng, ids));
            }
        }
        let stale = self.rng.below(30) == 0 && !(ended.is_empty() && begun.is_empty());
        RowsChange { table, ended, begun, stale }
    }

    fn row(&mut self, key: i64) -> Row {
        let filler = usize::try_from(self.rng.below(120)).unwrap();
        row(key, &format!("{}{}", self.rng.next_u64(), "-".repeat(filler)))
    }
}

/// A model and what is known of the log.
struct World {
    rng: SplitMix64,
    clock: Arc<SteppedClock>,
    model: Model,
    last: (Lsn, CommitTs),
    /// All commit timestamps.
    commits: Vec<CommitTs>,
    rejected: usize,
    /// As far as the horizon of each table may have been raised.
    allowed: BTreeMap<TableId, CommitTs>,
    /// Row versions that were dropped, and taken to history, when the tables were last looked at.
    dropped: usize,
    historic: usize,
    /// Values of added columns that were compared.
    columns: usize,
    /// Rows that sorted indexes found.
    sorted: usize,
}

/// Compares added columns of all rows that are visible with what follows from their keys; how many
/// values.
fn assert_columns(
    view: &ReadView,
    table: &Table,
    (catalog, versions): (&Catalog, &Versions),
    context: &str,
) -> usize {
    let (at, definition, rows) = (view.at(), view.definition(table), table.rows());
    let Some(collection) = catalog.collection_at(definition.id, at) else { return 0 };
    assert_eq!(definition.columns, collection.columns, "{context}");
    let mut compared = 0;
    for (_, chunk) in rows.placed() {
        let batch = definition.read(chunk.batch().unwrap()).unwrap();
        for slot in (0..chunk.len()).filter(|slot| chunk.visible(*slot, at)) {
            let row = &versions.0[usize::try_from(chunk.row_id(slot).0).unwrap()];
            let then = catalog.collection_at(definition.id, row.begin).unwrap();
            for (at, column) in batch.columns().iter().enumerate().skip(EMBEDDING + 1) {
                let id = collection.column_id(at);
                let missing = collection.missing(id).map(|_| i64::from(MISSING));
                let expected = match then.position_of(id) {
                    Some(_) => Some(added(row.key, id)),
                    None => missing,
                };
                let column = cast(column, &DataType::Int64).unwrap();
                let numbers = column.as_primitive::<Int64Type>();
                let found = numbers.iter().nth(slot).unwrap();
                assert_eq!(found, expected, "{context}, {row:?}, column {id}");
                compared += 1;
            }
        }
    }
    compared
}

impl World {
    fn new(seed: u64) -> Self {
        let genesis = CommitTs(START_MICROS);
        let (catalog, _) = Catalog::default().define(&Define::Genesis, genesis).unwrap();
        Self {
            rng: SplitMix64::new(seed),
            clock: clock_at(START_MICROS),
            model: Model { catalog, tables: BTreeMap::new() },
            last: (Lsn(1), genesis),
            commits: vec![genesis],
            rejected: 0,
            allowed: BTreeMap::new(),
            dropped: 0,
            historic: 0,
            columns: 0,
            sorted: 0,
        }
    }

    /// Before horizons may be raised: up to where.
    fn allow(&mut self) {
        for collection in self.model.catalog.collections_ever() {
            let limit = self.limit(collection);
            let allowed = self.allowed.entry(collection.id).or_insert(limit);
            *allowed = limit.max(*allowed);
        }
    }

    /// Drops what retention allows, of all tables or one.
    fn vacuum(&mut self, store: &Store, context: &str) {
        let living = self.model.catalog.collections(self.last.1).map(|collection| collection.id);
        let table = pick(&mut self.rng, living.map(Some).chain([None]).collect()).unwrap();
        self.allow();
        store.vacuum(table).unwrap_or_else(|error| panic!("{context}: {error}"));
        let position = store.read_view().position();
        if position.index != self.last.0 {
            // Time moved so that there can be a new manifest.
            assert_eq!(position.index, self.last.0.next(), "{context}");
            self.last = (position.index, position.commit_ts);
            self.commits.push(position.commit_ts);
            self.allow();
        }
        let cleaned = self.model.catalog.collections_ever();
        for collection in cleaned.filter(|c| table.is_none_or(|id| id == c.id)) {
            let horizon = store.read_view().table(collection.id).unwrap().horizon();
            assert!(horizon >= self.limit(collection), "{context}: {horizon} of {collection:?}");
        }
    }

    /// As far as retention lets the horizon of a table be raised now.
    fn limit(&self, collection: &Collection) -> CommitTs {
        let now = self.clock.now_micros();
        CommitTs(now - collection.retention_micros()).min(self.last.1)
    }

    /// Moves the clock, proposes a random command, and compares the answer with the model's.
    fn step(&mut self, store: &Store, context: &str) {
        let span = u64::try_from(2 * CLOCK_STEP_MAX + 1).unwrap();
        self.clock.step(i64::try_from(self.rng.below(span)).unwrap() - CLOCK_STEP_MAX);
        let lsn = self.last.0.next();
        let commit_ts = self.last.1.successor().max(CommitTs(self.clock.now_micros()));
        let change = Chooser { model: &self.model, now: self.last.1, rng: &mut self.rng }.change();
        let command = change.command(self.last.1, &self.model.catalog);
        let expected = self.model.apply(&change, commit_ts);
        self.rejected += usize::from(expected.is_err());
        let outcome = match store.propose_blocking(command) {
            Ok(applied) => {
                assert_eq!((applied.lsn, applied.commit_ts), (lsn, commit_ts), "{context}");
                Ok(applied.effect)
            }
            Err(StorageError::Rejected(rejection)) => Err(rejection),
            Err(error) => panic!("{context}: {change:?}: {error}"),
        };
        assert_eq!(outcome, expected, "{context}: {change:?}");
        self.last = (lsn, commit_ts);
        self.commits.push(commit_ts);
    }

    /// Compares all that the store holds with the model.
    fn verify(&mut self, store: &Store, context: &str) {
        let view = store.read_view();
        (self.dropped, self.historic) = (0, 0);
        assert_eq!((view.position().index, view.at()), self.last, "{context}");
        assert!(*view.catalog() == self.model.catalog, "{context}: the catalogs differ");
        for (id, versions) in &self.model.tables {
            let context = format!("{context}, table {id}");
            let table = view.table(*id).unwrap_or_else(|| panic!("{context} is missing"));
            let kept = read_kept(table).unwrap();
            let horizon = table.horizon();
            let allowed = self.allowed.get(id).copied().unwrap_or(CommitTs(i64::MIN));
            assert!(horizon <= allowed, "{context}: horizon {horizon}, allowed {allowed}");
            let gone = self.model.catalog.collection_by_id(*id).unwrap().life.dropped;
            let gone = gone.is_some_and(|gone| gone <= horizon);
            if gone && kept.is_empty() {
                self.dropped += versions.0.len();
            } else {
                self.dropped += assert_kept(table, &kept, versions, &context);
            }
            let rows = table.rows();
            self.historic += kept.len() - rows.points() as usize;
            if !gone {
                assert_eq!(rows.live() as usize, versions.living().count(), "{context}");
            }
            let indexes = table.contents();
            let found: Vec<IndexId> = indexes.indexes().map(|i| i.definition().id).collect();
            let indexes = self.model.catalog.indexes_of(*id, view.at());
            assert_eq!(found, indexes.map(|index| index.id).collect::<Vec<_>>(), "{context}");
        }
        let last = self.last.1;
        for instant in [CommitTs(START_MICROS - 1), last.successor()] {
            let error = view.as_of(instant).unwrap_err();
            let out = matches!(error, StorageError::InstantOutOfRange { .. });
            assert!(out, "{context}: {error}");
        }
        for _ in 0..40 {
            let commit = pick(&mut self.rng, self.commits.clone()).unwrap();
            let instant = if self.rng.below(2) == 0 { commit } else { CommitTs(commit.0 - 1) };
            if instant >= self.commits[0] {
                self.verify_at(&view.as_of(instant).unwrap(), context);
            }
        }
    }

    fn verify_at(&mut self, view: &ReadView, context: &str) {
        let at = view.at();
        let names = |catalog: &Catalog| -> Vec<String> {
            catalog.collections(at).map(|c: &Collection| c.name.clone()).collect()
        };
        assert_eq!(names(view.catalog()), names(&self.model.catalog), "{context}, as of {at}");
        for (id, versions) in &self.model.tables {
            let context = format!("{context}, table {id} as of {at}");
            let table: &Table = match view.readable(*id) {
                Ok(table) => table.unwrap(),
                Err(error) => {
                    let horizon = view.table(*id).unwrap().horizon();
                    assert!(at < horizon, "{context}, horizon {horizon}: {error}");
                    assert!(matches!(error, StorageError::InstantOutOfRange { .. }), "{error}");
                    continue;
                }
            };
            assert!(at >= table.horizon(), "{context}: read before the horizon");
            let (rows, expected) = (table.rows(), versions.visible(at));
            let gone = self.model.catalog.collection_by_id(*id).unwrap().life.dropped;
            if gone.is_some_and(|gone| gone <= at) {
                continue;
            }
            assert_eq!(rows.count_visible(at), expected.len(), "{context}");
            assert_eq!(visible_rows(&rows, at), expected, "{context}");
            self.columns += assert_columns(view, table, (&self.model.catalog, versions), &context);
            if versions.0.is_empty() {
                continue;
            }
            let any = usize::try_from(self.rng.below(versions.0.len() as u64)).unwrap();
            let key = versions.0[any].key;
            let visible =
                expected.iter().find(|at| versions.0[usize::try_from(**at).unwrap()].key == key);
            let columns: [ArrayRef; 1] = [Arc::new(Int64Array::from(vec![key]))];
            let (rows, found) = table.find(&columns, at).unwrap();
            let found = found.map(|o| rows.locate(o).unwrap()).map(|(c, slot)| c.row_id(slot).0);
            let keyed = !table.definition().primary_key.is_empty();
            let visible = visible.copied().filter(|_| keyed);
            assert_eq!(found, visible, "{context}, key {key}");
            self.sorted += assert_sorted(table, versions, (any, at), &context);
        }
    }
}

/// Compares what every sorted index of a table finds of the keys and values around those of a row with
/// the rows that are visible; how many rows.
fn assert_sorted(
    table: &Table,
    versions: &Versions,
    (row, at): (usize, CommitTs),
    context: &str,
) -> usize {
    let (key, value) = (versions.0[row].key, versions.0[row].value.as_str());
    let number = |key| -> ArrayRef { Arc::new(Int64Array::from(vec![key])) };
    let text = |value| -> ArrayRef { Arc::new(StringArray::from(vec![value])) };
    let expected = |is: &dyn Fn(&Version) -> bool| -> BTreeSet<u64> {
        let visible = versions.visible(at).into_iter();
        visible.filter(|id| is(&versions.0[usize::try_from(*id).unwrap()])).collect()
    };
    let mut found_rows = 0;
    for index in &table.definition().sorted {
        let first = index.columns[0].column;
        let column = |column| if column == 0 { number(key) } else { text(value) };
        let whole: Vec<ArrayRef> = index.columns.iter().map(|c| column(c.column)).collect();
        let (from, to) = match first {
            0 => (number(key - 20), number(key + 20)),
            _ => (text(value), text("~")),
        };
        let in_range = |version: &Version| match first {
            0 => version.key >= key - 20 && version.key < key + 20,
            _ => version.value.as_str() >= value && version.value.as_str() < "~",
        };
        let is_same = |version: &Version| {
            let same = |c: &SortedColumn| match c.column {
                0 => version.key == key,
                _ => version.value == value,
            };
            index.columns.iter().all(same)
        };
        let (equal, between): (Vec<ArrayRef>, _) =
            (Vec::new(), (Bound::Included(&from), Bound::Excluded(&to)));
        let unbounded = (Bound::Unbounded, Bound::Unbounded);
        let asked: [(_, _, BTreeSet<u64>); 2] =
            [(&whole, unbounded, expected(&is_same)), (&equal, between, expected(&in_range))];
        for (equal, bounds, expected) in asked {
            let found = table.find_range((index.oid, equal), bounds, usize::MAX, at).unwrap();
            let (rows, found) = found.unwrap();
            let located = found.unwrap().into_iter().map(|ordinal| rows.locate(ordinal).unwrap());
            let found: BTreeSet<u64> = located.map(|(chunk, slot)| chunk.row_id(slot).0).collect();
            assert!(found.is_superset(&expected), "{context}, {index:?}: {found:?} {expected:?}");
            // Whole numbers are told apart by the bytes that are kept.
            if first == 0 && index.columns.len() == 1 {
                assert_eq!(found, expected, "{context}, {index:?}");
            }
            found_rows += expected.len();
        }
        if index.unique {
            let (rows, found) = table.find_unique(index.oid, &whole, at).unwrap();
            let found = found.map(|o| rows.locate(o).unwrap()).map(|(c, slot)| c.row_id(slot).0);
            let expected = expected(&is_same);
            assert!(found.map_or(expected.is_empty(), |id| expected.contains(&id)), "{context}");
        }
    }
    found_rows
}

#[test]
fn random_commands_agree_with_the_model_at_every_instant() {
    let (mut dropped, mut historic, mut columns, mut sorted) = (0, 0, 0, 0);
    for seed in 0..scaled(12, 100) {
        let mut world = World::new(seed);
        let mut fs = SimFileSystem::default();
        for opening in 0..OPENINGS {
            let context = format!("seed {seed}, opening {opening}");
            let opened = open(&fs, &world.clock);
            let (store, report) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(report.damaged.is_empty(), "{context}: {:?}", report.damaged);
            assert_eq!(report.log.torn, None, "{context}");
            world.verify(&store, &context);
            for command in 0..COMMANDS {
                let context = format!("{context}, command {command}");
                world.step(&store, &context);
                if command % 9 == 8 {
                    world.vacuum(&store, &context);
                } else if command % 23 == 22 {
                    world.allow();
                    store.checkpoint().unwrap_or_else(|error| panic!("{context}: {error}"));
                }
            }
            world.verify(&store, &context);
            world.allow();
            if opening % 3 == 2 {
                store.close().unwrap_or_else(|error| panic!("{context}: {error}"));
            }
            drop(store);
            if opening.is_multiple_of(2) {
                fs = fs.crash(CrashPolicy::LoseUnsynced);
            }
        }
        let increasing = world.commits.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(increasing, "seed {seed}: commit timestamps grow strictly");
        let (tables, rejected) = (world.model.tables.len(), world.rejected);
        assert!(tables > 5 && rejected > 5, "seed {seed}: {tables} tables, {rejected} rejections");
        dropped += world.dropped;
        historic += world.historic;
        columns += world.columns;
        sorted += world.sorted;
    }
    assert!(sorted > 1_000, "{sorted} rows by sorted indexes");
    assert!(columns > 1_000, "{columns} values of added columns");
    assert!(dropped > 60 && historic > 100, "{dropped} dropped, {historic} in history");
}
