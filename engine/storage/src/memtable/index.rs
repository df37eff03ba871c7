//! A vector index over a table's rows: an HNSW graph that covers ordinals `0..covered`, and an exact
//! scan of the rows behind it.
//!
//! Rows are searchable at the commit that brings them, because what the graph does not cover yet is
//! scanned. A background task moves `covered` up; nothing waits for it but `CREATE INDEX`.
//!
//! Every search returns exactly `min(k, rows that qualify)` rows. The graph is walked only where
//! that is cheaper than comparing every qualifying row, and a walk that runs into its limit or
//! returns too few rows is replaced by the exact scan.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use catalog::{Collection, ColumnType, Index};
use parking_lot::Mutex;
use types::{CommitTs, RowOrdinal};
use vector::hnsw::{Builder, Graph, Parameters, SearchOptions, SearchOutcome};
use vector::quantize::{FullPrecision, Quantizer as _};
use vector::{Metric, Neighbor, Vectors as _, flat};

use super::layout::Relocation;
use super::rows::{Rows, VectorRows};
use crate::error::StorageError;

/// Points inserted between two looks at the cancel flag and two moves of `covered`.
const BATCH_POINTS: u32 = 1_024;
/// Below this many points, starting threads costs more than it saves.
const PARALLEL_POINTS_MIN: u32 = 128;
/// Distances per candidate of `ef` that a walk computes, and how much dearer a random row is than
/// the next row of a scan: together the cost of a walk in units of scanned rows. Measured on 384
/// dimensions (`benches/hnsw.rs`); being wrong costs time, never rows.
const WALK_DISTANCES_PER_EF: f64 = 25.0;
const RANDOM_ROW_COST: f64 = 2.0;

/// Resources of index building.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexerOptions {
    pub(crate) threads: usize,
}

/// An HNSW index of one column.
#[derive(Debug)]
pub struct VectorIndex {
    definition: Index,
    dim: usize,
    metric: Metric,
    graph: Graph,
    /// The graph covers ordinals below this.
    covered: AtomicU32,
    /// Held while points are inserted, and while the graph is written to a checkpoint.
    building: Mutex<()>,
}

/// What to search for.
#[derive(Debug, Clone, Copy)]
pub struct IndexSearch<'a> {
    /// The query, of the column's dimension.
    pub query: &'a [f32],
    /// Rows wanted.
    pub k: usize,
    /// Candidates of the walk.
    pub ef: usize,
    /// The instant to search.
    pub at: CommitTs,
    /// Rows that pass the statement's predicate, as sorted ordinals of visible rows; `None` when
    /// there is no predicate.
    pub admitted: Option<&'a [u32]>,
}

/// How the rows were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The graph was walked, and rows it does not cover were scanned.
    Graph,
    /// All qualifying rows were compared.
    Exact,
    /// The graph was walked in vain, then all qualifying rows were compared.
    GraphThenExact,
}

impl Strategy {
    /// As shown by EXPLAIN.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Graph => "graph",
            Self::Exact => "exact",
            Self::GraphThenExact => "graph, then exact",
        }
    }
}

