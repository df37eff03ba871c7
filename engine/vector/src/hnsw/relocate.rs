//! A graph over fewer points under other ordinals.
//!
//! Links to points that went would leave holes that a walk cannot cross. Each list that loses links
//! is mended from what those points led to, through other points that went if need be, and pruned
//! like a list of a new point. The single-hop form is the delete consolidation of `FreshDiskANN`
//! (Singh et al. 2021, algorithm 4); going on through points that went keeps the graph whole when
//! most of them do.

use std::collections::HashSet;

use types::SplitMix64;

use super::Parameters;
use super::build::Builder;
use super::graph::{Entry, Graph, Lists};
use crate::quantize::Quantizer;
use crate::top_k::key;

/// Points that went and are passed through to mend one list.
const PASSED_MAX: usize = 256;

/// A quantizer under the new ordinals.
struct Renumbered<'a, Q> {
    quantizer: &'a Q,
    /// The old ordinal of each point.
    old: &'a [u32],
}

impl<Q: Quantizer> Quantizer for Renumbered<'_, Q> {
    type Query<'q>
        = Q::Query<'q>
    where
        Self: 'q;

    fn query<'q>(&'q self, vector: &'q [f32]) -> Option<Q::Query<'q>> {
        self.quantizer.query(vector)
    }

    fn point(&self, ordinal: u32) -> Option<Q::Query<'_>> {
        self.quantizer.point(*self.old.get(ordinal as usize)?)
    }

    fn eval(&self, query: &Q::Query<'_>, ordinal: u32) -> Option<f32> {
        self.quantizer.eval(query, *self.old.get(ordinal as usize)?)
    }

    fn eval_four(&self, query: &Q::Query<'_>, ordinals: [u32; 4]) -> [f32; 4] {
        let old = ordinals.map(|ordinal| self.old.get(ordinal as usize).copied());
        self.quantizer.eval_four(query, old.map(|old| old.unwrap_or(u32::MAX)))
    }

    fn same(&self, a: u32, b: u32) -> bool {
        let old = |ordinal: u32| self.old.get(ordinal as usize);
        matches!((old(a), old(b)), (Some(a), Some(b)) if self.quantizer.same(*a, *b))
    }

    fn prefetch(&self, ordinal: u32) {
        if let Some(old) = self.old.get(ordinal as usize) {
            self.quantizer.prefetch(*old);
        }
    }
}

impl Graph {
    /// A graph of those of the points `0..covered` to which `to` gives a new ordinal. `quantizer`
    /// knows the points by their old ordinals. No point may be inserted
    /// meanwhile.
    pub fn relocated<Q: Quantizer>(
        &self,
        quantizer: &Q,
        covered: u32,
        to: impl Fn(u32) -> Option<u32>,
    ) -> Self {
        let new: Vec<Option<u32>> = (0..covered).map(&to).collect();
        let points = new.iter().flatten().max().map_or(0, |last| last + 1);
        let mut old = vec![u32::MAX; points as usize];
        for (from, to) in (0..covered).zip(&new) {
            if let Some(to) = to {
                old[*to as usize] = from;
            }
        }
        // Layers are drawn by ordinal. Ordinals are given again after this, and those at the end of the
        // graph time and again: with the same draw a graph that is relocated often would be left
        // with the layers that a few ordinals happen to have, or with none.
        let seed = SplitMix64::new(self.parameters().seed).next_u64();
        let graph = Self::new(Parameters { seed, ..self.parameters() });
        let move_points = Move { from: self, from_lists: self.lists(), new: &new };
        let broken = move_points.copy(&graph, points);
        if graph.is_empty() {
            return graph;
        }
        let quantizer = Renumbered { quantizer, old: &old };
        let builder = Builder::new(&graph, &quantizer);
        for (point, layer) in broken {
            move_points.mend(&graph, &builder, &quantizer, (old[point as usize], point, layer));
        }
        graph
    }
}

struct Move<'a> {
    from: &'a Graph,
    from_lists: Lists<'a>,
    new: &'a [Option<u32>],
}

