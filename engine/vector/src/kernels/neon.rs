//! NEON kernels: 4 lanes, eight accumulators, a scalar tail. NEON belongs to every aarch64 target,
//! so nothing is detected.

use std::arch::aarch64::{
    float32x4_t, vabdq_f32, vaddq_f32, vaddvq_f32, vdupq_n_f32, vfmaq_f32, vld1q_f32, vsubq_f32,
};

use super::{Kernels, scalar};

const LANES: usize = 4;
/// Sums in flight: wide processors start one or two additions a cycle, and each takes about four.
const SUMS: usize = 8;

const _: () = assert!(cfg!(target_feature = "neon"), "an aarch64 target without NEON");

pub(super) static KERNELS: Kernels = Kernels {
    name: "neon",
    dot: |a, b| {
        // SAFETY: the assertion above found neon in the target.
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
    // The target's own instruction for counting bits.
    bits: scalar::bits,
};

#[target_feature(enable = "neon")]
#[inline]
fn load(lane: &[f32; LANES]) -> float32x4_t {
    // SAFETY: the reference covers four floats, and the load asks for no more than their alignment.
    unsafe { vld1q_f32(lane.as_ptr()) }
}

#[target_feature(enable = "neon")]
#[inline]
fn reduce(sums: [float32x4_t; SUMS]) -> f32 {
    let half: [_; 4] = std::array::from_fn(|i| vaddq_f32(sums[i], sums[i + 4]));
    vaddvq_f32(vaddq_f32(vaddq_f32(half[0], half[1]), vaddq_f32(half[2], half[3])))
}

/// Folds whole lanes of both slices with `step` into running sums; returns the sums and the tails
/// that are shorter than a lane.
macro_rules! fold_lanes {
    ($a:expr, $b:expr, $step:expr) => {{
        assert_eq!($a.len(), $b.len(), "vectors of different dimensions");
        let (a_lanes, a_tail) = $a.as_chunks::<LANES>();
        let (b_lanes, b_tail) = $b.as_chunks::<LANES>();
        let mut sums = [vdupq_n_f32(0.0); SUMS];
        let (a_groups, a_rest) = a_lanes.as_chunks::<SUMS>();
        let (b_groups, b_rest) = b_lanes.as_chunks::<SUMS>();
        for (x, y) in a_groups.iter().zip(b_groups) {
            for i in 0..SUMS {
                sums[i] = $step(sums[i], load(&x[i]), load(&y[i]));
            }
        }
        for (i, (x, y)) in a_rest.iter().zip(b_rest).enumerate() {
            sums[i] = $step(sums[i], load(x), load(y));
        }
        (sums, a_tail, b_tail)
    }};
}

#[target_feature(enable = "neon")]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (sums, a_tail, b_tail) = fold_lanes!(a, b, |sum, x, y| vfmaq_f32(sum, x, y));
    reduce(sums) + scalar::dot(a_tail, b_tail)
}

#[target_feature(enable = "neon")]
fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    let (sums, a_tail, b_tail) = fold_lanes!(a, b, |sum, x, y| {
        let difference = vsubq_f32(x, y);
        vfmaq_f32(sum, difference, difference)
    });
    reduce(sums) + scalar::l2_squared(a_tail, b_tail)
}

#[target_feature(enable = "neon")]
fn dot_and_norm(a: &[f32], b: &[f32]) -> (f32, f32) {
    let mut norms = [vdupq_n_f32(0.0); SUMS];
    let mut turn = 0;
    let (sums, a_tail, b_tail) = fold_lanes!(a, b, |sum, x, y| {
        norms[turn] = vfmaq_f32(norms[turn], y, y);
        turn = (turn + 1) % SUMS;
        vfmaq_f32(sum, x, y)
    });
    let (dot_tail, norm_tail) = scalar::dot_and_norm(a_tail, b_tail);
    (reduce(sums) + dot_tail, reduce(norms) + norm_tail)
}

#[target_feature(enable = "neon")]
fn l1(a: &[f32], b: &[f32]) -> f32 {
    let (sums, a_tail, b_tail) = fold_lanes!(a, b, |sum, x, y| vaddq_f32(sum, vabdq_f32(x, y)));
    reduce(sums) + scalar::l1(a_tail, b_tail)
}
