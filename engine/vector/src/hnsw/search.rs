//! Searching: greedy descent through the upper layers, best-first walk on layer 0.

use std::cmp::Reverse;

use super::graph::{Entry, Graph, Lists};
use super::visited::{Pool, Scratch};
use crate::Neighbor;
use crate::kernels::prefetch;
use crate::quantize::Quantizer;
use crate::top_k::{key, unkey};

/// What a search is asked for.
#[derive(Debug, Clone, Copy)]
pub struct SearchOptions {
    /// Neighbours wanted.
    pub k: usize,
    /// Candidates kept; raised to `k` when smaller.
    pub ef: usize,
    /// The walk gives up after meeting this many points: the caller has a cheaper way by then.
    pub visits_max: u64,
    /// When the walk may end although candidates are left.
    pub stop: Option<Stop>,
}

/// Ends a walk when all candidates left are farther than the `near`-th by a factor: those who lead to
/// something nearer are rarely so far off (distance-adaptive beam search, arXiv 2505.15636). What is
/// farther than that is not kept either. Distances of 0 and below, which a factor means nothing to, do
/// not stop a walk.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// Rows wanted.
    pub near: usize,
    /// How much farther, as a share.
    pub slack: f32,
}

/// What [`Stop::with`] allows at least, and for each doubling of `ef` beyond `k`, less a start. With
/// the `ef` that reach 0.95 and 0.99 on real embeddings these gave the fewest distances.
const SLACK_MIN: f32 = 0.08;
const SLACK_PER_DOUBLING: f32 = 0.1;
const SLACK_START: f32 = 0.13;

impl Stop {
    /// A stop that goes with `ef` candidates for `near` rows: who asks for more candidates is less
    /// easily content.
    #[must_use]
    pub fn with(near: usize, ef: usize) -> Self {
        let doublings = (ef as f32 / near.max(1) as f32).max(1.0).log2();
        let slack = (SLACK_PER_DOUBLING * doublings - SLACK_START).max(SLACK_MIN);
        Self { near, slack }
    }
}

/// The work a search did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SearchStats {
    /// Points whose lists were followed.
    pub visited: u64,
    /// Distances computed.
    pub distances: u64,
}

/// How a search ended.
#[derive(Debug, Clone, PartialEq)]
pub enum SearchOutcome {
    /// Admitted points, nearest first; fewer than `k` when the walk met no more.
    Found(Vec<Neighbor>),
    /// `visits_max` was reached before the walk converged.
    GaveUp,
}

/// One layer-0 walk, or a walk on a higher layer while building.
pub(super) struct Walk<'g> {
    pub(super) lists: &'g Lists<'g>,
    pub(super) layer: u8,
    pub(super) ef: usize,
    pub(super) visits_max: u64,
    pub(super) stop: Option<Stop>,
    /// Whether copies of a point are passed by, who would fill the pool and hide what lies behind them.
    pub(super) one_of_each: bool,
}

impl Graph {
    /// The `k` points nearest to `query`, approximately. Points that `quantizer` does not know are
    /// passed over.
    pub fn search<Q: Quantizer>(
        &self,
        quantizer: &Q,
        query: &Q::Query<'_>,
        options: SearchOptions,
    ) -> (SearchOutcome, SearchStats) {
        self.search_with(quantizer, query, options, |walk, start, scratch| {
            walk.run(quantizer, query, start, scratch)
        })
    }

    /// The `k` admitted points nearest to `query`, approximately.
    ///
    /// `admit` is asked once per point that would enter the result. Points that `quantizer` does
    /// not know are passed over.
    pub fn search_admitted<Q: Quantizer>(
        &self,
        quantizer: &Q,
        query: &Q::Query<'_>,
        options: SearchOptions,
        admit: impl Fn(u32) -> bool,
    ) -> (SearchOutcome, SearchStats) {
        self.search_with(quantizer, query, options, |walk, start, scratch| {
            walk.run_admitted(quantizer, query, start, &admit, scratch)
        })
    }

