//! What can go wrong below SQL, and why a logged command may change nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::CatalogError;
use types::{Coded, CommitTs, SqlState};

/// A failure of storage.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused an operation.
    #[error("could not {action} \"{path}\": {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Stored bytes are not what was written.
    #[error("file \"{path}\" is damaged at offset {offset}: {what}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// First byte that is known to be wrong.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A whole file of a format that came after this server.
    #[error("file \"{path}\" is of format version {version}, which this server does not know")]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u8,
    },
    /// The data directory is served by another process.
    #[error("data directory \"{0}\" is in use by another server")]
    InUse(PathBuf),
    /// A write to the log failed; nothing is written until the server is started again.
    #[error("the log is closed after a failed write: {0}")]
    Poisoned(String),
    /// No room for the next log file; reading goes on, writing resumes when there is room.
    #[error("no space left on the device for the log")]
    DiskFull,
    /// More than one log entry may hold.
    #[error("the statement writes {bytes} bytes, more than one transaction may ({max})")]
    EntryTooLarge {
        /// Bytes of the entry.
        bytes: usize,
        /// Most allowed.
        max: usize,
    },
    /// The store is shutting down.
    #[error("the server is shutting down")]
    Closed,
    /// An instant that cannot be read.
    #[error("instant {} lies {why}", format_micros(*.instant))]
    InstantOutOfRange {
        /// The instant asked for.
        instant: CommitTs,
        /// Before what or after what.
        why: String,
    },
    /// The table holds so many row versions that no more can be added.
    #[error("the table holds {0} row versions, as many as fit")]
    TooManyVersions(u64),
    /// A sequence has no further value.
    #[error(
        "nextval: reached {} value of sequence \"{name}\" ({bound})",
        if *.rising { "maximum" } else { "minimum" }
    )]
    SequenceEnd {
        /// Its name.
        name: String,
        /// Whether its values grow.
        rising: bool,
        /// The value beyond which it does not go.
        bound: i64,
    },
    /// Cancelled by the caller.
    #[error("the operation was cancelled")]
    Cancelled,
    /// The command was logged but changed nothing.
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

/// Why a command changed nothing. Decided by `apply` from the state alone, so every replica decides
/// alike.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A row to be replaced was changed by a commit after the statement's read view.
    #[error("could not serialize access due to concurrent update")]
    Conflict,
    /// A primary key is taken.
    #[error("duplicate key value violates unique constraint \"{constraint}\"")]
    DuplicateKey {
        /// The constraint's name.
        constraint: String,
        /// Position of the offending row among the rows to insert.
        row: usize,
    },
    /// The table is full.
    #[error("a table holds at most {0} row versions")]
    TableFull(u64),
    /// The table was dropped after the statement was planned.
    #[error("the table was dropped by a concurrent statement")]
    TableGone,
    /// The command is not one that the engine makes.
    #[error("malformed command: {0}")]
    Malformed(&'static str),
    /// The catalog refuses.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl StorageError {
    /// Wraps an I/O error with what was tried.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }

    /// An entry that is durable and cannot be applied.
    pub(crate) fn apply(what: impl std::fmt::Display) -> Self {
        Self::io("apply", "log entry".as_ref(), io::Error::other(what.to_string()))
    }

    /// Wraps an error of writing a file; a full disk is a matter of its own.
    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull => Self::DiskFull,
            _ => Self::io("write", path, source),
        }
    }

    /// What is wrong with a file that is whole and does not begin with `magic`, whose last byte is
    /// the format version.
    pub(crate) fn foreign(path: &Path, magic: [u8; 8], bytes: &[u8]) -> Self {
        match bytes.first_chunk::<8>() {
            Some([name @ .., version]) if magic.starts_with(name) && *version > magic[7] => {
                Self::NewerFormat { path: path.to_owned(), version: *version }
            }
            _ => Self::corrupt(path, 0, "the file is of another kind than its name says"),
        }
    }

    /// Damage at a place in a file.
    pub(crate) fn corrupt(path: &Path, offset: usize, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), offset: offset as u64, what: what.into() }
    }
}

