//! Commands that commit while a checkpoint is being written: the checkpoint holds the state of its
//! position, the log the rest, and both fit together.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use arrow::buffer::Buffer;
use catalog::Define;
use storage::fs::{CrashPolicy, DirectoryLock, File, FileSystem, SimFileSystem};
use storage::{Command, StorageError, Store};
use types::{SteppedClock, TableId};

use crate::support::{
    START_MICROS, change_rows, clock_at, create_index, history_of, make_table, open, options, row,
};

/// A file system that stops before it makes the first file of a checkpoint, once, and waits there.
#[derive(Debug)]
struct Pausing {
    inner: SimFileSystem,
    armed: AtomicBool,
    /// Met when the file is about to be made, and again to go on.
    meeting: Barrier,
}

impl FileSystem for Pausing {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.inner.list(directory)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let name = path.file_name().unwrap().to_string_lossy();
        if name.ends_with(".segment") && self.armed.swap(false, Ordering::SeqCst) {
            self.meeting.wait();
            self.meeting.wait();
        }
        self.inner.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.inner.open(path)
    }

    fn map(&self, path: &Path) -> io::Result<Buffer> {
        self.inner.map(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.inner.sync_dir(directory)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        self.inner.lock(path)
    }
}

/// A store with a table of three rows, and one without a key whose files are written later, on a
/// file system that can pause.
struct Stage {
    fs: Arc<Pausing>,
    clock: Arc<SteppedClock>,
    store: Store,
    table: TableId,
    keyless: TableId,
}

fn stage() -> Stage {
    let (inner, clock) = (SimFileSystem::default(), clock_at(START_MICROS));
    let fs = Arc::new(Pausing { inner, armed: AtomicBool::new(false), meeting: Barrier::new(2) });
    let files: Arc<dyn FileSystem> = Arc::<Pausing>::clone(&fs);
    let (store, _) = Store::open(options(), files, Arc::<SteppedClock>::clone(&clock)).unwrap();
    let table = make_table(&store, "t");
    let keyless = make_table(&store, "keyless");
    for table in [table, keyless] {
        change_rows(&store, table, &[], &[row(1, "a"), row(2, "b"), row(3, "c")]).unwrap();
    }
    Stage { fs, clock, store, table, keyless }
}

impl Stage {
    /// Writes a checkpoint, and has `meanwhile` happen after its view was taken and before its
    /// first byte is written.
    fn checkpoint_while(&self, meanwhile: impl FnOnce() -> Result<(), StorageError>) {
        self.fs.armed.store(true, Ordering::SeqCst);
        let (done, written) = thread::scope(|scope| {
            let writing = scope.spawn(|| self.store.checkpoint());
            self.fs.meeting.wait();
            let done = meanwhile();
            self.fs.meeting.wait();
            (done, writing.join().unwrap())
        });
        done.unwrap();
        assert!(written.unwrap().is_some());
    }

    /// After a power cut the checkpoint is whole and all is as it was.
    fn assert_recovers(self) -> Store {
        let tables = [self.table, self.keyless];
        let expected = tables.map(|table| history_of(&self.store, table));
        let (position, catalog) = {
            let view = self.store.read_view();
            (view.position(), view.catalog().clone())
        };
        drop(self.store);
        let after = self.fs.inner.crash(CrashPolicy::LoseUnsynced);
        let (store, report) = open(&after, &self.clock).unwrap();
        assert!(report.damaged.is_empty(), "{:?}", report.damaged);
        assert!(report.checkpoint.is_some_and(|index| index < position.index), "{report:?}");
        assert_eq!(store.read_view().position(), position);
        assert!(*store.read_view().catalog() == catalog, "the catalogs differ");
        assert_eq!(tables.map(|table| history_of(&store, table)), expected);
        store
    }
}

#[test]
fn rows_that_come_and_go_meanwhile_are_left_to_the_log() {
    let stage = stage();
    let table = stage.table;
    stage.checkpoint_while(|| {
        for table in [table, stage.keyless] {
            change_rows(&stage.store, table, &[0], &[row(4, "new"), row(1, "moved")])?;
            change_rows(&stage.store, table, &[1, 3], &[])?;
            change_rows(&stage.store, table, &[], &[row(7, "x"), row(8, "y"), row(9, "z")])?;
        }
        Ok(())
    });
    let living: Vec<usize> = history_of(&stage.assert_recovers(), table).living().collect();
    assert_eq!(living, [2, 4, 5, 6, 7]);
}

#[test]
fn an_index_made_meanwhile_does_not_spoil_the_checkpoint() {
    let stage = stage();
    let table = stage.table;
    stage.checkpoint_while(|| {
        stage.store.propose_blocking(create_index(table, "i"))?;
        Ok(())
    });
    let store = stage.assert_recovers();
    assert_eq!(store.read_view().table(table).unwrap().contents().indexes().count(), 1);
}

#[test]
fn an_index_dropped_meanwhile_stays_dropped() {
    let stage = stage();
    let table = stage.table;
    stage.store.propose_blocking(create_index(table, "i")).unwrap();
    let contents = stage.store.read_view().table(table).unwrap().contents();
    let id = contents.indexes().next().unwrap().definition().id;
    stage.checkpoint_while(|| {
        stage.store.propose_blocking(Command::Define(Define::DropIndex { id }))?;
        Ok(())
    });
    let store = stage.assert_recovers();
    assert_eq!(store.read_view().table(table).unwrap().contents().indexes().count(), 0);
}

#[test]
fn tables_made_and_dropped_meanwhile_are_left_to_the_log() {
    let stage = stage();
    let gone = make_table(&stage.store, "gone");
    stage.checkpoint_while(|| {
        let made = make_table(&stage.store, "made");
        change_rows(&stage.store, made, &[], &[row(1, "x")])?;
        stage.store.propose_blocking(Command::Define(Define::DropCollection { id: gone }))?;
        Ok(())
    });
    let store = stage.assert_recovers();
    let view = store.read_view();
    let names: Vec<_> = view.catalog().collections(view.at()).map(|c| c.name.clone()).collect();
    assert_eq!(names, ["t", "keyless", "made"]);
}
