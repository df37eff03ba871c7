//! The vector engine without the rest of the database: a matrix, its graph and its codes.

use std::sync::atomic::{AtomicU32, Ordering};

use types::{Distance, Quantization, SplitMix64};
use vector::hnsw::{Builder, Graph, Parameters, SearchOptions, SearchOutcome, SearchStats, Stop};
use vector::quantize::{Batch, Codec, Codes, FullPrecision, Quantizer, Ranges, rescore};
use vector::{Matrix, Metric, Neighbor, TopK, Vectors as _, flat};

/// Neighbours that a search looks for.
pub const K: usize = 10;

/// When a walk ends.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum End {
    /// When all candidates were tried.
    All,
    /// As the database does where it chooses `ef`.
    #[default]
    WithEf,
    /// When candidates are farther than the k-th by this share.
    Slack(f32),
}

/// How the graph is built and searched.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The distance.
    pub distance: Distance,
    /// What is kept of the vectors.
    pub quantization: Quantization,
    /// Candidates to rescore, as a multiple of [`K`].
    pub oversample: usize,
    /// When walks end.
    pub end: End,
    /// How the graph is built.
    pub parameters: Parameters,
    /// Threads that build.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            distance: Distance::Cosine,
            quantization: Quantization::None,
            oversample: 3,
            end: End::default(),
            parameters: Parameters { m: 16, ef_construction: 200, seed: 1 },
            threads: 1,
        }
    }
}

/// How rows that qualify are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// The graph is walked through all points.
    #[default]
    Graph,
    /// The codes of the rows that qualify are compared.
    Scan,
}

/// The vectors and what is searched over them.
#[derive(Debug)]
pub struct Engine<'a> {
    options: Options,
    matrix: &'a Matrix,
    metric: Metric,
    graph: Graph,
    codes: Option<Codes>,
    /// Rows that qualify; none when all do.
    qualifying: Option<Qualifying>,
    way: Way,
}

#[derive(Debug)]
struct Qualifying {
    bits: Vec<u64>,
    ordinals: Vec<u32>,
}

impl Qualifying {
    fn new(share: f64, rows: usize) -> Option<Self> {
        if share >= 1.0 {
            return None;
        }
        let mut rng = SplitMix64::new(7);
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        let ordinals: Vec<u32> = (0..rows).filter(|_| rng.unit() < share).collect();
        let mut bits = vec![0; rows as usize / 64 + 1];
        ordinals.iter().for_each(|o| bits[*o as usize / 64] |= 1 << (o % 64));
        Some(Self { bits, ordinals })
    }

    fn contains(&self, ordinal: u32) -> bool {
        self.bits[ordinal as usize / 64] >> (ordinal % 64) & 1 == 1
    }
}

fn codec(options: &Options, matrix: &Matrix) -> Option<Codec> {
    let ranges = match options.quantization {
        Quantization::Sq8Calibrated => {
            let step = matrix.rows().div_ceil(10_000);
            Ranges::of_sample(
                options.distance,
                (0..).step_by(step).map_while(|row| matrix.vector(row)),
            )
        }
        Quantization::None
        | Quantization::Sq8
        | Quantization::Polar8
        | Quantization::Polar4
        | Quantization::Polar2 => None,
    };
    let codec = Codec::new(options.quantization, options.distance, matrix.dim(), ranges)?;
    if options.quantization == Quantization::Sq8Calibrated {
        return Some(codec); // its ranges are not around the mean
    }
    // As the database does under L2, whose codes are around the mean.
    let mut sums = vec![0.0_f64; matrix.dim()];
    for row in (0..).map_while(|row| matrix.vector(row)) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    #[expect(clippy::cast_possible_truncation, reason = "a mean of 32-bit numbers")]
    let mean = sums.iter().map(|sum| (sum / matrix.rows() as f64) as f32).collect();
    Some(codec.with_centre(mean))
}

impl<'a> Engine<'a> {
    /// An engine without points.
    #[must_use]
    pub fn new(matrix: &'a Matrix, options: Options) -> Self {
        Self {
            options,
            matrix,
            metric: Metric::new(options.distance),
            graph: Graph::new(options.parameters),
            codes: codec(&options, matrix).map(Codes::new),
            qualifying: None,
            way: Way::Graph,
        }
    }

    /// Lets only a share of the rows qualify, drawn at random, and says how they are found.
    pub fn filter(&mut self, share: f64, way: Way) {
        self.qualifying = Qualifying::new(share, self.matrix.rows());
        self.way = way;
    }

    /// Says when walks end.
    pub fn end(&mut self, end: End) {
        self.options.end = end;
    }

