//! A vector index over a table's rows: an HNSW graph that covers ordinals `0..covered`, and a scan
//! of the rows behind it.
//!
//! Rows are searchable at the commit that brings them, because what the graph does not cover yet is
//! scanned. A background task moves `covered` up; nothing waits for it but `CREATE INDEX`.
//!
//! The graph is built and walked on codes (`coding.rs`). Codes are never stored: they are made from
//! the rows, by the same background task. Until they are there, after a start, the full vectors
//! take their place. A column of sparse vectors has inverted lists in the place of graph and codes.

mod coding;
mod range;
mod search;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use catalog::{Collection, Index};
use parking_lot::Mutex;
use types::{Quantization, VectorKind};
use vector::hnsw::{Builder, Graph, Parameters};
use vector::quantize::{FullPrecision, Quantizer};
use vector::{InvertedLists, Metric, Row, Sparse, Vectors as _};

use self::coding::Coding;
use super::layout::Relocation;
use super::rows::Rows;

pub use self::search::{IndexSearch, SearchReport, Strategy, exact_search};

/// Points inserted between two looks at the cancel flag and two moves of `covered`.
const BATCH_POINTS: u32 = 1_024;
/// Below this many points, starting threads costs more than it saves.
const PARALLEL_POINTS_MIN: u32 = 128;

/// Resources of index building.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexerOptions {
    pub(crate) threads: usize,
}

/// An HNSW index of one column.
#[derive(Debug)]
pub struct VectorIndex {
    definition: Index,
    metric: Metric,
    graph: Graph,
    coding: Coding,
    /// What a column of sparse vectors has in the place of a graph.
    lists: Option<InvertedLists>,
    /// Distances that a walk computes per candidate of `ef`, as seen lately; bits of an `f32`.
    walk_distances: AtomicU32,
    /// The graph covers ordinals below this.
    covered: AtomicU32,
    /// Held while points are inserted, and while the graph is written to a checkpoint.
    building: Mutex<()>,
}

impl VectorIndex {
    pub(crate) fn new(definition: Index, collection: &Collection) -> Self {
        let parameters = Parameters {
            m: definition.options.m,
            ef_construction: definition.options.ef_construction,
            // A rebuild gives every point the layer it had.
            seed: u64::from(definition.id.0),
        };
        Self::with_graph(definition, collection, Graph::new(parameters), 0)
    }

    /// An index whose graph was read from a checkpoint.
    pub(crate) fn with_graph(
        definition: Index,
        collection: &Collection,
        graph: Graph,
        covered: u32,
    ) -> Self {
        let column_type = collection.column_by_id(definition.column).map(|c| c.column_type);
        let vector = column_type.and_then(|t| t.vector());
        if vector.is_some_and(|(kind, _)| kind == VectorKind::Sparsevec) {
            return Self::of_lists(definition, graph.parameters());
        }
        let dim = vector.map_or(0, |(_, dim)| dim.len());
        let coding = Coding::new(definition.options.quantization, definition.distance, dim);
        Self::of(definition, (graph, covered), coding)
    }

    /// Lists are made from the rows, like codes, and nothing is covered until they are.
    fn of_lists(definition: Index, parameters: Parameters) -> Self {
        let coding = Coding::new(Quantization::None, definition.distance, 0);
        let lists = Some(InvertedLists::new(definition.distance));
        Self { lists, ..Self::of(definition, (Graph::new(parameters), 0), coding) }
    }

    fn of(definition: Index, (graph, covered): (Graph, u32), coding: Coding) -> Self {
        Self {
            metric: Metric::new(definition.distance),
            graph,
            coding,
            lists: None,
            walk_distances: AtomicU32::new(search::WALK_DISTANCES.to_bits()),
            covered: AtomicU32::new(covered),
            building: Mutex::new(()),
            definition,
        }
    }

    /// The definition.
    #[must_use]
    pub fn definition(&self) -> &Index {
        &self.definition
    }

    /// The graph covers ordinals below this.
    #[must_use]
    pub fn covered(&self) -> u32 {
        self.covered.load(Ordering::Acquire)
    }

