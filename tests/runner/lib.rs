//! What end-to-end tests share: servers to talk to, and the runner of `.slt` files.
//!
//! [`TestServer`] lives in the test's own process, [`ProcessServer`] in one that can be killed. Both
//! are reached over the PostgreSQL protocol alone, so a test sees what a client sees. Nothing here
//! checks an answer; tests do.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "tests: what cannot be set up has to stop the test"
)]

mod process_server;
mod slt;
mod test_server;
mod wire_db;

use std::net::SocketAddr;

pub use process_server::ProcessServer;
pub use slt::{run_slt_file, run_slt_text, slt_files};
pub use test_server::TestServer;
pub use wire_db::{WireDb, WireError};

use tokio_postgres::{Client, Config, NoTls};

/// Logs in at `address`. The connection ends when the client is dropped.
///
/// # Errors
/// When nobody listens there or the login is refused.
pub async fn connect(address: SocketAddr) -> Result<Client, tokio_postgres::Error> {
    let mut config = Config::new();
    config.host(address.ip().to_string()).port(address.port()).user("azimuth").dbname("azimuth");
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // An error here ends the connection; whoever uses the client learns of it there.
        let _ = connection.await;
    });
    Ok(client)
}
