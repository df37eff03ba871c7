//! Read-only maps of sealed files.
//!
//! Reading a map of a file that was cut short from outside, or that the device cannot read, raises
//! SIGBUS. The handler here names the file and ends the process with status 70: going on could only
//! mean going on with bytes that are not there.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};

use arrow::buffer::Buffer;
use bytes::Bytes;
use memmap2::Mmap;

/// Bytes of a path that the handler can tell: the end of it.
const NAME_BYTES: usize = 96;
/// Exit status for an internal error (`sysexits.h`).
const EXIT_SOFTWARE: i32 = 70;

/// A place in the list of maps, which a signal handler may walk at any instant: places are added in
/// front, used again, and never freed.
struct Place {
    /// First byte of the map; 0 while the place is free, 1 while it is being filled.
    start: AtomicUsize,
    bytes: AtomicUsize,
    name: [AtomicU8; NAME_BYTES],
    next: AtomicPtr<Place>,
}

static PLACES: AtomicPtr<Place> = AtomicPtr::new(std::ptr::null_mut());
static INSTALL: Once = Once::new();
/// What SIGBUS did before; asked again for addresses that are no map's.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

fn places() -> impl Iterator<Item = &'static Place> {
    let mut next = PLACES.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: the list holds null at its end, or places from `Box::leak`, which live for ever
        // and are only read and changed through atomics.
        let place = unsafe { next.as_ref() }?;
        next = place.next.load(Ordering::Acquire);
        Some(place)
    })
}

/// Takes a free place, or makes one.
fn enter(start: usize, bytes: usize, path: &Path) -> &'static Place {
    let claim = |place: &&Place| {
        place.start.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    };
    let place = places().find(claim).unwrap_or_else(|| {
        let place: &'static mut Place = Box::leak(Box::new(Place {
            start: AtomicUsize::new(1),
            bytes: AtomicUsize::new(0),
            name: [const { AtomicU8::new(0) }; NAME_BYTES],
            next: AtomicPtr::new(std::ptr::null_mut()),
        }));
        let this: *mut Place = place;
        let mut head = PLACES.load(Ordering::Acquire);
        loop {
            place.next.store(head, Ordering::Relaxed);
            match PLACES.compare_exchange(head, this, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return place,
                Err(other) => head = other,
            }
        }
    });
    let path = path.as_os_str().as_encoded_bytes();
    let end = &path[path.len().saturating_sub(NAME_BYTES)..];
    let padded = end.iter().copied().chain(std::iter::repeat(0));
    place.name.iter().zip(padded).for_each(|(to, from)| to.store(from, Ordering::Relaxed));
    place.bytes.store(bytes, Ordering::Relaxed);
    place.start.store(start, Ordering::Release);
    place
}

/// Runs in the thread that met the missing page; calls nothing that a signal handler may not.
extern "C" fn on_bus_error(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: with SA_SIGINFO the kernel passes a pointer to a valid record.
    let info = unsafe { &*info };
    // SAFETY: SIGBUS fills the address.
    let address = unsafe { info.si_addr() }.addr();
    let hit = places().find(|place| {
        let start = place.start.load(Ordering::Acquire);
        start > 1 && (start..start + place.bytes.load(Ordering::Relaxed)).contains(&address)
    });
    let Some(place) = hit else {
        if let Some(previous) = PREVIOUS.get() {
            // SAFETY: `previous` came from sigaction. The instruction runs again afterwards and
            // meets the handler that was there before.
            unsafe { libc::sigaction(libc::SIGBUS, previous, std::ptr::null_mut()) };
        }
        return;
    };
    tell(b"azimuth: a mapped file cannot be read: ");
    let mut name = [0; NAME_BYTES];
    name.iter_mut().zip(&place.name).for_each(|(to, from)| *to = from.load(Ordering::Relaxed));
    tell(name.split(|byte| *byte == 0).next().unwrap_or_default());
    tell(b"; it was cut short, or the device fails\n");
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(EXIT_SOFTWARE) }
}

fn tell(bytes: &[u8]) {
    // SAFETY: pointer and length are those of a slice.
    unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
}

fn install() {
    // SAFETY: all zeros is a valid `sigaction`: no flags, an empty mask, the default handler.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let mut previous = action;
    action.sa_sigaction = on_bus_error as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: both point to valid records; the handler keeps to what handlers may do.
    let done = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, &raw mut previous) };
    if done == 0 {
        let _ = PREVIOUS.set(previous);
    }
}

/// A map that the handler knows.
struct Mapped {
    map: Mmap,
    place: &'static Place,
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        self.place.start.store(0, Ordering::Release);
    }
}

/// Maps a whole file; `path` is for the message when it cannot be read.
pub(super) fn map(file: &File, path: &Path) -> io::Result<Buffer> {
    if file.metadata()?.len() == 0 {
        return Ok(Buffer::from(Bytes::new()));
    }
    INSTALL.call_once(install);
    // SAFETY: the bytes of a map must not change while it lives. Sealed files are never written or
    // cut after they have their name, only unlinked, and the lock of the data directory keeps other
    // servers away. Whoever writes to them from outside all the same is met by the checksums of
    // blocks not yet read, or by SIGBUS, which ends the process before it answers.
    let map = unsafe { Mmap::map(file)? };
    let place = enter(map.as_ptr().addr(), map.len(), path);
    Ok(Buffer::from(Bytes::from_owner(Mapped { map, place })))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a file to map, and a process to end")]
mod tests {
    use super::*;

    /// Set in the process that is to end.
    const CHILD: &str = "AZIMUTH_TEST_CUT_FILE";

    fn scratch(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("azimuth-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_map_outlives_the_name_of_its_file() {
        let path = scratch("map");
        for bytes in [&b""[..], b"sealed", &[7; 10_000]] {
            std::fs::write(&path, bytes).unwrap();
            let mapped = map(&File::open(&path).unwrap(), &path).unwrap();
            std::fs::remove_file(&path).unwrap();
            assert_eq!(mapped.as_slice(), bytes);
            assert!(bytes.is_empty() || mapped.as_ptr().addr().is_multiple_of(4096));
        }
    }

    #[test]
    fn places_of_maps_are_used_again() {
        let path = scratch("places");
        std::fs::write(&path, b"sealed").unwrap();
        let file = File::open(&path).unwrap();
        for _ in 0..1_000 {
            map(&file, &path).unwrap();
        }
        std::fs::remove_file(&path).unwrap();
        assert!(places().count() < 100, "{} places", places().count());
    }

    #[test]
    fn a_file_cut_under_its_map_ends_the_process_with_its_name() {
        if let Some(path) = std::env::var_os(CHILD) {
            let path = std::path::PathBuf::from(path);
            let mapped = map(&File::open(&path).unwrap(), &path).unwrap();
            File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
            let sum: u64 = mapped.iter().copied().map(u64::from).sum();
            unreachable!("the bytes are gone, and add up to {sum}");
        }
        let path = scratch("cut");
        std::fs::write(&path, [1; 10_000]).unwrap();
        let name = "fs::mmap::tests::a_file_cut_under_its_map_ends_the_process_with_its_name";
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, &path)
            .output()
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        let said = String::from_utf8_lossy(&child.stderr).into_owned();
        assert_eq!(child.status.code(), Some(EXIT_SOFTWARE), "{said}");
        assert!(said.contains(path.to_str().unwrap()), "{said}");
    }
}
