//! Searching: greedy descent through the upper layers, best-first walk on layer 0.

use std::cmp::Reverse;

use super::graph::{Blocks, Entry, Graph};
use super::visited::Scratch;
use crate::Neighbor;
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
    pub(super) graph: &'g Graph,
    pub(super) blocks: &'g Blocks,
    pub(super) layer: u8,
    pub(super) ef: usize,
    pub(super) visits_max: u64,
}

impl Graph {
    /// The `k` admitted points nearest to `query`, approximately.
    ///
    /// `admit` is asked once per point that would enter the result. Points that `quantizer` does
    /// not know are passed over.
    pub fn search<Q: Quantizer>(
        &self,
        quantizer: &Q,
        query: &Q::Query<'_>,
        options: SearchOptions,
        admit: impl Fn(u32) -> bool,
    ) -> (SearchOutcome, SearchStats) {
        let blocks = self.blocks();
        let Some(entry) = self.entry() else {
            return (SearchOutcome::Found(Vec::new()), SearchStats::default());
        };
        let mut scratch = self.scratch.take();
        let start = self.descend(&blocks, quantizer, query, (entry, 0), &mut scratch);
        let walk = Walk {
            graph: self,
            blocks: &blocks,
            layer: 0,
            ef: options.ef.max(options.k).max(1),
            visits_max: options.visits_max,
        };
        let converged = walk.run(quantizer, query, start, &admit, &mut scratch);
        let stats = scratch.stats;
        let outcome = if converged {
            let mut found: Vec<u64> = scratch.admitted.drain().collect();
            found.sort_unstable();
            found.truncate(options.k);
            SearchOutcome::Found(found.into_iter().map(unkey).collect())
        } else {
            SearchOutcome::GaveUp
        };
        self.scratch.put(scratch);
        (outcome, stats)
    }

    /// Greedy descent from the entry point to the layer above `target`; the nearest point found.
    pub(super) fn descend<Q: Quantizer>(
        &self,
        blocks: &Blocks,
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
                let Some(list) = self.list(blocks, nearest, layer) else { break };
                Self::read_list(list, &mut scratch.links);
                scratch.stats.visited += 1;
                for &link in &scratch.links {
                    let Some(value) = quantizer.eval(query, link) else { continue };
                    scratch.stats.distances += 1;
                    if key(value, link) < nearest_key {
                        nearest = link;
                        nearest_key = key(value, link);
                    }
                }
                if nearest == before {
                    break;
                }
            }
        }
        nearest
    }
}

impl Walk<'_> {
    /// Best-first walk from `start`. Leaves the `ef` nearest admitted points in
    /// `scratch.admitted`; false when `visits_max` was reached.
    pub(super) fn run<Q: Quantizer>(
        &self,
        quantizer: &Q,
        query: &Q::Query<'_>,
        start: u32,
        admit: &impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> bool {
        scratch.begin(self.blocks.len() * super::graph::BLOCK_POINTS);
        scratch.visited.insert(start);
        if let Some(value) = quantizer.eval(query, start) {
            scratch.stats.distances += 1;
            scratch.frontier.push(Reverse(key(value, start)));
            if admit(start) {
                scratch.admitted.push(key(value, start));
            }
        }
        let mut visits = 0;
        while let Some(Reverse(current)) = scratch.frontier.pop() {
            let worst = scratch.admitted.peek().copied().unwrap_or(u64::MAX);
            if current > worst && scratch.admitted.len() >= self.ef {
                break;
            }
            if visits >= self.visits_max {
                return false;
            }
            visits += 1;
            self.expand(quantizer, query, unkey(current).ordinal, admit, scratch);
        }
        scratch.stats.visited += visits;
        true
    }

    /// Meets the neighbours of `point`.
    fn expand<Q: Quantizer>(
        &self,
        quantizer: &Q,
        query: &Q::Query<'_>,
        point: u32,
        admit: &impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) {
        let Some(list) = self.graph.list(self.blocks, point, self.layer) else { return };
        Graph::read_list(list, &mut scratch.links);
        let visited = &mut scratch.visited;
        scratch.links.retain(|link| visited.insert(*link));
        if let Some(first) = scratch.links.first() {
            quantizer.prefetch(*first);
        }
        for at in 0..scratch.links.len() {
            if let Some(next) = scratch.links.get(at + 1) {
                quantizer.prefetch(*next);
            }
            let link = scratch.links[at];
            let Some(value) = quantizer.eval(query, link) else { continue };
            scratch.stats.distances += 1;
            let candidate = key(value, link);
            let full = scratch.admitted.len() >= self.ef;
            if full && scratch.admitted.peek().is_some_and(|worst| candidate >= *worst) {
                continue;
            }
            scratch.frontier.push(Reverse(candidate));
            if admit(link) {
                scratch.admitted.push(candidate);
                if full {
                    scratch.admitted.pop();
                }
            }
        }
    }
}
