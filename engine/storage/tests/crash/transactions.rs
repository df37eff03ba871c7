//! Random transactions beside other commits, checkpoints and vacuums: what a transaction sees is its
//! instant and its own changes, by scan and by key; what it commits is what the log lets it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, Int64Array};
use arrow::datatypes::Int64Type;
use catalog::Define;
use storage::fs::SimFileSystem;
use storage::{Command, Rejection, StorageError, Store, Transaction};
use types::{CommitTs, RowId, SplitMix64, TableId};

use crate::support::{
    START_MICROS, change_rows, clock_at, create_table, make_table, open, public, read_kept, row,
    scaled, table_write,
};

const KEYS: u64 = 24;
const STEPS: usize = 40;

/// Row id and value by key.
type State = BTreeMap<i64, (u64, String)>;

/// What a view of a table shows.
fn seen(view: &storage::ReadView, table: TableId) -> State {
    let rows = view.table(table).unwrap().rows();
    let mut state = State::new();
    for chunk in rows.chunks() {
        let batch = chunk.batch().unwrap();
        for slot in (0..chunk.len()).filter(|slot| chunk.visible(*slot, view.at())) {
            let key = batch.column(0).as_primitive::<Int64Type>().value(slot);
            let value = batch.column(1).as_string::<i32>().value(slot).to_owned();
            let before = state.insert(key, (chunk.row_id(slot).0, value));
            assert!(before.is_none(), "key {key} twice");
        }
    }
    assert_eq!(rows.count_visible(view.at()), rows.visible_ordinals(view.at()).count());
    state
}

fn by_key(view: &storage::ReadView, table: TableId, key: i64) -> Option<u64> {
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![key]))];
    let (rows, found) = view.table(table).unwrap().find(&columns, view.at()).unwrap();
    let (chunk, slot) = rows.locate(found?).unwrap();
    Some(chunk.row_id(slot).0)
}

/// Rows that live in the newest state, by key.
fn living(store: &Store, table: TableId) -> BTreeMap<i64, u64> {
    let kept = read_kept(store.read_view().table(table).unwrap()).unwrap();
    let alive = kept.into_iter().filter(|(_, version)| version.end == CommitTs::INFINITY);
    alive.map(|(id, version)| (version.key, id)).collect()
}

/// What a transaction should see and do.
#[derive(Debug, Clone, Default)]
struct Model {
    /// The rows it sees; those of its own have no id.
    rows: BTreeMap<i64, (Option<u64>, String)>,
    /// Rows of before that it ended.
    ended: BTreeSet<u64>,
}

impl Model {
    fn own(&self) -> impl Iterator<Item = i64> {
        self.rows.iter().filter(|(_, (id, _))| id.is_none()).map(|(key, _)| *key)
    }
}

struct World {
    store: Store,
    table: TableId,
    rng: SplitMix64,
    next: u64,
}

impl World {
    fn key(&mut self) -> i64 {
        i64::try_from(self.rng.below(KEYS)).unwrap()
    }

    fn value(&mut self) -> String {
        self.next += 1;
        format!("v{}", self.next)
    }

    /// Another client's commit.
    fn another(&mut self) {
        let (key, value) = (self.key(), self.value());
        let alive = living(&self.store, self.table).get(&key).copied();
        let ended: Vec<usize> = alive.into_iter().map(|id| usize::try_from(id).unwrap()).collect();
        let begun = if self.rng.below(3) == 0 { vec![] } else { vec![row(key, &value)] };
        if !ended.is_empty() || !begun.is_empty() {
            change_rows(&self.store, self.table, &ended, &begun).unwrap();
        }
    }

