//! Searching an index: which way is cheapest, candidates by codes, then the order by full vectors.
//!
//! Every search returns exactly `min(k, rows that qualify)` rows. Unless the request names a way, the
//! graph is walked only where that is cheaper than comparing every qualifying row; a way that runs into its limit or
//! returns too few rows is replaced by the exact scan.

use std::sync::atomic::Ordering;

use types::{CommitTs, Distance, RowOrdinal};
use vector::hnsw::{SearchOptions, SearchOutcome, Stop};
use vector::quantize::{CodesView, FullPrecision, Quantizer, rescore};
use vector::{InvertedLists, Metric, Neighbor, Probe, Row, TopK, Vectors as _, flat};

use super::VectorIndex;
use crate::error::StorageError;
use crate::memtable::rows::{Rows, VectorRows};

/// Distances per candidate of `ef` that a walk computes, before any was seen.
pub(super) const WALK_DISTANCES: f32 = 20.0;
/// How many candidates of `ef` the way to the neighbourhood of a query is worth.
const DESCENT: f64 = 16.0;
/// The cost of a comparison: of any, of a byte that comes in order, and of a row and a byte that do
/// not. In nanoseconds on the machine of `benches`; only their proportions matter, and being wrong
/// costs time, never rows.
const COMPARE_NANOS: f64 = 16.0;
const SCANNED_BYTE_NANOS: f64 = 0.06;
const WALKED_ROW_NANOS: f64 = 20.0;
const WALKED_BYTE_NANOS: f64 = 0.11;
/// Of an inverted list an entry, and a row that the lists know; of a row whose sparse vector is compared
/// the row and each of its numbers.
const ENTRY_NANOS: f64 = 1.5;
const LISTED_ROW_NANOS: f64 = 1.0;
const SPARSE_ROW_NANOS: f64 = 60.0;
const SPARSE_NUMBER_NANOS: f64 = 3.0;
/// What keeping candidates in order costs per distance, for each of `ef`.
const POOL_NANOS: f64 = 0.05;
/// Candidates behind the k-th that are rescored at least: with a small k its multiple is too few.
const RESCORED_MORE_MIN: usize = 16;
/// Codes are scanned when there are at least this many rows for each that is then rescored.
const SCANNED_PER_RESCORED: usize = 4;

/// What to search for.
#[derive(Debug, Clone, Copy)]
pub struct IndexSearch<'a> {
    /// The query, of the column's dimension; a sparse one for a sparse column.
    pub query: Row<'a>,
    /// Rows wanted.
    pub k: usize,
    /// Candidates of the walk.
    pub ef: usize,
    /// Whether the walk may end before it has tried them all.
    pub may_stop: bool,
    /// The instant to search.
    pub at: CommitTs,
    /// The way to take, whatever it costs; `None` for the cheapest.
    pub strategy: Option<Strategy>,
    /// Rows that pass the statement's predicate, as sorted ordinals of visible rows; `None` when
    /// there is no predicate.
    pub admitted: Option<&'a [u32]>,
}

impl IndexSearch<'_> {
    /// The qualifying rows with ordinals from `from` on, ascending.
    fn rows_from<'s>(&'s self, rows: &'s Rows, from: u32) -> Box<dyn Iterator<Item = u32> + 's> {
        match self.admitted {
            Some(admitted) => {
                let from = admitted.partition_point(|ordinal| *ordinal < from);
                Box::new(admitted[from..].iter().copied())
            }
            None => Box::new(rows.visible_from(self.at, from)),
        }
    }
}

/// How the candidates were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The graph was walked, and rows it does not cover were compared.
    Graph,
    /// The codes of all qualifying rows were compared, or the inverted lists of the query's dimensions
    /// read.
    Scan,
    /// All qualifying rows were compared by their full vectors.
    Exact,
}

