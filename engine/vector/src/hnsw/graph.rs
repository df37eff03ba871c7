//! The links of a graph, in memory that never moves.
//!
//! A list is a row of words, each 0 or a link plus one; the first 0 ends it. On layer 0 each point has
//! a row of `2m` words, so that with the usual `m` a list is two whole cache lines. Above that one
//! point of `m` has any: a row says where they are, one after the other behind the number of layers.
//! A list is rewritten in place, and a reader may see some of the old links behind some of the
//! new ones.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Parameters;
use super::visited::ScratchPool;
use crate::pages::{Words, WordsView, in_one_block};

/// Writers of different points meet on the same lock once in this many.
const STRIPES: usize = 1024;

/// The lists that there were at one moment; links may lead out of it, to younger points.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lists<'a> {
    parameters: Parameters,
    base_layer: WordsView<'a>,
    upper_at: WordsView<'a>,
    upper: WordsView<'a>,
    /// Points that have a place.
    pub(super) points: usize,
}

/// A point and the highest layer it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) point: u32,
    pub(super) layer: u8,
}

/// An HNSW graph over row ordinals.
#[derive(Debug)]
pub struct Graph {
    parameters: Parameters,
    base_layer: Words,
    /// For each point where in `upper` its lists are, plus one; 0 for most.
    upper_at: Words,
    upper: Words,
    /// Words of `upper` that were given away.
    upper_used: Mutex<u32>,
    /// Points that have a place.
    points: AtomicU32,
    /// `layer << 32 | point + 1`, zero while the graph is empty.
    entry: AtomicU64,
    /// Held while the entry point may change.
    pub(super) entry_lock: Mutex<()>,
    stripes: Box<[Mutex<()>]>,
    pub(super) scratch: ScratchPool,
}

impl Graph {
    /// An empty graph.
    #[must_use]
    pub fn new(parameters: Parameters) -> Self {
        Self {
            parameters,
            base_layer: Words::new(parameters.links_max(0)),
            upper_at: Words::new(1),
            upper: Words::new(1),
            upper_used: Mutex::default(),
            points: AtomicU32::new(0),
            entry: AtomicU64::new(0),
            entry_lock: Mutex::default(),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            scratch: ScratchPool::default(),
        }
    }

    /// How the graph is built.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        self.parameters
    }

    /// Whether no point was inserted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entry().is_none()
    }

    /// Bytes held by links.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let points = self.points.load(Ordering::Relaxed);
        let upper = *self.upper_used.lock().unwrap_or_else(PoisonError::into_inner);
        let of_points = self.base_layer.memory_bytes(points) + self.upper_at.memory_bytes(points);
        of_points + self.upper.memory_bytes(upper)
    }

    pub(super) fn entry(&self) -> Option<Entry> {
        let packed = self.entry.load(Ordering::Acquire);
        let point = u32::try_from(packed & 0xFFFF_FFFF).ok()?.checked_sub(1)?;
        Some(Entry { point, layer: u8::try_from(packed >> 32).ok()? })
    }

    pub(super) fn set_entry(&self, entry: Entry) {
        let packed = u64::from(entry.layer) << 32 | (u64::from(entry.point) + 1);
        self.entry.store(packed, Ordering::Release);
    }

    pub(super) fn lists(&self) -> Lists<'_> {
        let points = self.points.load(Ordering::Acquire) as usize;
        Lists {
            parameters: self.parameters,
            base_layer: self.base_layer.view(),
            upper_at: self.upper_at.view(),
            upper: self.upper.view(),
            points,
        }
    }

    /// Gives every point up to `point` a place.
    pub(super) fn extend_to(&self, point: u32) {
        self.base_layer.extend_to(point);
        self.upper_at.extend_to(point);
        self.points.fetch_max(point.saturating_add(1), Ordering::AcqRel);
    }

    /// The lock that guards writing the lists of `point`.
    pub(super) fn stripe(&self, point: u32) -> &Mutex<()> {
        &self.stripes[point as usize % STRIPES]
    }

    /// Gives `point`, which has a place, its lists above layer 0; false when it has some already.
    /// Without room it stays on layer 0.
    pub(super) fn make_upper(&self, point: u32, layer: u8) -> bool {
        let width = 1 + u32::from(layer) * self.parameters.m;
        let mut used = self.upper_used.lock().unwrap_or_else(PoisonError::into_inner);
        let upper_at = self.upper_at.view();
        let Some([at]) = upper_at.row(point) else { return false };
        if at.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let first = in_one_block(*used, width);
        let Some(end) = first.checked_add(width) else { return true };
        *used = end;
        self.upper.extend_to(end - 1);
        if let Some([top]) = self.upper.view().row(first) {
            top.store(u32::from(layer), Ordering::Relaxed);
            at.store(first + 1, Ordering::Release);
        }
        true
    }

    /// Replaces a list. The caller holds the point's stripe; `links` fits the list.
    pub(super) fn write_list(list: &[AtomicU32], links: &[u32]) {
        // The end first: behind the old one may be links of long ago, which readers are not to meet.
        if let Some(end) = list.get(links.len()) {
            end.store(0, Ordering::Relaxed);
        }
        for (word, link) in list.iter().zip(links) {
            word.store(link + 1, Ordering::Relaxed);
        }
    }

    /// Copies the links of a list into `out`, replacing what it held.
    pub(super) fn read_list(list: &[AtomicU32], out: &mut Vec<u32>) {
        out.clear();
        out.extend(links_of(list));
    }
}

/// The links of a list.
#[inline]
pub(super) fn links_of(list: &[AtomicU32]) -> impl Iterator<Item = u32> {
    list.iter().map_while(|word| word.load(Ordering::Relaxed).checked_sub(1))
}

impl<'a> Lists<'a> {
    /// The list of `point` on `layer`. `None` when the point is not on the layer, or its list is in
    /// memory younger than this view.
    #[inline]
    pub(super) fn list(&self, point: u32, layer: u8) -> Option<&'a [AtomicU32]> {
        if layer == 0 { self.base_layer.row(point) } else { self.upper_list(point, layer) }
    }

    fn upper_list(&self, point: u32, layer: u8) -> Option<&'a [AtomicU32]> {
        let (first, top) = self.upper_of(point)?;
        let m = self.parameters.m;
        let list = first + 1 + (u32::from(layer) - 1) * m;
        if layer <= top { self.upper.rows(list, m as usize) } else { None }
    }

    /// Where the upper lists of `point` are, and the highest layer that it has one on.
    fn upper_of(&self, point: u32) -> Option<(u32, u8)> {
        let first = self.upper_at.row(point)?.first()?.load(Ordering::Acquire).checked_sub(1)?;
        let top = self.upper.row(first)?.first()?.load(Ordering::Relaxed);
        Some((first, u8::try_from(top).ok()?))
    }

    /// The highest layer `point` has lists on.
    pub(super) fn top_layer(&self, point: u32) -> u8 {
        self.upper_of(point).map_or(0, |(_, layer)| layer)
    }
}
