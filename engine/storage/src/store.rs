//! The replicated state machine: catalog and tables, changed by applying commands in log order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use catalog::{Catalog, Define, Defined};
use parking_lot::{Mutex, RwLock};
use types::{Clock, CommitTs, IndexId, Lsn, SplitMix64, TableId};

use crate::command::{Command, TableWrite};
use crate::commit::{Applied, CommitLog, Effect, LocalLog, Outcome};
use crate::error::{Rejection, StorageError, format_micros};
use crate::flush::{Flush, Place};
use crate::fs::{DirectoryLock, FileSystem};
use crate::indexer::Indexer;
use crate::manifest::{self, CheckpointFile, Manifest, Restored};
use crate::memtable::{Table, VectorIndex};
use crate::wal::{self, LogOptions, LogPosition, RecoveryReport, StoreId};

/// How far in the future an instant may lie that a read waits for.
const FUTURE_MICROS_MAX: i64 = 500_000;
/// Log bytes that may come after a checkpoint, in units of what makes the next one due.
const BACKLOG_CHECKPOINTS: u64 = 4;
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

/// The state after one commit.
#[derive(Debug, Clone)]
struct State {
    position: LogPosition,
    catalog: Arc<Catalog>,
    tables: Arc<BTreeMap<TableId, Arc<Table>>>,
}

impl Default for State {
    fn default() -> Self {
        Self { position: LogPosition::START, catalog: Arc::default(), tables: Arc::default() }
    }
}

/// The state as of an instant. Pinned once per statement and handed down by value.
#[derive(Debug, Clone)]
pub struct ReadView {
    at: CommitTs,
    state: Arc<State>,
}

impl ReadView {
    /// The instant.
    #[must_use]
    pub fn at(&self) -> CommitTs {
        self.at
    }

    /// The catalog; ask it for what exists [`ReadView::at`] the instant.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.state.catalog
    }

    /// A table by id, whether it still exists or not.
    #[must_use]
    pub fn table(&self, id: TableId) -> Option<&Arc<Table>> {
        self.state.tables.get(&id)
    }

    /// The same state as of an earlier instant.
    ///
    /// # Errors
    /// When `at` lies before the first commit or after this view's last one.
    pub fn as_of(&self, at: CommitTs) -> Result<Self, StorageError> {
        let out_of_range = |why: String| StorageError::InstantOutOfRange { instant: at, why };
        if at < self.state.catalog.genesis {
            let earliest = format_micros(self.state.catalog.genesis);
            return Err(out_of_range(format!("before the earliest readable instant, {earliest}")));
        }
        if at > self.state.position.commit_ts {
            return Err(out_of_range("after the last commit".to_owned()));
        }
        Ok(Self { at, state: Arc::clone(&self.state) })
    }

    /// The last entry of the log that this view's state holds.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        self.state.position
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.state.tables.values()
    }
}

/// Applies commands; owned by the store and its threads.
#[derive(Debug)]
pub(crate) struct Machine {
    state: RwLock<Arc<State>>,
    indexer: Indexer,
    chunk_bits: u32,
    /// Log bytes since the last checkpoint.
    log_bytes: AtomicU64,
}

impl Machine {
    fn view(&self) -> ReadView {
        let state = Arc::clone(&self.state.read());
        ReadView { at: state.position.commit_ts, state }
    }

    /// Applies one entry. The outcome depends on the state and the command alone.
    pub(crate) fn apply(
        &self,
        command: &Command,
        position: LogPosition,
        bytes: usize,
    ) -> Result<Outcome, StorageError> {
        let before = Arc::clone(&self.state.read());
        let mut after = State { position, ..State::clone(&before) };
        let outcome = match command {
            Command::Write(writes) => apply_writes(&before, writes, position.commit_ts)?,
            Command::Define(define) => {
                apply_define(&mut after, define, position.commit_ts, self.chunk_bits)?
            }
            Command::Tick => Ok(Effect::Ticked),
        };
        if matches!(outcome, Ok(Effect::Written | Effect::Defined(_))) {
            self.indexer.wake();
        }
        *self.state.write() = Arc::new(after);
        self.log_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(outcome)
    }
}

/// All tables are checked before the first one changes.
fn apply_writes(
    state: &State,
    writes: &[TableWrite],
    at: CommitTs,
) -> Result<Outcome, StorageError> {
    let mut checked = Vec::with_capacity(writes.len());
    for (place, write) in writes.iter().enumerate() {
        if writes[..place].iter().any(|earlier| earlier.table == write.table) {
            return Ok(Err(Rejection::Malformed("a command names a table twice")));
        }
        let alive = state.catalog.collection_by_id(write.table);
        let Some(table) = state.tables.get(&write.table) else {
            return Ok(Err(Rejection::TableGone));
        };
        if !alive.is_some_and(|collection| collection.life.contains(at)) {
            return Ok(Err(Rejection::TableGone));
        }
        match table.check(write)? {
            Ok(proof) => checked.push((table, write, proof)),
            Err(rejection) => return Ok(Err(rejection)),
        }
    }
    for (table, write, proof) in checked {
        table.apply(write, proof, at)?;
    }
    Ok(Ok(Effect::Written))
}

