//! Reading the log back: which frames are whole, where it ends, and what may be cut off.
//!
//! The files must follow each other by number, frame number, index and checksum. In the last file,
//! the first position `p` at which no valid frame stands is judged by the sectors from `p` on:
//!
//! * all blank: the log ends here;
//! * every sector is blank or stamped for the frame expected at `p`, and at least one of that
//!   frame's sectors is blank (or past the end of the file): a write that did not finish. It was
//!   never reported durable, so it is cut off;
//! * anything else, and anything bad in a file that is not the last: damage. Opening fails with file
//!   and offset, and changes nothing.
//!
//! Sectors are written whole or not at all; a partial sector can only stand at the end of a file
//! that was cut.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use types::{CommitTs, Lsn, SplitMix64};

use super::frame::{self, Header, Link};
use super::log_file::{self, FileHeader, StoreId};
use super::sector::{self, SECTOR, SectorState};
use super::writer::{Begin, LogWriter};
use super::{Entry, LogPosition};
use crate::error::StorageError;
use crate::fs::{self, FileSystem};

/// What recovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Files read.
    pub files: usize,
    /// Entries after the checkpoint, handed to the caller.
    pub entries: u64,
    /// File and offset of an unfinished write that was cut off.
    pub torn: Option<(PathBuf, u64)>,
}

/// Settings of a log.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Directory of the log files; exists.
    pub directory: PathBuf,
    /// Bytes of a file; an entry may make a file larger.
    pub file_bytes: usize,
    /// Whether there may be no log at all: only where there is no checkpoint, damaged or not.
    pub may_be_fresh: bool,
}

/// Everything known while walking the files.
struct Walk<'a> {
    fs: &'a dyn FileSystem,
    directory: &'a Path,
    checkpoint: LogPosition,
    store: Option<StoreId>,
    next: Link,
    /// Last entry read; `None` before the first.
    last: Option<(Lsn, CommitTs)>,
    position: LogPosition,
    report: RecoveryReport,
}

/// One file, read.
struct Contents {
    path: PathBuf,
    header: FileHeader,
    bytes: Vec<u8>,
    /// End of the valid frames.
    valid: usize,
}

/// Reads the log, hands every entry after `checkpoint` to `apply` in order, and opens it for
/// appending.
///
/// # Errors
/// On damage, on a gap between checkpoint and log, on I/O errors, and on an error of `apply`.
pub fn recover(
    fs: &Arc<dyn FileSystem>,
    options: &LogOptions,
    checkpoint: Option<(StoreId, LogPosition)>,
    mut rng: SplitMix64,
    mut apply: impl FnMut(Entry) -> Result<(), StorageError>,
) -> Result<(LogWriter, RecoveryReport), StorageError> {
    let directory = &*options.directory;
    let (walk, last_file, numbers) = walk(&**fs, options, checkpoint, &mut apply)?;
    if let Some(contents) = last_file {
        walk.copy(&contents)?;
    }
    log_file::remove_half_made(&**fs, directory)?;
    let store = walk.store.unwrap_or_else(|| random_store_id(&mut rng));
    let file_number = numbers.last().map_or(1, |number| number + 1);
    let begin = Begin { store, file_number, next: walk.next, position: walk.position };
    let report = walk.report;
    let writer = LogWriter::begin(Arc::clone(fs), directory, options.file_bytes, begin, rng)?;
    Ok((writer, report))
}

/// Reads the log without changing anything; hands over every entry after the checkpoint.
///
/// # Errors
/// As [`recover`].
pub(crate) fn verify(
    fs: &dyn FileSystem,
    options: &LogOptions,
    checkpoint: Option<(StoreId, LogPosition)>,
    entry: &mut impl FnMut(Entry) -> Result<(), StorageError>,
) -> Result<RecoveryReport, StorageError> {
    Ok(walk(fs, options, checkpoint, entry)?.0.report)
}

