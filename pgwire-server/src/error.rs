//! What ends a connection, and how engine errors look on the wire.

use engine::EngineError;
use types::{Coded as _, SqlState};

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    /// The client is gone or the socket broke.
    #[error("connection lost: {0}")]
    Io(#[from] std::io::Error),
    /// The client does not speak the protocol; it is told and dropped.
    #[error("{0}")]
    Protocol(String),
    /// The client is told why and dropped.
    #[error("{0}")]
    Fatal(#[from] EngineError),
}

impl ConnectionError {
    /// A message that is not of the protocol.
    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }

    /// What the client is told before it is dropped; nothing when it cannot hear.
    pub(crate) fn last_words(&self) -> Option<EngineError> {
        match self {
            Self::Io(_) => None,
            Self::Protocol(what) => Some(EngineError::new(SqlState::PROTOCOL_VIOLATION, what)),
            Self::Fatal(error) => Some(error.clone()),
        }
    }
}

/// Fields of an error or notice message.
pub(crate) fn fields<'a>(severity: &'a str, error: &'a EngineError) -> Vec<(u8, String)> {
    let mut fields = vec![
        (b'S', severity.to_owned()),
        (b'V', severity.to_owned()),
        (b'C', error.sql_state().code().to_owned()),
        (b'M', error.to_string()),
    ];
    if let Some(detail) = error.detail() {
        fields.push((b'D', detail.to_owned()));
    }
    if let Some(hint) = error.hint() {
        fields.push((b'H', hint));
    }
    if let Some(object) = error.object() {
        fields.push((b's', object.schema.clone()));
        fields.push((b't', object.table.clone()));
        fields.extend(object.column.clone().map(|column| (b'c', column)));
        fields.extend(object.constraint.clone().map(|constraint| (b'n', constraint)));
    }
    fields
}
