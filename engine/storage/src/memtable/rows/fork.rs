//! The rows that a transaction sees and changes by itself.
//!
//! They begin as those of the table at the transaction's instant, and share chunks and ordinals with
//! them, so that an index of the table serves them, too. What the transaction writes begins and ends
//! at that same instant: it is visible there, or gone there, and nowhere else. A chunk in which a row
//! ends is copied first, because nobody else is to see it end, a cursor of the same transaction
//! included.

use std::collections::BTreeMap;
use std::sync::Arc;

use types::{CommitTs, RowId, RowOrdinal};

use super::{Files, Rows};
use crate::error::StorageError;
use crate::memtable::chunk::Chunk;

impl Rows {
    /// The rows that began at or before `at`, to be changed apart from these.
    pub(crate) fn fork(&self, at: CommitTs) -> Result<Self, StorageError> {
        let mut fork = self.clone();
        // Rows are in log order: those that came later are the last ones.
        let begun = |chunk: &Chunk| chunk.begun_at(at) == chunk.len();
        let full = self.full.partition_point(|chunk| begun(chunk));
        let tail = self.tail.partition_point(|(_, chunk)| begun(chunk));
        if let Some(chunk) = self.full.get(full) {
            fork.full = self.full[..full].iter().map(Arc::clone).collect();
            fork.files = Arc::new(self.files.first(full));
            (fork.tail, fork.tail_rows) = (Vec::new(), 0);
            fork.take_part(chunk, at)?;
        } else if let Some((from, chunk)) = self.tail.get(tail) {
            fork.tail.truncate(tail);
            fork.tail_rows = *from;
            fork.take_part(chunk, at)?;
        }
        fork.count();
        fork.shared = Some(fork.len());
        Ok(fork)
    }

    /// Appends what of a chunk began at or before `at`, which is not all of it.
    fn take_part(&mut self, chunk: &Chunk, at: CommitTs) -> Result<(), StorageError> {
        let rows = chunk.begun_at(at);
        self.next_row = chunk.row_id(rows);
        if rows > 0 {
            self.tail.push((self.tail_rows, Arc::new(chunk.first(rows)?)));
            self.tail_rows += u32::try_from(rows).unwrap_or(u32::MAX);
        }
        Ok(())
    }

    /// Ordinals below this are those that an index of the table knows; behind them are rows of a
    /// transaction.
    pub(crate) fn shared_len(&self) -> u32 {
        self.shared.unwrap_or_else(|| self.len())
    }

    /// Whether these are the rows of a transaction.
    #[must_use]
    pub fn is_fork(&self) -> bool {
        self.shared.is_some()
    }

    /// The row version that has the id, also when it ended and was taken to history.
    pub(crate) fn find_version(&self, row: RowId) -> Option<RowOrdinal> {
        let in_history = || {
            let mut placed = self.placed().filter(|(base, _)| *base >= super::HISTORY);
            placed.find_map(|(base, chunk)| {
                Some(RowOrdinal(base + u32::try_from(chunk.slot_of(row)?).ok()?))
            })
        };
        self.find_row(row).or_else(in_history)
    }

    /// Ends rows for these rows alone; they must be alive.
    pub(crate) fn end_own(&mut self, ended: &[RowId], at: CommitTs) {
        let tail_base = self.tail_base();
        let mut in_full: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut in_tail: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let found: Vec<RowOrdinal> = ended.iter().filter_map(|row| self.find_row(*row)).collect();
        for ordinal in found {
            let (places, chunk, slot) = match ordinal.0.checked_sub(tail_base) {
                None => {
                    let slot = ordinal.0 as usize & (self.chunk_rows() - 1);
                    (&mut in_full, (ordinal.0 >> self.chunk_bits) as usize, slot)
                }
                Some(place) => {
                    let after = self.tail.partition_point(|(from, _)| *from <= place);
                    // The first one begins at the first place.
                    let chunk = after.saturating_sub(1);
                    (&mut in_tail, chunk, (place - self.tail[chunk].0) as usize)
                }
            };
            places.entry(chunk).or_default().push(slot);
            self.live -= 1;
        }
        let ended = |chunk: &Chunk, slots: Vec<usize>| {
            let own = chunk.own();
            slots.into_iter().for_each(|slot| own.end(slot, at));
            Arc::new(own)
        };
        if !in_full.is_empty() {
            let mut full = self.full.to_vec();
            for (chunk, slots) in in_full {
                full[chunk] = ended(&full[chunk], slots);
            }
            self.full = full.into();
        }
        for (chunk, slots) in in_tail {
            self.tail[chunk].1 = ended(&self.tail[chunk].1, slots);
        }
    }
}

impl Files {
    /// The segments of the first `full` chunks that are not cut by it, and all of history.
    fn first(&self, full: usize) -> Self {
        let mut chunks = 0;
        let within = |segment: &&Arc<crate::segment::Segment>| {
            chunks += segment.chunks();
            chunks <= full
        };
        Self {
            segments: self.segments.iter().take_while(within).map(Arc::clone).collect(),
            history: self.history.iter().map(Arc::clone).collect(),
            history_chunks: self.history_chunks.iter().map(Arc::clone).collect(),
        }
    }
}
