//! One flipped bit in any file of a data directory: opening refuses, or says so and reads the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage::fs::{FileSystem, SimFileSystem};
use storage::{Command, StorageError, Store, StoreOptions, inspect};
use types::{Coded as _, SplitMix64, SqlState, SteppedClock};

use crate::plan::Plan;
use crate::support::{
    START_MICROS, assert_kept, change_rows, clock_at, create_index, current_write, history_of,
    make_table, open, options, read_history, read_kept, row, scaled,
};

fn is_manifest(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("manifest-"))
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "log")
}

fn is_data(path: &Path) -> bool {
    path.starts_with("data/namespaces")
}

/// The files that an inspection finds damaged.
fn damaged_files(fs: &SimFileSystem) -> Vec<PathBuf> {
    let reports = inspect(fs, Path::new("data"), None).unwrap();
    reports.into_iter().filter(|report| !report.whole).map(|report| report.path).collect()
}

/// The file that an error names as damaged.
fn named(error: &StorageError, context: &str) -> PathBuf {
    assert_eq!(error.sql_state(), SqlState::DATA_CORRUPTED, "{context}: {error}");
    let StorageError::Corrupt { path, .. } = error else { panic!("{context}: {error}") };
    path.clone()
}

#[test]
fn a_flipped_bit_is_never_a_silent_difference() {
    let plan = Plan::record_alterations();
    let files = plan.fs.files();
    let kinds: [Vec<_>; 3] = [
        files.iter().filter(|(path, _)| is_log(path)).cloned().collect(),
        files.iter().filter(|(path, _)| is_manifest(path)).cloned().collect(),
        files.iter().filter(|(path, _)| is_data(path)).cloned().collect(),
    ];
    assert_eq!(kinds[1].len(), 3, "{files:?}");
    assert!(kinds[2].iter().any(|(path, _)| path.extension().unwrap() == "ends"), "{files:?}");
    assert_eq!(damaged_files(&plan.fs), Vec::<PathBuf>::new());
    let (mut refused, mut reported, mut on_reading, mut unread) = (0, 0, 0, 0);
    for seed in 0..scaled(600, 3_000) {
        let mut rng = SplitMix64::new(seed);
        let among = &kinds[usize::try_from(seed % 3).unwrap()];
        let (path, bit) = SimFileSystem::random_bit(among, &mut rng);
        let context = format!("seed {seed}: byte {}, bit {}, {path:?}", bit / 8, bit % 8);
        let fs = plan.fs.fork();
        fs.flip_bit(&path, bit);
        let before = fs.contents();
        let place = if is_log(&path) { Path::new("data/log") } else { &path };
        assert_eq!(damaged_files(&fs), [place], "{context}: inspection");
        let (store, report) = match open(&fs, &clock_at(START_MICROS)) {
            Ok(opened) => opened,
            Err(error) => {
                assert_eq!(named(&error, &context), path, "{context}: {error}");
                assert!(!is_manifest(&path), "{context}: older ones and the log make up for it");
                assert!(fs.contents() == before, "{context}: a refusal changes nothing");
                refused += 1;
                continue;
            }
        };
        let told = report.damaged.iter().any(|(file, _)| *file == path);
        let view = store.read_view();
        let table = view.table(plan.table).unwrap();
        match read_kept(table) {
            Ok(found) => {
                assert_kept(table, &found, plan.after.last().unwrap(), &context);
                // What an older manifest alone names is not read while the newest is whole.
                assert!(told || !is_log(&path), "{context}: not noticed");
                reported += u64::from(told);
                unread += u64::from(!told);
            }
            Err(error) => {
                assert_eq!(named(&error, &context), path, "{context}: {error}");
                on_reading += 1;
            }
        }
        writing_goes_on(&plan, &fs, store, &context);
    }
    let counts =
        format!("{refused} refused, {reported} told, {on_reading} on reading, {unread} unread");
    println!("{counts}");
    assert!(refused > 100 && reported > 50 && on_reading > 30, "{counts}");
}

