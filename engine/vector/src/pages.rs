//! Memory that grows and never moves, in blocks that double: [`Words`] that threads share, and
//! [`Records`] that are appended once and then only read.
//!
//! A block is asked for whole and becomes resident as it is touched. A large one is asked for in huge
//! pages: a walk goes to hundreds of places that have nothing to do with each other, and with small
//! pages most of them miss the processor's table of pages.
#![allow(unsafe_code, reason = "views of mapped memory; each block states its proof")]

use std::alloc::{Layout, handle_alloc_error};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use memmap2::{MmapMut, MmapRaw};

/// Places of the first block, as a power of two.
const FIRST_BITS: u32 = 8;
/// Blocks that it takes for every place that 32 bits can name.
const BLOCKS: usize = 33 - FIRST_BITS as usize;
/// Bytes of a huge page, and of a page; of x86, an estimate elsewhere.
const HUGE_BYTES: usize = 2 << 20;
/// Bytes of the smallest block that is asked for in huge pages: with as much in the blocks before it, what
/// the last page rounds up to is little.
const HUGE_BLOCK_BYTES: usize = 8 * HUGE_BYTES;
const PAGE_BYTES: usize = 4 << 10;

/// The block of a place, and where it is in there. Block `b` has `2^(8 + b)` places.
#[inline]
fn locate(place: u32) -> (usize, usize) {
    let shifted = place as usize + (1 << FIRST_BITS);
    let bits = shifted.ilog2();
    ((bits - FIRST_BITS) as usize, shifted - (1 << bits))
}

/// The first place of a block.
fn first_of(block: usize) -> usize {
    (1 << (block + FIRST_BITS as usize)) - (1 << FIRST_BITS)
}

/// The number of places of a block.
fn places_of(block: usize) -> usize {
    1 << (block + FIRST_BITS as usize)
}

/// Whether a block of that many bytes is asked for in huge pages. Never the first: a table of a few wide
/// rows is not to hold megabytes.
fn is_huge(block: usize, bytes: usize) -> bool {
    block > 0 && bytes >= HUGE_BLOCK_BYTES
}

/// Zeroed memory of a block.
fn map(block: usize, bytes: usize) -> MmapRaw {
    let huge = is_huge(block, bytes);
    // Systems begin a map where a huge page does when its length ends where one does.
    let length = if huge { bytes.next_multiple_of(HUGE_BYTES) } else { bytes };
    let Ok(map) = MmapMut::map_anon(length) else {
        handle_alloc_error(Layout::array::<u8>(length).unwrap_or(Layout::new::<u8>()));
    };
    #[cfg(target_os = "linux")]
    if huge {
        // A system that has none says so, and its small pages serve as well.
        let _ = map.advise(memmap2::Advice::HugePage);
    }
    map.into()
}

/// Bytes that a block of `bytes` has resident when the first `used` were touched.
fn resident(used: usize, (block, bytes): (usize, usize)) -> usize {
    used.next_multiple_of(if is_huge(block, bytes) { HUGE_BYTES } else { PAGE_BYTES })
}

type Blocks = [OnceLock<MmapRaw>; BLOCKS];

/// Rows of `width` atomic words, zero at first.
#[derive(Debug)]
pub(crate) struct Words {
    width: usize,
    blocks: Blocks,
}

/// The blocks that [`Words`] had at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WordsView<'a> {
    width: usize,
    blocks: [&'a [AtomicU32]; BLOCKS],
}

impl Words {
    pub(crate) fn new(width: usize) -> Self {
        Self { width, blocks: Default::default() }
    }

    /// Sees to it that there is a row at `place`, and at each before it.
    pub(crate) fn extend_to(&self, place: u32) {
        for (at, block) in self.blocks.iter().enumerate().take(locate(place).0 + 1) {
            block.get_or_init(|| map(at, places_of(at) * self.width * size_of::<AtomicU32>()));
        }
    }

