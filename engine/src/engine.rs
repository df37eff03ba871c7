//! An open database: the store, the CPU executor and what keeps the store in shape.

use std::path::Path;
use std::sync::Arc;

use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use storage::fs::{FileSystem, OsFileSystem};
use storage::{FileReport, OpenReport, Store, StoreOptions};
use tokio::sync::watch;
use types::{Clock, Principal, SystemClock};

use crate::error::{EngineError, Result};
use crate::executor::Executor;
use crate::session::Session;

/// Settings of an engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Settings of the store.
    pub store: StoreOptions,
    /// Threads that plan and run statements.
    pub cpu_threads: usize,
    /// Bytes that running queries may hold in sorts, joins and groups.
    pub query_memory_bytes: usize,
}

impl EngineOptions {
    /// The settings of a server for `directory`.
    #[must_use]
    pub fn new(directory: &Path, seed: u64) -> Self {
        Self {
            store: StoreOptions::new(directory, seed),
            cpu_threads: std::thread::available_parallelism().map_or(1, usize::from),
            query_memory_bytes: 2 << 30,
        }
    }
}

/// Reads every file of a data directory that no server uses against its checksums.
///
/// # Errors
/// When a server uses the directory, or the system refuses to read. Damage is told in the reports.
pub fn inspect(directory: &Path) -> Result<Vec<FileReport>> {
    Ok(storage::inspect(&OsFileSystem, directory)?)
}

/// An open database.
#[derive(Debug)]
pub struct Engine {
    pub(crate) store: Arc<Store>,
    pub(crate) executor: Executor,
    pub(crate) runtime: Arc<RuntimeEnv>,
    pub(crate) cpu_threads: usize,
}

impl Engine {
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
        let (store, report) = Store::open(options.store, fs, clock)?;
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_limit(options.query_memory_bytes, 1.0)
            .build_arc()
            .map_err(EngineError::from)?;
        let executor = Executor::new(options.cpu_threads)?;
        let cpu_threads = options.cpu_threads;
        let engine = Self { store: Arc::new(store), executor, runtime, cpu_threads };
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

    /// Writes a checkpoint if one is due, on a thread of its own.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub async fn maintain(&self) -> Result<()> {
        let store = Arc::clone(&self.store);
        let written = self.executor.spawn_blocking(move || Ok(store.maintain()?));
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
        Ok(self.store.close()?)
    }
}
