//! Which rows go to which segments: what is to be merged, what is taken to history, what is dropped.

use std::ops::Range;
use std::sync::Arc;

use types::{CommitTs, RowOrdinal};

use super::Horizons;
use crate::compaction::{self, Group};
use crate::memtable::{Chunk, HISTORY, Origin, Rows, Table};
use crate::segment::Segment;

/// Ordinals of history from which on ended rows stay where they are.
const HISTORY_ORDINALS_MAX: usize = 1 << 30;

/// Segments to have: where their rows come from.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) young: Vec<Origin>,
    pub(super) history: Vec<Origin>,
    pub(super) covered: usize,
}

impl Plan {
    /// The segments to have of the first `full` chunks and of history, when rows that ended by `at`
    /// are taken out where that is worth it.
    pub(super) fn new(
        table: &Table,
        rows: &Rows,
        full: usize,
        at: CommitTs,
        horizons: &dyn Horizons,
    ) -> Self {
        let thorough = horizons.thorough(table);
        let most = compaction::segment_chunks(rows.chunk_rows());
        let groups = compaction::plan(&chunks_of(&rows.files().segments), full, most);
        let room = rows.history().len() < HISTORY_ORDINALS_MAX >> rows.chunk_bits();
        let split = |group: &Group| room && ended(&rows.full()[group.chunks.clone()], thorough);
        let split: Vec<bool> = groups.iter().map(split).collect();
        let past = chunks_of(&rows.files().history);
        let candidate = horizons.candidate(table);
        let stale: Vec<bool> = ranges(&past)
            .map(|chunks| expired(&rows.history()[chunks], candidate, thorough))
            .collect();
        let drops = thorough || split.contains(&true) || stale.contains(&true);
        let horizon = if drops { horizons.raise(table) } else { table.horizon() };
        let (mut young, mut ended) = (Vec::new(), Vec::new());
        for (group, split) in groups.into_iter().zip(split) {
            let stay = split.then(|| stay(rows, &group.chunks, (at, horizon), &mut ended));
            young.extend(match stay.flatten() {
                Some(stay) if stay.is_empty() => None,
                Some(stay) => Some(Origin::Rows(stay)),
                None => Some(whole(rows, group)),
            });
        }
        let history = history(rows, &past, &stale, ended, horizon);
        Self { young, history, covered: full }
    }

    /// Chunks that are in no segment yet, or not in the same.
    pub(super) fn chunks_to_write(&self, rows: &Rows) -> usize {
        let chunks = |origin: &Origin| match origin {
            Origin::Same(_) => 0,
            Origin::Chunks(range) => range.len(),
            Origin::Rows(ordinals) => ordinals.len().div_ceil(rows.chunk_rows()),
        };
        self.young.iter().chain(&self.history).map(chunks).sum()
    }

    /// The same segments as there are, and new ones for the chunks behind them.
    pub(super) fn apart(rows: &Rows, full: usize) -> Self {
        let most = compaction::segment_chunks(rows.chunk_rows());
        let young = compaction::plan_apart(&chunks_of(&rows.files().segments), full, most);
        let origin = |group: Group| match group.unchanged {
            Some(_) => Origin::Same(group.chunks),
            None => Origin::Chunks(group.chunks),
        };
        Self {
            young: young.into_iter().map(origin).collect(),
            history: ranges(&chunks_of(&rows.files().history)).map(Origin::Same).collect(),
            covered: full,
        }
    }
}

/// Whether a table has a segment that a flush would take ended rows out of.
pub(crate) fn vacuum_due(table: &Table, horizons: &dyn Horizons) -> bool {
    let rows = table.rows();
    let candidate = horizons.candidate(table);
    let room = rows.history().len() < HISTORY_ORDINALS_MAX >> rows.chunk_bits();
    ranges(&chunks_of(&rows.files().segments))
        .any(|chunks| room && ended(&rows.full()[chunks], false))
        || ranges(&chunks_of(&rows.files().history))
            .any(|chunks| expired(&rows.history()[chunks], candidate, false))
}

fn chunks_of(segments: &[Arc<Segment>]) -> Vec<usize> {
    segments.iter().map(|segment| segment.chunks()).collect()
}

/// The chunks of segments of the given sizes.
fn ranges(sizes: &[usize]) -> impl Iterator<Item = Range<usize>> {
    sizes.iter().scan(0, |next, size| {
        let first = *next;
        *next += size;
        Some(first..*next)
    })
}

fn rows_of(chunks: &[Arc<Chunk>]) -> usize {
    chunks.iter().map(|chunk| chunk.len()).sum()
}

fn ordinal(chunk: usize, slot: usize, bits: u32) -> u32 {
    u32::try_from((chunk << bits) + slot).unwrap_or(u32::MAX)
}