    #[inline]
    pub(crate) fn view(&self) -> WordsView<'_> {
        let mut blocks = [&[][..]; BLOCKS];
        for (at, (block, map)) in blocks.iter_mut().zip(&self.blocks).enumerate() {
            let Some(map) = map.get() else { break };
            // SAFETY: the map is zeroed memory of at least so many words, begins with a page, lives as
            // long as `self`, and is looked at through such slices alone; every bit pattern is a
            // valid `AtomicU32`.
            *block = unsafe {
                std::slice::from_raw_parts(
                    map.as_ptr().cast::<AtomicU32>(),
                    places_of(at) * self.width,
                )
            };
        }
        WordsView { width: self.width, blocks }
    }

    /// Bytes resident when the rows before `places` were touched.
    pub(crate) fn memory_bytes(&self, places: u32) -> usize {
        memory_bytes(&self.blocks, self.width * size_of::<AtomicU32>(), places)
    }
}

fn memory_bytes(blocks: &Blocks, width: usize, places: u32) -> usize {
    let bytes = |(at, block): (usize, &OnceLock<MmapRaw>)| {
        let used = (places as usize).saturating_sub(first_of(at)).min(places_of(at));
        block.get().map_or(0, |_| resident(used * width, (at, places_of(at) * width)))
    };
    blocks.iter().enumerate().map(bytes).sum()
}

impl<'a> WordsView<'a> {
    /// The row at `place`; `None` when its block is younger than the view.
    #[inline]
    pub(crate) fn row(&self, place: u32) -> Option<&'a [AtomicU32]> {
        let (block, at) = locate(place);
        self.blocks.get(block)?.get(at * self.width..(at + 1) * self.width)
    }

    /// `count` rows from `place` on; `None` when they are not all in one block of the view.
    pub(crate) fn rows(&self, place: u32, count: usize) -> Option<&'a [AtomicU32]> {
        let (block, at) = locate(place);
        self.blocks.get(block)?.get(at * self.width..(at + count) * self.width)
    }
}

/// The first place from `from` on with `count` places of one block.
pub(crate) fn in_one_block(from: u32, count: u32) -> u32 {
    let (block, at) = locate(from);
    if at + count as usize <= places_of(block) {
        return from;
    }
    let fits = |block: &usize| count as usize <= places_of(*block);
    let block = (block + 1..BLOCKS).find(fits).unwrap_or(BLOCKS);
    u32::try_from(first_of(block)).unwrap_or(u32::MAX)
}

/// Rows of `width` bytes, which are appended and then only read.
#[derive(Debug)]
pub(crate) struct Records {
    width: usize,
    blocks: Blocks,
    /// Rows that were appended whole.
    len: AtomicU32,
    appending: Mutex<()>,
}

/// The first rows of [`Records`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordsView<'a> {
    width: usize,
    blocks: [&'a [u8]; BLOCKS],
}

impl Records {
    pub(crate) fn new(width: usize) -> Self {
        let (blocks, len) = (Default::default(), AtomicU32::new(0));
        Self { width, blocks, len, appending: Mutex::default() }
    }

    /// Bytes resident.
    pub(crate) fn memory_bytes(&self) -> usize {
        memory_bytes(&self.blocks, self.width, self.len.load(Ordering::Acquire))
    }

    /// Appends rows; there are never more than 32 bits can number.
    pub(crate) fn append(&self, bytes: &[u8]) {
        if self.width == 0 {
            return;
        }
        let _guard = self.appending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = bytes;
        while left.len() >= self.width {
            let len = self.len.load(Ordering::Relaxed);
            let (block, at) = locate(len);
            let map = self.blocks[block].get_or_init(|| map(block, places_of(block) * self.width));
            let count = (left.len() / self.width).min(places_of(block) - at);
            let (now, later) = left.split_at(count * self.width);
            // SAFETY: the block has room for more than `at` rows.
            let to = unsafe { map.as_mut_ptr().add(at * self.width) };
            // SAFETY: `count` rows fit from there on, and the block is writable memory of its own. No
            // reference leads there: views end at `len`, which moves once the bytes are there, and
            // the lock keeps other writers out.
            unsafe { std::ptr::copy_nonoverlapping(now.as_ptr(), to, now.len()) };
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.len.store(len.saturating_add(count), Ordering::Release);
            left = later;
        }
    }

    /// The first rows, at most `limit`.
    #[inline]
    pub(crate) fn view(&self, limit: u32) -> RecordsView<'_> {
        let rows = self.len.load(Ordering::Acquire).min(limit) as usize;
        let mut blocks = [&[][..]; BLOCKS];
        for (at, (block, map)) in blocks.iter_mut().zip(&self.blocks).enumerate() {
            let Some(map) = map.get() else { break };
            let count = rows.saturating_sub(first_of(at)).min(places_of(at));
            // SAFETY: these rows were appended whole, as the load of `len` saw them, and nothing writes
            // to a row after that; the map lives as long as `self`.
            *block = unsafe { std::slice::from_raw_parts(map.as_ptr(), count * self.width) };
        }
        RecordsView { width: self.width, blocks }
    }
}

