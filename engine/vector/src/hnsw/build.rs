//! Insertion: algorithms 1 and 4 of the paper. Several threads may insert different points.
//!
//! Copies of one vector would fill each other's lists, and those of all points near them, and cut the
//! graph in pieces. So only one of them is linked like a point; every other one hangs on a chain that
//! begins at it, each first on the list of the one before, and has the same links else.

use std::sync::PoisonError;

use super::graph::{Entry, Graph, Lists};
use super::search::Walk;
use super::visited::Scratch;
use crate::quantize::Quantizer;
use crate::top_k::{key, unkey};

/// Inserts points into a graph. One per thread.
#[derive(Debug)]
pub struct Builder<'a, Q> {
    graph: &'a Graph,
    quantizer: &'a Q,
}

impl<'a, Q: Quantizer> Builder<'a, Q> {
    /// A builder that takes distances from `quantizer`.
    pub fn new(graph: &'a Graph, quantizer: &'a Q) -> Self {
        Self { graph, quantizer }
    }

    /// Inserts `point`, which must not be in the graph yet. False when the point has no vector or
    /// no distance to anything (the zero vector under cosine): such a row is found by other means.
    pub fn insert(&self, point: u32) -> bool {
        let Some(query) = self.quantizer.point(point) else { return false };
        let parameters = self.graph.parameters();
        let layer = parameters.layer_of(point);
        self.graph.extend_to(point);
        if layer > 0 {
            self.graph.make_upper(point, layer);
        }
        // Only a point that may become the entry point serialises with the others.
        let guard = match self.graph.entry() {
            Some(entry) if layer <= entry.layer => None,
            Some(_) | None => {
                Some(self.graph.entry_lock.lock().unwrap_or_else(PoisonError::into_inner))
            }
        };
        let Some(entry) = self.graph.entry() else {
            self.graph.set_entry(Entry { point, layer });
            return true;
        };
        // Taken when the entry point is known, so that its lists are in it.
        let lists = self.graph.lists();
        let mut scratch = self.graph.scratch.take();
        self.link(&lists, (point, layer), &query, entry, &mut scratch);
        self.graph.scratch.put(scratch);
        if layer > entry.layer {
            self.graph.set_entry(Entry { point, layer });
        }
        drop(guard);
        true
    }

    pub(super) fn link(
        &self,
        lists: &Lists<'_>,
        (point, layer): (u32, u8),
        query: &Q::Query<'_>,
        entry: Entry,
        scratch: &mut Scratch,
    ) {
        let top = layer.min(entry.layer);
        let mut start = self.graph.descend(lists, self.quantizer, query, (entry, top), scratch);
        for layer in (0..=top).rev() {
            let walk = Walk {
                lists,
                layer,
                ef: self.graph.parameters().ef_construction as usize,
                visits_max: u64::MAX,
                stop: None,
                one_of_each: true,
            };
            walk.run(self.quantizer, query, start, scratch);
            // A point that is linked anew may meet itself.
            let others = scratch.pool.sorted().filter(|other| unkey(*other).ordinal != point);
            let candidates = self.one_of_each(others);
            if let Some(nearest) = candidates.first() {
                start = unkey(*nearest).ordinal;
            }
            if let Some(twin) = self.twin(query, point, &candidates) {
                self.chain(lists, point, layer, twin);
                continue;
            }
            let neighbours = self.select(&candidates, self.graph.parameters().m as usize);
            self.connect(lists, point, layer, &neighbours);
        }
    }

    /// Points in the order given, nearest first, the first of each run of copies.
    pub(super) fn one_of_each(&self, points: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut kept: Vec<u64> = Vec::new();
        for point in points {
            let copy = kept.last().is_some_and(|last| {
                let (last, point) = (unkey(*last), unkey(point));
                last.value.to_bits() == point.value.to_bits()
                    && self.quantizer.same(last.ordinal, point.ordinal)
            });
            if !copy {
                kept.push(point);
            }
        }
        kept
    }

    /// The first of `candidates` that is a copy of `point`. It need not be the nearest: by inner product
    /// longer vectors are nearer.
    fn twin(&self, query: &Q::Query<'_>, point: u32, candidates: &[u64]) -> Option<u32> {
        let own = self.quantizer.eval(query, point)?;
        let mut copies = candidates.iter().map(|candidate| unkey(*candidate)).filter(|other| {
            other.value.to_bits() == own.to_bits() && self.quantizer.same(other.ordinal, point)
        });
        copies.next().map(|twin| twin.ordinal)
    }