/// Reads all files and judges the end of the last one, which is returned with all files' numbers.
fn walk<'a>(
    fs: &'a dyn FileSystem,
    options: &'a LogOptions,
    checkpoint: Option<(StoreId, LogPosition)>,
    apply: &mut impl FnMut(Entry) -> Result<(), StorageError>,
) -> Result<(Walk<'a>, Option<Contents>, Vec<u64>), StorageError> {
    let directory = &*options.directory;
    let numbers = log_file::list(fs, directory)?;
    let start = checkpoint.map_or(LogPosition::START, |(_, position)| position);
    let mut walk = Walk {
        fs,
        directory,
        checkpoint: start,
        store: checkpoint.map(|(store, _)| store),
        next: Link { number: 1, previous_crc: 0 },
        last: None,
        position: start,
        report: RecoveryReport::default(),
    };
    if numbers.is_empty() && !options.may_be_fresh {
        let what = "the log that follows the checkpoint is missing";
        return Err(StorageError::corrupt(directory, 0, what));
    }
    let mut last_file = None;
    for (at, number) in numbers.iter().enumerate() {
        let contents = walk.read_file(*number, at == 0, apply)?;
        if at + 1 < numbers.len() {
            walk.expect_clean_end(&contents)?;
        } else {
            walk.judge_end(&contents)?;
            walk.check_reached(&contents)?;
            last_file = Some(contents);
        }
    }
    Ok((walk, last_file, numbers))
}

fn random_store_id(rng: &mut SplitMix64) -> StoreId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
    id[8..].copy_from_slice(&rng.next_u64().to_le_bytes());
    StoreId(id)
}