    /// Bytes of the graph's links and of codes, or of inverted lists.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let lists = self.lists.as_ref().map_or(0, InvertedLists::memory_bytes);
        self.graph.memory_bytes() + self.code_bytes() + lists
    }

    /// Bytes of codes.
    #[must_use]
    pub fn code_bytes(&self) -> usize {
        self.coding.codes().map_or(0, |codes| codes.memory_bytes())
    }

    /// How many times ranges were taken from a sample; 0 for codes that need none.
    #[must_use]
    pub fn calibrations(&self) -> u32 {
        self.coding.calibrations()
    }

    /// Whether rows wait to be inserted or points for their codes.
    pub(crate) fn is_behind(&self, rows: &Rows) -> bool {
        let covered = self.covered();
        covered < rows.len() || self.coding.is_behind(covered)
    }

    /// The same index over rows with other ordinals, less those that went to history; inserting
    /// waits meanwhile.
    pub(crate) fn relocated(&self, rows: &Rows, to: &Relocation) -> Self {
        let _guard = self.building.lock();
        if self.lists.is_some() {
            return Self::of_lists(self.definition.clone(), self.graph.parameters());
        }
        // Points without their vectors could not be mended.
        let covered = self.covered().min(rows.len());
        let vectors = rows.vectors(self.definition.column, self.coding.dim());
        let kept = (0..covered).rev().find_map(|point| to.of(point)).map_or(0, |last| last + 1);
        let codes = self.coding.codes();
        let view = codes.as_ref().and_then(|codes| codes.view_of(covered));
        let (graph, coding) = match &view {
            Some(view) => {
                let graph = self.graph.relocated(view, covered, |point| to.of(point));
                let mut old = vec![None; kept as usize];
                for (from, to) in (0..covered).filter_map(|from| Some((from, to.of(from)?))) {
                    old[to as usize] = Some(from);
                }
                (graph, self.coding.relocated(view, &old))
            }
            None => {
                let quantizer = FullPrecision::new(self.metric, &vectors);
                let graph = self.graph.relocated(&quantizer, covered, |point| to.of(point));
                (graph, self.coding.emptied())
            }
        };
        Self::of(self.definition.clone(), (graph, kept), coding)
    }

    /// Whether there is a graph, and not inverted lists.
    #[must_use]
    pub fn has_graph(&self) -> bool {
        self.lists.is_none()
    }

    /// The graph as bytes and the number of ordinals it covers, at most `rows`; inserting waits
    /// meanwhile.
    pub(crate) fn to_bytes(&self, rows: u32) -> (Vec<u8>, u32) {
        let _guard = self.building.lock();
        let covered = self.covered().min(rows);
        (self.graph.to_bytes(covered), covered)
    }

    /// Gives the next points their codes, or inserts the next rows that the graph does not cover.
    /// True while some are left.
    pub(crate) fn extend(&self, rows: &Rows, options: IndexerOptions, stop: &AtomicBool) -> bool {
        let _guard = self.building.lock();
        if rows.check_damage().is_err() {
            return false;
        }
        let from = self.covered();
        let vectors = rows.vectors(self.definition.column, self.coding.dim());
        let damaged = || rows.check_damage().is_err() || stop.load(Ordering::Relaxed);
        if self.coding.is_behind(from) {
            return self.coding.extend(&vectors, (from, rows.len()), options.threads, damaged);
        }
        let to = rows.len().min(from.saturating_add(BATCH_POINTS));
        if let Some(lists) = &self.lists {
            let sparse = |ordinal| match vectors.row(ordinal) {
                Some(Row::Sparse(sparse)) => Some(sparse),
                _ => None,
            };
            let batch: Vec<Option<Sparse<'_>>> = (from..to).map(sparse).collect();
            if damaged() {
                return false;
            }
            lists.append(&batch);
            self.covered.store(to, Ordering::Release);
            return self.is_behind(rows);
        }
        if !self.coding.extend(&vectors, (to, rows.len()), options.threads, damaged) {
            return false;
        }
        let codes = self.coding.codes();
        let view = codes.as_ref().and_then(|codes| codes.view_of(to));
        match &view {
            Some(view) => self.insert(view, from..to, options.threads, stop),
            None => {
                let exact = FullPrecision::new(self.metric, &vectors);
                self.insert(&exact, from..to, options.threads, stop);
            }
        }
        if damaged() {
            return false; // the index is thrown away, or points without vectors are not covered
        }
        self.covered.store(to, Ordering::Release);
        self.is_behind(rows)
    }

    fn insert<Q: Quantizer>(
        &self,
        quantizer: &Q,
        points: std::ops::Range<u32>,
        threads: usize,
        stop: &AtomicBool,
    ) {
        let builder = Builder::new(&self.graph, quantizer);
        if points.end.saturating_sub(points.start) < PARALLEL_POINTS_MIN || threads < 2 {
            for point in points {
                builder.insert(point);
            }
            return;
        }
        let next = AtomicUsize::new(points.start as usize);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let point = next.fetch_add(1, Ordering::Relaxed);
                        let Some(point) = u32::try_from(point).ok().filter(|p| *p < points.end)
                        else {
                            break;
                        };
                        builder.insert(point);
                    }
                });
            }
        });
    }
}
