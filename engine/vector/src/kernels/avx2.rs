//! AVX2 + FMA kernels: 8 lanes, four accumulators, a scalar tail.

use std::arch::x86_64::{
    __m256, _mm_add_ps, _mm_cvtss_f32, _mm_hadd_ps, _mm256_add_ps, _mm256_andnot_ps,
    _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_set1_ps, _mm256_setzero_ps, _mm256_sub_ps,
};

use super::{Kernels, scalar};

const LANES: usize = 8;

pub(super) static KERNELS: Kernels = Kernels {
    name: "avx2",
    dot: |a, b| {
        // SAFETY: this table is reachable only through `available`, which found avx2 and fma.
        unsafe { dot(a, b) }
    },
    l2_squared: |a, b| {
        // SAFETY: as above.
        unsafe { l2_squared(a, b) }
    },
    dot_and_norm: |a, b| {
        // SAFETY: as above.
        unsafe { dot_and_norm(a, b) }
    },
    l1: |a, b| {
        // SAFETY: as above.
        unsafe { l1(a, b) }
    },
    bits: |a, b| {
        // SAFETY: `available` found popcnt too.
        unsafe { bits(a, b) }
    },
};

#[target_feature(enable = "avx2,fma")]
fn load(lane: &[f32; LANES]) -> __m256 {
    // SAFETY: the reference covers eight floats and loadu asks for no alignment.
    unsafe { _mm256_loadu_ps(lane.as_ptr()) }
}

#[target_feature(enable = "avx2,fma")]
fn reduce(sums: [__m256; 4]) -> f32 {
    let sum = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    let half = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
    let quarter = _mm_hadd_ps(half, half);
    _mm_cvtss_f32(_mm_hadd_ps(quarter, quarter))
}

/// Folds whole lanes of both slices with `step` into four running sums; returns the sums and the
/// tails that are shorter than a lane.
macro_rules! fold_lanes {
    ($a:expr, $b:expr, $step:expr) => {{
        assert_eq!($a.len(), $b.len(), "vectors of different dimensions");
        let (a_lanes, a_tail) = $a.as_chunks::<LANES>();
        let (b_lanes, b_tail) = $b.as_chunks::<LANES>();
        let mut sums = [_mm256_setzero_ps(); 4];
        let (a_quads, a_rest) = a_lanes.as_chunks::<4>();
        let (b_quads, b_rest) = b_lanes.as_chunks::<4>();
        for (x, y) in a_quads.iter().zip(b_quads) {
            for i in 0..4 {
                sums[i] = $step(sums[i], load(&x[i]), load(&y[i]));
            }
        }
        for (i, (x, y)) in a_rest.iter().zip(b_rest).enumerate() {
            sums[i] = $step(sums[i], load(x), load(y));
        }
        (sums, a_tail, b_tail)
    }};
}

#[target_feature(enable = "avx2,fma")]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (sums, a_tail, b_tail) = fold_lanes!(a, b, |sum, x, y| _mm256_fmadd_ps(x, y, sum));
    reduce(sums) + scalar::dot(a_tail, b_tail)
}

#[target_feature(enable = "avx2,fma")]
fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    let (sums, a_tail, b_tail) = fold_lanes!(a, b, |sum, x, y| {
        let difference = _mm256_sub_ps(x, y);
        _mm256_fmadd_ps(difference, difference, sum)
    });
    reduce(sums) + scalar::l2_squared(a_tail, b_tail)
}

#[target_feature(enable = "avx2,fma")]
fn dot_and_norm(a: &[f32], b: &[f32]) -> (f32, f32) {
    let mut norms = [_mm256_setzero_ps(); 2];
    let mut turn = 0;
    let (sums, a_tail, b_tail) = fold_lanes!(a, b, |sum, x, y| {
        norms[turn] = _mm256_fmadd_ps(y, y, norms[turn]);
        turn ^= 1;
        _mm256_fmadd_ps(x, y, sum)
    });
    let zero = _mm256_setzero_ps();
    let (dot_tail, norm_tail) = scalar::dot_and_norm(a_tail, b_tail);
    (reduce(sums) + dot_tail, reduce([norms[0], norms[1], zero, zero]) + norm_tail)
}

#[target_feature(enable = "avx2,fma")]
fn l1(a: &[f32], b: &[f32]) -> f32 {
    let sign = _mm256_set1_ps(-0.0);
    let (sums, a_tail, b_tail) = fold_lanes!(a, b, |sum, x, y| {
        _mm256_add_ps(sum, _mm256_andnot_ps(sign, _mm256_sub_ps(x, y)))
    });
    reduce(sums) + scalar::l1(a_tail, b_tail)
}

#[target_feature(enable = "avx2,popcnt")]
pub(super) fn bits(a: &[u8], b: &[u8]) -> (u32, u32) {
    scalar::bits(a, b)
}
