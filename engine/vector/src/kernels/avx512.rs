//! AVX-512F kernels: 16 lanes, four accumulators, a masked tail.

use std::arch::x86_64::{
    __m512, _mm512_abs_ps, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_maskz_loadu_ps,
    _mm512_reduce_add_ps, _mm512_setzero_ps, _mm512_sub_ps,
};

use super::{Kernels, avx2, scalar};

const LANES: usize = 16;

const PLAIN: Kernels = Kernels {
    name: "avx512",
    dot: |a, b| {
        // SAFETY: this table is reachable only through `available`, which found avx512f.
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
        // SAFETY: these tables come after that of `avx2`, whose features were found.
        unsafe { avx2::bits(a, b) }
    },
};

pub(super) static KERNELS: Kernels = PLAIN;

/// With instructions that count bits.
pub(super) static COUNTING: Kernels = Kernels {
    bits: |a, b| {
        // SAFETY: `available` found avx512vpopcntdq too.
        unsafe { bits(a, b) }
    },
    ..PLAIN
};

#[target_feature(enable = "avx512f")]
fn load(lane: &[f32; LANES]) -> __m512 {
    // SAFETY: the reference covers sixteen floats and loadu asks for no alignment.
    unsafe { _mm512_loadu_ps(lane.as_ptr()) }
}

/// The first `tail.len()` lanes, zero in the others.
#[target_feature(enable = "avx512f")]
fn load_tail(tail: &[f32]) -> __m512 {
    debug_assert!(tail.len() < LANES);
    let mask = (1_u16 << tail.len()) - 1;
    // SAFETY: masked-off lanes are not read, and the mask covers exactly the slice.
    unsafe { _mm512_maskz_loadu_ps(mask, tail.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
fn reduce(sums: [__m512; 4]) -> f32 {
    let sum = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
    _mm512_reduce_add_ps(sum)
}

/// Folds both slices with `step` into four running sums. `step` must map two zeros to "no change",
/// for the lanes past the end.
macro_rules! fold_lanes {
    ($a:expr, $b:expr, $step:expr) => {{
        assert_eq!($a.len(), $b.len(), "vectors of different dimensions");
        let (a_lanes, a_tail) = $a.as_chunks::<LANES>();
        let (b_lanes, b_tail) = $b.as_chunks::<LANES>();
        let mut sums = [_mm512_setzero_ps(); 4];
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
        if !a_tail.is_empty() {
            sums[3] = $step(sums[3], load_tail(a_tail), load_tail(b_tail));
        }
        sums
    }};
}

#[target_feature(enable = "avx512f")]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    reduce(fold_lanes!(a, b, |sum, x, y| _mm512_fmadd_ps(x, y, sum)))
}

#[target_feature(enable = "avx512f")]
fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    reduce(fold_lanes!(a, b, |sum, x, y| {
        let difference = _mm512_sub_ps(x, y);
        _mm512_fmadd_ps(difference, difference, sum)
    }))
}

#[target_feature(enable = "avx512f")]
fn dot_and_norm(a: &[f32], b: &[f32]) -> (f32, f32) {
    let mut norms = [_mm512_setzero_ps(); 2];
    let mut turn = 0;
    let sums = fold_lanes!(a, b, |sum, x, y| {
        norms[turn] = _mm512_fmadd_ps(y, y, norms[turn]);
        turn ^= 1;
        _mm512_fmadd_ps(x, y, sum)
    });
    let zero = _mm512_setzero_ps();
    (reduce(sums), reduce([norms[0], norms[1], zero, zero]))
}

#[target_feature(enable = "avx512f")]
fn l1(a: &[f32], b: &[f32]) -> f32 {
    reduce(fold_lanes!(a, b, |sum, x, y| {
        _mm512_add_ps(sum, _mm512_abs_ps(_mm512_sub_ps(x, y)))
    }))
}

#[target_feature(enable = "avx512f,avx512vpopcntdq,popcnt")]
fn bits(a: &[u8], b: &[u8]) -> (u32, u32) {
    scalar::bits(a, b)
}