/// The work a search did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchReport {
    /// How the candidates were found.
    pub strategy: Strategy,
    /// Whether that gave too few rows, and all were compared after it.
    pub then_exact: bool,
    /// Graph points whose links were followed.
    pub visited: u64,
    /// Distances computed, by codes or by vectors.
    pub distances: u64,
    /// Candidates whose full vectors were read.
    pub rescored: u64,
    /// Rows that qualified.
    pub qualifying: usize,
}

impl Strategy {
    /// All ways.
    pub const ALL: [Self; 3] = [Self::Graph, Self::Scan, Self::Exact];

    /// As shown by EXPLAIN and taken by settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Graph => "graph",
            Self::Scan => "scan",
            Self::Exact => "exact",
        }
    }
}

impl SearchReport {
    fn new(strategy: Strategy, qualifying: usize) -> Self {
        Self { strategy, then_exact: false, visited: 0, distances: 0, rescored: 0, qualifying }
    }

    /// The way, as shown by EXPLAIN.
    #[must_use]
    pub fn way(&self) -> String {
        let name = self.strategy.name();
        if self.then_exact { format!("{name}, then exact") } else { name.to_owned() }
    }
}

/// A search under way.
struct Search<'a> {
    index: &'a VectorIndex,
    rows: &'a Rows,
    vectors: &'a VectorRows<'a>,
    request: &'a IndexSearch<'a>,
    covered: u32,
}

impl VectorIndex {
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
        let vectors = rows.vectors(self.definition.column, self.coding.dim());
        // Before the codes are fetched: points are covered after they have codes.
        let covered = self.covered().min(rows.shared_len());
        let search = Search { index: self, rows, vectors: &vectors, request, covered };
        let codes = self.coding.codes();
        let view = codes.as_ref().map(|codes| codes.view()).filter(|view| view.len() >= covered);
        let mut report = SearchReport::new(Strategy::Exact, search.qualifying());
        let exact = FullPrecision::new(self.metric, &vectors);
        let found = exact.query_row(request.query).and_then(|probe| match (&self.lists, &view) {
            (Some(lists), _) => search.by_lists(lists, (&exact, &probe), &mut report),
            (None, Some(view)) => search.by_codes(view, (&exact, &probe), &mut report),
            (None, None) => search.by_vectors((&exact, &probe), &mut report),
        });
        if let Some(found) = found.filter(|found| found.len() == request.k) {
            rows.check_damage()?;
            return Ok((found, report));
        }
        report.then_exact = report.strategy != Strategy::Exact;
        let (found, scan) = exact_search(&self.metric, rows, &vectors, request)?;
        report.distances += scan.distances;
        Ok((found, report))
    }
}

impl VectorIndex {
    /// What a walk for `ef` candidates and a comparison with every qualifying row cost, at `bytes` a
    /// row.
    fn nanos(&self, rows: &Rows, ef: usize, bytes: usize, qualifying: usize) -> (f64, f64) {
        let bytes = bytes as f64;
        let per_candidate = f32::from_bits(self.walk_distances.load(Ordering::Relaxed));
        let fraction = (qualifying as f64 / f64::from(rows.points().max(1))).max(1e-9);
        let distances = f64::from(per_candidate) * (ef as f64 / fraction + DESCENT);
        let kept = POOL_NANOS * ef as f64;
        let walk = distances * (WALKED_ROW_NANOS + WALKED_BYTE_NANOS * bytes + kept);
        let scan = qualifying as f64 * (COMPARE_NANOS + SCANNED_BYTE_NANOS * bytes);
        (walk, scan)
    }

    /// Bytes of a full vector; halves are widened, which takes about as long as reading as much.
    fn vector_bytes(&self) -> usize {
        match self.definition.distance {
            Distance::L2 | Distance::InnerProduct | Distance::Cosine | Distance::L1 => {
                4 * self.coding.dim()
            }
            Distance::Hamming | Distance::Jaccard => self.coding.dim().div_ceil(8),
        }
    }

