//! Versions are dropped while others write and read: a reader sees its instant whole or is told that
//! it cannot be read any more, through scans, keys and the index.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arrow::array::{ArrayRef, AsArray as _, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use catalog::Define;
use parking_lot::Mutex;
use storage::fs::{FileSystem, SimFileSystem};
use storage::memtable::{IndexSearch, Rows, Strategy, Table, exact_search};
use storage::{Command, ReadView, Rejection, StorageError, Store, StoreOptions};
use types::{Clock, CommitTs, Distance, RowOrdinal, SplitMix64, SteppedClock, TableId};
use vector::Metric;

use crate::support::{
    EMBEDDING, START_MICROS, change_rows, clock_at, create_index, make_table, options, row, scaled,
    table_write,
};

/// Enough for a walk of the graph to be cheaper than comparing all of them.
const KEYS: i64 = 1_500;
const K: usize = 10;
/// States that readers choose from, counted from the last one.
const RECENT: u64 = 40;

/// Value by key.
type State = BTreeMap<i64, String>;

fn open(fs: &SimFileSystem, clock: &Arc<SteppedClock>) -> Store {
    let options = StoreOptions { chunk_bits: 4, index_threads: 2, ..options() };
    let fs: Arc<dyn FileSystem> = Arc::new(fs.clone());
    let clock: Arc<dyn Clock> = Arc::<SteppedClock>::clone(clock);
    Store::open(options, fs, clock).unwrap().0
}

struct World {
    store: Store,
    clock: Arc<SteppedClock>,
    table: TableId,
    states: Mutex<Vec<(CommitTs, Arc<State>)>>,
    /// Vectors found by the index that the exact answer has too, and all.
    hits: AtomicUsize,
    wanted: AtomicUsize,
    /// Searches that walked the graph.
    walks: AtomicUsize,
    whole: AtomicUsize,
    refused: AtomicUsize,
}

fn cell(rows: &Rows, ordinal: u32) -> (i64, String) {
    let (chunk, slot) = rows.locate(RowOrdinal(ordinal)).unwrap();
    let batch: &RecordBatch = chunk.batch().unwrap();
    let key = batch.column(0).as_primitive::<Int64Type>().value(slot);
    (key, batch.column(1).as_string::<i32>().value(slot).to_owned())
}

impl World {
    /// Writes the keys anew, a new version each.
    fn write(&self, keys: &[i64], text: &str) {
        self.clock.step(1_000);
        let view = self.store.read_view();
        let table = view.table(self.table).unwrap();
        let ended: Vec<usize> = keys
            .iter()
            .filter_map(|key| {
                let key: [ArrayRef; 1] = [Arc::new(Int64Array::from(vec![*key]))];
                let (rows, found) = table.find(&key, view.at()).unwrap();
                let (chunk, slot) = rows.locate(found?).unwrap();
                Some(usize::try_from(chunk.row_id(slot).0).unwrap())
            })
            .collect();
        let begun: Vec<_> = keys.iter().map(|key| row(*key, &format!("{text} {key}"))).collect();
        let write = table_write(self.table, view.at(), &ended, &begun);
        let applied = self.store.propose_blocking(Command::Write(vec![write])).unwrap();
        // The keys are taken, wherever they are by now.
        let again = table_write(self.table, applied.commit_ts, &[], &begun[..1]);
        let refused = self.store.propose_blocking(Command::Write(vec![again])).unwrap_err();
        assert!(
            matches!(refused, StorageError::Rejected(Rejection::DuplicateKey { .. })),
            "{refused}"
        );
        let mut states = self.states.lock();
        let mut state = states.last().map_or_else(State::new, |(_, state)| State::clone(state));
        state.extend(begun.into_iter().map(|row| (row.key, row.value)));
        states.push((applied.commit_ts, Arc::new(state)));
    }