    fn search_with<Q: Quantizer>(
        &self,
        quantizer: &Q,
        query: &Q::Query<'_>,
        options: SearchOptions,
        run: impl FnOnce(&Walk<'_>, u32, &mut Scratch) -> bool,
    ) -> (SearchOutcome, SearchStats) {
        let Some(entry) = self.entry() else {
            return (SearchOutcome::Found(Vec::new()), SearchStats::default());
        };
        // Taken when the entry point is known, so that its lists are in it.
        let lists = self.lists();
        let mut scratch = self.scratch.take();
        let start = self.descend(&lists, quantizer, query, (entry, 0), &mut scratch);
        let walk = Walk {
            lists: &lists,
            layer: 0,
            ef: options.ef.max(options.k).max(1),
            visits_max: options.visits_max,
            stop: options.stop,
            one_of_each: false,
        };
        let outcome = if run(&walk, start, &mut scratch) {
            SearchOutcome::Found(scratch.pool.sorted().take(options.k).map(unkey).collect())
        } else {
            SearchOutcome::GaveUp
        };
        let stats = scratch.stats;
        self.scratch.put(scratch);
        (outcome, stats)
    }

    /// Greedy descent from the entry point to the layer above `target`; the nearest point found.
    pub(super) fn descend<Q: Quantizer>(
        &self,
        lists: &Lists<'_>,
        quantizer: &Q,
        query: &Q::Query<'_>,
        (entry, target): (Entry, u8),
        scratch: &mut Scratch,
    ) -> u32 {
        let mut nearest = entry.point;
        let mut nearest_key = quantizer.eval(query, nearest).map_or(u64::MAX, |v| key(v, nearest));
        scratch.stats.distances += 1;
        for layer in (target + 1..=entry.layer).rev() {
            loop {
                let before = nearest;
                let Some(list) = lists.list(nearest, layer) else { break };
                Self::read_list(list, &mut scratch.links);
                scratch.stats.visited += 1;
                let links = std::mem::take(&mut scratch.links);
                quantizer.eval_all(query, &links, |link, value| {
                    scratch.stats.distances += 1;
                    if key(value, link) < nearest_key {
                        nearest = link;
                        nearest_key = key(value, link);
                    }
                });
                scratch.links = links;
                if nearest == before {
                    break;
                }
            }
        }
        nearest
    }
}

impl Walk<'_> {
    /// Leaves the points on the list of `point` that had not been met in `scratch.links`.
    fn unmet(&self, point: u32, scratch: &mut Scratch) {
        scratch.links.clear();
        let Some(list) = self.lists.list(point, self.layer) else { return };
        scratch.visited.insert_all(list, &mut scratch.links);
    }

    /// The key beyond which points are of no use.
    fn reach(&self, pool: &Pool) -> u64 {
        let kth = self.stop.and_then(|stop| Some((pool.nth(stop.near)?, stop.slack)));
        match kth.map(|(kth, slack)| unkey(kth).value * (1.0 + slack)) {
            Some(value) if value > 0.0 => key(value, u32::MAX),
            Some(_) | None => u64::MAX,
        }
    }

    fn prefetch_list(&self, point: u32) {
        if let Some(list) = self.lists.list(point, self.layer) {
            prefetch(list);
        }
    }

    /// Best-first walk from `start` that admits every point. Leaves the `ef` nearest points in
    /// `scratch.pool`; false when `visits_max` was reached.
    pub(super) fn run<Q: Quantizer>(
        &self,
        quantizer: &Q,
        query: &Q::Query<'_>,
        start: u32,
        scratch: &mut Scratch,
    ) -> bool {
        scratch.begin(self.lists.points, self.ef);
        scratch.visited.insert(start);
        if let Some(value) = quantizer.eval(query, start) {
            scratch.stats.distances += 1;
            scratch.pool.insert(key(value, start));
        }
        let mut visits = 0;
        while let Some(current) = scratch.pool.expand() {
            if visits >= self.visits_max {
                return false;
            }
            let reach = self.reach(&scratch.pool);
            if current > reach {
                break;
            }
            visits += 1;
            self.unmet(unkey(current).ordinal, scratch);
            if let Some(upcoming) = scratch.pool.upcoming() {
                self.prefetch_list(unkey(upcoming).ordinal);
            }
            let (pool, stats) = (&mut scratch.pool, &mut scratch.stats);
            let from = unkey(current);
            let copy = |link, value: f32| {
                self.one_of_each
                    && value.to_bits() == from.value.to_bits()
                    && quantizer.same(from.ordinal, link)
            };
            quantizer.eval_all(query, &scratch.links, |link, value| {
                stats.distances += 1;
                if copy(link, value) {
                    return;
                }
                let candidate = key(value, link);
                if candidate < reach && pool.insert(candidate) {
                    self.prefetch_list(link);
                }
            });
        }
        scratch.stats.visited += visits;
        true
    }

    /// Best-first walk from `start` that goes through every point and keeps the admitted. Leaves
    /// the `ef` nearest of these in `scratch.pool`; false when `visits_max` was reached.
    pub(super) fn run_admitted<Q: Quantizer>(
        &self,
        quantizer: &Q,
        query: &Q::Query<'_>,
        start: u32,
        admit: &impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> bool {
        scratch.begin(self.lists.points, self.ef);
        scratch.visited.insert(start);
        if let Some(value) = quantizer.eval(query, start) {
            scratch.stats.distances += 1;
            scratch.frontier.push(Reverse(key(value, start)));
            if admit(start) {
                scratch.pool.insert(key(value, start));
            }
        }
        let mut visits = 0;
        while let Some(Reverse(current)) = scratch.frontier.pop() {
            let reach = self.reach(&scratch.pool);
            if current > scratch.pool.bound().min(reach) {
                break;
            }
            if visits >= self.visits_max {
                return false;
            }
            visits += 1;
            self.unmet(unkey(current).ordinal, scratch);
            if let Some(Reverse(upcoming)) = scratch.frontier.peek() {
                self.prefetch_list(unkey(*upcoming).ordinal);
            }
            let (pool, frontier) = (&mut scratch.pool, &mut scratch.frontier);
            let stats = &mut scratch.stats;
            quantizer.eval_all(query, &scratch.links, |link, value| {
                stats.distances += 1;
                let candidate = key(value, link);
                if candidate < pool.bound().min(reach) {
                    frontier.push(Reverse(candidate));
                    if admit(link) {
                        pool.insert(candidate);
                    }
                }
            });
        }
        scratch.stats.visited += visits;
        true
    }
}