    /// About what a search for `ef` candidates among the `qualifying` rows takes, in nanoseconds.
    #[must_use]
    pub fn search_nanos(&self, rows: &Rows, ef: usize, qualifying: usize) -> f64 {
        if let Some(lists) = &self.lists {
            // The most that it is without knowing the query.
            return f64::from(rows.len()) * sparse_row_nanos(lists);
        }
        let vector_bytes = self.vector_bytes();
        let covered = self.covered().min(rows.shared_len());
        let codes = self.coding.codes().filter(|codes| codes.len() >= covered);
        let bytes = codes.map_or(vector_bytes, |codes| codes.codec().record_bytes());
        let (walk, scan) = self.nanos(rows, ef, bytes, qualifying);
        let behind = f64::from(rows.len() - covered);
        walk.min(scan) + behind * (COMPARE_NANOS + SCANNED_BYTE_NANOS * vector_bytes as f64)
    }
}

impl VectorIndex {
    /// The share of `truth`, the exact answer of a search, that `found` has. A row that is as near as
    /// the farthest of the truth counts.
    #[must_use]
    pub fn recall(&self, found: &[Neighbor], truth: &[Neighbor]) -> f64 {
        let Some(farthest) = truth.last() else { return 1.0 };
        let exact = self.definition.options.rescore;
        let is_true = |row: &&Neighbor| {
            exact && row.value <= farthest.value || truth.iter().any(|t| t.ordinal == row.ordinal)
        };
        (found.iter().filter(is_true).count() as f64 / truth.len() as f64).min(1.0)
    }
}

type Exact<'a> = (&'a FullPrecision<'a, VectorRows<'a>>, &'a Probe<'a>);

