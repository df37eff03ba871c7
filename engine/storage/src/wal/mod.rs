//! The write-ahead log, which is also Raft's log: a single server is a group of one in term 1.
//!
//! * One frame per group commit; an entry is durable when the frame's `sync_data` has returned.
//! * Frames are chained by checksum, numbered without gaps and seeded with a random salt per file,
//!   so that a stale or misplaced frame is never taken for a valid one.
//! * Every 512-byte sector of a frame ends in a stamp. After a crash a frame with missing stamps is
//!   one whose write did not finish: a *torn tail*, cut off because nobody was told it is durable.
//!   A frame whose stamps are all there and whose checksum is wrong is *damage*: the log refuses to
//!   open, and names file and offset. Telling the two apart needs no guess, see [`recovery`].
//! * A recovered file is never appended to: its valid prefix is copied to a new file and synced
//!   (after a failed fsync the page cache proves nothing: Rebello et al., "Can applications
//!   recover from fsync failures?", ATC 2020), then a fresh file begins.
//!
//! Bytes: `docs/FORMAT.md`.

mod frame;
pub(crate) use frame::Cursor;
mod log_file;
pub mod recovery;
mod sector;
mod writer;

use types::{CommitTs, Lsn, Term};

pub use log_file::StoreId;
pub(crate) use recovery::verify;
pub use recovery::{LogOptions, RecoveryReport, recover};
pub use writer::LogWriter;
pub(crate) use writer::purge;

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Raft term in which it was proposed.
    pub term: Term,
    /// Its position, without gaps.
    pub index: Lsn,
    /// Its commit timestamp, larger than that of every earlier entry.
    pub commit_ts: CommitTs,
    /// The encoded command.
    pub payload: Vec<u8>,
}

/// Where the log ends, or where a checkpoint stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPosition {
    /// Term of the last entry.
    pub term: Term,
    /// Its index.
    pub index: Lsn,
    /// Its commit timestamp.
    pub commit_ts: CommitTs,
}

impl LogPosition {
    /// Before the first entry.
    pub const START: Self = Self { term: Term(1), index: Lsn(0), commit_ts: CommitTs::ZERO };
}

#[cfg(test)]
mod tests;