/// The work a search did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchReport {
    /// How the rows were found.
    pub strategy: Strategy,
    /// Graph points whose links were followed.
    pub visited: u64,
    /// Distances computed.
    pub distances: u64,
    /// Rows that qualified.
    pub qualifying: usize,
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
        let dim = match collection.columns.get(definition.column).map(|c| c.column_type) {
            Some(ColumnType::Vector(dim)) => dim.len(),
            Some(_) | None => 0,
        };
        Self {
            dim,
            metric: Metric::new(definition.distance),
            graph,
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

    /// Bytes of the graph's links.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.graph.memory_bytes()
    }

    /// The same index over rows with other ordinals, less those that went to history; inserting
    /// waits meanwhile.
    pub(crate) fn relocated(&self, rows: &Rows, to: &Relocation) -> Self {
        let _guard = self.building.lock();
        // Points without their vectors could not be mended.
        let covered = self.covered().min(rows.len());
        let vectors = rows.vectors(self.definition.column, self.dim);
        let quantizer = FullPrecision::new(self.metric, &vectors);
        let graph = self.graph.relocated(&quantizer, covered, |point| to.of(point));
        let kept = (0..covered).rev().find_map(|point| to.of(point)).map_or(0, |last| last + 1);
        Self {
            definition: self.definition.clone(),
            dim: self.dim,
            metric: self.metric,
            graph,
            covered: AtomicU32::new(kept),
            building: Mutex::new(()),
        }
    }

    /// The graph as bytes and the number of ordinals it covers, at most `rows`; inserting waits
    /// meanwhile.
    pub(crate) fn to_bytes(&self, rows: u32) -> (Vec<u8>, u32) {
        let _guard = self.building.lock();
        let covered = self.covered().min(rows);
        (self.graph.to_bytes(covered), covered)
    }

    /// Inserts the next rows that the graph does not cover. True while some are left.
    pub(crate) fn extend(&self, rows: &Rows, options: IndexerOptions, stop: &AtomicBool) -> bool {
        let _guard = self.building.lock();
        if rows.check_damage().is_err() {
            return false;
        }
        let from = self.covered();
        let to = rows.len().min(from.saturating_add(BATCH_POINTS));
        let vectors = rows.vectors(self.definition.column, self.dim);
        let quantizer = FullPrecision::new(self.metric, &vectors);
        let builder = Builder::new(&self.graph, &quantizer);
        if to.saturating_sub(from) < PARALLEL_POINTS_MIN || options.threads < 2 {
            (from..to).for_each(|point| {
                builder.insert(point);
            });
        } else {
            let next = AtomicUsize::new(from as usize);
            std::thread::scope(|scope| {
                for _ in 0..options.threads {
                    scope.spawn(|| {
                        while !stop.load(Ordering::Relaxed) {
                            let point = next.fetch_add(1, Ordering::Relaxed);
                            let Ok(point) = u32::try_from(point) else { break };
                            if point >= to {
                                break;
                            }
                            builder.insert(point);
                        }
                    });
                }
            });
            if stop.load(Ordering::Relaxed) {
                return false; // the index is thrown away or the process ends
            }
        }
        if rows.check_damage().is_err() {
            return false; // points without their vectors are not covered
        }
        self.covered.store(to, Ordering::Release);
        to < rows.len()
    }

    /// The `k` nearest qualifying rows, nearest first. Rows without a distance (NULL, or cosine with
    /// a zero vector) come last, in ordinal order.
    ///
    /// # Errors
    /// When a vector that had to be compared is damaged.
    pub fn search(
        &self,
        rows: &Rows,
        request: &IndexSearch<'_>,
    ) -> Result<(Vec<Neighbor>, SearchReport), StorageError> {
        let vectors = rows.vectors(self.definition.column, self.dim);
        let covered = self.covered().min(rows.len());
        let qualifying = match request.admitted {
            Some(admitted) => admitted.len(),
            None => rows.count_visible(request.at),
        };
        let probe = self.metric.probe(request.query);
        let fraction = fraction(qualifying, rows.points());
        let cost = request.ef.max(request.k) as f64 * WALK_DISTANCES_PER_EF * RANDOM_ROW_COST;
        let walk = self.metric.is_defined(&probe)
            && request.k < qualifying
            && cost / fraction < qualifying as f64;
        let mut report = SearchReport {
            strategy: if walk { Strategy::Graph } else { Strategy::Exact },
            visited: 0,
            distances: 0,
            qualifying,
        };
        if walk {
            let found = self.walk(rows, &vectors, request, covered, &mut report);
            if let Some(found) = found.filter(|found| found.len() == request.k) {
                rows.check_damage()?;
                return Ok((found, report));
            }
            report.strategy = Strategy::GraphThenExact;
        }
        let (found, scan) = exact_search(&self.metric, rows, &vectors, request)?;
        report.distances += scan.distances;
        Ok((found, report))
    }

    fn walk(
        &self,
        rows: &Rows,
        vectors: &VectorRows<'_>,
        request: &IndexSearch<'_>,
        covered: u32,
        report: &mut SearchReport,
    ) -> Option<Vec<Neighbor>> {
        let quantizer = FullPrecision::new(self.metric, vectors);
        let query = quantizer.query(request.query)?;
        let options = SearchOptions {
            k: request.k,
            ef: request.ef,
            visits_max: (report.qualifying / 8).max(request.ef * 8) as u64,
        };
        let plain = request.admitted.is_none() && rows.all_points_visible(request.at);
        let bits = request.admitted.map(|admitted| Bits::of(admitted, rows.len()));
        let admit = |point: u32| {
            point < covered
                && (plain
                    || bits.as_ref().map_or_else(
                        || rows.visible(RowOrdinal(point), request.at),
                        |bits| bits.contains(point),
                    ))
        };
        let (outcome, stats) = self.graph.search_admitted(&quantizer, &query, options, admit);
        report.visited = stats.visited;
        report.distances = stats.distances;
        let SearchOutcome::Found(mut found) = outcome else { return None };
        if covered < rows.len() || !rows.history().is_empty() {
            let (young, distances) = match request.admitted {
                Some(admitted) => {
                    let from = admitted.partition_point(|ordinal| *ordinal < covered);
                    let young = admitted[from..].iter().copied();
                    flat::search(&self.metric, &query, vectors, young, request.k)
                }
                None => {
                    let young = rows.visible_from(request.at, covered);
                    flat::search(&self.metric, &query, vectors, young, request.k)
                }
            };
            report.distances += distances;
            found = merge(found, young, request.k);
        }
        Some(found)
    }
}

