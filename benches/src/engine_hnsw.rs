//! Builds the HNSW graph over a real data set and prints build time, links' memory, and recall@10
//! and queries per second for a sweep of `ef`, as JSON for `versus/hnsw_versus.py --engine-json`.
//!
//! `engine-hnsw DIR [M] [EF_CONSTRUCTION]`, where DIR holds `embeddings.f16.npy` and `queries.npy`.
//! One thread searches; all cores build.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the result is the output")]
#![expect(clippy::disallowed_methods, reason = "measures time")]

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use types::Distance;
use vector::hnsw::{Builder, Graph, Parameters, SearchOptions, SearchOutcome};
use vector::quantize::{FullPrecision, Quantizer as _};
use vector::{Matrix, Metric, Neighbor, Vectors as _, flat, recall};

const K: usize = 10;
const SWEEP: [usize; 12] = [10, 16, 24, 32, 40, 48, 64, 96, 128, 192, 256, 512];

fn main() -> Result<(), String> {
    let args: Vec<String> = std::env::args().collect();
    let directory = Path::new(args.get(1).ok_or("usage: engine-hnsw DIR [M] [EF_CONSTRUCTION]")?);
    let number = |at: usize, default: u32| {
        args.get(at).map_or(Ok(default), |n| n.parse().map_err(|e| format!("{n}: {e}")))
    };
    let (m, ef_construction) = (number(2, 16)?, number(3, 200)?);
    let stored = benches::npy::read(&directory.join("embeddings.f16.npy"))?;
    let queries = benches::npy::read(&directory.join("queries.npy"))?;
    let matrix = Matrix::new(stored.columns, stored.values);
    let queries = Matrix::new(queries.columns, queries.values);
    let metric = Metric::new(Distance::Cosine);
    let graph = Graph::new(Parameters { m, ef_construction, seed: 1 });
    let started = Instant::now();
    build(&graph, &matrix, metric);
    let build_seconds = started.elapsed().as_secs_f64();
    let truth = ground_truth(&matrix, &queries, metric);
    let points: Vec<serde_json::Value> =
        SWEEP.iter().map(|ef| point(&graph, &matrix, &queries, (metric, *ef), &truth)).collect();
    let report = serde_json::json!({
        "rows": matrix.rows(),
        "dim": matrix.dim(),
        "m": m,
        "ef_construction": ef_construction,
        "build_seconds": build_seconds,
        "resident_bytes": graph.memory_bytes() + matrix.rows() * matrix.dim() * 4,
        "link_bytes": graph.memory_bytes(),
        "points": points,
    });
    println!("{report:#}");
    Ok(())
}

fn build(graph: &Graph, matrix: &Matrix, metric: Metric) {
    let rows = u32::try_from(matrix.rows()).unwrap_or(u32::MAX);
    let next = AtomicU32::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let quantizer = FullPrecision::new(metric, matrix);
                let builder = Builder::new(graph, &quantizer);
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

fn ground_truth(matrix: &Matrix, queries: &Matrix, metric: Metric) -> Vec<Vec<Neighbor>> {
    let rows = u32::try_from(matrix.rows()).unwrap_or(u32::MAX);
    let all = |query: &[f32]| flat::search(&metric, &metric.probe(query), matrix, 0..rows, K).0;
    (0..).map_while(|at| queries.vector(at)).map(all).collect()
}

fn point(
    graph: &Graph,
    matrix: &Matrix,
    queries: &Matrix,
    (metric, ef): (Metric, usize),
    truth: &[Vec<Neighbor>],
) -> serde_json::Value {
    let quantizer = FullPrecision::new(metric, matrix);
    let options = SearchOptions { k: K, ef, visits_max: u64::MAX };
    let mut best = f64::INFINITY;
    let (mut hits, mut distances) = (0.0, 0);
    for pass in 0..4 {
        let started = Instant::now();
        for (at, truth) in (0..).zip(truth) {
            let Some(query) = queries.vector(at) else { continue };
            let (outcome, stats) =
                graph.search(&quantizer, &quantizer.query(query), options, |_| true);
            if let (SearchOutcome::Found(found), 0) = (outcome, pass) {
                hits += recall::recall_at(K, &found, truth);
                distances += stats.distances;
            }
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
