//! The reference kernels, written to be read. Plain left-to-right sums.

fn pairs<'a>(a: &'a [f32], b: &'a [f32]) -> impl Iterator<Item = (f32, f32)> + 'a {
    assert_eq!(a.len(), b.len(), "vectors of different dimensions");
    a.iter().copied().zip(b.iter().copied())
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    pairs(a, b).fold(0.0, |sum, (x, y)| sum + x * y)
}

pub(super) fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    pairs(a, b).fold(0.0, |sum, (x, y)| sum + (x - y) * (x - y))
}

pub(super) fn dot_and_norm(a: &[f32], b: &[f32]) -> (f32, f32) {
    pairs(a, b).fold((0.0, 0.0), |(dot, norm), (x, y)| (dot + x * y, norm + y * y))
}

pub(super) fn l1(a: &[f32], b: &[f32]) -> f32 {
    pairs(a, b).fold(0.0, |sum, (x, y)| sum + (x - y).abs())
}

/// Also the body of the kernels that have instructions for counting bits.
#[inline]
pub(super) fn bits(a: &[u8], b: &[u8]) -> (u32, u32) {
    assert_eq!(a.len(), b.len(), "bits of different lengths");
    let (a_words, a_tail) = a.as_chunks::<8>();
    let (b_words, b_tail) = b.as_chunks::<8>();
    let (mut both, mut either) = (0, 0);
    for (x, y) in a_words.iter().zip(b_words) {
        let (x, y) = (u64::from_le_bytes(*x), u64::from_le_bytes(*y));
        both += (x & y).count_ones();
        either += (x | y).count_ones();
    }
    for (x, y) in a_tail.iter().zip(b_tail) {
        both += (x & y).count_ones();
        either += (x | y).count_ones();
    }
    (both, either)
}