/// The rows of chunks that had not ended by `at`; `None` when all had not. Those that ended and can
/// be read at or after the horizon are added to `ended`.
fn stay(
    rows: &Rows,
    chunks: &Range<usize>,
    (at, horizon): (CommitTs, CommitTs),
    ended: &mut Vec<u32>,
) -> Option<Vec<u32>> {
    let (mut stay, mut all) = (Vec::new(), 0);
    for (place, chunk) in chunks.clone().zip(&rows.full()[chunks.clone()]) {
        all += chunk.len();
        for slot in 0..chunk.len() {
            match chunk.life(slot).1 {
                end if end > at => stay.push(ordinal(place, slot, rows.chunk_bits())),
                end if end > horizon => ended.push(ordinal(place, slot, rows.chunk_bits())),
                _ => {}
            }
        }
    }
    (stay.len() < all).then_some(stay)
}

/// All rows of a group.
fn whole(rows: &Rows, group: Group) -> Origin {
    let chunks = &rows.full()[group.chunks.clone()];
    let full = |chunk: &Arc<Chunk>| chunk.len() == rows.chunk_rows();
    if group.unchanged.is_some() {
        Origin::Same(group.chunks)
    } else if chunks[..chunks.len() - 1].iter().all(full) {
        Origin::Chunks(group.chunks)
    } else {
        let placed = group.chunks.zip(chunks);
        let ordinals = placed.flat_map(|(place, chunk)| {
            (0..chunk.len()).map(move |slot| ordinal(place, slot, rows.chunk_bits()))
        });
        Origin::Rows(ordinals.collect())
    }
}

/// Whether enough of a segment has ended to be taken out.
fn ended(chunks: &[Arc<Chunk>], thorough: bool) -> bool {
    let ended = chunks.iter().map(|chunk| chunk.ended_count()).sum();
    compaction::worth(ended, rows_of(chunks), thorough)
}

/// Whether enough of a segment of history can be dropped. Unless it is to be `thorough`, chunks are
/// not looked into: all their rows ended before they came to history, so they expire as a whole
/// soon after the first of them.
fn expired(chunks: &[Arc<Chunk>], horizon: CommitTs, thorough: bool) -> bool {
    let count = |chunk: &Arc<Chunk>| match chunk.all_ended_by(horizon) {
        true => chunk.len(),
        false if thorough => (0..chunk.len()).filter(|slot| chunk.life(*slot).1 <= horizon).count(),
        false => 0,
    };
    compaction::worth(chunks.iter().map(count).sum(), rows_of(chunks), thorough)
}

/// The segments of history to have: those there are with the given sizes in chunks, less what ended
/// at or before the horizon where they are `stale`, and rows that `ended` since, in as few as
/// compaction makes of them.
fn history(
    rows: &Rows,
    sizes: &[usize],
    stale: &[bool],
    mut ended: Vec<u32>,
    horizon: CommitTs,
) -> Vec<Origin> {
    let most = compaction::segment_chunks(rows.chunk_rows());
    let kept_of = |chunks: Range<usize>| {
        let placed = chunks.clone().zip(&rows.history()[chunks]);
        let kept = placed.flat_map(|(place, chunk)| {
            let kept = move |slot: &usize| chunk.life(*slot).1 > horizon;
            let slots = (0..chunk.len()).filter(kept);
            slots.map(move |slot| HISTORY + ordinal(place, slot, rows.chunk_bits()))
        });
        kept.collect::<Vec<u32>>()
    };
    let mut kept = Vec::new();
    for (chunks, stale) in ranges(sizes).zip(stale) {
        if *stale { ended.extend(kept_of(chunks)) } else { kept.push(chunks) }
    }
    let kept_sizes: Vec<usize> = kept.iter().map(ExactSizeIterator::len).collect();
    let all = kept_sizes.iter().sum::<usize>() + ended.len().div_ceil(rows.chunk_rows());
    let mut origins = Vec::new();
    for group in compaction::plan(&kept_sizes, all, most) {
        match group.unchanged {
            Some(at) => origins.push(Origin::Same(kept[at].clone())),
            None => {
                // The rest, which is all there is behind it, becomes new segments.
                kept[origins.len()..]
                    .iter()
                    .for_each(|chunks| ended.extend(kept_of(chunks.clone())));
                break;
            }
        }
    }
    let id =
        |ordinal: &u32| rows.locate(RowOrdinal(*ordinal)).map(|(chunk, slot)| chunk.row_id(slot));
    ended.sort_by_cached_key(id);
    let new = ended.chunks(most * rows.chunk_rows());
    origins.extend(new.map(|ordinals| Origin::Rows(ordinals.to_vec())));
    origins
}
