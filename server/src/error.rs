//! Why a server does not start or stops.

use engine::EngineError;

/// An error of the server itself.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration is wrong.
    #[error("configuration: {0}")]
    Config(String),
    /// The database cannot be opened, or failed for good.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The address cannot be bound.
    #[error("could not listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The runtime or a signal handler could not be made.
    #[error("could not start: {0}")]
    Start(std::io::Error),
    /// Writing to the log failed; what was acknowledged is safe.
    #[error("the log failed, the server stops: {0}")]
    LogFailed(String),
    /// Files of a data directory are damaged.
    #[error("{0} damaged; restore the files from a backup")]
    Damaged(usize),
    /// A server could not be asked to check its files.
    #[error("check: {0}")]
    Check(String),
    /// The demonstration could not talk to its server.
    #[error("demo: {0}")]
    Demo(String),
}

impl ServerError {
    /// The process's exit status (`sysexits.h`): 78 configuration, 69 unavailable, 74 I/O,
    /// 65 damaged data, 70 other.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            Self::Listen { .. } | Self::Check(_) => 69,
            Self::Damaged(_) => 65,
            Self::LogFailed(_) | Self::Start(_) => 74,
            Self::Engine(_) | Self::Demo(_) => 70,
        }
    }
}