/// A store with a damaged file that opened either refuses a write before it is logged, or takes it
/// and keeps it; checkpoints go on, and so does opening.
fn writing_goes_on(plan: &Plan, fs: &SimFileSystem, store: Store, context: &str) {
    let write = current_write(&store, plan.table, &[], &[row(5_000, "later")]);
    if let Err(error) = store.check_write(&write) {
        named(&error, context);
    } else {
        let written = store.propose_blocking(Command::Write(vec![write]));
        written.unwrap_or_else(|error| panic!("{context}: {error}"));
    }
    let position = store.read_view().position();
    store.checkpoint().unwrap_or_else(|error| panic!("{context}, checkpoint: {error}"));
    drop(store);
    let opened = open(fs, &clock_at(START_MICROS));
    let (store, _) = opened.unwrap_or_else(|error| panic!("{context}, again: {error}"));
    assert_eq!(store.read_view().position(), position, "{context}, again");
}

/// The newest manifests of a run, all damaged but the oldest.
#[test]
fn the_oldest_kept_manifest_and_the_log_hold_everything() {
    for rounds in 0..scaled(8, 30) {
        let plan = Plan::record_rounds(i64::try_from(rounds).unwrap());
        let files = plan.fs.files().into_iter().map(|(path, _)| path);
        let manifests: Vec<PathBuf> = files.filter(|path| is_manifest(path)).collect();
        assert_eq!(manifests.len(), 3, "{manifests:?}");
        for spared in [0, 1] {
            let fs = plan.fs.fork();
            manifests[spared + 1..].iter().for_each(|path| fs.flip_bit(path, 700));
            let (store, report) = open(&fs, &clock_at(START_MICROS)).unwrap();
            assert_eq!(report.damaged.len(), 2 - spared, "{report:?}");
            let view = store.read_view();
            let found = read_history(view.table(plan.table).unwrap()).unwrap();
            assert_eq!(Some(&found), plan.after.last(), "{rounds} rounds, {spared} spared");
        }
    }
}

#[test]
fn a_damaged_graph_is_told_and_built_again() {
    let (sim, clock) = (SimFileSystem::default(), clock_at(START_MICROS));
    let open_building = |sim: &SimFileSystem| {
        let files: Arc<dyn FileSystem> = Arc::new(sim.clone());
        let building = StoreOptions { index_threads: 1, ..options() };
        Store::open(building, files, Arc::<SteppedClock>::clone(&clock)).unwrap()
    };
    let (store, _) = open_building(&sim);
    let table = make_table(&store, "t");
    let rows: Vec<_> = (0..60).map(|key| row(key, "x")).collect();
    change_rows(&store, table, &[], &rows).unwrap();
    store.propose_blocking(create_index(table, "i")).unwrap();
    let covered = |store: &Store| {
        store
            .read_view()
            .table(table)
            .unwrap()
            .contents()
            .indexes()
            .map(|i| i.covered())
            .sum::<u32>()
    };
    let until_covered = |store: &Store, rows: u32| {
        while covered(store) < rows {
            std::thread::yield_now();
        }
    };
    until_covered(&store, 60);
    store.checkpoint().unwrap();
    let expected = history_of(&store, table);
    drop(store);
    let graphs: Vec<(PathBuf, u64)> = sim.files().into_iter().filter(|f| is_graph(&f.0)).collect();
    assert_eq!(graphs.len(), 1);
    assert_eq!(covered(&open(&sim.fork(), &clock).unwrap().0), 60, "a whole graph is read");
    for seed in 0..scaled(100, 1_000) {
        let (path, bit) = SimFileSystem::random_bit(&graphs, &mut SplitMix64::new(seed));
        let fs = sim.fork();
        fs.flip_bit(&path, bit);
        let (store, report) = open(&fs, &clock).unwrap();
        let damaged: Vec<_> = report.damaged.iter().map(|(file, _)| file).collect();
        assert_eq!(damaged, [&path], "seed {seed}, bit {bit}");
        assert_eq!(covered(&store), 0, "seed {seed}: none of its links are used");
        assert_eq!(history_of(&store, table), expected, "seed {seed}");
        drop(store);
        if seed % 10 == 0 {
            let (store, _) = open_building(&fs);
            change_rows(&store, table, &[], &[row(1_000, "y")]).unwrap();
            until_covered(&store, 61);
            store.checkpoint().unwrap();
            drop(store);
            let (store, report) = open(&fs, &clock).unwrap();
            assert!(report.damaged.is_empty(), "seed {seed}: {report:?}");
            assert_eq!(covered(&store), 61, "seed {seed}: the graph was written again");
        }
    }
}

fn is_graph(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "graph")
}
