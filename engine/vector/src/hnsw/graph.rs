//! The links of a graph, in blocks that never move.
//!
//! Block `b` holds points `b * 4096 ..`: for layer 0 one flat array with `1 + 2m` words per point
//! (count, then links), for higher layers one small array per point that has them. A word is an
//! atomic `u32`. A list is rewritten links first, count last (release); readers take the count
//! (acquire) and then the links.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use super::Parameters;
use super::visited::ScratchPool;

const BLOCK_BITS: u32 = 12;
/// Points of a block.
pub(super) const BLOCK_POINTS: usize = 1 << BLOCK_BITS;
/// Writers of different points meet on the same lock once in this many.
const STRIPES: usize = 1024;

/// Links of one point above layer 0: `layer` lists of `1 + m` words.
#[derive(Debug)]
pub(super) struct UpperLinks {
    pub(super) layer: u8,
    pub(super) words: Box<[AtomicU32]>,
}

#[derive(Debug)]
pub(super) struct Block {
    pub(super) base_layer: Box<[AtomicU32]>,
    /// Boxed, because one point of `m` has any.
    pub(super) upper: Box<[OnceLock<Box<UpperLinks>>]>,
}

/// The blocks that existed at one moment; links may lead out of it, to younger blocks.
pub(super) type Blocks = Arc<Vec<Arc<Block>>>;

/// A point and the highest layer it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) point: u32,
    pub(super) layer: u8,
}

/// An HNSW graph over row ordinals.
#[derive(Debug)]
pub struct Graph {
    parameters: Parameters,
    blocks: RwLock<Blocks>,
    /// `layer << 32 | point + 1`, zero while the graph is empty.
    entry: AtomicU64,
    /// Held while the entry point may change.
    pub(super) entry_lock: Mutex<()>,
    stripes: Box<[Mutex<()>]>,
    pub(super) scratch: ScratchPool,
    /// Words of all lists above layer 0.
    upper_words: AtomicUsize,
}

impl Graph {
    /// An empty graph.
    #[must_use]
    pub fn new(parameters: Parameters) -> Self {
        Self {
            parameters,
            blocks: RwLock::default(),
            entry: AtomicU64::new(0),
            entry_lock: Mutex::default(),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            scratch: ScratchPool::default(),
            upper_words: AtomicUsize::new(0),
        }
    }

    /// How the graph is built.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        self.parameters
    }

    /// Whether no point was inserted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entry().is_none()
    }

    /// Bytes held by links.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let words = BLOCK_POINTS * (1 + self.parameters.links_max(0));
        let block = words * 4 + BLOCK_POINTS * size_of::<OnceLock<Box<UpperLinks>>>();
        self.blocks().len() * block + 4 * self.upper_words.load(Ordering::Relaxed)
    }

    pub(super) fn entry(&self) -> Option<Entry> {
        let packed = self.entry.load(Ordering::Acquire);
        let point = u32::try_from(packed & 0xFFFF_FFFF).ok()?.checked_sub(1)?;
        Some(Entry { point, layer: u8::try_from(packed >> 32).ok()? })
    }

    pub(super) fn set_entry(&self, entry: Entry) {
        let packed = u64::from(entry.layer) << 32 | (u64::from(entry.point) + 1);
        self.entry.store(packed, Ordering::Release);
    }

    pub(super) fn blocks(&self) -> Blocks {
        Arc::clone(&self.blocks.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The blocks, extended so that `point` has a place.
    pub(super) fn blocks_with(&self, point: u32) -> Blocks {
        let needed = (point >> BLOCK_BITS) as usize + 1;
        let blocks = self.blocks();
        if blocks.len() >= needed {
            return blocks;
        }
        let mut guard = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        if guard.len() < needed {
            let mut grown = Vec::clone(&guard);
            grown.resize_with(needed, || Arc::new(self.new_block()));
            *guard = Arc::new(grown);
        }
        Arc::clone(&guard)
    }

    fn new_block(&self) -> Block {
        let words = BLOCK_POINTS * (1 + self.parameters.links_max(0));
        Block {
            base_layer: (0..words).map(|_| AtomicU32::new(0)).collect(),
            upper: (0..BLOCK_POINTS).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The lock that guards writing the lists of `point`.
    pub(super) fn stripe(&self, point: u32) -> &Mutex<()> {
        &self.stripes[point as usize % STRIPES]
    }

    /// The list of `point` on `layer`: a count and as many link words as the layer allows. `None`
    /// when the point is younger than `blocks` or not on the layer.
    pub(super) fn list<'b>(
        &self,
        blocks: &'b Blocks,
        point: u32,
        layer: u8,
    ) -> Option<&'b [AtomicU32]> {
        let block = blocks.get((point >> BLOCK_BITS) as usize)?;
        let slot = point as usize % BLOCK_POINTS;
        let width = 1 + self.parameters.links_max(layer);
        if layer == 0 {
            return block.base_layer.get(slot * width..(slot + 1) * width);
        }
        let upper = block.upper.get(slot)?.get()?;
        let start = (layer as usize - 1) * width;
        upper.words.get(start..start + width)
    }

    /// Gives `point` its lists above layer 0.
    pub(super) fn make_upper(&self, blocks: &Blocks, point: u32, layer: u8) {
        let words = layer as usize * (1 + self.parameters.links_max(1));
        let upper = UpperLinks { layer, words: (0..words).map(|_| AtomicU32::new(0)).collect() };
        if let Some(block) = blocks.get((point >> BLOCK_BITS) as usize) {
            // A point is inserted once, so the cell is empty; a second value would be dropped.
            if block.upper[point as usize % BLOCK_POINTS].set(Box::new(upper)).is_ok() {
                self.upper_words.fetch_add(words, Ordering::Relaxed);
            }
        }
    }

    /// The highest layer `point` has lists on.
    pub(super) fn top_layer(&self, blocks: &Blocks, point: u32) -> u8 {
        let block = blocks.get((point >> BLOCK_BITS) as usize);
        let upper = block.and_then(|block| block.upper.get(point as usize % BLOCK_POINTS)?.get());
        upper.map_or(0, |upper| upper.layer)
    }

    /// Copies the links of a list into `out`, replacing what it held.
    pub(super) fn read_list(list: &[AtomicU32], out: &mut Vec<u32>) {
        out.clear();
        let Some((count, links)) = list.split_first() else { return };
        let count = (count.load(Ordering::Acquire) as usize).min(links.len());
        out.extend(links[..count].iter().map(|word| word.load(Ordering::Relaxed)));
    }

    /// Replaces a list. The caller holds the point's stripe; `links` fits the list.
    pub(super) fn write_list(list: &[AtomicU32], links: &[u32]) {
        let Some((count, words)) = list.split_first() else { return };
        for (word, link) in words.iter().zip(links) {
            word.store(*link, Ordering::Relaxed);
        }
        let len = u32::try_from(links.len().min(words.len())).unwrap_or(0);
        count.store(len, Ordering::Release);
    }
}