/// The exact answer, without any index: the `k` nearest qualifying rows, then rows without a
/// distance.
///
/// # Errors
/// When a vector is damaged.
pub fn exact_search(
    metric: &Metric,
    rows: &Rows,
    vectors: &VectorRows<'_>,
    request: &IndexSearch<'_>,
) -> Result<(Vec<Neighbor>, SearchReport), StorageError> {
    let mut seen = 0;
    let probe = metric.probe(request.query);
    let qualifying: Box<dyn Iterator<Item = u32>> = match request.admitted {
        Some(admitted) => Box::new(admitted.iter().copied()),
        None => Box::new(rows.visible_ordinals(request.at)),
    };
    let mut without = Vec::new();
    let with_vector = qualifying.filter(|ordinal| {
        seen += 1;
        let known = vectors.vector(*ordinal).is_some();
        if !known && without.len() < request.k {
            without.push(*ordinal);
        }
        known
    });
    let (mut found, distances) = flat::search(metric, &probe, vectors, with_vector, request.k);
    let room = request.k - found.len();
    let farthest = |ordinal| Neighbor { value: f32::NAN, ordinal };
    found.extend(without.into_iter().take(room).map(farthest));
    rows.check_damage()?;
    let strategy = Strategy::Exact;
    Ok((found, SearchReport { strategy, visited: 0, distances, qualifying: seen }))
}

fn fraction(part: usize, whole: u32) -> f64 {
    if whole == 0 { 1.0 } else { (part as f64 / f64::from(whole)).max(1e-9) }
}

fn merge(left: Vec<Neighbor>, right: Vec<Neighbor>, k: usize) -> Vec<Neighbor> {
    let mut top = vector::TopK::new(k);
    left.into_iter().chain(right).for_each(|n| top.push(n.value, n.ordinal));
    top.into_sorted()
}

/// A set of ordinals.
struct Bits(Vec<u64>);

impl Bits {
    fn of(ordinals: &[u32], rows: u32) -> Self {
        let mut words = vec![0_u64; rows as usize / 64 + 1];
        for ordinal in ordinals {
            if let Some(word) = words.get_mut(*ordinal as usize / 64) {
                *word |= 1 << (ordinal % 64);
            }
        }
        Self(words)
    }

    fn contains(&self, ordinal: u32) -> bool {
        self.0.get(ordinal as usize / 64).is_some_and(|word| word >> (ordinal % 64) & 1 == 1)
    }
}
