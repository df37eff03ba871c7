//! A server in a process of its own, which can be killed in the middle of things.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio_postgres::Client;

use crate::connect;

/// Logins tried before a server counts as one that does not start.
const READY_TRIES: usize = 1_000;

/// Time between two tries.
const READY_PAUSE: Duration = Duration::from_millis(20);

/// Ports tried when another process takes the one that was free a moment before.
const PORT_TRIES: usize = 5;

/// Exit status of a server whose address is taken (`EX_UNAVAILABLE` of `sysexits.h`).
const ADDRESS_TAKEN: i32 = 69;

/// Longest time that a server may take to stop.
const STOP_TIME_MAX: Duration = Duration::from_secs(60);

/// A server process; it is killed when this is dropped.
#[derive(Debug)]
pub struct ProcessServer {
    binary: PathBuf,
    data: TempDir,
    child: Child,
    address: SocketAddr,
}

impl ProcessServer {
    /// Starts `binary`, such as `env!("CARGO_BIN_EXE_azimuth-under-test")`, on an empty data
    /// directory, and waits until it accepts logins.
    pub async fn start(binary: impl AsRef<Path>) -> Self {
        Self::start_on(binary, TempDir::new().unwrap()).await
    }

    /// Starts `binary` on a data directory, and waits until it accepts logins.
    pub async fn start_on(binary: impl AsRef<Path>, data: TempDir) -> Self {
        let binary = binary.as_ref().to_owned();
        let (child, address) = launch(&binary, data.path())
            .await
            .unwrap_or_else(|status| panic!("the server did not start: {status}"));
        Self { binary, data, child, address }
    }

    /// Where the server listens; another port after each start.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// The process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// A new session.
    pub async fn connect(&self) -> Client {
        connect(self.address).await.unwrap()
    }

    /// Kills the process with SIGKILL and waits until it is gone.
    pub async fn kill9(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks the process to stop with SIGTERM and waits until it did.
    pub async fn terminate(&mut self) -> ExitStatus {
        let pid = self.child.id().expect("the server runs");
        // Signals other than SIGKILL need unsafe code or a shell.
        let mut shell = Command::new("sh");
        shell.args(["-c", "kill -TERM \"$0\""]).arg(pid.to_string());
        assert!(shell.status().await.unwrap().success(), "no signal could be sent to {pid}");
        self.wait().await
    }

    /// Waits until the process ends by itself.
    pub async fn wait(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(STOP_TIME_MAX, self.child.wait()).await;
        ended.expect("the server stops in time").unwrap()
    }

    /// Starts again on the same data directory, after [`ProcessServer::kill9`] or
    /// [`ProcessServer::terminate`].
    pub async fn restart(&mut self) {
        let started = self.try_restart().await;
        started.unwrap_or_else(|status| panic!("the server did not start again: {status}"));
    }

    /// Like [`ProcessServer::restart`], for a start that may fail.
    ///
    /// # Errors
    /// The exit status when the server ends instead of serving.
    pub async fn try_restart(&mut self) -> Result<(), ExitStatus> {
        (self.child, self.address) = launch(&self.binary, self.data.path()).await?;
        Ok(())
    }
}

async fn launch(binary: &Path, data: &Path) -> Result<(Child, SocketAddr), ExitStatus> {
    let mut tries = 0;
    loop {
        tries += 1;
        let address = free_address();
        let mut child = spawn(binary, data, address);
        match ready(&mut child, address).await {
            Ok(()) => return Ok((child, address)),
            Err(status) if status.code() == Some(ADDRESS_TAKEN) && tries < PORT_TRIES => {}
            Err(status) => return Err(status),
        }
    }
}

fn spawn(binary: &Path, data: &Path, address: SocketAddr) -> Child {
    Command::new(binary)
        .args(["serve", "--data"])
        .arg(data)
        .arg("--pg")
        .arg(address.to_string())
        .env("AZIMUTH_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Waits until the server accepts logins; its exit status when it ends before.
async fn ready(child: &mut Child, address: SocketAddr) -> Result<(), ExitStatus> {
    for _ in 0..READY_TRIES {
        if let Some(status) = child.try_wait().unwrap() {
            return Err(status);
        }
        if connect(address).await.is_ok() {
            return Ok(());
        }
        // tidy: sleep allowed because another process gives no event to wait for
        tokio::time::sleep(READY_PAUSE).await;
    }
    panic!("no login at {address} in {READY_TRIES} tries");
}

/// An address that nobody listens on now.
fn free_address() -> SocketAddr {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap()
}