    /// Hangs `point` on the chain of the copies of `twin`, which is one.
    fn chain(&self, lists: &Lists<'_>, point: u32, layer: u8, twin: u32) {
        let (Some(list), Some(own)) = (lists.list(twin, layer), lists.list(point, layer)) else {
            return;
        };
        // Both lists change, and others may change them: their stripes are taken in one order.
        let mut stripes = [self.graph.stripe(twin), self.graph.stripe(point)];
        stripes.sort_by_key(|stripe| std::ptr::from_ref(*stripe).addr());
        let second = (!std::ptr::eq(stripes[0], stripes[1])).then_some(stripes[1]);
        let _first = stripes[0].lock().unwrap_or_else(PoisonError::into_inner);
        let _second = second.map(|s| s.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut links, mut mine) = (Vec::new(), Vec::new());
        Graph::read_list(list, &mut links);
        Graph::read_list(own, &mut mine);
        let next = links.iter().position(|link| self.quantizer.same(twin, *link));
        let next = next.map(|at| links.remove(at));
        // A point that others know already keeps what it leads to.
        let (copies, known): (Vec<u32>, Vec<u32>) =
            mine.drain(..).partition(|link| self.quantizer.same(point, *link));
        let chain = copies.into_iter().chain(next).chain([twin]);
        let others = chain.chain(known).chain(links.iter().copied());
        for link in others {
            if mine.len() < own.len() && link != point && !mine.contains(&link) {
                mine.push(link);
            }
        }
        Graph::write_list(own, &mine);
        links.insert(0, point);
        links.truncate(list.len());
        Graph::write_list(list, &links);
    }

    /// Algorithm 4 for a new list: the diverse of `candidates` (nearest first), filled up with the
    /// nearest left.
    pub(super) fn select(&self, candidates: &[u64], links_max: usize) -> Vec<u64> {
        if candidates.len() <= links_max {
            return candidates.to_vec();
        }
        let (mut kept, passed) = self.diverse(candidates, links_max);
        let room = links_max - kept.len();
        kept.extend(passed.into_iter().take(room));
        kept
    }

    /// Those of `candidates`, nearest first, that are nearer to the point they were compared with
    /// than to any kept before, so that links spread in all directions; at most `links_max`. Also
    /// those passed over.
    fn diverse(&self, candidates: &[u64], links_max: usize) -> (Vec<u64>, Vec<u64>) {
        let mut kept: Vec<u64> = Vec::with_capacity(links_max);
        let mut passed = Vec::new();
        for &candidate in candidates {
            if kept.len() == links_max {
                break;
            }
            let candidate_point = unkey(candidate);
            let Some(probe) = self.quantizer.point(candidate_point.ordinal) else { continue };
            let far = |between: f32| between.is_nan() || between >= candidate_point.value;
            let (fours, rest) = kept.as_chunks::<4>();
            let diverse = fours.iter().all(|four| {
                let others = four.map(|other| unkey(other).ordinal);
                self.quantizer.eval_four(&probe, others).into_iter().all(far)
            }) && rest
                .iter()
                .all(|other| self.quantizer.eval(&probe, unkey(*other).ordinal).is_none_or(far));
            if diverse { kept.push(candidate) } else { passed.push(candidate) }
        }
        (kept, passed)
    }

    /// Writes the list of `point` and puts `point` on the lists of its neighbours.
    pub(super) fn connect(&self, lists: &Lists<'_>, point: u32, layer: u8, neighbours: &[u64]) {
        let links: Vec<u32> = neighbours.iter().map(|n| unkey(*n).ordinal).collect();
        if let Some(list) = lists.list(point, layer) {
            let _guard = self.graph.stripe(point).lock().unwrap_or_else(PoisonError::into_inner);
            // Threads that insert nearby may have linked to this point already: keep theirs.
            let mut existing = Vec::new();
            Graph::read_list(list, &mut existing);
            let room = list.len();
            let mut merged = links;
            for link in existing {
                if merged.len() < room && !merged.contains(&link) {
                    merged.push(link);
                }
            }
            Graph::write_list(list, &merged);
        }
        for &neighbour in neighbours {
            self.link_back(lists, point, layer, neighbour);
        }
    }

    fn link_back(&self, lists: &Lists<'_>, point: u32, layer: u8, neighbour: u64) {
        let to = unkey(neighbour);
        let Some(list) = lists.list(to.ordinal, layer) else { return };
        let _guard = self.graph.stripe(to.ordinal).lock().unwrap_or_else(PoisonError::into_inner);
        let mut links = Vec::new();
        Graph::read_list(list, &mut links);
        if links.contains(&point) {
            return;
        }
        let room = list.len();
        if links.len() < room {
            links.push(point);
            Graph::write_list(list, &links);
            return;
        }
        let Some(probe) = self.quantizer.point(to.ordinal) else { return };
        // A chain of copies begins here and is not to be cut.
        let chain = links.iter().position(|link| self.quantizer.same(to.ordinal, *link));
        let chain = chain.map(|at| links.remove(at));
        let mut candidates: Vec<u64> = Vec::with_capacity(links.len() + 1);
        candidates.push(key(to.value, point));
        candidates.extend(
            links.iter().filter_map(|l| self.quantizer.eval(&probe, *l).map(|v| key(v, *l))),
        );
        candidates.sort_unstable();
        let candidates = self.one_of_each(candidates.into_iter());
        // Some room is left for the next points that link here: pruning the list for each of them
        // would cost most of the time of building.
        let (mut kept, passed) = self.diverse(&candidates, room - usize::from(chain.is_some()));
        let fill = (room * 3 / 4).saturating_sub(kept.len());
        kept.extend(passed.into_iter().take(fill));
        let kept = kept.into_iter().map(|k| unkey(k).ordinal);
        let links: Vec<u32> = chain.into_iter().chain(kept).collect();
        Graph::write_list(list, &links);
    }
}
