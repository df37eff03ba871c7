//! Configuration, from its low form (what a file and flags may say) to its high form (what the
//! server needs, checked). Flags win over the file, the file over defaults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::ServerError;

/// What a configuration file may say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// Data directory.
    pub data: Option<PathBuf>,
    /// Address of the PostgreSQL protocol.
    pub pg: Option<SocketAddr>,
    /// Sessions at the same time.
    pub connections_max: Option<usize>,
    /// Threads that plan and run statements.
    pub cpu_threads: Option<usize>,
    /// Threads that build indexes.
    pub index_threads: Option<usize>,
    /// Bytes that the store and running queries may hold together.
    pub memory_bytes: Option<usize>,
    /// Log growth after which a checkpoint is written.
    pub checkpoint_log_bytes: Option<u64>,
}

/// What flags may say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Data directory.
    pub data: Option<PathBuf>,
    /// Address of the PostgreSQL protocol.
    pub pg: Option<SocketAddr>,
}

/// A server's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Data directory.
    pub data: PathBuf,
    /// Address of the PostgreSQL protocol.
    pub pg: SocketAddr,
    /// Sessions at the same time.
    pub connections_max: usize,
    /// Threads that plan and run statements; `None` for one per core.
    pub cpu_threads: Option<usize>,
    /// Threads that build indexes; `None` for the store's default.
    pub index_threads: Option<usize>,
    /// Bytes that the store and running queries may hold together; `None` for the engine's default.
    pub memory_bytes: Option<usize>,
    /// Log growth after which a checkpoint is written; `None` for the store's default.
    pub checkpoint_log_bytes: Option<u64>,
}

impl ConfigFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is not TOML, or says something unknown.
    #[expect(clippy::disallowed_methods, reason = "configuration is read by the server alone")]
    pub fn read(path: &Path) -> Result<Self, ServerError> {
        let error = |what: String| ServerError::Config(format!("{}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| error(e.to_string()))?;
        toml::from_str(&text).map_err(|e| error(e.to_string()))
    }
}

impl ServerConfig {
    /// Joins file and flags, and checks the result.
    ///
    /// # Errors
    /// When a value cannot be honoured.
    pub fn resolve(file: ConfigFile, flags: Overrides) -> Result<Self, ServerError> {
        let pg = flags.pg.or(file.pg).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 5433)));
        if !pg.ip().is_loopback() {
            return Err(ServerError::Config(format!(
                "refusing to listen on {pg}: without passwords and TLS only loopback addresses \
                 are served"
            )));
        }
        let counts = [
            ("connections_max", file.connections_max),
            ("cpu_threads", file.cpu_threads),
            ("index_threads", file.index_threads),
            ("memory_bytes", file.memory_bytes),
        ];
        for (name, value) in counts {
            if value == Some(0) {
                return Err(ServerError::Config(format!("{name} must be at least 1")));
            }
        }
        Ok(Self {
            data: flags.data.or(file.data).unwrap_or_else(|| PathBuf::from("azimuth-data")),
            pg,
            connections_max: file.connections_max.unwrap_or(types::limits::CONNECTIONS_DEFAULT),
            cpu_threads: file.cpu_threads,
            index_threads: file.index_threads,
            memory_bytes: file.memory_bytes,
            checkpoint_log_bytes: file.checkpoint_log_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file: ConfigFile =
            toml::from_str("data = '/a'\npg = '127.0.0.1:1'\nconnections_max = 3").unwrap();
        let flags = Overrides { data: Some("/b".into()), pg: None };
        let config = ServerConfig::resolve(file, flags).unwrap();
        assert_eq!(config.data, Path::new("/b"));
        assert_eq!(config.pg.port(), 1);
        assert_eq!(config.connections_max, 3);
        let default = ServerConfig::resolve(ConfigFile::default(), Overrides::default()).unwrap();
        assert_eq!(default.pg.to_string(), "127.0.0.1:5433");
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        let open = Overrides { pg: Some("0.0.0.0:5433".parse().unwrap()), data: None };
        assert!(ServerConfig::resolve(ConfigFile::default(), open).is_err());
        let zero = ConfigFile { cpu_threads: Some(0), ..ConfigFile::default() };
        assert!(ServerConfig::resolve(zero, Overrides::default()).is_err());
        assert!(toml::from_str::<ConfigFile>("unknown = 1").is_err());
    }
}
