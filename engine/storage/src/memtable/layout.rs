//! What a flush makes of a table's chunks: the segments to have, where their rows come from, and
//! where each row goes.

use std::ops::Range;
use std::sync::Arc;

use super::rows::Rows;
use crate::segment::Segment;

/// Where the rows of a segment come from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// The segment was there and holds these chunks.
    Same(Range<usize>),
    /// Whole chunks, in order.
    Chunks(Range<usize>),
    /// Rows by ordinal, ascending by id.
    Rows(Vec<u32>),
}

/// A segment to have.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) segment: Arc<Segment>,
    pub(crate) origin: Origin,
}

/// All segments of a table.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// They take the place of the first [`Layout::covered`] chunks.
    pub(crate) young: Vec<Part>,
    pub(crate) history: Vec<Part>,
    pub(crate) covered: usize,
}

/// Where the rows of a chunk go.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Goes {
    /// To history, or nowhere.
    Away,
    /// Together, beginning at this ordinal.
    To(u32),
    /// Each to its own ordinal, or [`u32::MAX`] for away.
    Apart(Box<[u32]>),
}

/// New ordinals of rows outside history.
#[derive(Debug)]
pub(crate) struct Relocation {
    chunk_bits: u32,
    chunks: Vec<Goes>,
    /// How far rows behind those chunks move down.
    shift: u32,
}

impl Relocation {
    /// The new ordinal of a row; `None` when it is no longer outside history.
    pub(crate) fn of(&self, ordinal: u32) -> Option<u32> {
        let (chunk, slot) = (ordinal >> self.chunk_bits, ordinal & ((1 << self.chunk_bits) - 1));
        match self.chunks.get(chunk as usize) {
            None => Some(ordinal - self.shift),
            Some(Goes::Away) => None,
            Some(Goes::To(base)) => Some(base + slot),
            Some(Goes::Apart(places)) => {
                places.get(slot as usize).copied().filter(|place| *place != u32::MAX)
            }
        }
    }
}

impl Layout {
    /// Chunks outside history that are in segments.
    pub(crate) fn chunks(&self) -> usize {
        self.young.iter().map(|part| part.segment.chunks()).sum()
    }

    /// Whether nothing changes.
    pub(crate) fn is_same(&self, rows: &Rows) -> bool {
        let same = |part: &Part| matches!(part.origin, Origin::Same(_));
        let files = rows.files();
        self.young.iter().chain(&self.history).all(same)
            && (self.young.len(), self.history.len()) == (files.segments.len(), files.history.len())
    }

    /// Where rows go that are in `rows` now; `None` when all outside history stay where they are.
    pub(crate) fn relocation(&self, rows: &Rows) -> Option<Relocation> {
        let bits = rows.chunk_bits();
        let mut chunks = vec![Goes::Away; self.covered];
        let mut next = 0;
        for part in &self.young {
            let base = |at: usize| u32::try_from((next + at) << bits).unwrap_or(u32::MAX);
            match &part.origin {
                Origin::Same(range) | Origin::Chunks(range) => {
                    for (at, chunk) in range.clone().enumerate() {
                        chunks[chunk] = Goes::To(base(at));
                    }
                }
                Origin::Rows(ordinals) => {
                    for (place, ordinal) in (base(0)..).zip(ordinals) {
                        let chunk = &mut chunks[(ordinal >> bits) as usize];
                        if !matches!(chunk, Goes::Apart(_)) {
                            *chunk = Goes::Apart(vec![u32::MAX; 1 << bits].into());
                        }
                        let Goes::Apart(places) = chunk else { continue };
                        places[*ordinal as usize & ((1 << bits) - 1)] = place;
                    }
                }
            }
            next += part.segment.chunks();
        }
        let base = |at: usize| u32::try_from(at << bits).unwrap_or(u32::MAX);
        let stays = |(at, goes): (usize, &Goes)| *goes == Goes::To(base(at));
        if next == self.covered && chunks.iter().enumerate().all(stays) {
            return None;
        }
        let shift = base(self.covered) - base(next);
        Some(Relocation { chunk_bits: bits, chunks, shift })
    }
}