impl Search<'_> {
    fn qualifying(&self) -> usize {
        match self.request.admitted {
            Some(admitted) => admitted.len(),
            None => self.rows.count_visible(self.request.at),
        }
    }

    /// Whether to walk the graph for `ef` candidates: where that is cheaper than comparing every
    /// qualifying row, at `bytes` a row.
    fn walk_pays(&self, ef: usize, bytes: usize, qualifying: usize) -> bool {
        match self.request.strategy {
            Some(Strategy::Graph) => return self.request.k < qualifying,
            Some(Strategy::Scan | Strategy::Exact) => return false,
            None => {}
        }
        let (walk, scan) = self.index.nanos(self.rows, ef, bytes, qualifying);
        self.request.k < qualifying && walk < scan
    }

    fn by_vectors(&self, exact: Exact<'_>, report: &mut SearchReport) -> Option<Vec<Neighbor>> {
        let ef = self.request.ef.max(self.request.k);
        if !self.walk_pays(ef, self.index.vector_bytes(), report.qualifying) {
            return None;
        }
        report.strategy = Strategy::Graph;
        let found = self.walk(exact.0, exact.1, (self.request.k, ef), report)?;
        Some(self.with_rest(found, exact.1, std::iter::empty(), report))
    }

    fn by_codes(
        &self,
        view: &CodesView<'_>,
        exact: Exact<'_>,
        report: &mut SearchReport,
    ) -> Option<Vec<Neighbor>> {
        let options = self.index.definition.options;
        let k = self.request.k;
        let wanted = k
            .saturating_mul(options.oversample() as usize)
            .max(k.saturating_add(RESCORED_MORE_MIN));
        let ef = self.request.ef.max(k);
        let Row::Full(query) = self.request.query else { return None };
        let query = view.query(query)?;
        let candidates = if self.walk_pays(ef, view.record_bytes(), report.qualifying) {
            report.strategy = Strategy::Graph;
            self.walk(view, &query, (wanted.min(ef), ef), report)?
        } else {
            let few = report.qualifying < wanted.saturating_mul(SCANNED_PER_RESCORED);
            match self.request.strategy {
                Some(Strategy::Exact) => return None,
                Some(Strategy::Scan) if k >= report.qualifying => return None,
                Some(Strategy::Graph) | None if few => return None,
                Some(Strategy::Graph | Strategy::Scan) | None => {}
            }
            report.strategy = Strategy::Scan;
            let mut top = TopK::new(wanted);
            let seen = view.scan(&query, self.old(), |value, ordinal| top.push(value, ordinal));
            report.distances += seen;
            top.into_sorted()
        };
        let found = if options.rescore {
            let refined = refined(view, &query, candidates);
            let (found, read) = rescore(
                &refined,
                k,
                |ordinal| view.deviation(&query, ordinal),
                |ordinal| exact.0.prefetch(ordinal),
                |ordinal| exact.0.eval(exact.1, ordinal),
            );
            report.rescored = read;
            found
        } else {
            let value = |n: &Neighbor| view.refine(&query, n.ordinal).unwrap_or(f32::NAN);
            let mut top = TopK::new(k);
            candidates.iter().for_each(|candidate| top.push(value(candidate), candidate.ordinal));
            top.into_sorted()
        };
        let uncoded = view.uncoded().take_while(|ordinal| *ordinal < self.covered);
        let uncoded = uncoded.filter(|ordinal| self.qualifies(*ordinal));
        Some(self.with_rest(found, exact.1, uncoded, report))
    }

    /// By the lists of the query's dimensions, and then the vectors, as sums of products are rounded
    /// otherwise.
    fn by_lists(
        &self,
        lists: &InvertedLists,
        exact: Exact<'_>,
        report: &mut SearchReport,
    ) -> Option<Vec<Neighbor>> {
        let Row::Sparse(query) = self.request.query else { return None };
        let k = self.request.k;
        let read = lists.entries_of(query) as f64 * ENTRY_NANOS
            + f64::from(self.covered) * LISTED_ROW_NANOS;
        let scan = report.qualifying as f64 * sparse_row_nanos(lists);
        match self.request.strategy {
            _ if k >= report.qualifying => return None,
            Some(Strategy::Exact | Strategy::Graph) => return None,
            None if scan < read => return None,
            Some(Strategy::Scan) | None => {}
        }
        report.strategy = Strategy::Scan;
        let bits = self.request.admitted.map(|admitted| Bits::of(admitted, self.covered));
        let admit = |ordinal: u32| match &bits {
            Some(bits) => bits.contains(ordinal),
            None => self.rows.visible(RowOrdinal(ordinal), self.request.at),
        };
        let wanted = k.saturating_add(RESCORED_MORE_MIN);
        let found = lists.search(query, (wanted, self.covered), admit, self.old());
        let (candidates, distances, error) = found;
        report.distances = distances;
        let (found, rescored) = rescore(
            &candidates,
            k,
            |_| f32::INFINITY,
            |ordinal| exact.0.prefetch(ordinal),
            |ordinal| exact.0.eval(exact.1, ordinal),
        );
        report.rescored = rescored;
        if let (Some(last), Some(kth)) = (candidates.get(wanted - 1), found.last())
            && f64::from(last.value) - error < f64::from(kth.value)
            && error > f64::from(kth.value.abs()) * f64::from(f32::EPSILON)
        {
            return None; // a row that is not among the candidates may be nearer
        }
        Some(self.with_rest(found, exact.1, std::iter::empty(), report))
    }

    fn qualifies(&self, ordinal: u32) -> bool {
        match self.request.admitted {
            Some(admitted) => admitted.binary_search(&ordinal).is_ok(),
            None => self.rows.visible(RowOrdinal(ordinal), self.request.at),
        }
    }

    /// The qualifying rows that the graph covers.
    fn old(&self) -> impl Iterator<Item = u32> {
        self.request.rows_from(self.rows, 0).take_while(|ordinal| *ordinal < self.covered)
    }

    fn walk<Q: Quantizer>(
        &self,
        quantizer: &Q,
        query: &Q::Query<'_>,
        (k, ef): (usize, usize),
        report: &mut SearchReport,
    ) -> Option<Vec<Neighbor>> {
        let (rows, request, covered) = (self.rows, self.request, self.covered);
        let visits_max = (report.qualifying / 8).max(ef * 8) as u64;
        let stop = request.may_stop.then(|| Stop::with(request.k, ef));
        let options = SearchOptions { k, ef, visits_max, stop };
        let graph = &self.index.graph;
        let all =
            request.admitted.is_none() && !rows.is_fork() && rows.all_points_visible(request.at);
        let (outcome, stats) = if all {
            graph.search(quantizer, query, options)
        } else {
            let bits = request.admitted.map(|admitted| Bits::of(admitted, covered));
            let admit = |point: u32| match &bits {
                Some(bits) => bits.contains(point),
                None => point < covered && rows.visible(RowOrdinal(point), request.at),
            };
            graph.search_admitted(quantizer, query, options, admit)
        };
        report.visited = stats.visited;
        report.distances = stats.distances;
        if all && covered > rows.len() / 2 {
            self.learn(ef, stats.distances);
        }
        let SearchOutcome::Found(mut found) = outcome else { return None };
        // The walk goes through points that are being inserted; their rows are compared after it.
        found.retain(|neighbor| neighbor.ordinal < covered);
        Some(found)
    }

    /// Notes what a full walk for `ef` candidates cost.
    fn learn(&self, ef: usize, distances: u64) {
        let cell = &self.index.walk_distances;
        let seen = distances as f64 / (ef as f64 + DESCENT);
        let known = f64::from(f32::from_bits(cell.load(Ordering::Relaxed)));
        #[expect(clippy::cast_possible_truncation, reason = "an estimate")]
        let next = (known + (seen - known) / 64.0) as f32;
        // Two searches at once may lose one of their notes.
        cell.store(next.to_bits(), Ordering::Relaxed);
    }

    /// Adds what the graph does not cover, and `others`.
    fn with_rest(
        &self,
        found: Vec<Neighbor>,
        probe: &Probe<'_>,
        others: impl Iterator<Item = u32>,
        report: &mut SearchReport,
    ) -> Vec<Neighbor> {
        let (rows, request, covered) = (self.rows, self.request, self.covered);
        let mut others = others.peekable();
        if others.peek().is_none() && covered >= rows.len() && rows.history().is_empty() {
            return found;
        }
        let rest = others.chain(request.rows_from(rows, covered));
        let (rest, distances) =
            flat::search(&self.index.metric, probe, self.vectors, rest, request.k);
        report.distances += distances;
        merge(found, rest, request.k)
    }
}

