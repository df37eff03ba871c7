//! Accepting connections, and letting them go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::Engine;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection;
use crate::registry::Registry;

/// Settings of a listener.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Sessions at the same time.
    pub connections_max: usize,
    /// Time for a client to send its start-up message.
    pub startup_timeout: Duration,
    /// Time that running statements get when the server goes down.
    pub shutdown_grace: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            connections_max: types::limits::CONNECTIONS_DEFAULT,
            startup_timeout: Duration::from_secs(10),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) options: ServerOptions,
    pub(crate) registry: Arc<Registry>,
    pub(crate) sessions: Arc<Semaphore>,
    pub(crate) shutdown: CancellationToken,
}

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    shared: Arc<Shared>,
}

impl Listener {
    /// Binds an address.
    ///
    /// # Errors
    /// When the address is taken or cannot be bound.
    pub async fn bind(
        address: SocketAddr,
        engine: Arc<Engine>,
        options: ServerOptions,
    ) -> std::io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let sessions = Arc::new(Semaphore::new(options.connections_max));
        let shared = Arc::new(Shared {
            engine,
            options,
            registry: Arc::default(),
            sessions,
            shutdown: CancellationToken::new(),
        });
        Ok(Self { socket, shared })
    }

    /// The address that was bound; tells the port when port 0 was asked for.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `stop`: then takes no more connections, lets running statements end for the
    /// grace time, cancels what still runs and returns when the last connection is closed.
    pub async fn serve(self, stop: CancellationToken) {
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((socket, peer)) => {
                    let shared = Arc::clone(&self.shared);
                    connections.spawn(handle(socket, peer, shared));
                }
                Err(error) => {
                    // Too many open files, for example: wait for some to close.
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.socket);
        self.shared.shutdown.cancel();
        connections.close();
        let grace = self.shared.options.shutdown_grace;
        if tokio::time::timeout(grace, connections.wait()).await.is_err() {
            self.shared.registry.cancel_all();
            if tokio::time::timeout(grace, connections.wait()).await.is_err() {
                tracing::warn!("connections were dropped at shutdown");
            }
        }
    }
}

async fn handle(socket: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, %peer, "could not set TCP_NODELAY");
    }
    if let Err(error) = connection::run(socket, shared).await {
        tracing::debug!(%error, %peer, "a connection ended");
    }
}