impl<'a> RecordsView<'a> {
    /// The row at `place`; `None` behind the last.
    #[inline]
    pub(crate) fn row(&self, place: u32) -> Option<&'a [u8]> {
        let (block, at) = locate(place);
        self.blocks.get(block)?.get(at * self.width..(at + 1) * self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_in_a_block_and_blocks_follow_each_other() {
        let mut next = 0;
        for block in 0..BLOCKS {
            assert_eq!(first_of(block), next);
            next += places_of(block);
            let first = u32::try_from(first_of(block)).unwrap();
            assert_eq!(locate(first), (block, 0));
            let last = u32::try_from(next - 1).unwrap_or(u32::MAX);
            assert_eq!(locate(last), (block, last as usize - first_of(block)));
        }
        assert!(next > u32::MAX as usize);
    }

    #[test]
    fn what_was_appended_is_read_and_nothing_behind_it() {
        let records = Records::new(3);
        let rows = |from: u32, to: u32| -> Vec<u8> {
            (from..to).flat_map(|row| row.to_le_bytes().into_iter().take(3)).collect()
        };
        let mut len = 0;
        for count in [1, 254, 2, 0, 20_000, 7] {
            records.append(&rows(len, len + count));
            let before = records.view(len);
            assert!(before.row(len).is_none());
            len += count;
            let view = records.view(u32::MAX);
            for row in 0..len {
                assert_eq!(view.row(row), Some(&rows(row, row + 1)[..]));
            }
            assert!([len, len + 1, 1 << 20, u32::MAX].iter().all(|row| view.row(*row).is_none()));
        }
        let bytes = 3 * len as usize;
        assert!((bytes..bytes + BLOCKS * PAGE_BYTES).contains(&records.memory_bytes()));
        Records::new(0).append(&[]);
    }

    #[test]
    fn readers_see_whole_rows_while_others_are_appended() {
        const ROWS: u32 = 40_000;
        let records = Records::new(8);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for row in 0..ROWS {
                    records.append(&u64::from(row).to_le_bytes());
                }
            });
            let mut seen = 0;
            while seen < ROWS {
                let view = records.view(u32::MAX);
                while let Some(row) = view.row(seen) {
                    assert_eq!(row, u64::from(seen).to_le_bytes());
                    seen += 1;
                }
            }
        });
    }

    #[test]
    fn words_are_zero_and_shared() {
        let words = Words::new(5);
        assert!(words.view().row(0).is_none());
        words.extend_to(10_000);
        let view = words.view();
        assert!(view.row(10_000).unwrap().iter().all(|word| word.load(Ordering::Relaxed) == 0));
        view.row(4_096).unwrap()[4].store(7, Ordering::Relaxed);
        assert_eq!(words.view().row(4_096).unwrap()[4].load(Ordering::Relaxed), 7);
        words.extend_to(1 << 20);
        assert_eq!(words.view().row(4_096).unwrap()[4].load(Ordering::Relaxed), 7);
        assert!(view.row(1 << 20).is_none(), "younger than the view");
        assert!(words.memory_bytes(10_000) >= 10_000 * 20);
        let end = u32::try_from(first_of(5)).unwrap();
        assert_eq!(words.view().rows(end, 3).unwrap().len(), 15);
        assert!(words.view().rows(end - 2, 3).is_none());
        assert_eq!(in_one_block(end - 6, 6), end - 6);
        assert_eq!(in_one_block(end - 6, 7), end);
        assert_eq!(in_one_block(0, 1_601) as usize, first_of(3));
    }

    #[test]
    fn a_few_wide_rows_take_what_they_need() {
        let records = Records::new(16_000);
        records.append(&[7; 3 * 16_000]);
        assert!(records.memory_bytes() < 64 << 10);
        let rows = vec![7; 1_000 * 16_000];
        records.append(&rows);
        assert!(records.memory_bytes() < rows.len() + 8 * HUGE_BYTES);
    }
}
