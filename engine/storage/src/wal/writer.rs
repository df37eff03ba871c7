//! Appending: one frame, one sync. Any failure after the first byte poisons the log for good.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use types::{Lsn, SplitMix64};

use super::frame::{self, Link};
use super::log_file::{self, FileHeader, StoreId};
use super::sector::{self, SECTOR};
use super::{Entry, LogPosition};
use crate::error::StorageError;
use crate::fs::{File, FileSystem};

/// The open end of the log.
#[derive(Debug)]
pub struct LogWriter {
    fs: Arc<dyn FileSystem>,
    directory: PathBuf,
    file_bytes: usize,
    store: StoreId,
    rng: SplitMix64,
    /// Made with the first frame, so that a start needs no room for it.
    current: Option<Current>,
    /// Number of the next file.
    next_file: u64,
    next: Link,
    position: LogPosition,
    poisoned: Option<String>,
}

/// The file that is written.
#[derive(Debug)]
struct Current {
    file: Box<dyn File>,
    header: FileHeader,
    /// First sector that is still blank.
    offset: usize,
    size: usize,
}

/// Where a new writer begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begin {
    pub(super) store: StoreId,
    pub(super) file_number: u64,
    pub(super) next: Link,
    pub(super) position: LogPosition,
}

impl LogWriter {
    /// Begins behind everything that was recovered, with a fresh file once there is a frame for it.
    pub(super) fn begin(
        fs: Arc<dyn FileSystem>,
        directory: &Path,
        file_bytes: usize,
        begin: Begin,
        rng: SplitMix64,
    ) -> Result<Self, StorageError> {
        log_file::keep_spare(&*fs, directory, file_bytes)?;
        Ok(Self {
            fs,
            directory: directory.to_owned(),
            file_bytes,
            store: begin.store,
            rng,
            current: None,
            next_file: begin.file_number,
            next: begin.next,
            position: begin.position,
            poisoned: None,
        })
    }

    /// The last durable entry.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        self.position
    }

    /// Identity of this log.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.store
    }

    /// Writes one frame and returns when it is durable. `entries` continue the log without a gap
    /// and with growing timestamps.
    ///
    /// # Errors
    /// [`StorageError::DiskFull`] when there is no room for a new file: nothing was written and the
    /// call may be repeated. Any other error is final.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), StorageError> {
        if let Some(why) = &self.poisoned {
            return Err(StorageError::Poisoned(why.clone()));
        }
        let Some(last) = entries.last() else { return Ok(()) };
        self.check_order(entries);
        let sectors = sector::sectors_for(frame::frame_bytes(entries));
        let fits = |current: &Current| current.offset + sectors * SECTOR <= current.size;
        if !self.current.as_ref().is_some_and(fits) {
            match self.roll(sectors) {
                Ok(()) => {}
                Err(StorageError::DiskFull) => return Err(StorageError::DiskFull),
                Err(error) => {
                    self.poisoned = Some(error.to_string());
                    return Err(error);
                }
            }
        }
        let Some(current) = &mut self.current else { return Err(StorageError::Closed) };
        let (bytes, crc) = frame::encode(entries, self.next, current.header.salt);
        let stamp = sector::stamp(current.header.salt, self.next.number);
        let bytes = sector::scatter(&bytes, stamp);
        let written = current.file.write_at(current.offset as u64, &bytes);
        if let Err(error) = written.and_then(|()| current.file.sync_data()) {
            let path = log_file::path_of(&self.directory, current.header.number);
            let error = StorageError::io("write", &path, error);
            self.poisoned = Some(error.to_string());
            return Err(error);
        }
        current.offset += bytes.len();
        self.next = Link { number: self.next.number + 1, previous_crc: crc };
        self.position =
            LogPosition { term: last.term, index: last.index, commit_ts: last.commit_ts };
        Ok(())
    }

    fn check_order(&self, entries: &[Entry]) {
        let mut previous = (self.position.index, self.position.commit_ts);
        for entry in entries {
            assert_eq!(entry.index, previous.0.next(), "the log has no gaps");
            assert!(entry.commit_ts > previous.1, "commit timestamps grow");
            previous = (entry.index, entry.commit_ts);
        }
    }

    /// Begins the next file, large enough for a frame of `sectors`.
    fn roll(&mut self, sectors: usize) -> Result<(), StorageError> {
        let header = FileHeader {
            store: self.store,
            number: self.next_file,
            first: self.next,
            first_index: self.position.index.next(),
            salt: self.rng.next_u64(),
        };
        let size = self.file_bytes.max((1 + sectors) * SECTOR);
        let file = log_file::create(&*self.fs, &self.directory, &header, size)?;
        self.current = Some(Current { file, header, offset: SECTOR, size });
        self.next_file += 1;
        log_file::keep_spare(&*self.fs, &self.directory, self.file_bytes)
    }
}

/// Removes files that hold only entries up to `index`, oldest first, so that what is left is always
/// one unbroken run. The newest file stays. Returns how many went.
///
/// # Errors
/// When a file cannot be read or removed.
pub(crate) fn purge(
    fs: &dyn FileSystem,
    directory: &Path,
    index: Lsn,
) -> Result<u64, StorageError> {
    let numbers = log_file::list(fs, directory)?;
    let mut removed = 0;
    for pair in numbers.windows(2) {
        let (number, following) = (pair[0], pair[1]);
        let path = log_file::path_of(directory, following);
        let header = log_file::read_header(fs, &path)?;
        if header.first_index > index.next() {
            break;
        }
        let path = log_file::path_of(directory, number);
        fs.remove(&path).map_err(|e| StorageError::io("remove", &path, e))?;
        // One at a time: a later removal must not survive a power cut that undoes an earlier one.
        fs.sync_dir(directory).map_err(|e| StorageError::io("sync", directory, e))?;
        removed += 1;
    }
    Ok(removed)
}