impl Move<'_> {
    fn of(&self, point: u32) -> Option<u32> {
        self.new.get(point as usize).copied().flatten()
    }

    /// Copies the links that stay; returns the lists that lost some, the highest layers first.
    fn copy(&self, graph: &Graph, points: u32) -> Vec<(u32, u8)> {
        let mut broken = Vec::new();
        let Some(last) = points.checked_sub(1) else { return broken };
        graph.extend_to(last);
        for (from, to) in (0..).zip(self.new) {
            let top = self.from_lists.top_layer(from);
            if let Some(to) = to.filter(|_| top > 0) {
                graph.make_upper(to, top);
            }
        }
        let lists = graph.lists();
        let mut links = Vec::new();
        let mut entry: Option<Entry> = None;
        for (from, to) in (0..).zip(self.new) {
            let Some(to) = *to else { continue };
            let top = self.from_lists.top_layer(from);
            let mut linked = false;
            for layer in 0..=top {
                let Some(list) = self.from_lists.list(from, layer) else { continue };
                Graph::read_list(list, &mut links);
                linked |= !links.is_empty();
                let kept: Vec<u32> = links.iter().filter_map(|link| self.of(*link)).collect();
                if kept.len() < links.len() {
                    broken.push((to, layer));
                }
                if let Some(list) = lists.list(to, layer) {
                    Graph::write_list(list, &kept);
                }
            }
            // A point without links was never inserted, unless it is the only one.
            let is_entry = self.from.entry().is_some_and(|e| e.point == from);
            if (linked || is_entry) && entry.is_none_or(|entry| entry.layer < top) {
                entry = Some(Entry { point: to, layer: top });
            }
        }
        if let Some(entry) = entry {
            graph.set_entry(entry);
        }
        broken.sort_by_key(|(_, layer)| std::cmp::Reverse(*layer));
        broken
    }

    fn mend<Q: Quantizer>(
        &self,
        graph: &Graph,
        builder: &Builder<'_, Q>,
        quantizer: &Q,
        (from, to, layer): (u32, u32, u8),
    ) {
        let Some(probe) = quantizer.point(to) else { return };
        let links_max = graph.parameters().m as usize;
        let lists = graph.lists();
        let near = self.beyond(from, layer, 3 * links_max);
        if near.len() < links_max.div_ceil(2)
            && let Some(entry) = graph.entry()
            && entry.point != to
        {
            // Nothing near is left: look for neighbours as a new point does.
            let mut scratch = graph.scratch.take();
            builder.link(&lists, (to, layer.min(entry.layer)), &probe, entry, &mut scratch);
            graph.scratch.put(scratch);
            return;
        }
        let with_distance = |point: u32| Some(key(quantizer.eval(&probe, point)?, point));
        let mut candidates: Vec<u64> = near.into_iter().filter_map(with_distance).collect();
        candidates.sort_unstable();
        let candidates = builder.one_of_each(candidates.into_iter());
        let neighbours = builder.select(&candidates, links_max);
        builder.connect(&lists, to, layer, &neighbours);
    }

    /// New ordinals of about `wanted` points that stay and can be reached from `from` on `layer`
    /// through points that went.
    fn beyond(&self, from: u32, layer: u8, wanted: usize) -> Vec<u32> {
        let mut found = Vec::new();
        let mut seen = HashSet::from([from]);
        let mut passed = vec![from];
        let mut next = 0;
        let mut links = Vec::new();
        while let Some(point) = passed.get(next).copied() {
            next += 1;
            let Some(list) = self.from_lists.list(point, layer) else { continue };
            Graph::read_list(list, &mut links);
            for link in links.iter().filter(|link| seen.insert(**link)) {
                match self.of(*link) {
                    Some(new) => found.push(new),
                    None if passed.len() < PASSED_MAX => passed.push(*link),
                    None => {}
                }
            }
            if found.len() >= wanted {
                break;
            }
        }
        found
    }
}
