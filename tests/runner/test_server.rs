//! A server inside the test's own process, on a port and a data directory of its own.

use std::net::{Ipv4Addr, SocketAddr};

use server::{ConfigFile, Overrides, Running, ServerConfig};
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::connect;

/// A running server; needs a runtime with the I/O and time drivers on.
#[derive(Debug)]
pub struct TestServer {
    running: Running,
    data: TempDir,
}

impl TestServer {
    /// Starts on an empty data directory, which is removed in the end.
    pub async fn start() -> Self {
        Self::start_on(TempDir::new().unwrap()).await
    }

    /// Starts on a data directory that [`TestServer::stop`] gave back.
    pub async fn start_on(data: TempDir) -> Self {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let flags = Overrides { data: Some(data.path().to_owned()), pg: Some(any_port) };
        // Plans depend on the number of threads; tests must not depend on the machine.
        let file = ConfigFile { cpu_threads: Some(2), ..ConfigFile::default() };
        let config = ServerConfig::resolve(file, flags).unwrap();
        let running = server::start(&config).await.unwrap();
        Self { running, data }
    }

    /// Where the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.running.address()
    }

    /// A new session.
    pub async fn connect(&self) -> Client {
        connect(self.address()).await.unwrap()
    }

    /// Stops as on SIGTERM, and gives the data directory back to start on again.
    pub async fn stop(self) -> TempDir {
        self.running.stop().await.unwrap();
        self.data
    }
}