impl Walk<'_> {
    /// Reads one file up to its last valid frame.
    fn read_file(
        &mut self,
        number: u64,
        first: bool,
        apply: &mut impl FnMut(Entry) -> Result<(), StorageError>,
    ) -> Result<Contents, StorageError> {
        let path = log_file::path_of(self.directory, number);
        let file = self.fs.open(&path).map_err(|e| StorageError::io("open", &path, e))?;
        let bytes = fs::read_all(&*file).map_err(|e| StorageError::io("read", &path, e))?;
        let header = FileHeader::decode(&path, &bytes)?;
        self.check_header(&path, number, &header, first)?;
        self.report.files += 1;
        let mut contents = Contents { path, header, bytes, valid: SECTOR };
        while let Some((entries, crc, end)) = self.read_frame(&contents)? {
            for entry in entries {
                self.accept(&contents, entry, apply)?;
            }
            self.next = Link { number: self.next.number + 1, previous_crc: crc };
            contents.valid = end;
        }
        Ok(contents)
    }

    fn check_header(
        &mut self,
        path: &Path,
        number: u64,
        header: &FileHeader,
        first: bool,
    ) -> Result<(), StorageError> {
        let corrupt = |what: &str| Err(StorageError::corrupt(path, 0, what));
        if header.number != number {
            return corrupt("the file's name and number differ");
        }
        if *self.store.get_or_insert(header.store) != header.store {
            return corrupt("the file belongs to another data directory");
        }
        if first {
            if header.first_index > self.checkpoint.index.next() {
                return corrupt("entries between the checkpoint and this file are missing");
            }
            self.next = header.first;
            self.last = Some((Lsn(header.first_index.0 - 1), CommitTs::ZERO));
            return Ok(());
        }
        let expected_index = self.last.map_or(Lsn(1), |(index, _)| index.next());
        if header.first != self.next || header.first_index != expected_index {
            return corrupt("the file does not continue the one before it");
        }
        Ok(())
    }

    /// The frame at the end of the valid ones, its checksum and its end; `None` when no valid frame
    /// stands there, which [`Walk::judge_end`] or [`Walk::expect_clean_end`] judges.
    fn read_frame(
        &self,
        contents: &Contents,
    ) -> Result<Option<(Vec<Entry>, u32, usize)>, StorageError> {
        let Some((header, sectors)) = self.whole_frame(contents)? else { return Ok(None) };
        let frame = sector::gather(sectors, header.frame_bytes());
        if !sector::padding_is_blank(sectors, header.frame_bytes()) {
            let what = "the padding behind a frame is not blank";
            return Err(StorageError::corrupt(&contents.path, contents.valid, what));
        }
        let (entries, crc) = frame::decode(&frame, &header, contents.header.salt)
            .map_err(|damage| StorageError::corrupt(&contents.path, contents.valid, damage.0))?;
        Ok(Some((entries, crc, contents.valid + sectors.len())))
    }

    /// Header and sectors of the frame at the end of the valid ones, when all its sectors are
    /// there.
    fn whole_frame<'c>(
        &self,
        contents: &'c Contents,
    ) -> Result<Option<(Header, &'c [u8])>, StorageError> {
        let stamp = sector::stamp(contents.header.salt, self.next.number);
        let rest = &contents.bytes[contents.valid.min(contents.bytes.len())..];
        let stamped = |sector: &[u8]| sector::judge(sector, stamp) == SectorState::Stamped;
        let Some(head) = rest.get(..SECTOR).filter(|head| stamped(head)) else { return Ok(None) };
        let corrupt = |what| Err(StorageError::corrupt(&contents.path, contents.valid, what));
        let header = match frame::decode_header(head, contents.header.salt) {
            Ok(header) => header,
            Err(damage) => return corrupt(damage.0),
        };
        if header.link != self.next {
            return corrupt("the frame does not continue the one before it");
        }
        let extent = sector::sectors_for(header.frame_bytes()) * SECTOR;
        match rest.get(..extent) {
            Some(sectors) if sectors.chunks_exact(SECTOR).all(stamped) => {
                Ok(Some((header, sectors)))
            }
            Some(_) | None => Ok(None),
        }
    }

    fn accept(
        &mut self,
        contents: &Contents,
        entry: Entry,
        apply: &mut impl FnMut(Entry) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let (index, commit_ts) = self.last.unwrap_or((Lsn(0), CommitTs::ZERO));
        if entry.index != index.next() || entry.commit_ts <= commit_ts {
            let what = "entries do not follow each other";
            return Err(StorageError::corrupt(&contents.path, contents.valid, what));
        }
        self.last = Some((entry.index, entry.commit_ts));
        if entry.index > self.checkpoint.index {
            self.position =
                LogPosition { term: entry.term, index: entry.index, commit_ts: entry.commit_ts };
            self.report.entries += 1;
            apply(entry)?;
        }
        Ok(())
    }

    /// A file before the last one ends in blank sectors and nothing else.
    fn expect_clean_end(&self, contents: &Contents) -> Result<(), StorageError> {
        let rest = &contents.bytes[contents.valid..];
        match rest.iter().position(|byte| *byte != 0) {
            None => Ok(()),
            Some(at) => {
                let what = "bytes that are no frame, before the end of the log";
                Err(StorageError::corrupt(&contents.path, contents.valid + at, what))
            }
        }
    }

    /// The log reaches the checkpoint.
    fn check_reached(&self, contents: &Contents) -> Result<(), StorageError> {
        match self.last {
            Some((index, _)) if index < self.checkpoint.index => {
                let what = "the log ends before the checkpoint";
                Err(StorageError::corrupt(&contents.path, contents.valid, what))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Judges the end of the last file.
    fn judge_end(&mut self, contents: &Contents) -> Result<(), StorageError> {
        let stamp = sector::stamp(contents.header.salt, self.next.number);
        let rest = &contents.bytes[contents.valid..];
        let (mut blank_until_end, mut torn) = (true, false);
        for (at, piece) in rest.chunks(SECTOR).enumerate() {
            let state = if piece.len() == SECTOR {
                sector::judge(piece, stamp)
            } else {
                SectorState::Blank // the file was cut inside this sector
            };
            match state {
                SectorState::Blank => torn |= piece.iter().any(|byte| *byte != 0),
                SectorState::Stamped => (blank_until_end, torn) = (false, true),
                SectorState::Foreign => {
                    let at = contents.valid + at * SECTOR;
                    let what = "a sector that is neither blank nor part of the last write";
                    return Err(StorageError::corrupt(&contents.path, at, what));
                }
            }
        }
        if !blank_until_end {
            self.check_unfinished(contents, rest)?;
        }
        if torn {
            self.report.torn = Some((contents.path.clone(), contents.valid as u64));
        }
        Ok(())
    }

    /// Copies the valid frames of the last file to a new one under its name.
    fn copy(&self, contents: &Contents) -> Result<(), StorageError> {
        let frames = &contents.bytes[SECTOR..contents.valid];
        let size = contents.bytes.len().next_multiple_of(SECTOR);
        log_file::replace(self.fs, self.directory, &contents.header, frames, size)
    }

    /// Stamped sectors may lie only within the frame whose write did not finish.
    fn check_unfinished(&self, contents: &Contents, rest: &[u8]) -> Result<(), StorageError> {
        let stamp = sector::stamp(contents.header.salt, self.next.number);
        let stamped = |piece: &[u8]| {
            piece.len() == SECTOR && sector::judge(piece, stamp) == SectorState::Stamped
        };
        let Some(head) = rest.get(..SECTOR).filter(|head| stamped(head)) else { return Ok(()) };
        let header = frame::decode_header(head, contents.header.salt)
            .map_err(|damage| StorageError::corrupt(&contents.path, contents.valid, damage.0))?;
        let extent = sector::sectors_for(header.frame_bytes());
        if rest.chunks(SECTOR).skip(extent).any(stamped) {
            let what = "sectors of a frame lie behind its end";
            return Err(StorageError::corrupt(&contents.path, contents.valid, what));
        }
        Ok(())
    }
}
