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
