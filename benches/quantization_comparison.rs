//! What each form of codes costs and gives: time until an index is ready, search latency, recall@10 and
//! memory, at 128 and 384 dimensions, over 20,000 clustered vectors of a fixed seed.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::print_stderr, reason = "what is not a time is said beside criterion's lines")]

use std::time::Duration;

use benches::engine::{Engine, K, Options};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use types::{Quantization, SplitMix64};
use vector::{Matrix, recall};

const ROWS: usize = 20_000;
const QUERIES: usize = 200;
const CENTRES: usize = 100;
const EF: usize = 64;
const FORMS: [Quantization; 6] = [
    Quantization::None,
    Quantization::Sq8,
    Quantization::Sq8Calibrated,
    Quantization::Polar8,
    Quantization::Polar4,
    Quantization::Polar2,
];

/// Clusters whose coordinates differ in spread.
fn clusters(seed: u64, rows: usize, dim: usize) -> Matrix {
    #[expect(clippy::cast_possible_truncation, reason = "precision is not the point")]
    let normal = |rng: &mut SplitMix64| {
        let sum: f64 = (0..12).map(|_| rng.unit()).sum();
        (sum - 6.0) as f32
    };
    let mut centres = SplitMix64::new(1);
    let centres: Vec<f32> = (0..CENTRES * dim).map(|_| normal(&mut centres)).collect();
    let mut rng = SplitMix64::new(seed);
    let mut values = Vec::with_capacity(rows * dim);
    for row in 0..rows {
        for at in 0..dim {
            let spread = ((at + 1) as f32).powf(-0.4);
            values.push((centres[row % CENTRES * dim + at] + normal(&mut rng)) * spread);
        }
    }
    Matrix::new(dim, values)
}

fn compare(criterion: &mut Criterion) {
    for dim in [128, 384] {
        let (matrix, queries) = (clusters(2, ROWS, dim), clusters(3, QUERIES, dim));
        let mut group = criterion.benchmark_group(format!("quantization_comparison/{dim}"));
        group.sample_size(10).warm_up_time(Duration::from_millis(500));
        for quantization in FORMS {
            let options = Options { quantization, ..Options::default() };
            let name = quantization.name();
            group.bench_function(BenchmarkId::new("ready", name), |bencher| {
                bencher.iter(|| Engine::new(&matrix, options).build(|| {}));
            });
            let engine = Engine::new(&matrix, options);
            engine.build(|| {});
            let truth = engine.ground_truth(&queries);
            let query = |at: usize| {
                u32::try_from(at % QUERIES)
                    .ok()
                    .and_then(|at| queries.vector(at))
                    .unwrap_or_default()
            };
            let found = (0..QUERIES).map(|at| engine.search(query(at), EF).0);
            let hits: f64 = found.zip(&truth).map(|(f, t)| recall::recall_at(K, &f, t)).sum();
            let (links, codes) = engine.memory_bytes();
            eprintln!(
                "{dim}-d {name}: recall@10 {:.4} at ef {EF}; {} bytes a vector, {} of them links",
                hits / QUERIES as f64,
                (links + codes) / ROWS,
                links / ROWS,
            );
            let mut at = 0;
            group.bench_function(BenchmarkId::new("search", name), |bencher| {
                bencher.iter(|| {
                    at += 1;
                    engine.search(query(at), EF)
                });
            });
        }
        group.finish();
    }
}

criterion_group!(all, compare);
criterion_main!(all);
