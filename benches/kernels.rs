//! Nanoseconds per distance of every kernel this machine runs, over vectors that fit a core's cache.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a measurement")]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use types::SplitMix64;
use vector::kernels::available;

fn kernels(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dot_and_norm");
    for dim in [128_usize, 384, 768] {
        let mut rng = SplitMix64::new(1);
        #[expect(clippy::cast_possible_truncation, reason = "precision is not the point")]
        let mut vector = || (0..dim).map(|_| rng.unit() as f32).collect::<Vec<_>>();
        let (a, b) = (vector(), vector());
        for table in available() {
            group.bench_function(BenchmarkId::new(table.name, dim), |bencher| {
                bencher.iter(|| (table.dot_and_norm)(std::hint::black_box(&a), &b));
            });
        }
    }
    group.finish();
}

criterion_group!(all, kernels);
criterion_main!(all);
