//! The retention horizon: versions that ended at or before it may be dropped, and reads before it
//! are refused.
//!
//! An instant is *pinned* while something reads it. Raising a table's horizon and pinning an instant
//! take turns: whoever pins first keeps the versions, whoever comes second is told that the instant
//! cannot be read any more. No reader ever sees part of what was there.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use types::CommitTs;

use crate::memtable::Table;

/// The pinned instants, and how often each is.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<BTreeMap<CommitTs, usize>>);

/// Keeps what is visible at an instant until it is dropped.
#[derive(Debug)]
pub struct Pin {
    pins: Arc<Pins>,
    at: CommitTs,
}

impl Pins {
    /// Pins the instant that `at` gives, and what else it gives.
    pub(crate) fn pin<T>(self: &Arc<Self>, at: impl FnOnce() -> (CommitTs, T)) -> (Pin, T) {
        let mut pinned = self.0.lock();
        let (at, rest) = at();
        *pinned.entry(at).or_default() += 1;
        (Pin { pins: Arc::clone(self), at }, rest)
    }

    /// The horizon a table could have: `limit`, which is as far as its retention allows, or the
    /// earliest pinned instant.
    pub(crate) fn candidate(&self, table: &Table, limit: CommitTs) -> CommitTs {
        let pinned = self.0.lock();
        Self::among(&pinned, limit).max(table.horizon())
    }

    /// Raises the table's horizon as far; returns it.
    pub(crate) fn raise(&self, table: &Table, limit: CommitTs) -> CommitTs {
        let pinned = self.0.lock();
        table.raise_horizon(Self::among(&pinned, limit));
        table.horizon()
    }

    fn among(pinned: &BTreeMap<CommitTs, usize>, limit: CommitTs) -> CommitTs {
        pinned.keys().next().map_or(limit, |earliest| limit.min(*earliest))
    }
}

impl Pin {
    /// The pinned instant.
    #[must_use]
    pub fn at(&self) -> CommitTs {
        self.at
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pinned = self.pins.0.lock();
        if let Some(count) = pinned.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                pinned.remove(&self.at);
            }
        }
    }
}