    /// Changes a key in the transaction: the row that it sees ends, or a new one begins, or both.
    fn step(&mut self, transaction: &mut Transaction, model: &mut Model) {
        let (key, value) = (self.key(), self.value());
        let view = transaction.view().clone();
        let old = seen(&view, self.table).get(&key).map(|(id, _)| *id);
        let known = model.rows.get(&key).cloned();
        assert_eq!(old.is_some(), known.is_some(), "key {key}");
        let insert = known.is_none() || self.rng.below(2) == 0;
        let replace = known.is_some() && self.rng.below(6) > 0;
        let mut write = table_write(self.table, view.at(), &[], &[]);
        if insert {
            write = table_write(self.table, view.at(), &[], &[row(key, &value)]);
        }
        if replace {
            write.ended = old.map(RowId).into_iter().collect();
        }
        let alive = living(&self.store, self.table);
        let base = known.as_ref().and_then(|(id, _)| *id);
        if insert && !replace && base.is_some_and(|id| !alive.values().any(|a| *a == id)) {
            // The key is free, and taken for those who see the row that is gone: as in PostgreSQL.
            return;
        }
        let base = base.filter(|_| replace);
        match transaction.write(&write) {
            Ok(()) => {
                if replace {
                    model.rows.remove(&key);
                    model.ended.extend(base);
                }
                if insert {
                    let taken = alive.get(&key).is_some_and(|id| !model.ended.contains(id));
                    assert!(!taken, "key {key} is another's");
                    assert!(!model.rows.contains_key(&key) || known.is_some());
                    model.rows.insert(key, (None, value));
                }
            }
            Err(StorageError::Rejected(Rejection::Conflict)) => {
                let id = base.expect("only a row of before can be another's");
                assert!(!alive.values().any(|living| *living == id), "row {id} lives");
            }
            Err(StorageError::Rejected(Rejection::DuplicateKey { .. })) => {
                let own = known.is_some_and(|(id, _)| id.is_none()) && !replace;
                let mut ended = model.ended.clone();
                ended.extend(base);
                let taken = alive.get(&key).is_some_and(|id| !ended.contains(id));
                assert!(insert && (own || taken), "key {key} is free");
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn check(&self, transaction: &Transaction, model: &Model, context: &str) {
        let view = transaction.view();
        let values = |state: State| -> BTreeMap<i64, String> {
            state.into_iter().map(|(key, (_, value))| (key, value)).collect()
        };
        let state = seen(view, self.table);
        let expected: BTreeMap<i64, String> =
            model.rows.iter().map(|(key, (_, value))| (*key, value.clone())).collect();
        for key in 0..i64::try_from(KEYS).unwrap() {
            let found = by_key(view, self.table, key);
            assert_eq!(found, state.get(&key).map(|(id, _)| *id), "{context}: key {key}");
        }
        assert_eq!(values(state), expected, "{context}");
    }

    /// Commits; true when it did. The newest state is what it was, with the changes.
    fn commit(&self, transaction: &Transaction, model: &Model, context: &str) -> bool {
        let before = living(&self.store, self.table);
        let gone = model.ended.iter().any(|id| !before.values().any(|living| living == id));
        let taken = |key: &i64| before.get(key).is_some_and(|id| !model.ended.contains(id));
        let duplicate = model.own().any(|key| taken(&key));
        let Some(command) = transaction.command().unwrap() else {
            assert!(model.own().next().is_none() && model.ended.is_empty(), "{context}");
            return false;
        };
        let answer = self.store.propose_blocking(command);
        let after = living(&self.store, self.table);
        match answer {
            Ok(_) => {
                assert!(!gone && !duplicate, "{context}");
                let kept = before.iter().filter(|(_, id)| !model.ended.contains(id));
                let keys: BTreeSet<i64> = kept.map(|(key, _)| *key).chain(model.own()).collect();
                assert_eq!(after.into_keys().collect::<BTreeSet<_>>(), keys, "{context}");
                let newest = seen(&self.store.read_view(), self.table);
                for key in model.own() {
                    assert_eq!(newest[&key].1, model.rows[&key].1, "{context}");
                }
                return true;
            }
            Err(StorageError::Rejected(Rejection::Conflict)) => assert!(gone, "{context}"),
            Err(StorageError::Rejected(Rejection::DuplicateKey { .. })) => {
                assert!(duplicate, "{context}");
            }
            Err(error) => panic!("{context}: {error}"),
        }
        assert_eq!(after, before, "{context}");
        false
    }
}

fn run(seed: u64) -> bool {
    let (fs, clock) = (SimFileSystem::default(), clock_at(START_MICROS));
    let (store, _) = open(&fs, &clock).unwrap();
    let table = make_table(&store, "t");
    let retention = Define::SetRetention { id: table, retention: Some(0) };
    store.propose_blocking(Command::Define(retention)).unwrap();
    let mut world = World { store, table, rng: SplitMix64::new(seed), next: 0 };
    let busy = world.rng.below(4);
    for _ in 0..world.rng.below(60) {
        world.another();
    }
    let mut transaction = world.store.begin();
    let rows = seen(transaction.view(), table);
    let rows = rows.into_iter().map(|(key, (id, value))| (key, (Some(id), value))).collect();
    let mut model = Model { rows, ..Model::default() };
    // Sometimes much comes between its instant and its first write, and files are rewritten.
    if busy > 1 && world.rng.below(2) == 0 {
        for _ in 0..world.rng.below(40) {
            world.another();
            if world.rng.below(8) == 0 {
                world.store.checkpoint().unwrap();
                world.store.vacuum(None).unwrap();
            }
        }
    }
    let mut kept: Option<(Transaction, Model)> = None;
    for step in 0..STEPS {
        let context = format!("seed {seed}, step {step}");
        clock.step(7);
        match world.rng.below(20) {
            0..=2 if busy > 0 => world.another(),
            3 => drop(world.store.checkpoint().unwrap()),
            4 => world.store.vacuum(None).unwrap(),
            5 => kept = Some((transaction.copy().unwrap(), model.clone())),
            6 => {
                if let Some((savepoint, known)) = &kept {
                    (transaction, model) = (savepoint.copy().unwrap(), known.clone());
                }
            }
            _ => world.step(&mut transaction, &mut model),
        }
        world.check(&transaction, &model, &context);
    }
    let committed = world.commit(&transaction, &model, &format!("seed {seed}, commit"));
    drop((transaction, kept));
    let state = seen(&world.store.read_view(), table);
    drop(world);
    let (store, _) = open(&fs, &clock).unwrap();
    assert_eq!(seen(&store.read_view(), table), state, "seed {seed}, opened again");
    committed
}

#[test]
fn random_transactions_see_and_commit_what_they_should() {
    let seeds = scaled(300, 20_000);
    let committed = (0..seeds).filter(|seed| run(*seed)).count() as u64;
    assert!(committed > seeds / 5 && committed < seeds, "{committed} of {seeds} committed");
}

/// Tables made in a transaction keep their rows when other tables take the ids it thought they had.
#[test]
fn tables_of_a_transaction_move_up_when_others_come_first() {
    let (fs, clock) = (SimFileSystem::default(), clock_at(START_MICROS));
    let (store, _) = open(&fs, &clock).unwrap();
    let old = make_table(&store, "old");
    let mut transaction = store.begin();
    transaction.define(&create_table(public(&store), "new")).unwrap();
    let view = transaction.view().clone();
    let new = view.catalog().collection(public(&store), "new", view.at()).unwrap().id;
    for (table, key) in [(new, 1), (old, 2), (new, 3)] {
        let write = table_write(table, view.at(), &[], &[row(key, "x")]);
        transaction.write(&write).unwrap();
    }
    let doubled = transaction.write(&table_write(new, view.at(), &[], &[row(3, "y")]));
    let Err(StorageError::Rejected(Rejection::DuplicateKey { .. })) = doubled else {
        panic!("{doubled:?}")
    };
    assert!(store.read_view().catalog().collection(public(&store), "new", view.at()).is_none());
    let first = make_table(&store, "first");
    assert_eq!(first, new, "the id that the transaction counted on");
    store.propose_blocking(transaction.command().unwrap().unwrap()).unwrap();
    let check = |store: &Store| {
        let view = store.read_view();
        let named = |name| view.catalog().collection(public(store), name, view.at()).unwrap().id;
        let keys = |name| seen(&view, named(name)).into_keys().collect::<Vec<_>>();
        assert_eq!([keys("old"), keys("new"), keys("first")], [vec![2], vec![1, 3], vec![]]);
    };
    check(&store);
    drop((transaction, view, store));
    check(&open(&fs, &clock).unwrap().0);
}

/// All of a transaction that cannot be is nothing.
#[test]
fn a_transaction_whose_name_is_taken_changes_nothing() {
    let (fs, clock) = (SimFileSystem::default(), clock_at(START_MICROS));
    let (store, _) = open(&fs, &clock).unwrap();
    let table = make_table(&store, "t");
    let mut transaction = store.begin();
    let at = transaction.view().at();
    transaction.define(&create_table(public(&store), "n")).unwrap();
    transaction.write(&table_write(table, at, &[], &[row(1, "x")])).unwrap();
    make_table(&store, "n");
    let refused = store.propose_blocking(transaction.command().unwrap().unwrap());
    assert!(matches!(refused, Err(StorageError::Rejected(Rejection::Catalog(_)))), "{refused:?}");
    assert!(living(&store, table).is_empty());
    drop((transaction, store));
    let (store, _) = open(&fs, &clock).unwrap();
    assert!(living(&store, table).is_empty());
}
