//! A disk that fills up: writes are refused and reads go on, a start needs no room, and when there is
//! room again, writing goes on. Nothing that was acknowledged is lost.

use storage::StorageError;
use storage::fs::{CrashPolicy, SimFileSystem};
use types::{Coded as _, SplitMix64, SqlState};

use crate::support::{
    START_MICROS, Versions, change_rows, clock_at, history_of, make_table, open, row, scaled,
};

#[test]
fn a_full_disk_stops_writes_alone_and_only_while_it_is_full() {
    let mut fs = SimFileSystem::default();
    let clock = clock_at(START_MICROS);
    let (mut store, _) = open(&fs, &clock).unwrap();
    let table = make_table(&store, "t");
    let (mut model, mut key) = (Versions::default(), 0);
    let mut rng = SplitMix64::new(1);
    for time in 0..scaled(20, 200) {
        let used: u64 = fs.files().iter().map(|(_, size)| size).sum();
        fs.set_capacity(used + rng.below(12_000));
        let error = loop {
            let rows = [row(key, &"x".repeat(usize::try_from(rng.below(1_500)).unwrap()))];
            key += 1;
            if key % 13 == 0 {
                let _ = store.checkpoint();
            }
            match change_rows(&store, table, &[], &rows) {
                Ok(applied) => model.apply(&[], &rows, applied.commit_ts),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, StorageError::DiskFull), "time {time}: {error}");
        assert_eq!(error.sql_state(), SqlState::DISK_FULL);
        assert_eq!(history_of(&store, table), model, "time {time}: reading goes on");
        match store.checkpoint() {
            Ok(_) | Err(StorageError::DiskFull) => {}
            Err(error) => panic!("time {time}: {error}"),
        }
        assert_eq!(history_of(&store, table), model, "time {time}: after a checkpoint");
        if rng.below(2) == 0 {
            drop(store);
            let used: u64 = fs.files().iter().map(|(_, size)| size).sum();
            fs = fs.crash(CrashPolicy::Random(time));
            fs.set_capacity(used);
            let opened = open(&fs, &clock);
            store =
                opened.unwrap_or_else(|error| panic!("time {time}: full at a start: {error}")).0;
            assert_eq!(history_of(&store, table), model, "time {time}: after a start");
        }
        fs.set_capacity(u64::MAX);
        let rows = [row(key, "room again")];
        key += 1;
        let applied = change_rows(&store, table, &[], &rows);
        let applied = applied.unwrap_or_else(|error| panic!("time {time}: {error}"));
        model.apply(&[], &rows, applied.commit_ts);
    }
}
