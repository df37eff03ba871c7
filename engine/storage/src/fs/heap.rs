//! Gives freed memory back to the system.
//!
//! The C library of GNU systems raises, by itself, the size from which a block is mapped on its own,
//! up to 32 MiB; what is freed below that stays with the process. After large loads that was several
//! times what was in use, which no account of memory could explain.

/// Blocks from this size on are mapped on their own, and returned when they are freed. Above what the
/// sort of one search takes (160 KiB): mapping and unmapping it for each costs more than the sort.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES: libc::c_int = 256 << 10;

/// Fixes the size from which blocks are returned when they are freed. False where the system's
/// allocator has no such setting. To be called once, before threads are started.
pub fn return_freed_memory() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `mallopt` takes two integers and changes settings of the allocator alone; any value
        // of these two is valid for it.
        let set = unsafe {
            [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD]
                .map(|setting| libc::mallopt(setting, MAPPED_BYTES))
        };
        set == [1, 1]
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn the_allocator_takes_the_settings() {
        assert!(return_freed_memory());
    }
}
