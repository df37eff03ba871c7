//! An open data directory: opening, checkpoints, vacuum, closing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use catalog::{Define, Sequence, SequencePosition};
use parking_lot::Mutex;
use types::limits::TABLE_VERSIONS_MAX;
use types::{Clock, CommitTs, IndexId, Lsn, RowId, SplitMix64, TableId};

use crate::aside;
use crate::command::{Command, TableWrite};
use crate::commit::{Applied, CommitLog, LocalLog};
use crate::error::StorageError;
use crate::flush::{Flush, Horizons, Moved, Place, vacuum_due};
use crate::fs::{DirectoryLock, FileSystem};
use crate::machine::Machine;
use crate::manifest::{self, CheckpointFile, Manifest, Restored};
use crate::memtable::Table;
use crate::mvcc::{ReadView, Retention, State, Thorough};
use crate::progress::{Pace, Phase, Progress, Working};
use crate::sequences::Sequences;
use crate::transaction::Transaction;
use crate::wal::{self, LogOptions, LogPosition, RecoveryReport, StoreId};

/// How far in the future an instant may lie that a read waits for.
const FUTURE_MICROS_MAX: i64 = 500_000;
/// Time between two vacuums that nobody asked for.
const VACUUM_MICROS: i64 = 60_000_000;
/// Log bytes that may come after a checkpoint, in units of what makes the next one due.
const BACKLOG_CHECKPOINTS: u64 = 4;
/// Log bytes from which a checkpoint no longer takes its time, in the same unit.
const HURRY_CHECKPOINTS: u64 = 2;
const LOCK_FILE: &str = "LOCK";
pub(crate) const LOG_DIRECTORY: &str = "log";

/// Settings of a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The data directory; made when absent.
    pub directory: PathBuf,
    /// Bytes of a log file.
    pub log_file_bytes: usize,
    /// A checkpoint is written when the log has grown by this much.
    pub checkpoint_log_bytes: u64,
    /// Rows of a chunk are two to the power of this; a data directory keeps what it began with.
    pub chunk_bits: u32,
    /// Threads that build indexes; 0 leaves rows uncovered, which tests use.
    pub index_threads: usize,
    /// Whether checkpoints are written without being asked for.
    pub automatic_checkpoints: bool,
    /// Bytes that checkpoints which nobody asked for write in a second while no writer waits for them;
    /// 0 for as fast as the disk takes them.
    pub checkpoint_bytes_per_second: u64,
    /// Seed of salts and ids.
    pub seed: u64,
}

impl StoreOptions {
    /// The settings of a server for `directory`.
    #[must_use]
    pub fn new(directory: &Path, seed: u64) -> Self {
        Self {
            directory: directory.to_owned(),
            log_file_bytes: 16 << 20,
            checkpoint_log_bytes: 64 << 20,
            chunk_bits: 12,
            index_threads: std::thread::available_parallelism().map_or(1, usize::from).min(8),
            automatic_checkpoints: true,
            checkpoint_bytes_per_second: 256 << 20,
            seed,
        }
    }
}

/// What opening a store found.
#[derive(Debug, Clone)]
pub struct OpenReport {
    /// Position of the manifest that was read; `None` when there was none.
    pub checkpoint: Option<Lsn>,
    /// Damaged files that something else made up for: manifests or files they name, where an older
    /// manifest and the log were read in their place, and graphs, which are built again.
    pub damaged: Vec<(PathBuf, String)>,
    /// What the log held.
    pub log: RecoveryReport,
}

/// What the next checkpoint builds on.
#[derive(Debug, Default)]
struct Checkpoints {
    newest: Option<(Lsn, Manifest)>,
    next_file: u64,
}

/// An open data directory.
#[derive(Debug)]
pub struct Store {
    options: StoreOptions,
    fs: Arc<dyn FileSystem>,
    clock: Arc<dyn Clock>,
    machine: Arc<Machine>,
    log: LocalLog,
    store_id: StoreId,
    /// Held while a checkpoint is written.
    checkpointing: Mutex<Checkpoints>,
    /// When ended rows are looked for next.
    next_vacuum: AtomicI64,
    progress: Progress,
    _lock: Box<dyn DirectoryLock>,
}

