//! Everything durable: the log, the row versions it makes, segments and manifests, read views.
//!
//! One write path: a [`Command`] is proposed to the [`CommitLog`], made durable, and applied by
//! [`Store`] in log order; nothing else changes rows or the catalog. Reading pins a [`ReadView`],
//! which is a timestamp and an immutable catalog, and costs no lock against writers.
//!
//! Storage knows no expression, plan or SQL type: the engine hands it ordinals, ranges and query
//! vectors. Entry points: [`Store::open`], [`Store::read_view`], [`CommitLog::propose`].
#![deny(unsafe_code)]
#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants,
    reason = "kinds of I/O errors and of Arrow types are not ours to list"
)]

mod aside;
mod command;
mod commit;
mod compaction;
mod error;
mod flush;
pub mod fs;
mod indexer;
mod inspect;
mod machine;
mod manifest;
pub mod memtable;
mod mvcc;
mod progress;
mod segment;
mod sequences;
mod store;
mod transaction;
pub mod wal;

pub use command::{Command, DecodeError, TableWrite, Transacted};
pub use commit::{Applied, CommitLog, Effect, Outcome, Reply};
pub use error::{Rejection, StorageError, format_micros};
pub use inspect::{FileReport, inspect};
pub use manifest::CheckpointFile;
pub use mvcc::{Pin, ReadView};
pub use progress::{Phase, Working};
pub use sequences::Sequences;
pub use store::{OpenReport, Store, StoreOptions};
pub use transaction::Transaction;
