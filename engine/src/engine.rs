//! An open database: the store, the CPU executor and what keeps the store in shape.

use std::path::Path;
use std::sync::Arc;

use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use parking_lot::Mutex;
use storage::fs::{FileSystem, OsFileSystem};
use storage::{FileReport, OpenReport, Store, StoreOptions};
use tokio::sync::watch;
use types::{Clock, Principal, SystemClock};

use crate::error::{EngineError, Result};
use crate::executor::Executor;
use crate::session::Session;
use crate::tuner::Tuner;

/// The part of memory that queries have whatever the store holds.
const QUERY_SHARE: usize = 8;
/// The part of memory by which the log may grow before a checkpoint is due.
const CHECKPOINT_SHARE: usize = 32;

/// Settings of an engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Settings of the store.
    pub store: StoreOptions,
    /// Threads that plan and run statements.
    pub cpu_threads: usize,
    /// Bytes that the store and running queries may hold together: rows in no segment yet, graphs,
    /// sorts, joins and groups. An eighth is left to queries whatever the store needs.
    pub memory_bytes: usize,
}

impl EngineOptions {
    /// The settings of a server for `directory`.
    #[must_use]
    pub fn new(directory: &Path, seed: u64) -> Self {
        Self {
            store: StoreOptions::new(directory, seed),
            cpu_threads: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: 4 << 30,
        }
    }
}

/// Reads every file of a data directory that no server uses against its checksums. With `details`
/// says what is in those of one kind: `log`, `manifest`, `segment`.
///
/// # Errors
/// When a server uses the directory, or the system refuses to read. Damage is told in the reports.
pub fn inspect(directory: &Path, details: Option<&str>) -> Result<Vec<FileReport>> {
    Ok(storage::inspect(&OsFileSystem, directory, details)?)
}

/// An open database.
#[derive(Debug)]
pub struct Engine {
    pub(crate) store: Arc<Store>,
    pub(crate) tuner: Arc<Tuner>,
    pub(crate) executor: Executor,
    pub(crate) runtime: Arc<RuntimeEnv>,
    pub(crate) cpu_threads: usize,
    /// What the store holds, in the account of queries.
    held: Mutex<MemoryReservation>,
    memory_bytes: usize,
}

impl Engine {
    /// Takes what the store holds from what queries may hold.
    fn account(&self) {
        let most = self.memory_bytes - self.memory_bytes / QUERY_SHARE;
        self.held.lock().resize(self.store.memory_bytes().min(most));
    }

    /// Opens the data directory of `options`, which may be empty or absent. Blocks while the
    /// checkpoint and the log are read.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(options: EngineOptions) -> Result<(Arc<Self>, OpenReport)> {
        Self::open_with(options, Arc::new(OsFileSystem), Arc::new(SystemClock))
    }

    /// Opens a database on a given file system and clock.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(
        options: EngineOptions,
        fs: Arc<dyn FileSystem>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Arc<Self>, OpenReport)> {
        let mut store_options = options.store;
        // Writers wait when four times as much is in no segment.
        let share = (options.memory_bytes / CHECKPOINT_SHARE) as u64;
        store_options.checkpoint_log_bytes = store_options.checkpoint_log_bytes.min(share);
        let (store, report) = Store::open(store_options, fs, Arc::clone(&clock))?;
        let tuner = Arc::new(Tuner::open(&store, clock)?);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_limit(options.memory_bytes, 1.0)
            .build_arc()
            .map_err(EngineError::from)?;
        let executor = Executor::new(options.cpu_threads)?;
        let cpu_threads = options.cpu_threads;
        let held = MemoryConsumer::new("store").register(&runtime.memory_pool);
        let engine = Self {
            store: Arc::new(store),
            tuner,
            executor,
            runtime,
            cpu_threads,
            held: Mutex::new(held),
            memory_bytes: options.memory_bytes,
        };
        engine.account();
        Ok((Arc::new(engine), report))
    }

    /// A session for `principal`.
    ///
    /// # Errors
    /// When DataFusion refuses our functions, which is a bug.
    pub fn session(self: &Arc<Self>, principal: Principal) -> Result<Session> {
        Session::new(Arc::clone(self), principal)
    }

    /// Writes a checkpoint now, on a thread of its own.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub async fn checkpoint(&self) -> Result<()> {
        let store = Arc::clone(&self.store);
        let written = self.executor.spawn_blocking(move || Ok(store.checkpoint()?));
        if let Some(file) = written.await? {
            tracing::info!(file = %file.path.display(), "wrote a checkpoint");
        }
        Ok(())
    }

    /// Brings the account of memory and what is known of searches up to date, and writes a checkpoint if one is due, on a thread of
    /// its own. To be called every second or so.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub async fn maintain(&self) -> Result<()> {
        self.account();
        let (store, tuner) = (Arc::clone(&self.store), Arc::clone(&self.tuner));
        let written = self.executor.spawn_blocking(move || {
            let written = store.maintain()?;
            if let Err(error) = tuner.maintain(&store) {
                // It is learned again.
                tracing::warn!(%error, "could not save what the tuner learned");
            }
            Ok(written)
        });
        if let Some(file) = written.await? {
            tracing::info!(file = %file.path.display(), "wrote a checkpoint");
        }
        Ok(())
    }

    /// Waits while more was written than checkpoints keep up with.
    ///
    /// # Errors
    /// When the checkpoint that would help cannot be written, for example for want of room.
    pub(crate) async fn admit_write(&self) -> Result<()> {
        if self.store.backlogged() {
            let store = Arc::clone(&self.store);
            self.executor.spawn_blocking(move || Ok(store.relieve()?)).await?;
        }
        Ok(())
    }

    /// Tells why writing stopped for good, once it has.
    #[must_use]
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.store.commit_log().failure()
    }

    /// Answers what was proposed, writes a last checkpoint and closes the log.
    ///
    /// # Errors
    /// When the checkpoint cannot be written; nothing is lost then.
    pub fn close(&self) -> Result<()> {
        self.tuner.stop();
        let saved = self.tuner.save(&self.store);
        self.store.close()?;
        saved
    }
}