/// Candidates by all that is kept of them, nearest first.
fn refined(
    view: &CodesView<'_>,
    query: &vector::quantize::CodeQuery<'_>,
    mut candidates: Vec<Neighbor>,
) -> Vec<Neighbor> {
    if !view.has_residuals() {
        return candidates;
    }
    for candidate in &mut candidates {
        candidate.value = view.refine(query, candidate.ordinal).unwrap_or(f32::NAN);
    }
    candidates.sort_by(|a, b| a.value.total_cmp(&b.value));
    candidates
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
    let probe = metric.probe_row(request.query);
    let mut without = Vec::new();
    let with_vector = request.rows_from(rows, 0).filter(|ordinal| {
        seen += 1;
        let known = vectors.row(*ordinal).is_some();
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
    Ok((found, SearchReport { distances, ..SearchReport::new(Strategy::Exact, seen) }))
}

fn sparse_row_nanos(lists: &InvertedLists) -> f64 {
    SPARSE_ROW_NANOS + SPARSE_NUMBER_NANOS * lists.mean_entries()
}

fn merge(left: Vec<Neighbor>, right: Vec<Neighbor>, k: usize) -> Vec<Neighbor> {
    let mut top = TopK::new(k);
    left.into_iter().chain(right).for_each(|n| top.push(n.value, n.ordinal));
    top.into_sorted()
}

/// A set of ordinals.
struct Bits(Vec<u64>);

impl Bits {
    fn of(ordinals: &[u32], rows: u32) -> Self {
        let mut words = vec![0_u64; (rows as usize).div_ceil(64)];
        for ordinal in ordinals.iter().take_while(|ordinal| **ordinal < rows) {
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
