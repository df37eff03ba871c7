//! Distance kernels over `f32`, one table per instruction set, chosen once per opened index.
//!
//! Every SIMD kernel has the same meaning as the scalar reference, up to rounding: with `n` terms
//! summed in another order the results differ by at most about `n * 2^-24 * sum |terms|`
//! (Higham, "Accuracy and Stability of Numerical Algorithms", section 4.2); the tests hold every
//! kernel to that bound, over all tail lengths, misalignment, subnormals, infinities and NaN.
#![allow(unsafe_code, reason = "SIMD intrinsics; each block states its proof")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod codes;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

/// One instruction set's kernels. All panic when the lengths of their arguments differ.
#[derive(Debug)]
pub struct Kernels {
    /// The instruction set, as shown to users.
    pub name: &'static str,
    /// Inner product.
    pub dot: fn(&[f32], &[f32]) -> f32,
    /// Squared Euclidean distance.
    pub l2_squared: fn(&[f32], &[f32]) -> f32,
    /// Inner product, and the squared norm of the second argument, in one pass over memory.
    pub dot_and_norm: fn(&[f32], &[f32]) -> (f32, f32),
    /// Sum of absolute differences.
    pub l1: fn(&[f32], &[f32]) -> f32,
    /// Bits set in both arguments, and in either.
    pub bits: fn(&[u8], &[u8]) -> (u32, u32),
}

/// The scalar reference.
pub static SCALAR: Kernels = Kernels {
    name: "scalar",
    dot: scalar::dot,
    l2_squared: scalar::l2_squared,
    dot_and_norm: scalar::dot_and_norm,
    l1: scalar::l1,
    bits: scalar::bits,
};

/// The fastest kernels that this machine can run.
#[must_use]
pub fn detect() -> &'static Kernels {
    available().into_iter().next_back().unwrap_or(&SCALAR)
}

/// All kernels that this machine can run, slowest first.
#[must_use]
pub fn available() -> Vec<&'static Kernels> {
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64")),
        expect(unused_mut, reason = "only x86 and ARM add tables")
    )]
    let mut tables = vec![&SCALAR];
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("popcnt")
        {
            tables.push(&avx2::KERNELS);
            if std::arch::is_x86_feature_detected!("avx512f") {
                let counts = std::arch::is_x86_feature_detected!("avx512vpopcntdq");
                tables.push(if counts { &avx512::COUNTING } else { &avx512::KERNELS });
            }
        }
    }
    #[cfg(target_arch = "aarch64")]
    tables.push(&neon::KERNELS);
    tables
}

/// Asks the processor to bring memory near; has no other effect.
#[inline]
pub fn prefetch<T>(memory: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        const LINE_BYTES: usize = 64;
        let start = memory.as_ptr().cast::<i8>();
        let into_line = start.addr() % LINE_BYTES;
        let mut at = 0;
        while at < into_line + size_of_val(memory) {
            // SAFETY: prefetch never faults and changes no memory, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(start.wrapping_sub(into_line).wrapping_add(at)) };
            at += LINE_BYTES;
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = memory;
}

#[cfg(test)]
mod tests;
