//! Builds the HNSW graph over a data set and prints build time, memory, and recall@10 and queries per
//! second for a sweep of `ef`, as JSON for the harnesses in `versus/`.
//!
//! `engine-hnsw DATA.npy QUERIES.npy [name=value ...]` with `distance` (`cosine`, `l2`, `inner_product`),
//! `quantization`, `oversample`, `m`, `ef_construction`, `build_threads`, `seconds` per timing, `ef`.
//! `share` lets only that share of the rows qualify, drawn at random, and `way` says how they are
//! found: `graph` walks through all points, `scan` compares the codes of those that qualify. Values of `ef`, `share` and `way` are lists with commas. One thread searches.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the result is the output")]
#![expect(clippy::disallowed_methods, reason = "measures time")]

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use types::{Distance, Quantization, SplitMix64};
use vector::hnsw::{Builder, Graph, Parameters, SearchOptions, SearchOutcome, SearchStats};
use vector::quantize::{Batch, Codec, Codes, FullPrecision, Quantizer, Ranges, rescore};
use vector::{Matrix, Metric, Neighbor, TopK, Vectors as _, flat, recall};

const K: usize = 10;

struct Options {
    distance: Distance,
    quantization: Quantization,
    oversample: usize,
    parameters: Parameters,
    threads: usize,
    seconds: f64,
    sweep: Vec<usize>,
    shares: Vec<f64>,
    ways: Vec<String>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self, String> {
        let mut options = Self {
            distance: Distance::Cosine,
            quantization: Quantization::None,
            oversample: 3,
            parameters: Parameters { m: 16, ef_construction: 200, seed: 1 },
            threads: 1,
            seconds: 0.5,
            shares: vec![1.0],
            ways: vec!["graph".to_owned()],
            sweep: vec![10, 16, 24, 32, 40, 48, 64, 96, 128, 192, 256, 384, 512],
        };
        for arg in args {
            let (name, value) = arg.split_once('=').ok_or(format!("{arg}: not name=value"))?;
            let number = || value.parse::<u32>().map_err(|e| format!("{arg}: {e}"));
            match name {
                "distance" => {
                    options.distance = match value {
                        "cosine" => Distance::Cosine,
                        "l2" => Distance::L2,
                        "inner_product" => Distance::InnerProduct,
                        _ => return Err(format!("{arg}: no such distance")),
                    }
                }
                "quantization" => {
                    let found = Quantization::from_name(value);
                    options.quantization = found.ok_or(format!("{arg}: no such quantization"))?;
                }
                "oversample" => options.oversample = number()? as usize,
                "m" => options.parameters.m = number()?,
                "ef_construction" => options.parameters.ef_construction = number()?,
                "build_threads" => options.threads = number()? as usize,
                "seconds" => options.seconds = value.parse().map_err(|e| format!("{arg}: {e}"))?,
                "share" => {
                    let shares: Result<_, _> = value.split(',').map(str::parse).collect();
                    options.shares = shares.map_err(|e| format!("{arg}: {e}"))?;
                }
                "way" => options.ways = value.split(',').map(str::to_owned).collect(),
                "ef" => {
                    let sweep: Result<_, _> = value.split(',').map(str::parse).collect();
                    options.sweep = sweep.map_err(|e| format!("{arg}: {e}"))?;
                }
                _ => return Err(format!("{arg}: no such option")),
            }
        }
        Ok(options)
    }
}

/// The vectors and what is searched over them.
struct Engine<'a> {
    options: &'a Options,
    matrix: &'a Matrix,
    metric: Metric,
    graph: Graph,
    codes: Option<Codes>,
    /// Rows that qualify; none when all do.
    qualifying: Option<Qualifying>,
    way: String,
}

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