fn apply_define(
    state: &mut State,
    define: &Define,
    at: CommitTs,
    chunk_bits: u32,
) -> Result<Outcome, StorageError> {
    let (catalog, defined) = match state.catalog.define(define, at) {
        Ok(changed) => changed,
        Err(error) => return Ok(Err(Rejection::Catalog(error))),
    };
    match &defined {
        Defined::Collection(id) => {
            if let Some(collection) = catalog.collection_by_id(*id) {
                let table = Table::new(collection.clone(), chunk_bits);
                let table = table.map_err(StorageError::apply)?;
                let mut tables = BTreeMap::clone(&state.tables);
                tables.insert(*id, Arc::new(table));
                state.tables = Arc::new(tables);
            }
        }
        Defined::Index(id) => {
            if let Some(index) = catalog.index_by_id(*id)
                && let Some(table) = state.tables.get(&index.table)
            {
                let index = VectorIndex::new(index.clone(), table.collection());
                table.add_index(Arc::new(index));
            }
        }
        Defined::Dropped => {
            let gone = catalog.indexes_ever().filter(|index| index.life.dropped == Some(at));
            for index in gone {
                if let Some(table) = state.tables.get(&index.table) {
                    table.drop_index(index);
                }
            }
        }
        Defined::Namespace(_) => {}
    }
    state.catalog = Arc::new(catalog);
    Ok(Ok(Effect::Defined(defined)))
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
            _lock: lock,
        };
        if fresh {
            store.propose_blocking(Command::Define(Define::Genesis))?;
        }
        Ok((store, report))
    }

    /// The newest state.
    #[must_use]
    pub fn read_view(&self) -> ReadView {
        self.machine.view()
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

    /// Waits until `index` covers `rows` ordinals; false when the index is gone.
    ///
    /// # Errors
    /// When a vector of the table is damaged.
    pub async fn wait_indexed(
        &self,
        table: TableId,
        index: IndexId,
        rows: u32,
    ) -> Result<bool, StorageError> {
        loop {
            let mut progress = self.machine.indexer.progress();
            let view = self.read_view();
            let Some(table) = view.table(table) else { return Ok(false) };
            match table.index(index) {
                None => return Ok(false),
                Some(index) if index.covered() >= rows => return Ok(true),
                Some(_) => {
                    table.rows().check_damage()?;
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
        self.checkpoint_after(&mut self.checkpointing.lock())
    }

    fn checkpoint_after(
        &self,
        last: &mut Checkpoints,
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
        let written =
            Flush::run(place, &view, previous, next_file).and_then(|(manifest, moved)| {
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
        for (table, segments) in moved {
            table.move_to(segments);
        }
        self.machine.log_bytes.fetch_sub(counted, Ordering::Relaxed);
        if let Some(oldest) = manifest::remove_old(fs, directory)? {
            wal::purge(fs, &directory.join(LOG_DIRECTORY), oldest)?;
        }
        manifest::remove_unnamed(fs, directory)?;
        Ok(Some(file))
    }

    /// Refuses a write that could not be applied because of damage, before it is proposed.
    ///
    /// # Errors
    /// When the files by which keys are looked up are damaged.
    pub fn check_write(&self, write: &TableWrite) -> Result<(), StorageError> {
        let view = self.read_view();
        let table = view.table(write.table).filter(|_| write.begun.is_some());
        table.map_or(Ok(()), |table| table.check_lookup())
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
            self.checkpoint_after(&mut last)?;
        }
        Ok(())
    }

    /// Whether the log has grown so far that a checkpoint is due.
    #[must_use]
    pub fn checkpoint_due(&self) -> bool {
        self.options.automatic_checkpoints
            && self.checkpointing.try_lock().is_some()
            && self.machine.log_bytes.load(Ordering::Relaxed) >= self.options.checkpoint_log_bytes
    }

    /// Answers every proposal taken, stops the threads and writes a last checkpoint.
    ///
    /// # Errors
    /// When the checkpoint cannot be written; the log holds everything then.
    pub fn close(&self) -> Result<(), StorageError> {
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

impl Machine {
    fn new(state: State, chunk_bits: u32, index_threads: usize) -> Self {
        Self {
            state: RwLock::new(Arc::new(state)),
            indexer: Indexer::new(index_threads),
            chunk_bits,
            log_bytes: AtomicU64::new(0),
        }
    }

    /// Applies an entry read from the log.
    fn replay(&self, entry: &wal::Entry) -> Result<(), StorageError> {
        let state = Arc::clone(&self.state.read());
        let schema_of = |id| state.tables.get(&id).map(|table| Arc::clone(table.schema()));
        let command = Command::decode(&entry.payload, schema_of).map_err(StorageError::apply)?;
        let position =
            LogPosition { term: entry.term, index: entry.index, commit_ts: entry.commit_ts };
        // A rejection was reported when the entry was first applied.
        let _outcome = self.apply(&command, position, entry.payload.len())?;
        Ok(())
    }

    /// Tables with an index that does not cover all rows.
    pub(crate) fn uncovered(&self) -> Vec<(Arc<Table>, Arc<VectorIndex>)> {
        let state = Arc::clone(&self.state.read());
        let mut found = Vec::new();
        for table in state.tables.values() {
            let rows = table.rows().len();
            for index in table.indexes() {
                if index.covered() < rows {
                    found.push((Arc::clone(table), index));
                }
            }
        }
        found
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
            if table.index(definition.id).is_none() {
                let index = VectorIndex::new(definition.clone(), table.collection());
                table.add_index(Arc::new(index));
            }
        }
        tables.insert(collection.id, Arc::new(table));
    }
    Ok(State {
        position: *position,
        catalog: Arc::new(manifest.catalog.clone()),
        tables: Arc::new(tables),
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
