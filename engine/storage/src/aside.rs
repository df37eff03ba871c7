//! Files beside the data that nothing depends on: what was learned and would be learned again.
//!
//! A file is written whole under a temporary name and renamed, so it is there or not. Its name is not
//! made durable: after a power cut the one before may be back.

use std::path::Path;

use crate::error::StorageError;
use crate::fs::{FileSystem, read_all};
use crate::manifest::{Hash, TEMPORARY, write_file};

const MAGIC: [u8; 8] = *b"AZASIDE\x01";

/// Puts `content` in the place of what the file held.
pub(crate) fn write(
    fs: &dyn FileSystem,
    directory: &Path,
    name: &str,
    content: &[u8],
) -> Result<(), StorageError> {
    let (path, temporary) = (directory.join(name), directory.join(format!("{name}{TEMPORARY}")));
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(content);
    let hash = Hash::of(&bytes);
    bytes.extend_from_slice(&hash.0.to_le_bytes());
    // One that a crash left is in the way.
    let _ = fs.remove(&temporary);
    write_file(fs, &temporary, &bytes)?;
    fs.rename(&temporary, &path).map_err(|e| StorageError::io("rename", &temporary, e))
}

/// What the file holds; `None` when there is none.
pub(crate) fn read(
    fs: &dyn FileSystem,
    directory: &Path,
    name: &str,
) -> Result<Option<Vec<u8>>, StorageError> {
    let path = directory.join(name);
    let file = match fs.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::io("open", &path, error)),
    };
    let bytes = read_all(&*file).map_err(|e| StorageError::io("read", &path, e))?;
    let whole =
        bytes.split_last_chunk().filter(|(whole, hash)| Hash::of(whole).0.to_le_bytes() == **hash);
    let content = whole.and_then(|(whole, _)| whole.strip_prefix(&MAGIC));
    let content =
        content.ok_or_else(|| StorageError::corrupt(&path, 0, "the hash of the file is wrong"))?;
    Ok(Some(content.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::SimFileSystem;

    #[test]
    fn content_comes_back_or_is_known_to_be_damaged() {
        let fs = SimFileSystem::default();
        let directory = Path::new("/data");
        fs.create_dir_all(directory).unwrap();
        assert_eq!(read(&fs, directory, "notes").unwrap(), None);
        for content in [&b"first"[..], b"", b"second and longer"] {
            write(&fs, directory, "notes", content).unwrap();
            assert_eq!(read(&fs, directory, "notes").unwrap().as_deref(), Some(content));
        }
        let path = directory.join("notes");
        let bits = fs.open(&path).unwrap().size().unwrap() * 8;
        for bit in 0..bits {
            fs.flip_bit(&path, bit);
            assert!(read(&fs, directory, "notes").is_err(), "bit {bit}");
            fs.flip_bit(&path, bit);
        }
    }
}
