//! Nanoseconds per code of every kernel of codes this machine runs: in a core's cache, in order from
//! memory and at random from memory, beside what reading the same bytes alone takes.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use types::{Distance, Quantization, SplitMix64};
use vector::kernels::codes::available;
use vector::kernels::prefetch;
use vector::quantize::Codec;

/// More than the caches hold.
const MEMORY_BYTES: usize = 256 << 20;
/// Little enough for the first cache.
const CACHED: usize = 32;
const AHEAD: usize = 4;

fn places(rng: &mut SplitMix64, count: usize, record: usize) -> Vec<usize> {
    let below = count as u64;
    (0..4_096).map(|_| usize::try_from(rng.below(below)).unwrap_or(0) * record).collect()
}

fn kernels(criterion: &mut Criterion) {
    let mut rng = SplitMix64::new(1);
    let mut memory = vec![0_u8; MEMORY_BYTES];
    for part in memory.chunks_exact_mut(8) {
        part.copy_from_slice(&rng.next_u64().to_le_bytes());
    }
    for quantization in [Quantization::Sq8, Quantization::Polar4, Quantization::Polar2] {
        for dim in [128_usize, 384, 768] {
            #[expect(clippy::cast_possible_truncation, reason = "precision is not the point")]
            let vector: Vec<f32> = (0..dim).map(|_| rng.unit() as f32 - 0.5).collect();
            let name = format!("{}/{dim}", quantization.name());
            let mut group = criterion.benchmark_group(format!("codes/{name}"));
            for table in available() {
                let codec = Codec::new(quantization, Distance::Cosine, dim, None);
                let Some(codec) = codec.map(|codec| codec.with_kernels(table)) else { continue };
                let Some(query) = codec.query(&vector) else { continue };
                let record = codec.record_bytes();
                let count = MEMORY_BYTES / record;
                let at = |start: usize| &memory[start..start + record];
                let ways = [
                    ("cached", (0..4_096).map(|i| i % CACHED * record).collect()),
                    ("in order", (0..4_096).map(|i| i * record).collect()),
                    ("at random", places(&mut rng, count, record)),
                ];
                group.throughput(Throughput::Bytes(4_096 * record as u64));
                for (way, places) in ways {
                    let places: Vec<usize> = places;
                    let mut shift = 0;
                    group.bench_function(BenchmarkId::new(table.name, way), |bencher| {
                        bencher.iter(|| {
                            // In order means from another part of memory each time.
                            shift = (shift + 4_096 * record) % (MEMORY_BYTES / 2);
                            let base = if way == "cached" { 0 } else { shift };
                            let place = |i: usize| (places[i] + base) % (count * record);
                            let place = |i: usize| place(i) / record * record;
                            let mut sum = 0.0;
                            for i in (0..4_096).step_by(4) {
                                for next in (i + AHEAD..i + AHEAD + 4).take_while(|n| *n < 4_096) {
                                    prefetch(at(place(next)));
                                }
                                let four = std::array::from_fn(|n| at(place(i + n)));
                                sum += codec.eval_x4(&query, four).iter().sum::<f32>();
                            }
                            sum
                        });
                    });
                }
            }
            group.finish();
        }
    }
    let mut group = criterion.benchmark_group("codes/read alone");
    group.throughput(Throughput::Bytes(MEMORY_BYTES as u64));
    group.sample_size(10).bench_function("in order", |bencher| {
        bencher.iter(|| {
            let (words, _) = memory.as_chunks::<64>();
            words.iter().fold(0_u8, |sum, line| sum ^ line[0])
        });
    });
    group.finish();
}

criterion_group!(all, kernels);
criterion_main!(all);
