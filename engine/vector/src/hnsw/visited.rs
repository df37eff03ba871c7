//! Per-search working memory, reused between searches.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, PoisonError};

use super::graph::links_of;
use super::search::SearchStats;

/// Working sets kept for reuse; more simultaneous searches allocate their own.
const POOLED_MAX: usize = 64;

/// Which points a search has met: a bit per point, and what to clear again.
#[derive(Debug, Default)]
pub(super) struct Visited {
    bits: Vec<u64>,
    /// The points met, or some of them once they are as many as the words of `bits`, which are then all
    /// cleared.
    met: Vec<u32>,
    /// Points beyond this count as met, so that a walk stays inside the view it started with.
    points: usize,
}

impl Visited {
    fn begin(&mut self, points: usize) {
        if self.met.len() < self.bits.len() {
            self.met.iter().for_each(|point| self.bits[*point as usize / 64] = 0);
        } else {
            self.bits.fill(0);
        }
        self.met.clear();
        self.points = points;
        self.bits.resize(self.bits.len().max(points.div_ceil(64)), 0);
    }

    /// Leaves in `unmet` those of the links of a list that had not been met, and marks them. Whether a
    /// point was met is near chance, so nothing here branches on it.
    #[inline]
    pub(super) fn insert_all(&mut self, list: &[AtomicU32], unmet: &mut Vec<u32>) {
        unmet.clear();
        unmet.resize(list.len(), 0);
        let mut count = 0;
        for point in links_of(list) {
            if point as usize >= self.points {
                continue;
            }
            let word = &mut self.bits[point as usize / 64];
            let marked = *word | 1 << (point % 64);
            unmet[count] = point;
            count += usize::from(marked != *word);
            *word = marked;
        }
        unmet.truncate(count);
        if self.met.len() < self.bits.len() {
            self.met.extend_from_slice(unmet);
        }
    }

    /// Marks `point`; true when it had not been met.
    pub(super) fn insert(&mut self, point: u32) -> bool {
        if point as usize >= self.points {
            return false;
        }
        let word = &mut self.bits[point as usize / 64];
        let unmet = *word >> (point % 64) & 1 == 0;
        *word |= 1 << (point % 64);
        if self.met.len() < self.bits.len() {
            self.met.push(point);
        }
        unmet
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

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.keys.len() >= self.limit
    }

    /// The `n`-th nearest, counted from one.
    #[inline]
    pub(super) fn nth(&self, n: usize) -> Option<u64> {
        self.keys.get(n.checked_sub(1)?).map(|key| key & !EXPANDED)
    }

    /// What a key has to be below to get in.
    #[inline]
    pub(super) fn bound(&self) -> u64 {
        match self.keys.last() {
            Some(last) if self.is_full() => last & !EXPANDED,
            Some(_) | None => u64::MAX,
        }
    }

    /// Puts a key that is not in the pool in its place; the farthest leaves when there is no room.
    /// True when its point is now the one to expand.
    #[inline]
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
    #[inline]
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
    #[inline]
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
    fn points_are_met_once_in_each_search() {
        let mut visited = Visited::default();
        for points in [3, 200, 70, 1_000, 200] {
            visited.begin(points);
            for point in [1, 2, 69, 131, 199].into_iter().filter(|point| (*point as usize) < points)
            {
                assert!(visited.insert(point));
                assert!(!visited.insert(point));
            }
            let list = [0, 1, 2, 69, 0, 131].map(|link| AtomicU32::new(link + 1));
            let mut unmet = Vec::new();
            visited.insert_all(&list, &mut unmet);
            assert_eq!(unmet, [0]);
            visited.insert_all(&list, &mut unmet);
            assert!(unmet.is_empty());
            assert!(!visited.insert(u32::try_from(points).unwrap()), "outside the view");
        }
    }
}
