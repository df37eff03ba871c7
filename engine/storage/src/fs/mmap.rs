//! Read-only maps of sealed files.

use std::fs::File;
use std::io;

use arrow::buffer::Buffer;
use bytes::Bytes;
use memmap2::Mmap;

/// Maps a whole file.
pub(super) fn map(file: &File) -> io::Result<Buffer> {
    if file.metadata()?.len() == 0 {
        return Ok(Buffer::from(Bytes::new()));
    }
    // SAFETY: the bytes of a map must not change while it lives. Sealed files are never written or
    // cut after they have their name, only unlinked, and the lock of the data directory keeps other
    // servers away. Whoever writes to them from outside all the same is met by the checksums of
    // blocks not yet read, or by SIGBUS, which ends the process before it answers.
    let map = unsafe { Mmap::map(file)? };
    Ok(Buffer::from(Bytes::from_owner(map)))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a file to map")]
mod tests {
    use super::*;

    #[test]
    fn a_map_outlives_the_name_of_its_file() {
        let path = std::env::temp_dir().join(format!("azimuth-map-{}", std::process::id()));
        for bytes in [&b""[..], b"sealed", &[7; 10_000]] {
            std::fs::write(&path, bytes).unwrap();
            let mapped = map(&File::open(&path).unwrap()).unwrap();
            std::fs::remove_file(&path).unwrap();
            assert_eq!(mapped.as_slice(), bytes);
            assert!(bytes.is_empty() || mapped.as_ptr().addr().is_multiple_of(4096));
        }
    }
}
