//! Per-search working memory, reused between searches.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

use super::search::SearchStats;

/// Working sets kept for reuse; more simultaneous searches allocate their own.
const POOLED_MAX: usize = 64;

/// Which points a search has met: a stamp per point, so that clearing is one increment.
#[derive(Debug, Default)]
pub(super) struct Visited {
    stamps: Vec<u16>,
    current: u16,
}

impl Visited {
    fn begin(&mut self, points: usize) {
        if self.stamps.len() < points {
            self.stamps.resize(points, 0);
        }
        self.current = self.current.wrapping_add(1);
        if self.current == 0 {
            self.stamps.fill(0);
            self.current = 1;
        }
    }

    /// Marks `point`; true when it had not been met. Points beyond the size given to `begin` count
    /// as met, so that a walk stays inside the view it started with.
    pub(super) fn insert(&mut self, point: u32) -> bool {
        match self.stamps.get_mut(point as usize) {
            Some(stamp) if *stamp != self.current => {
                *stamp = self.current;
                true
            }
            Some(_) | None => false,
        }
    }
}

/// Everything a walk allocates.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) visited: Visited,
    /// Points to expand, nearest first.
    pub(super) frontier: BinaryHeap<Reverse<u64>>,
    /// Admitted points, farthest first.
    pub(super) admitted: BinaryHeap<u64>,
    /// Links of the point being expanded.
    pub(super) links: Vec<u32>,
    /// The work done since the scratch was taken from the pool.
    pub(super) stats: SearchStats,
}

impl Scratch {
    pub(super) fn begin(&mut self, points: usize) {
        self.visited.begin(points);
        self.frontier.clear();
        self.admitted.clear();
    }
}

#[derive(Debug, Default)]
pub(super) struct ScratchPool {
    idle: Mutex<Vec<Scratch>>,
}

impl ScratchPool {
    pub(super) fn take(&self) -> Scratch {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = idle.pop().unwrap_or_default();
        scratch.stats = SearchStats::default();
        scratch
    }

    pub(super) fn put(&self, scratch: Scratch) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < POOLED_MAX {
            idle.push(scratch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_survive_the_wrap_around() {
        let mut visited = Visited::default();
        for _ in 0..=u32::from(u16::MAX) + 2 {
            visited.begin(3);
            assert!(visited.insert(1));
            assert!(!visited.insert(1));
            assert!(!visited.insert(3), "outside the view");
        }
    }
}
