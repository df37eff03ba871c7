//! Log files: names, headers, preallocation.
//!
//! A file is named `<number, 20 digits>.log`. Its first sector is the header; frames follow, each
//! from the beginning of a sector; what is left is zero. A file gets its name only when header and
//! zeros are durable, so a file with a bad header is damaged and never half-made.
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
    for name in names.iter().filter(|name| name.ends_with(TEMPORARY)) {
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

/// Makes a file of `size` zero bytes after its header and `content`, durably, under its final name.
pub(super) fn create(
    fs: &dyn FileSystem,
    directory: &Path,
    header: &FileHeader,
    content: &[u8],
    size: usize,
) -> Result<Box<dyn File>, StorageError> {
    let path = path_of(directory, header.number);
    let temporary = path.with_extension(format!("log{TEMPORARY}"));
    let io = |action: &'static str| {
        let temporary = temporary.clone();
        move |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::StorageFull => StorageError::DiskFull,
            _ => StorageError::io(action, &temporary, error),
        }
    };
    // A file left by an attempt that met a full disk.
    let _ = fs.remove(&temporary);
    let file = fs.create(&temporary).map_err(io("create"))?;
    file.write_at(0, &header.encode()).map_err(io("write"))?;
    file.write_at(SECTOR as u64, content).map_err(io("write"))?;
    let mut at = SECTOR + content.len();
    while at < size {
        let piece = ZEROS.len().min(size - at);
        file.write_at(at as u64, &ZEROS[..piece]).map_err(io("write"))?;
        at += piece;
    }
    file.sync_data().map_err(io("sync"))?;
    fs.rename(&temporary, &path).map_err(io("rename"))?;
    fs.sync_dir(directory).map_err(|e| StorageError::io("sync", directory, e))?;
    Ok(file)
}