impl Store {
    /// Opens a data directory: newest whole manifest, then the log behind it.
    ///
    /// # Errors
    /// When the directory is in use, a file is damaged or missing, or the system refuses. Nothing
    /// that holds data is changed then.
    pub fn open(
        options: StoreOptions,
        fs: Arc<dyn FileSystem>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, OpenReport), StorageError> {
        let directory = options.directory.clone();
        let log_directory = directory.join(LOG_DIRECTORY);
        fs.create_dir_all(&log_directory)
            .map_err(|e| StorageError::io("create", &log_directory, e))?;
        let lock = lock(&*fs, &directory)?;
        let Newest { state, checkpoints, passed_over, mut damaged } =
            newest_manifest(&*fs, &directory)?;
        let checkpoint = state.as_ref().map(|(store, state)| (*store, state.position));
        let chunk_bits = match &checkpoints.newest {
            Some((_, manifest)) => manifest.chunk_bits,
            None => options.chunk_bits,
        };
        let state = state.map(|(_, state)| state).unwrap_or_default();
        let machine = Arc::new(Machine::new(state, chunk_bits, options.index_threads));
        let log_options = LogOptions {
            directory: log_directory,
            file_bytes: options.log_file_bytes,
            may_be_fresh: checkpoint.is_none() && passed_over.is_empty(),
        };
        let rng = SplitMix64::new(options.seed);
        let recovered =
            wal::recover(&fs, &log_options, checkpoint, rng, |entry| machine.replay(&entry));
        let (writer, log_report) = match (recovered, passed_over.first()) {
            (Ok(recovered), _) => recovered,
            // The log cannot make up for what is damaged.
            (Err(StorageError::Corrupt { .. }), Some((_, damage))) if checkpoint.is_none() => {
                return Err(damage.clone());
            }
            (Err(error), damage) => return Err(name_damaged(error, damage.map(|(_, e)| e))),
        };
        for (path, damage) in &passed_over {
            manifest::set_aside(&*fs, &directory, path)?;
            let path = match damage {
                StorageError::Corrupt { path, .. } => path,
                _ => path,
            };
            damaged.push((path.clone(), damage.to_string()));
        }
        manifest::remove_half_made(&*fs, &directory)?;
        if checkpoint.is_some() {
            manifest::remove_unnamed(&*fs, &directory)?;
        }
        let store_id = writer.store_id();
        let fresh = writer.position() == LogPosition::START;
        let log = LocalLog::start(writer, Arc::clone(&machine), Arc::clone(&clock))?;
        machine.indexer.start(&machine)?;
        let report = OpenReport {
            checkpoint: checkpoint.map(|(_, position)| position.index),
            damaged,
            log: log_report,
        };
        let store = Self {
            options,
            fs,
            clock,
            machine,
            log,
            store_id,
            checkpointing: Mutex::new(checkpoints),
            next_vacuum: AtomicI64::new(0),
            progress: Progress::default(),
            _lock: lock,
        };
        if fresh {
            store.propose_blocking(Command::Define(Define::Genesis))?;
        }
        Ok((store, report))
    }

