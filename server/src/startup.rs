//! Starting and stopping, step by step: database, listener, background checkpoints. The listener
//! opens last, so a client never meets a half-recovered database.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::{Engine, EngineOptions, OpenReport};
use pgwire_server::{Listener, ServerOptions};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::ServerConfig;
use crate::error::ServerError;

/// Time between two looks at whether a checkpoint is due.
const CHECKPOINT_PERIOD: Duration = Duration::from_secs(1);

/// A running server.
#[derive(Debug)]
pub struct Running {
    engine: Arc<Engine>,
    address: SocketAddr,
    report: OpenReport,
    stop: CancellationToken,
    listener: JoinHandle<()>,
    checkpoints: JoinHandle<()>,
}

/// Opens the database and begins to serve.
///
/// # Errors
/// When the database cannot be opened or the address cannot be bound.
pub async fn start(config: &ServerConfig) -> Result<Running, ServerError> {
    let options = engine_options(config);
    let opened = tokio::task::spawn_blocking(move || Engine::open(options)).await;
    let (engine, report) = opened.map_err(|e| ServerError::Start(std::io::Error::other(e)))??;
    let server = ServerOptions { connections_max: config.connections_max, ..Default::default() };
    let listener = Listener::bind(config.pg, Arc::clone(&engine), server)
        .await
        .map_err(|source| ServerError::Listen { address: config.pg, source })?;
    let address = listener.address().map_err(ServerError::Start)?;
    let stop = CancellationToken::new();
    let checkpoints = tokio::spawn(write_checkpoints(Arc::clone(&engine), stop.clone()));
    let listener = tokio::spawn(listener.serve(stop.clone()));
    Ok(Running { engine, address, report, stop, listener, checkpoints })
}

fn engine_options(config: &ServerConfig) -> EngineOptions {
    // The standard library seeds each hasher from the system's random source.
    let seed = RandomState::new().build_hasher().finish();
    let mut options = EngineOptions::new(&config.data, seed);
    if let Some(threads) = config.cpu_threads {
        options.cpu_threads = threads;
    }
    if let Some(threads) = config.index_threads {
        options.store.index_threads = threads;
    }
    if let Some(bytes) = config.memory_bytes {
        options.memory_bytes = bytes;
    }
    if let Some(bytes) = config.checkpoint_log_bytes {
        options.store.checkpoint_log_bytes = bytes;
    }
    options
}

async fn write_checkpoints(engine: Arc<Engine>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CHECKPOINT_PERIOD) => {}
        }
        if let Err(error) = engine.maintain().await {
            tracing::error!(%error, "could not write a checkpoint; the log keeps everything");
        }
    }
}

impl Running {
    /// The address that is served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What opening the database found.
    #[must_use]
    pub fn report(&self) -> &OpenReport {
        &self.report
    }

    /// Resolves when the log has failed, with the reason; then the process must end.
    pub async fn log_failed(&self) -> String {
        let mut failure = self.engine.failure();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            // The log was closed without a failure.
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops serving, lets running statements end, writes a last checkpoint.
    ///
    /// # Errors
    /// When the checkpoint cannot be written; nothing is lost then.
    pub async fn stop(self) -> Result<(), ServerError> {
        self.stop.cancel();
        for task in [self.listener, self.checkpoints] {
            if let Err(error) = task.await {
                tracing::error!(%error, "a server task panicked");
            }
        }
        let engine = self.engine;
        let closed = tokio::task::spawn_blocking(move || engine.close()).await;
        closed.map_err(|e| ServerError::Start(std::io::Error::other(e)))??;
        Ok(())
    }
}