impl Coded for StorageError {
    fn sql_state(&self) -> SqlState {
        match self {
            Self::Io { .. } | Self::Poisoned(_) => SqlState::IO_ERROR,
            Self::Corrupt { .. } => SqlState::DATA_CORRUPTED,
            Self::NewerFormat { .. } => SqlState::FEATURE_NOT_SUPPORTED,
            Self::InUse(_) => SqlState::OBJECT_IN_USE,
            Self::DiskFull => SqlState::DISK_FULL,
            Self::EntryTooLarge { .. } => SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            Self::Closed => SqlState::ADMIN_SHUTDOWN,
            Self::InstantOutOfRange { .. } => SqlState::DATETIME_FIELD_OVERFLOW,
            Self::TooManyVersions(_) => SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            Self::SequenceEnd { .. } => SqlState::SEQUENCE_LIMIT_EXCEEDED,
            Self::Cancelled => SqlState::QUERY_CANCELED,
            Self::Rejected(rejection) => rejection.sql_state(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::EntryTooLarge { .. } => {
                Some("Load the data in several statements or COPY commands.".to_owned())
            }
            Self::Corrupt { .. } => Some("Restore the file from a backup.".to_owned()),
            Self::NewerFormat { .. } => {
                Some("Open the data directory with the server that wrote it.".to_owned())
            }
            Self::TooManyVersions(_) => {
                Some("Run VACUUM, or ALTER TABLE ... SET (retention = ...) first.".to_owned())
            }
            Self::DiskFull => Some("Free some space; writing resumes by itself.".to_owned()),
            Self::Io { .. }
            | Self::Poisoned(_)
            | Self::InUse(_)
            | Self::Closed
            | Self::InstantOutOfRange { .. }
            | Self::SequenceEnd { .. }
            | Self::Cancelled
            | Self::Rejected(_) => None,
        }
    }
}

impl Coded for Rejection {
    fn sql_state(&self) -> SqlState {
        match self {
            Self::Conflict => SqlState::SERIALIZATION_FAILURE,
            Self::DuplicateKey { .. } => SqlState::UNIQUE_VIOLATION,
            Self::TableFull(_) => SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            Self::TableGone => SqlState::UNDEFINED_TABLE,
            Self::Malformed(_) => SqlState::INTERNAL_ERROR,
            Self::Catalog(error) => match error {
                CatalogError::NamespaceExists(_) => SqlState::DUPLICATE_SCHEMA,
                CatalogError::RelationExists(_) => SqlState::DUPLICATE_TABLE,
                CatalogError::ColumnExists { .. } => SqlState::DUPLICATE_COLUMN,
                CatalogError::Changed => SqlState::SERIALIZATION_FAILURE,
                CatalogError::Gone => SqlState::UNDEFINED_TABLE,
                CatalogError::NamespaceNotEmpty(_)
                | CatalogError::SequenceInUse(_)
                | CatalogError::ReadByView { .. } => SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                CatalogError::BadName { why: "is reserved", .. } => SqlState::RESERVED_NAME,
                CatalogError::BadName { .. } => SqlState::INVALID_PARAMETER_VALUE,
                CatalogError::BadDefinition(_) => SqlState::INTERNAL_ERROR,
            },
        }
    }
}

/// `YYYY-MM-DD hh:mm:ss.ffffffZ` of microseconds since 1970. Days to dates: H. Hinnant,
/// "chrono-compatible low-level date algorithms", `civil_from_days`.
#[must_use]
pub fn format_micros(instant: CommitTs) -> String {
    const DAY: i64 = 86_400_000_000;
    let (days, micros) = (instant.0.div_euclid(DAY), instant.0.rem_euclid(DAY));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_shown_in_utc() {
        let cases = [
            (0, "1970-01-01 00:00:00.000000Z"),
            (951_782_400_000_001, "2000-02-29 00:00:00.000001Z"),
            (-1, "1969-12-31 23:59:59.999999Z"),
            (1_793_318_400_000_000, "2026-10-30 00:00:00.000000Z"),
        ];
        for (micros, shown) in cases {
            assert_eq!(format_micros(CommitTs(micros)), shown);
        }
    }
}