    fn read(
        &self,
        view: &ReadView,
        state: &State,
        rng: &mut SplitMix64,
    ) -> Result<(), StorageError> {
        let at = view.at();
        let table: &Table = view.readable(self.table)?.unwrap();
        let contents = table.contents();
        let rows = &contents.rows;
        let found: State = rows.visible_ordinals(at).map(|ordinal| cell(rows, ordinal)).collect();
        assert!(found == *state, "as of {at}: {} rows, not {}", found.len(), state.len());
        assert_eq!(rows.count_visible(at), state.len(), "as of {at}");
        let key = i64::try_from(rng.below(KEYS.unsigned_abs())).unwrap();
        let column: [ArrayRef; 1] = [Arc::new(Int64Array::from(vec![key]))];
        let (rows, found) = table.find(&column, at).unwrap();
        let found = found.map(|ordinal| cell(&rows, ordinal.0).1);
        assert_eq!(found.as_ref(), state.get(&key), "key {key} as of {at}");
        let rows = &contents.rows;
        let query = [f32::from(u16::try_from(rng.below(1_000)).unwrap()), 1.0, 0.0];
        let strategy = Some(Strategy::Graph);
        let request = IndexSearch {
            query: vector::Row::Full(&query),
            k: K,
            ef: 16,
            may_stop: false,
            at,
            strategy,
            admitted: None,
        };
        let index = contents.indexes().next().unwrap();
        let (found, report) = index.search(rows, &request).unwrap();
        let walked = report.strategy == Strategy::Graph;
        self.walks.fetch_add(usize::from(walked), Ordering::Relaxed);
        let vectors = rows.vectors(EMBEDDING, 3);
        let exact = exact_search(&Metric::new(Distance::L2), rows, &vectors, &request).unwrap().0;
        assert_eq!(found.len(), K.min(state.len()), "as of {at}");
        for neighbor in &found {
            assert!(rows.visible(RowOrdinal(neighbor.ordinal), at), "as of {at}");
        }
        let hit = |n: &&vector::Neighbor| {
            exact.iter().any(|other| other.value.to_bits() == n.value.to_bits())
        };
        self.hits.fetch_add(found.iter().filter(hit).count(), Ordering::Relaxed);
        self.wanted.fetch_add(exact.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Reads recent instants until it is told to stop; the first read of each may be refused.
    fn reader(&self, seed: u64, stop: &AtomicBool) {
        let mut rng = SplitMix64::new(seed);
        while !stop.load(Ordering::Relaxed) {
            let view = self.store.read_view();
            let (at, state) = {
                let states = self.states.lock();
                let back = rng.below(RECENT.min(states.len() as u64));
                states[states.len() - 1 - usize::try_from(back).unwrap()].clone()
            };
            if at > view.at() {
                continue;
            }
            let past = view.as_of(at).unwrap();
            drop(view);
            match self.read(&past, &state, &mut rng) {
                Ok(()) => self.whole.fetch_add(1, Ordering::Relaxed),
                Err(error) => {
                    assert!(matches!(error, StorageError::InstantOutOfRange { .. }), "{error}");
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            };
            // What could be read once can be read as long as it is pinned.
            for _ in 0..rng.below(4) {
                std::thread::yield_now();
                self.read(&past, &state, &mut rng).unwrap();
            }
        }
    }

    /// Closes and opens the store: all of it comes back.
    fn reopen(self, fs: &SimFileSystem) {
        let last = self.states.lock().last().unwrap().clone();
        let World { store, clock, table, .. } = self;
        drop(store);
        let store = open(fs, &clock);
        let view = store.read_view();
        let rows = view.table(table).unwrap().rows();
        let found: State = rows.visible_ordinals(view.at()).map(|o| cell(&rows, o)).collect();
        assert!(found == *last.1, "after a start");
    }
}

/// Stops everyone when a thread ends, be it in a panic.
struct StopsOthers<'a>(&'a AtomicBool);

impl Drop for StopsOthers<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn readers_see_their_instant_whole_while_versions_are_dropped() {
    let fs = SimFileSystem::default();
    let clock = clock_at(START_MICROS);
    let store = open(&fs, &clock);
    let table = make_table(&store, "t");
    store.propose_blocking(create_index(table, "i")).unwrap();
    let set = Define::SetRetention { id: table, retention: Some(15_000) };
    store.propose_blocking(Command::Define(set)).unwrap();
    let zero = || AtomicUsize::new(0);
    let world = World {
        store,
        clock,
        table,
        states: Mutex::default(),
        hits: zero(),
        wanted: zero(),
        walks: zero(),
        whole: zero(),
        refused: zero(),
    };
    world.write(&(0..KEYS).collect::<Vec<_>>(), "first");
    let stop = AtomicBool::new(false);
    let vacuums = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (world, stop) = (&world, &stop);
            scope.spawn(move || {
                let _stops = StopsOthers(stop);
                world.reader(seed, stop);
            });
        }
        scope.spawn(|| {
            let _stops = StopsOthers(&stop);
            while !stop.load(Ordering::Relaxed) {
                world.store.vacuum(Some(table)).unwrap();
                vacuums.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _stops = StopsOthers(&stop);
        let mut rng = SplitMix64::new(9);
        for commit in 0..scaled(400, 20_000) {
            let from = i64::try_from(rng.below((KEYS - 60).unsigned_abs())).unwrap();
            let count = i64::try_from(rng.below(60)).unwrap();
            world.write(&(from..=from + count).collect::<Vec<_>>(), &format!("{commit}"));
        }
    });
    let view = world.store.read_view();
    let rows = view.table(table).unwrap().rows();
    let versions = rows.chunks().map(|chunk| chunk.len()).sum::<usize>();
    let written: usize = usize::try_from(rows.next_row().0).unwrap();
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let (whole, refused) = (count(&world.whole), count(&world.refused));
    let told = format!(
        "{whole} whole, {refused} refused, {} vacuums, {versions} of {written} versions left",
        count(&vacuums)
    );
    println!("{told}");
    assert!(whole > 100 && refused > 0 && count(&vacuums) > 2, "{told}");
    assert!(versions < written * 4 / 5, "{told}");
    let (hits, wanted) = (count(&world.hits), count(&world.wanted));
    println!("{hits} of {wanted} neighbours, {} walks", count(&world.walks));
    assert!(hits * 100 >= wanted * 95, "recall: {hits} of {wanted}");
    assert!(count(&world.walks) > 50, "{} walks", count(&world.walks));
    drop((view, rows));
    world.reopen(&fs);
}

/// A table of sixty rows, each written twice, on a store whose clock has moved by an hour since.
fn written_twice(fs: &SimFileSystem, clock: &Arc<SteppedClock>) -> (Store, TableId, CommitTs) {
    let store = open(fs, clock);
    let table = make_table(&store, "t");
    let rows: Vec<_> = (0..60).map(|key| row(key, "first")).collect();
    change_rows(&store, table, &[], &rows).unwrap();
    let before = store.read_view().at();
    let rows: Vec<_> = (0..60).map(|key| row(key, "second")).collect();
    change_rows(&store, table, &(0..60).collect::<Vec<_>>(), &rows).unwrap();
    clock.step(3_600_000_000);
    (store, table, before)
}

#[test]
fn history_is_written_once_while_it_is_kept() {
    let clock = clock_at(START_MICROS);
    let (store, table, _) = written_twice(&SimFileSystem::default(), &clock);
    let files =
        || store.read_view().table(table).unwrap().rows().segment_states().collect::<Vec<_>>();
    store.vacuum(None).unwrap();
    let first = files();
    assert!(first.iter().any(|segment| segment.history), "{first:?}");
    for _ in 0..3 {
        store.vacuum(None).unwrap();
        store.propose_blocking(Command::Tick).unwrap();
        store.checkpoint().unwrap();
        assert_eq!(files(), first);
    }
}

#[test]
fn a_dropped_table_is_there_for_whoever_pinned_it() {
    let clock = clock_at(START_MICROS);
    let (store, table, before) = written_twice(&SimFileSystem::default(), &clock);
    let set = Define::SetRetention { id: table, retention: Some(0) };
    store.propose_blocking(Command::Define(set)).unwrap();
    let past = store.read_view().as_of(before).unwrap();
    store.propose_blocking(Command::Define(Define::DropCollection { id: table })).unwrap();
    clock.step(1_000);
    let seen = |view: &ReadView| {
        view.readable(table).map(|table| table.unwrap().rows().count_visible(view.at()))
    };
    for _ in 0..2 {
        store.vacuum(None).unwrap();
        assert_eq!(seen(&past).unwrap(), 60);
    }
    drop(past);
    store.vacuum(None).unwrap();
    seen(&store.read_view().as_of(before).unwrap()).unwrap_err();
    let rows = store.read_view().table(table).unwrap().rows();
    assert_eq!((rows.chunks().count(), rows.next_row().0), (0, 120));
}
