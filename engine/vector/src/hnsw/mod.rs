//! HNSW: a navigable small-world graph in layers.
//!
//! Paper: Y. Malkov, D. Yashunin, "Efficient and robust approximate nearest neighbor search using
//! Hierarchical Navigable Small World graphs", TPAMI 2020. Symbols follow it: `m` links per point
//! and layer (twice that on layer 0), `ef_construction` and `ef` candidates while building and
//! searching. Insertion costs `O(ef_construction * log n)` distances, a search `O(ef * log n)`.
//!
//! Point = row ordinal. The graph stores links only; distances come from a
//! [`crate::quantize::Quantizer`]. Links are atomics, so searches run while points are inserted by
//! several threads: a search may meet a half-rewritten list, which still names points of the graph
//! and so costs at most recall, never a wrong row.
//!
//! Which points may be *returned* is the caller's predicate, asked when a point is admitted to the
//! result; points that fail it still carry the walk ("walk all, keep visible").
//!
//! A graph is derived data: two graphs over the same rows may differ.

mod build;
mod format;
mod graph;
mod relocate;
mod search;
mod visited;

use types::SplitMix64;

pub use build::Builder;
pub use format::FormatError;
pub use graph::Graph;
pub use search::{SearchOptions, SearchOutcome, SearchStats, Stop};

/// Most layers above layer 0. With `m` at its least, 2, a point reaches layer 16 once in 65,536.
pub(crate) const LAYER_MAX: u8 = 16;

/// How a graph is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// Links per point and layer above 0; layer 0 holds twice as many. See
    /// [`types::limits::HNSW_M`].
    pub m: u32,
    /// Candidates kept while a point is inserted.
    pub ef_construction: u32,
    /// Determines the layer of every point.
    pub seed: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { m: 16, ef_construction: 200, seed: 0x5EED }
    }
}

impl Parameters {
    /// Links that a point may have on `layer`.
    pub(crate) fn links_max(&self, layer: u8) -> usize {
        if layer == 0 { 2 * self.m as usize } else { self.m as usize }
    }

    /// The highest layer of `point`: exponentially distributed with mean `1 / ln m`, a function of
    /// the seed and the point alone.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=LAYER_MAX"
    )]
    pub(crate) fn layer_of(&self, point: u32) -> u8 {
        let unit = 1.0 - SplitMix64::new(self.seed ^ (u64::from(point) << 20)).unit();
        let layer = -unit.ln() / f64::from(self.m).ln();
        layer.floor().clamp(0.0, f64::from(LAYER_MAX)) as u8
    }
}

#[cfg(test)]
mod tests;
