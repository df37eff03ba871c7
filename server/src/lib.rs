//! The server: configuration, start-up, shutdown, and the command line.
//!
//! The only crate that reads flags, configuration files and the environment, and the only one that
//! prints. Nothing imports it but tests, which start servers with it.
#![forbid(unsafe_code)]

pub mod cli;
mod config;
mod error;
mod startup;
mod telemetry;

pub use config::{ConfigFile, Overrides, ServerConfig};
pub use error::ServerError;
pub use startup::{Running, start};
