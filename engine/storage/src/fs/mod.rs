//! The only door to files.
//!
//! Two implementations: the operating system's ([`OsFileSystem`]) and a simulated one
//! ([`SimFileSystem`]) that can lose what was not synced, tear writes, flip bits, fill up and stop
//! at any operation. Everything durable is written through this seam, so every crash can be tried.
//!
//! The contract is POSIX with the pessimism of "All file systems are not created equal"
//! (Pillai et al., OSDI 2014): data is durable after `sync_data`, a name after `sync_dir` of its
//! directory, and nothing else is ordered.

#[allow(unsafe_code, reason = "the allocator's settings; the block has its proof")]
mod heap;
#[allow(unsafe_code, reason = "the one place that maps files; each block has its proof")]
mod mmap;
mod os;
mod sim;

use std::fmt::Debug;
use std::io;
use std::path::Path;

use arrow::buffer::Buffer;
pub use heap::return_freed_memory;
pub use os::OsFileSystem;
pub use sim::{CrashPolicy, SimFileSystem};

/// An open file, read and written at explicit offsets.
pub trait File: Send + Sync + Debug {
    /// Writes all of `bytes` at `offset`, extending the file when needed.
    ///
    /// # Errors
    /// When the operating system refuses; part of the bytes may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// When the file ends earlier or cannot be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// When the operating system refuses.
    fn size(&self) -> io::Result<u64>;

    /// Returns when the file's data and length are on the device. An error means that nothing
    /// may be concluded about earlier writes; it must not be retried.
    ///
    /// # Errors
    /// When the device reports a failure.
    fn sync_data(&self) -> io::Result<()>;
}

/// Keeps other processes out of a directory until dropped.
pub trait DirectoryLock: Send + Sync + Debug {}

/// A tree of files.
pub trait FileSystem: Send + Sync + Debug {
    /// Makes a directory and its parents, durably.
    ///
    /// # Errors
    /// When the operating system refuses.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Names of the files in a directory, sorted.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Makes a file that does not exist yet. Its name is durable only after `sync_dir`.
    ///
    /// # Errors
    /// When the file exists or cannot be made.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// Opens an existing file.
    ///
    /// # Errors
    /// When the file does not exist or cannot be opened.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// The bytes of a sealed file, aligned for Arrow, read when they are touched where the system
    /// can do that. The file must never be written again; it may be removed.
    ///
    /// # Errors
    /// When the file does not exist or cannot be mapped.
    fn map(&self, path: &Path) -> io::Result<Buffer>;

    /// Renames a file over whatever has the new name.
    ///
    /// # Errors
    /// When the operating system refuses.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// When the operating system refuses.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// When the device reports a failure.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;

    /// Locks a directory through the file `path` in it.
    ///
    /// # Errors
    /// With [`io::ErrorKind::WouldBlock`] when another process holds the lock.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>>;
}

/// Reads a whole file.
///
/// # Errors
/// When the file cannot be read.
pub fn read_all(file: &dyn File) -> io::Result<Vec<u8>> {
    let size = usize::try_from(file.size()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; size];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}
