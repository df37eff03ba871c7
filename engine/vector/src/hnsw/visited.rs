//! Per-search working memory, reused between searches.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use super::search::SearchStats;

/// Working sets kept for reuse; more simultaneous searches allocate their own.
const POOLED_MAX: usize = 64;

/// Which points a search has met: a stamp per point, so that clearing is one increment.
#[derive(Debug, Default)]
pub(super) struct Visited {
    stamps: Vec<u8>,
    current: u8,
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

    /// Leaves in `unmet` those of `points` that had not been met, and marks them. Whether a point was
    /// met is near chance, so nothing here branches on it.
    pub(super) fn insert_all(&mut self, points: &[AtomicU32], unmet: &mut Vec<u32>) {
        unmet.clear();
        unmet.resize(points.len(), 0);
        let mut count = 0;
        for point in points {
            let point = point.load(Ordering::Relaxed);
            let Some(stamp) = self.stamps.get_mut(point as usize) else { continue };
            unmet[count] = point;
            count += usize::from(*stamp != self.current);
            *stamp = self.current;
        }
        unmet.truncate(count);
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

/// Set in a key of the pool once its point was expanded. Points of a graph are below `2^31`.
const EXPANDED: u64 = 1 << 31;

/// The nearest points met, in order. Sorted and dense, it is faster than a heap for the few hundred
/// points that searches keep, and it is the frontier of a walk that admits every point.
#[derive(Debug, Default)]
pub(super) struct Pool {
    keys: Vec<u64>,
    limit: usize,
    /// All points before this one were expanded.
    next: usize,
}

impl Pool {
    fn begin(&mut self, limit: usize) {
        self.keys.clear();
        self.limit = limit;
        self.next = 0;
    }

    pub(super) fn is_full(&self) -> bool {
        self.keys.len() >= self.limit
    }

    /// The `n`-th nearest, counted from one.
    pub(super) fn nth(&self, n: usize) -> Option<u64> {
        self.keys.get(n.checked_sub(1)?).map(|key| key & !EXPANDED)
    }

    /// What a key has to be below to get in.
    pub(super) fn bound(&self) -> u64 {
        match self.keys.last() {
            Some(last) if self.is_full() => last & !EXPANDED,
            Some(_) | None => u64::MAX,
        }
    }

    /// Puts a key that is not in the pool in its place; the farthest leaves when there is no room.
    /// True when its point is now the one to expand.
    pub(super) fn insert(&mut self, key: u64) -> bool {
        if self.is_full() {
            if key >= self.bound() {
                return false;
            }
            self.keys.pop();
        }
        let place = self.keys.partition_point(|kept| kept & !EXPANDED < key);
        self.keys.insert(place, key);
        let first = place <= self.next;
        if first {
            self.next = place;
        }
        first
    }

    /// The nearest point that was not expanded, which then counts as expanded.
    pub(super) fn expand(&mut self) -> Option<u64> {
        while let Some(key) = self.keys.get_mut(self.next) {
            self.next += 1;
            if *key & EXPANDED == 0 {
                let found = *key;
                *key |= EXPANDED;
                return Some(found);
            }
        }
        None
    }

    /// The point that [`Pool::expand`] would return now.
    pub(super) fn upcoming(&self) -> Option<u64> {
        self.keys.get(self.next..)?.iter().copied().find(|key| key & EXPANDED == 0)
    }

    /// All points, nearest first.
    pub(super) fn sorted(&self) -> impl Iterator<Item = u64> {
        self.keys.iter().map(|key| key & !EXPANDED)
    }
}

/// Everything a walk allocates.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) visited: Visited,
    /// Points to expand, nearest first, where they are not those of `pool`.
    pub(super) frontier: BinaryHeap<Reverse<u64>>,
    /// The nearest admitted points.
    pub(super) pool: Pool,
    /// Links of the point being expanded that had not been met.
    pub(super) links: Vec<u32>,
    /// The work done since the scratch was taken from the pool.
    pub(super) stats: SearchStats,
}

impl Scratch {
    pub(super) fn begin(&mut self, points: usize, pool_limit: usize) {
        self.visited.begin(points);
        self.frontier.clear();
        self.pool.begin(pool_limit);
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
        for _ in 0..=u32::from(u8::MAX) + 2 {
            visited.begin(3);
            assert!(visited.insert(1));
            assert!(!visited.insert(1));
            assert!(!visited.insert(3), "outside the view");
        }
    }
}
