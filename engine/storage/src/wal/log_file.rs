//! Log files: names, headers, preallocation.
//!
//! A file is named `<number, 20 digits>.log`. Its first sector is the header; frames follow, each
//! from the beginning of a sector; what is left is zero. A file gets its name only when header and
//! zeros are durable, so a file with a bad header is damaged and never half-made. `spare.tmp` is a
//! file of zeros for when the disk is full.
//!
//! | offset | bytes | header field |
//! |---|---|---|
//! | 0 | 8 | magic `AZLOG` and format version 1 |
//! | 8 | 16 | store id: random, the same in every file of a data directory |
//! | 24 | 8 | file number |
//! | 32 | 8 | number of the first frame |
//! | 40 | 8 | index of the first entry |
//! | 48 | 8 | salt |
//! | 56 | 4 | checksum of the last frame of the file before |
//! | 508 | 4 | CRC-32C of bytes 0..508 |

use std::path::{Path, PathBuf};

use types::Lsn;

use super::frame::{Cursor, Link};
use super::sector::SECTOR;
use crate::error::StorageError;
use crate::fs::{File, FileSystem};

const MAGIC: [u8; 8] = *b"AZLOG\0\0\x01";
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
pub(super) const SUFFIX: &str = ".log";
pub(super) const TEMPORARY: &str = ".tmp";
/// A file of zeros that lies ready for when the disk is full, so that a start needs no new room.
const SPARE: &str = "spare.tmp";

/// Identity of a data directory's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreId(pub [u8; 16]);

/// What the first sector of a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) store: StoreId,
    pub(super) number: u64,
    pub(super) first: Link,
    pub(super) first_index: Lsn,
    pub(super) salt: u64,
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; SECTOR] {
        let mut out = [0; SECTOR];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC);
        put(&self.store.0);
        put(&self.number.to_le_bytes());
        put(&self.first.number.to_le_bytes());
        put(&self.first_index.0.to_le_bytes());
        put(&self.salt.to_le_bytes());
        put(&self.first.previous_crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[..SECTOR - 4]);
        out[SECTOR - 4..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header from the first bytes of the file `path`.
    pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Self, StorageError> {
        let corrupt = |what: &str| StorageError::corrupt(path, 0, what);
        let sector = bytes.get(..SECTOR);
        let sector = sector.ok_or_else(|| corrupt("the file is shorter than its header"))?;
        let (body, crc) = sector.split_at(SECTOR - 4);
        if crc != crc32c::crc32c(body).to_le_bytes() {
            return Err(corrupt("the checksum of the file's header is wrong"));
        }
        let mut cursor = Cursor(body);
        if cursor.take(8) != Some(&MAGIC) {
            return Err(StorageError::foreign(path, MAGIC, body));
        }
        let mut read = || -> Option<Self> {
            let store = StoreId(cursor.take(16)?.try_into().ok()?);
            let number = cursor.u64()?;
            let frame = cursor.u64()?;
            let first_index = Lsn(cursor.u64()?);
            let salt = cursor.u64()?;
            let first = Link { number: frame, previous_crc: cursor.u32()? };
            // Positions count from one and never come near the end of their range.
            let sane = |n: u64| (1..1 << 62).contains(&n);
            (sane(number) && sane(frame) && sane(first_index.0)).then_some(Self {
                store,
                number,
                first,
                first_index,
                salt,
            })
        };
        read().ok_or_else(|| corrupt("the file's header holds impossible positions"))
    }
}

/// Path of file `number`.
pub(super) fn path_of(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}{SUFFIX}"))
}

/// Removes files that were being made when the process died.
pub(super) fn remove_half_made(fs: &dyn FileSystem, directory: &Path) -> Result<(), StorageError> {
    let names = fs.list(directory).map_err(|e| StorageError::io("list", directory, e))?;
    for name in names.iter().filter(|name| name.ends_with(TEMPORARY) && *name != SPARE) {
        let path = directory.join(name);
        fs.remove(&path).map_err(|e| StorageError::io("remove", &path, e))?;
    }
    Ok(())
}