    /// Keeps `content` in a file of the data directory that nothing depends on, in the place of what
    /// it held.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_aside(&self, name: &str, content: &[u8]) -> Result<(), StorageError> {
        aside::write(&*self.fs, &self.options.directory, name, content)
    }

    /// What [`Store::write_aside`] kept; `None` when there is nothing.
    ///
    /// # Errors
    /// When the file is damaged or cannot be read.
    pub fn read_aside(&self, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
        aside::read(&*self.fs, &self.options.directory, name)
    }

    /// The newest state.
    #[must_use]
    pub fn read_view(&self) -> ReadView {
        self.machine.view()
    }

    /// A transaction at the newest state.
    #[must_use]
    pub fn begin(&self) -> Transaction {
        Transaction::new(self.read_view(), self.machine.chunk_bits)
    }

    /// The way to change anything.
    #[must_use]
    pub fn commit_log(&self) -> &dyn CommitLog {
        &self.log
    }

    /// Proposes a command and waits; not for use on an async executor.
    ///
    /// # Errors
    /// As [`CommitLog::propose`].
    pub fn propose_blocking(&self, command: Command) -> Result<Applied, StorageError> {
        let mut reply = self.log.propose(command);
        let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = std::task::Context::from_waker(&waker);
        loop {
            match reply.as_mut().poll(&mut context) {
                std::task::Poll::Ready(answer) => return answer,
                std::task::Poll::Pending => std::thread::park(),
            }
        }
    }

    fn tell(&self, define: Define) -> Result<(), StorageError> {
        self.propose_blocking(Command::Define(define)).map(|_| ())
    }

    /// The next `count` values of a sequence; not for use on an async executor, as some values wait for
    /// the log.
    ///
    /// # Errors
    /// At the end of the sequence, or when it is gone.
    pub fn next_values(
        &self,
        view: &ReadView,
        sequence: &Sequence,
        count: usize,
    ) -> Result<Vec<i64>, StorageError> {
        view.sequences().take(sequence, count, &|define| self.tell(define))
    }

    /// Sets a sequence; like [`Store::next_values`].
    ///
    /// # Errors
    /// When the sequence is gone.
    pub fn set_sequence(
        &self,
        view: &ReadView,
        sequence: &Sequence,
        position: SequencePosition,
    ) -> Result<(), StorageError> {
        view.sequences().put(sequence, position, &|define| self.tell(define))
    }

    /// Makes sure that no later commit gets a timestamp at or before `at`, by moving the log's time
    /// past it when it is not there yet. After this a view as of `at` never changes.
    ///
    /// # Errors
    /// When `at` lies further in the future than a read waits for.
    pub async fn close_instant(&self, at: CommitTs) -> Result<(), StorageError> {
        if at.0 > self.clock.now_micros() + FUTURE_MICROS_MAX {
            let why = "in the future".to_owned();
            return Err(StorageError::InstantOutOfRange { instant: at, why });
        }
        while self.read_view().at() < at {
            let ahead = at.0 - self.clock.now_micros();
            if let Ok(micros @ 1..) = u64::try_from(ahead) {
                tokio::time::sleep(std::time::Duration::from_micros(micros)).await;
            }
            self.log.propose(Command::Tick).await?;
        }
        Ok(())
    }

    /// Waits until `index` covers all rows older than `before`; false when the index is gone.
    ///
    /// # Errors
    /// When a vector of the table is damaged.
    pub async fn wait_indexed(
        &self,
        table: TableId,
        index: IndexId,
        before: RowId,
    ) -> Result<bool, StorageError> {
        loop {
            let mut progress = self.machine.indexer.progress();
            let view = self.read_view();
            let Some(table) = view.table(table) else { return Ok(false) };
            let contents = table.contents();
            let rows = &contents.rows;
            match contents.index(index) {
                None => return Ok(false),
                Some(index) if index.covered() >= rows.ordinals_before(before) => return Ok(true),
                Some(_) => {
                    rows.check_damage()?;
                    if progress.changed().await.is_err() {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Writes a checkpoint of the newest state: moves full chunks to segments, writes a manifest, and
    /// removes log files, manifests and data files that are no longer needed. `None` when there was
    /// nothing new to write.
    ///
    /// # Errors
    /// When a file cannot be written; the log stays whole then.
    pub fn checkpoint(&self) -> Result<Option<CheckpointFile>, StorageError> {
        self.checkpoint_after(&mut self.checkpointing.lock(), Thorough::Nowhere, false)
    }

    /// Writes a checkpoint if one is due.
    ///
    /// # Errors
    /// As [`Store::checkpoint`].
    pub fn maintain(&self) -> Result<Option<CheckpointFile>, StorageError> {
        let Some(mut last) = self.checkpointing.try_lock() else { return Ok(None) };
        if !self.options.automatic_checkpoints {
            return Ok(None);
        }
        let grown = self.machine.log_bytes.load(Ordering::Relaxed);
        let now = self.clock.now_micros();
        if grown < self.options.checkpoint_log_bytes {
            if now < self.next_vacuum.load(Ordering::Relaxed) {
                return Ok(None);
            }
            self.next_vacuum.store(now + VACUUM_MICROS, Ordering::Relaxed);
            let view = self.read_view();
            let (pins, thorough) = (&*self.machine.pins, Thorough::Nowhere);
            let retention = Retention { pins, view: &view, now, thorough };
            if !view.tables().any(|table| vacuum_due(table, &retention)) {
                return Ok(None);
            }
            self.move_past(&last)?;
        }
        self.checkpoint_after(&mut last, Thorough::Nowhere, true)
    }

    /// A manifest is named by its entry: makes sure that there is one after the last manifest.
    fn move_past(&self, last: &Checkpoints) -> Result<(), StorageError> {
        let written = last.newest.as_ref().map(|(index, _)| *index);
        if written == Some(self.read_view().position().index) {
            self.propose_blocking(Command::Tick)?;
        }
        Ok(())
    }

    /// Drops the row versions of `table`, or of all tables, that ended longer ago than the table's
    /// retention and that nothing pinned needs; ended ones that are kept are taken out of the way
    /// of the others. Versions younger than the last full chunk stay. Reads before the instant
    /// that the retention allows are refused from then on.
    ///
    /// # Errors
    /// As [`Store::checkpoint`], and when a segment is damaged.
    pub fn vacuum(&self, table: Option<TableId>) -> Result<(), StorageError> {
        let mut last = self.checkpointing.lock();
        self.move_past(&last)?;
        self.checkpoint_after(&mut last, table.map_or(Thorough::Everywhere, Thorough::In), false)?;
        Ok(())
    }

    fn checkpoint_after(
        &self,
        last: &mut Checkpoints,
        thorough: Thorough,
        paced: bool,
    ) -> Result<Option<CheckpointFile>, StorageError> {
        let Checkpoints { newest, next_file } = last;
        let view = self.read_view();
        let position = view.position();
        if newest.as_ref().is_some_and(|(index, _)| *index >= position.index) {
            return Ok(None);
        }
        let (fs, directory) = (&*self.fs, self.options.directory.as_path());
        let counted = self.machine.log_bytes.load(Ordering::Relaxed);
        let chunk_bits = self.machine.chunk_bits;
        let place = Place { fs, directory, store: self.store_id, chunk_bits };
        let previous = newest.as_ref().map(|(_, manifest)| manifest);
        let horizons = Retention {
            pins: &self.machine.pins,
            view: &view,
            now: self.clock.now_micros(),
            thorough,
        };
        let _end = self.progress.begin(thorough != Thorough::Nowhere);
        let hurry = self.options.checkpoint_log_bytes.saturating_mul(HURRY_CHECKPOINTS);
        let urgent = || !paced || self.machine.log_bytes.load(Ordering::Relaxed) >= hurry;
        let bytes_per_second = self.options.checkpoint_bytes_per_second;
        let pace = Pace { bytes_per_second, urgent: &urgent };
        let with: (&dyn Horizons, &Progress, &Pace<'_>) = (&horizons, &self.progress, &pace);
        let flushed = Flush::run(place, &view, with, previous, next_file);
        let written = flushed.and_then(|(manifest, moved)| {
            self.progress.enter(None, Phase::Manifest, 0);
            let file = manifest::write(fs, directory, self.store_id, position, &manifest)?;
            Ok((manifest, moved, file))
        });
        let (manifest, moved, file) = match written {
            Ok(written) => written,
            Err(error) => {
                // What was made so far takes room that may be what is missing.
                let _ = manifest::remove_unnamed(fs, directory);
                return Err(error);
            }
        };
        *newest = Some((position.index, manifest));
        if !moved.is_empty() {
            moved.into_iter().for_each(Moved::finish);
            self.machine.indexer.wake();
        }
        self.machine.log_bytes.fetch_sub(counted, Ordering::Relaxed);
        if let Some(oldest) = manifest::remove_old(fs, directory)? {
            wal::purge(fs, &directory.join(LOG_DIRECTORY), oldest)?;
        }
        manifest::remove_unnamed(fs, directory)?;
        Ok(Some(file))
    }

    /// The checkpoint or vacuum that runs now.
    #[must_use]
    pub fn working(&self) -> Option<Working> {
        self.progress.now()
    }

    /// Bytes that rows in no segment, their keys, the ends of rows and graphs take; what is in files
    /// is not counted: its pages are the system's to keep or drop.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.read_view().tables().map(|table| table.memory_bytes()).sum()
    }

    /// Checks every byte of a table's files against its checksums: segments, ends, rows behind the
    /// segments, graphs. What is in the log alone is not looked at; a start reads it.
    ///
    /// # Errors
    /// With the first damage.
    pub fn check_table(&self, id: TableId) -> Result<(), StorageError> {
        let view = self.read_view();
        let Some(table) = view.table(id) else { return Ok(()) };
        {
            // No file goes while checkpoints wait.
            let last = self.checkpointing.lock();
            let files = last.newest.as_ref().and_then(|(_, manifest)| {
                Some((manifest, manifest.tables.iter().find(|files| files.table == id)?))
            });
            if let Some((manifest, files)) = files {
                let (fs, directory) = (&*self.fs, self.options.directory.as_path());
                let chunk_bits = manifest.chunk_bits;
                let place = Place { fs, directory, store: self.store_id, chunk_bits };
                place.check_small(&table.definition(), files)?;
            }
        }
        table.check_segments()
    }

    /// Refuses a write that could not be applied because of damage, before it is proposed.
    ///
    /// # Errors
    /// When the files by which keys are looked up are damaged, or the table has no room for more
    /// row versions.
    pub fn check_write(&self, write: &TableWrite) -> Result<(), StorageError> {
        let view = self.read_view();
        let Some(table) = view.table(write.table) else { return Ok(()) };
        let Some(batch) = &write.begun else { return Ok(()) };
        if u64::from(table.rows().len()) + batch.num_rows() as u64 > TABLE_VERSIONS_MAX {
            return Err(StorageError::TooManyVersions(TABLE_VERSIONS_MAX));
        }
        table.check_lookup()
    }

    /// Whether the log has grown so far past the last checkpoint that writing has to wait for one:
    /// what is not in segments is in memory.
    #[must_use]
    pub fn backlogged(&self) -> bool {
        let limit = self.options.checkpoint_log_bytes.saturating_mul(BACKLOG_CHECKPOINTS);
        self.options.automatic_checkpoints
            && self.machine.log_bytes.load(Ordering::Relaxed) >= limit
    }

    /// Writes a checkpoint unless another thread did while this one waited.
    ///
    /// # Errors
    /// As [`Store::checkpoint`].
    pub fn relieve(&self) -> Result<(), StorageError> {
        let mut last = self.checkpointing.lock();
        if self.backlogged() {
            self.checkpoint_after(&mut last, Thorough::Nowhere, false)?;
        }
        Ok(())
    }

    /// Answers every proposal taken, stops the threads and writes a last checkpoint.
    ///
    /// # Errors
    /// When the checkpoint cannot be written; the log holds everything then.
    pub fn close(&self) -> Result<(), StorageError> {
        // What cannot be given back is a gap.
        let _ = self.read_view().sequences().give_back(&|define| self.tell(define));
        self.stop();
        if self.log.failure().borrow().is_none() {
            self.checkpoint()?;
        }
        Ok(())
    }

    fn stop(&self) {
        self.log.close();
        self.machine.indexer.stop();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Keeps other processes out of a data directory.
pub(crate) fn lock(
    fs: &dyn FileSystem,
    directory: &Path,
) -> Result<Box<dyn DirectoryLock>, StorageError> {
    let path = directory.join(LOCK_FILE);
    fs.lock(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock => StorageError::InUse(directory.to_owned()),
        _ => StorageError::io("lock", &path, e),
    })
}

/// What the newest usable manifest gives.
#[derive(Default)]
struct Newest {
    state: Option<(StoreId, State)>,
    checkpoints: Checkpoints,
    /// Newer manifests, and why they are of no use.
    passed_over: Vec<(PathBuf, StorageError)>,
    /// Damaged files that are made again.
    damaged: Vec<(PathBuf, String)>,
}

fn newest_manifest(fs: &dyn FileSystem, directory: &Path) -> Result<Newest, StorageError> {
    let mut newest = Newest::default();
    for file in manifest::list(fs, directory)? {
        let restored = manifest::read(fs, &file.path).and_then(|restored| {
            let mut restored = restored;
            let state = restore(fs, directory, &mut restored, &mut newest.damaged)?;
            Ok((restored, state))
        });
        match restored {
            Ok((restored, state)) => {
                let Restored { store, position, manifest } = restored;
                newest.state = Some((store, state));
                newest.checkpoints.next_file = manifest.next_file;
                newest.checkpoints.newest = Some((position.index, manifest));
                break;
            }
            Err(error @ StorageError::Corrupt { .. }) => {
                newest.damaged.clear();
                newest.passed_over.push((file.path, error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(newest)
}

/// The state that a manifest names.
fn restore(
    fs: &dyn FileSystem,
    directory: &Path,
    restored: &mut Restored,
    damaged: &mut Vec<(PathBuf, String)>,
) -> Result<State, StorageError> {
    let Restored { store, position, manifest } = restored;
    let place = Place { fs, directory, store: *store, chunk_bits: manifest.chunk_bits };
    let mut tables = BTreeMap::new();
    for collection in manifest.catalog.collections_ever() {
        let table = Table::new(collection.clone(), manifest.chunk_bits);
        let table = table.map_err(StorageError::apply)?;
        let files = manifest.tables.iter_mut().find(|files| files.table == collection.id);
        if let Some(files) = files {
            place.restore(&table, files, &manifest.catalog, damaged)?;
        }
        for definition in manifest.catalog.indexes_of(collection.id, position.commit_ts) {
            // A graph that no file holds is built again.
            if table.contents().index(definition.id).is_none() {
                table.add_index(definition);
            }
        }
        tables.insert(collection.id, Arc::new(table));
    }
    Ok(State {
        position: *position,
        catalog: Arc::new(manifest.catalog.clone()),
        tables: Arc::new(tables),
        sequences: Arc::new(Sequences::restored(manifest.sequences.clone())),
    })
}

/// When the log cannot make up for a damaged manifest, both are named.
fn name_damaged(error: StorageError, damage: Option<&StorageError>) -> StorageError {
    match (error, damage) {
        (StorageError::Corrupt { path, offset, what }, Some(damage)) => StorageError::Corrupt {
            path,
            offset,
            what: format!("{what} (a checkpoint was passed over: {damage})"),
        },
        (error, _) => error,
    }
}
