//! The command line.

mod check;
mod demo;
mod inspect;
mod sample;
mod serve;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{ConfigFile, Overrides, ServerConfig};
use crate::error::ServerError;
use crate::telemetry;

/// A search database that speaks SQL.
#[derive(Debug, Parser)]
#[command(name = "azimuth", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a data directory in the foreground.
    Serve(ServerFlags),
    /// Read every file of a data directory that no server uses against its checksums.
    Inspect {
        #[command(flatten)]
        flags: ServerFlags,
        /// Look into files of one kind.
        kind: Option<inspect::Kind>,
    },
    /// Have a running server read every file of every table against its checksums.
    Check(ServerFlags),
    /// Load the bundled sample, answer a few searches, and keep serving for you to try.
    Demo {
        #[command(flatten)]
        flags: ServerFlags,
        /// Stop after the searches.
        #[arg(long)]
        once: bool,
    },
}

/// Flags of every command that runs a server.
#[derive(Debug, Args)]
struct ServerFlags {
    /// Data directory [default: azimuth-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address of the PostgreSQL protocol [default: 127.0.0.1:5433]
    #[arg(long, value_name = "ADDR")]
    pg: Option<SocketAddr>,
    /// Address of Arrow Flight SQL; this version does not serve it and refuses the flag
    #[arg(long, value_name = "ADDR")]
    flight: Option<SocketAddr>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ServerFlags {
    fn resolve(self) -> Result<ServerConfig, ServerError> {
        if self.flight.is_some() {
            let message = "this version does not serve Arrow Flight SQL; leave --flight out";
            return Err(ServerError::Config(message.to_owned()));
        }
        let file = match &self.config {
            Some(path) => ConfigFile::read(path)?,
            None => ConfigFile::default(),
        };
        ServerConfig::resolve(file, Overrides { data: self.data, pg: self.pg })
    }
}

/// Runs the command line to its end.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::install();
    if !engine::return_freed_memory() {
        tracing::debug!("the allocator returns freed memory as it likes");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&ServerError::Start(error)),
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Serve(flags) => serve::run(&flags.resolve()?).await,
            Command::Inspect { flags, kind } => inspect::run(&flags.resolve()?, kind),
            Command::Check(flags) => check::run(&flags.resolve()?).await,
            Command::Demo { flags, once } => demo::run(&flags.resolve()?, once).await,
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

#[expect(clippy::print_stderr, reason = "the last word of a command")]
fn fail(error: &ServerError) -> ExitCode {
    eprintln!("azimuth: {error}");
    if let ServerError::Engine(engine) = error
        && let Some(hint) = types::Coded::hint(engine)
    {
        eprintln!("hint: {hint}");
    }
    ExitCode::from(error.exit_status())
}