/// Numbers of the log files in a directory, ascending. A name that is no log file's is refused:
/// passing over a file could pass over a log.
pub(super) fn list(fs: &dyn FileSystem, directory: &Path) -> Result<Vec<u64>, StorageError> {
    let names = fs.list(directory).map_err(|e| StorageError::io("list", directory, e))?;
    let mut numbers = Vec::new();
    for name in names.iter().filter(|name| !name.ends_with(TEMPORARY)) {
        let number = name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 20);
        match number.and_then(|digits| digits.parse().ok()) {
            Some(number) => numbers.push(number),
            None => {
                return Err(StorageError::corrupt(&directory.join(name), 0, "not a log file"));
            }
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads the header of a file.
pub(super) fn read_header(fs: &dyn FileSystem, path: &Path) -> Result<FileHeader, StorageError> {
    let file = fs.open(path).map_err(|e| StorageError::io("open", path, e))?;
    let mut sector = [0; SECTOR];
    file.read_at(0, &mut sector).map_err(|e| StorageError::io("read", path, e))?;
    FileHeader::decode(path, &sector)
}

/// Makes a file of `size` bytes, zeros after its header, durably, under its final name.
pub(super) fn create(
    fs: &dyn FileSystem,
    directory: &Path,
    header: &FileHeader,
    size: usize,
) -> Result<Box<dyn File>, StorageError> {
    let temporary = temporary_of(directory, header.number);
    let file = zeros(fs, &temporary, size)?;
    finish(fs, directory, header, file, &[])
}

/// Puts a file of the same size with `content` after its header in the place of one that was read,
/// durably. When the disk is full, it is made of the spare.
pub(super) fn replace(
    fs: &dyn FileSystem,
    directory: &Path,
    header: &FileHeader,
    content: &[u8],
    size: usize,
) -> Result<(), StorageError> {
    let temporary = temporary_of(directory, header.number);
    let file = match zeros(fs, &temporary, size) {
        Err(StorageError::DiskFull) => take_spare(fs, directory, &temporary, size)?,
        made => made?,
    };
    finish(fs, directory, header, file, content).map(drop)
}

fn temporary_of(directory: &Path, number: u64) -> PathBuf {
    path_of(directory, number).with_extension(format!("log{TEMPORARY}"))
}

/// Fills a file of zeros and gives it its name.
fn finish(
    fs: &dyn FileSystem,
    directory: &Path,
    header: &FileHeader,
    file: Box<dyn File>,
    content: &[u8],
) -> Result<Box<dyn File>, StorageError> {
    let (path, temporary) =
        (path_of(directory, header.number), temporary_of(directory, header.number));
    file.write_at(0, &header.encode()).map_err(|e| StorageError::write(&temporary, e))?;
    file.write_at(SECTOR as u64, content).map_err(|e| StorageError::write(&temporary, e))?;
    file.sync_data().map_err(|e| StorageError::io("sync", &temporary, e))?;
    fs.rename(&temporary, &path).map_err(|e| StorageError::io("rename", &temporary, e))?;
    fs.sync_dir(directory).map_err(|e| StorageError::io("sync", directory, e))?;
    Ok(file)
}

/// A new file of zeros. One that does not fit is removed.
fn zeros(fs: &dyn FileSystem, path: &Path, size: usize) -> Result<Box<dyn File>, StorageError> {
    // A file left by an attempt that met a full disk.
    let _ = fs.remove(path);
    let file = fs.create(path).map_err(|e| StorageError::write(path, e))?;
    match blank(&*file, size) {
        Ok(()) => Ok(file),
        Err(error) => {
            let _ = fs.remove(path);
            Err(StorageError::write(path, error))
        }
    }
}

/// Writes zeros over the first `size` bytes.
fn blank(file: &dyn File, size: usize) -> std::io::Result<()> {
    (0..size).step_by(ZEROS.len()).try_for_each(|at| {
        let piece = ZEROS.len().min(size - at);
        file.write_at(at as u64, &ZEROS[..piece])
    })
}

/// The spare under another name, when it has `size` bytes.
fn take_spare(
    fs: &dyn FileSystem,
    directory: &Path,
    path: &Path,
    size: usize,
) -> Result<Box<dyn File>, StorageError> {
    let spare = directory.join(SPARE);
    let file = fs.open(&spare).map_err(|_| StorageError::DiskFull)?;
    let bytes = file.size().map_err(|e| StorageError::io("size", &spare, e))?;
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if bytes < size {
        return Err(StorageError::DiskFull);
    }
    // Whatever became of it while it lay there.
    blank(&*file, bytes).map_err(|e| StorageError::io("write", &spare, e))?;
    fs.rename(&spare, path).map_err(|e| StorageError::io("rename", &spare, e))?;
    // The file must have one name before it holds anything.
    fs.sync_dir(directory).map_err(|e| StorageError::io("sync", directory, e))?;
    Ok(file)
}

/// Sees to it that there is a spare of `size` bytes, unless the disk is too full for one.
pub(super) fn keep_spare(
    fs: &dyn FileSystem,
    directory: &Path,
    size: usize,
) -> Result<(), StorageError> {
    let path = directory.join(SPARE);
    let have = fs.open(&path).and_then(|file| file.size());
    if have.is_ok_and(|bytes| bytes >= size as u64) {
        return Ok(());
    }
    match zeros(fs, &path, size) {
        Ok(file) => {
            file.sync_data().map_err(|e| StorageError::io("sync", &path, e))?;
            fs.sync_dir(directory).map_err(|e| StorageError::io("sync", directory, e))
        }
        Err(StorageError::DiskFull) => Ok(()),
        Err(error) => Err(error),
    }
}