    /// Bytes of links, and of what they are searched with.
    #[must_use]
    pub fn memory_bytes(&self) -> (usize, usize) {
        let vectors = self.matrix.rows() * self.matrix.dim() * 4;
        (self.graph.memory_bytes(), self.codes.as_ref().map_or(vectors, Codes::memory_bytes))
    }

    /// The exact neighbours of each query among the rows that qualify.
    #[must_use]
    pub fn ground_truth(&self, queries: &Matrix) -> Vec<Vec<Neighbor>> {
        let rows = u32::try_from(self.matrix.rows()).unwrap_or(u32::MAX);
        let all = |query: &[f32]| {
            let probe = self.metric.probe(query);
            let rows =
                (0..rows).filter(|row| self.qualifying.as_ref().is_none_or(|q| q.contains(*row)));
            flat::search(&self.metric, &probe, self.matrix, rows, K).0
        };
        (0..).map_while(|at| queries.vector(at)).map(all).collect()
    }

    fn walk<Q: Quantizer>(
        &self,
        quantizer: &Q,
        query: &Q::Query<'_>,
        options: SearchOptions,
    ) -> (SearchOutcome, SearchStats) {
        let Some(qualifying) = &self.qualifying else {
            return self.graph.search(quantizer, query, options);
        };
        let admit = |ordinal| qualifying.contains(ordinal);
        self.graph.search_admitted(quantizer, query, options, admit)
    }

    /// Encodes and links every row; `encoded` is told in between.
    pub fn build(&self, encoded: impl FnOnce()) {
        let rows = u32::try_from(self.matrix.rows()).unwrap_or(u32::MAX);
        let Some(codes) = &self.codes else {
            encoded();
            return self.link(&FullPrecision::new(self.metric, self.matrix), rows);
        };
        let parts = u32::try_from(self.options.threads).unwrap_or(1);
        let batches: Vec<Batch> = std::thread::scope(|scope| {
            let part = |at: u32| {
                let part = rows * at / parts..rows * (at + 1) / parts;
                scope
                    .spawn(|| Batch::encode(codes.codec(), part.map(|row| self.matrix.vector(row))))
            };
            let running: Vec<_> = (0..parts).map(part).collect();
            running.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        batches.iter().for_each(|batch| codes.append(batch));
        encoded();
        self.link(&codes.view(), rows);
    }

    fn link(&self, quantizer: &impl Quantizer, rows: u32) {
        let next = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.options.threads {
                scope.spawn(|| {
                    let builder = Builder::new(&self.graph, quantizer);
                    loop {
                        let point = next.fetch_add(1, Ordering::Relaxed);
                        if point >= rows {
                            break;
                        }
                        builder.insert(point);
                    }
                });
            }
        });
    }

    /// The nearest rows to `query`, rescored on full vectors, and the work of the walk.
    #[must_use]
    pub fn search(&self, query: &[f32], ef: usize) -> (Vec<Neighbor>, SearchStats) {
        let wanted = if self.codes.is_some() { ef.min(K * self.options.oversample) } else { K };
        let stop = match self.options.end {
            End::All => None,
            End::WithEf => Some(Stop::with(K, ef)),
            End::Slack(slack) => Some(Stop { near: K, slack }),
        };
        let options = SearchOptions { k: wanted, ef, visits_max: u64::MAX, stop };
        let exact = FullPrecision::new(self.metric, self.matrix);
        let Some(probe) = exact.query(query) else { return Default::default() };
        let Some(codes) = &self.codes else {
            let (outcome, stats) = self.walk(&exact, &probe, options);
            let SearchOutcome::Found(found) = outcome else { return Default::default() };
            return (found, stats);
        };
        let view = codes.view();
        let Some(query) = view.query(query) else { return Default::default() };
        let (candidates, stats) = match &self.qualifying {
            Some(qualifying) if self.way == Way::Scan => {
                let mut top = TopK::new(wanted);
                let ordinals = qualifying.ordinals.iter().copied();
                let distances = view.scan(&query, ordinals, |value, o| top.push(value, o));
                (top.into_sorted(), SearchStats { visited: 0, distances })
            }
            _ => {
                let (outcome, stats) = self.walk(&view, &query, options);
                let SearchOutcome::Found(found) = outcome else { return Default::default() };
                (found, stats)
            }
        };
        let (found, _) = rescore(
            &candidates,
            K,
            |ordinal| view.deviation(&query, ordinal),
            |ordinal| exact.prefetch(ordinal),
            |ordinal| exact.eval(&probe, ordinal),
        );
        (found, stats)
    }
}
