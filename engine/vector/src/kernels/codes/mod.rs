//! Inner products of a query with stored codes, in whole numbers: the same result, bit for bit, from
//! every instruction set. The `x4` forms compare one query with four codes and read it once.
//!
//! | kernel | query | code | result |
//! |---|---|---|---|
//! | `bytes` | `n` bytes, each a number + 128 | `n` unsigned bytes | sum of `(q - 128) * c` |
//! | `polar4` | `2n` signed bytes: all first coordinates, then all second | `n` bytes, one pair each | sum of `q * point` |
//! | `polar2` | `4n` signed bytes: first coordinates of the low nibbles' pairs, of the high nibbles', then the second coordinates | `n` bytes, two pairs each | sum of `q * point` |
//!
//! No sum overflows: a query number is at least -128 and at most 127, a code number at most 255, and
//! a vector has at most 16,000 dimensions ([`types::limits`]), so a sum stays below `2^30`.
//! `polar4` and `polar2` take query numbers of at least -127.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

/// Coordinates of the points of a codebook, each at most 127 in size.
#[derive(Debug, Clone)]
pub struct Points<const N: usize> {
    /// First coordinates.
    pub x: [i8; N],
    /// Second coordinates.
    pub y: [i8; N],
}

type PolarKernel<const N: usize> = fn(&Points<N>, &[u8], &[u8]) -> i32;
type NumbersKernel<const N: usize> = fn(&Points<N>, &[u8], &mut [u8]);
type PolarKernelX4<const N: usize> = fn(&Points<N>, &[u8], [&[u8]; 4]) -> [i32; 4];

/// One instruction set's kernels. All panic when a code does not have the length that belongs to its
/// query.
#[derive(Debug)]
pub struct CodeKernels {
    /// The instruction set, as shown to users.
    pub name: &'static str,
    /// A number per byte.
    pub bytes: fn(&[u8], &[u8]) -> i32,
    /// As `bytes`, with four codes.
    pub bytes_x4: fn(&[u8], [&[u8]; 4]) -> [i32; 4],
    /// A pair per byte: two sign bits and one of the points, of the first quadrant.
    pub polar4: PolarKernel<64>,
    /// As `polar4`, with four codes.
    pub polar4_x4: PolarKernelX4<64>,
    /// Two pairs per byte: each nibble is one of the points.
    pub polar2: PolarKernel<16>,
    /// As `polar2`, with four codes.
    pub polar2_x4: PolarKernelX4<16>,
    /// The query that a `polar4` code stands for.
    pub polar4_numbers: NumbersKernel<64>,
    /// The query that a `polar2` code stands for.
    pub polar2_numbers: NumbersKernel<16>,
}

/// The scalar reference.
pub static SCALAR: CodeKernels = CodeKernels {
    name: "scalar",
    bytes: scalar::bytes,
    bytes_x4: |query, codes| codes.map(|code| scalar::bytes(query, code)),
    polar4: scalar::polar4,
    polar4_x4: |points, query, codes| codes.map(|code| scalar::polar4(points, query, code)),
    polar2: scalar::polar2,
    polar2_x4: |points, query, codes| codes.map(|code| scalar::polar2(points, query, code)),
    polar4_numbers: scalar::polar4_numbers,
    polar2_numbers: scalar::polar2_numbers,
};

/// The fastest kernels that this machine can run.
#[must_use]
pub fn detect() -> &'static CodeKernels {
    available().into_iter().next_back().unwrap_or(&SCALAR)
}

/// All kernels that this machine can run, slowest first.
#[must_use]
pub fn available() -> Vec<&'static CodeKernels> {
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64")),
        expect(unused_mut, reason = "only x86 and ARM add tables")
    )]
    let mut tables = vec![&SCALAR];
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx2") {
            tables.push(&avx2::KERNELS);
        }
        if std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512vbmi")
            && std::arch::is_x86_feature_detected!("avx512vnni")
        {
            tables.push(&avx512::KERNELS);
        }
    }
    #[cfg(target_arch = "aarch64")]
    tables.push(&neon::KERNELS);
    tables
}

#[cfg(test)]
mod tests;
