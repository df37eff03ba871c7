//! `azimuth serve`.
#![expect(clippy::print_stdout, reason = "start-up lines of a command in the foreground")]

use tokio::signal::unix::{SignalKind, signal};

use crate::config::ServerConfig;
use crate::error::ServerError;
use crate::startup::{Running, start};

/// Serves until SIGINT or SIGTERM.
pub(super) async fn run(config: &ServerConfig) -> Result<(), ServerError> {
    let running = announce(config).await?;
    println!("press Ctrl-C to stop");
    until_stopped(running).await
}

/// Starts a server and says what it found and where it is.
pub(super) async fn announce(config: &ServerConfig) -> Result<Running, ServerError> {
    println!("azimuth {}", env!("CARGO_PKG_VERSION"));
    println!("data directory {}", config.data.display());
    let running = start(config).await?;
    let report = running.report();
    match report.checkpoint {
        Some(index) => println!(
            "read the checkpoint at entry {index} and {} later entries of the log",
            report.log.entries
        ),
        None => println!("read {} entries of the log", report.log.entries),
    }
    if let Some((path, offset)) = &report.log.torn {
        println!(
            "cut an unfinished write off {} at offset {offset}; it was never acknowledged",
            path.display()
        );
    }
    for (path, what) in &report.damaged {
        println!("made up for a damaged file: {} ({what})", path.display());
    }
    let address = running.address();
    println!("listening on {address}: role azimuth, database azimuth, no password, loopback only");
    println!("connect with: psql -h {} -p {} -U azimuth azimuth", address.ip(), address.port());
    Ok(running)
}

/// Waits for a signal, or for the log to fail, and stops the server.
pub(super) async fn until_stopped(running: Running) -> Result<(), ServerError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServerError::Start)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(ServerError::Start)?;
    let failed = tokio::select! {
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        reason = running.log_failed() => Some(reason),
    };
    if let Some(reason) = failed {
        // Nothing more can be promised: leave at once, the next start reads what is durable.
        return Err(ServerError::LogFailed(reason));
    }
    println!("stopping");
    running.stop().await?;
    println!("stopped");
    Ok(())
}