fn main() -> Result<(), String> {
    let args: Vec<String> = std::env::args().collect();
    let [_, data, queries, rest @ ..] = &args[..] else {
        return Err("usage: engine-hnsw DATA.npy QUERIES.npy [name=value ...]".to_owned());
    };
    let options = Options::parse(rest)?;
    let stored = benches::npy::read(Path::new(data))?;
    let queries = benches::npy::read(Path::new(queries))?;
    let matrix = Matrix::new(stored.columns, stored.values);
    let queries = Matrix::new(queries.columns, queries.values);
    let metric = Metric::new(options.distance);
    let codec = codec(&options, &matrix);
    let mut engine = Engine {
        options: &options,
        matrix: &matrix,
        metric,
        graph: Graph::new(options.parameters),
        codes: codec.map(Codes::new),
        qualifying: None,
        way: String::new(),
    };
    let started = Instant::now();
    let encode_seconds = engine.build();
    let build_seconds = started.elapsed().as_secs_f64();
    let mut points = Vec::new();
    for share in &options.shares {
        engine.qualifying = Qualifying::new(*share, matrix.rows());
        let truth = engine.ground_truth(&queries);
        for way in &options.ways {
            engine.way.clone_from(way);
            for ef in &options.sweep {
                let mut point = engine.point(&queries, *ef, &truth);
                if *share < 1.0 {
                    point["share"] = (*share).into();
                    point["way"] = way.as_str().into();
                }
                points.push(point);
            }
        }
    }
    let code_bytes =
        engine.codes.as_ref().map_or(matrix.rows() * matrix.dim() * 4, Codes::memory_bytes);
    let report = serde_json::json!({
        "rows": matrix.rows(),
        "dim": matrix.dim(),
        "quantization": options.quantization.name(),
        "m": options.parameters.m,
        "ef_construction": options.parameters.ef_construction,
        "build_threads": options.threads,
        "build_seconds": build_seconds,
        "encode_seconds": encode_seconds,
        "resident_bytes": engine.graph.memory_bytes() + code_bytes,
        "link_bytes": engine.graph.memory_bytes(),
        "points": points,
    });
    println!("{report:#}");
    Ok(())
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
    Codec::new(options.quantization, options.distance, matrix.dim(), ranges)
}

impl Engine<'_> {
    fn ground_truth(&self, queries: &Matrix) -> Vec<Vec<Neighbor>> {
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

    /// Encodes and links every row; the seconds that encoding took.
    fn build(&self) -> f64 {
        let started = Instant::now();
        let rows = u32::try_from(self.matrix.rows()).unwrap_or(u32::MAX);
        let Some(codes) = &self.codes else {
            self.link(&FullPrecision::new(self.metric, self.matrix), rows);
            return 0.0;
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
        let seconds = started.elapsed().as_secs_f64();
        self.link(&codes.view(), rows);
        seconds
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

    fn search(&self, query: &[f32], ef: usize) -> (Vec<Neighbor>, SearchStats) {
        let wanted = if self.codes.is_some() { ef.min(K * self.options.oversample) } else { K };
        let options = SearchOptions { k: wanted, ef, visits_max: u64::MAX };
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
            Some(qualifying) if self.way == "scan" => {
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

    fn point(&self, queries: &Matrix, ef: usize, truth: &[Vec<Neighbor>]) -> serde_json::Value {
        let (mut hits, mut distances) = (0.0, 0);
        for (at, truth) in (0..).zip(truth) {
            let Some(query) = queries.vector(at) else { continue };
            let (found, stats) = self.search(query, ef);
            hits += recall::recall_at(K, &found, truth);
            distances += stats.distances;
        }
        let mut best = f64::INFINITY;
        let begun = Instant::now();
        while begun.elapsed().as_secs_f64() < self.options.seconds {
            let started = Instant::now();
            for at in 0..queries.rows() {
                let Some(query) = u32::try_from(at).ok().and_then(|at| queries.vector(at)) else {
                    continue;
                };
                std::hint::black_box(self.search(query, ef));
            }
            best = best.min(started.elapsed().as_secs_f64());
        }
        let count = truth.len() as f64;
        serde_json::json!({
            "ef": ef,
            "recall": hits / count,
            "qps": count / best,
            "distances": distances as f64 / count,
        })
    }
}
