//! A random rotation in `O(d log d)`.
//!
//! Whatever the data, the coordinates of a vector turned by a random orthogonal matrix behave like
//! independent normal numbers of one variance, so a code with fixed boundaries fits every column.
//! A dense matrix costs `d^2`; here each round flips signs, mixes a block of a power of two by a
//! Walsh-Hadamard transform (the first block and the last one in turn) and, where the block is not
//! everything, mixes the two halves. Ailon and Chazelle, "The fast Johnson-Lindenstrauss
//! transform", SIAM J. Comput. 2009, for the idea.
//!
//! Only additions, subtractions and multiplications by constants in a fixed order: the same bits on
//! every machine.

use std::f32::consts::FRAC_1_SQRT_2;

use types::SplitMix64;

/// An orthogonal map of `dim` numbers to `width`, the next even number.
#[derive(Debug)]
pub(super) struct Rotation {
    width: usize,
    /// Length of the transformed block, a power of two.
    block: usize,
    /// Per round a factor per coordinate: a random sign, times the transform's norm in its block.
    rounds: Vec<Vec<f32>>,
}

impl Rotation {
    /// The rotation of vectors of `dim` numbers, a function of `dim` alone.
    pub(super) fn new(dim: usize) -> Self {
        let width = dim.next_multiple_of(2).max(2);
        let block = if width.is_power_of_two() { width } else { width.next_power_of_two() / 2 };
        // Half of the coordinates take part in a round at least; two rounds mix a whole block.
        let count = if block == width { 2 } else { 4 };
        let mut rng = SplitMix64::new(0xA21_u64 << 32 | width as u64);
        let norm = (block as f64).sqrt().recip();
        let rounds = (0..count).map(|round| {
            let from = Self::start(round, width, block);
            let factor = |at: usize, negative: bool| {
                let size = if (from..from + block).contains(&at) { norm } else { 1.0 };
                #[expect(clippy::cast_possible_truncation, reason = "a factor near one")]
                let size = size as f32;
                if negative { -size } else { size }
            };
            (0..width).map(|at| factor(at, rng.next_u64() >> 63 == 1)).collect()
        });
        let rounds = rounds.collect();
        Self { width, block, rounds }
    }

    /// Numbers of a rotated vector.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    fn start(round: usize, width: usize, block: usize) -> usize {
        if round.is_multiple_of(2) { 0 } else { width - block }
    }

    /// Rotates `values`, `width` of them, in place.
    pub(super) fn apply(&self, values: &mut [f32]) {
        for (round, factors) in self.rounds.iter().enumerate() {
            values.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor);
            let from = Self::start(round, self.width, self.block);
            hadamard(&mut values[from..from + self.block]);
            if self.block < self.width {
                let (first, second) = values.split_at_mut(self.width / 2);
                for (a, b) in first.iter_mut().zip(second) {
                    (*a, *b) = ((*a + *b) * FRAC_1_SQRT_2, (*a - *b) * FRAC_1_SQRT_2);
                }
            }
        }
    }
}

/// The Walsh-Hadamard transform, not normalised; `values.len()` is a power of two.
fn hadamard(values: &mut [f32]) {
    let mut half = values.len() / 2;
    while half > 2 {
        for pair in values.chunks_exact_mut(2 * half) {
            let (first, second) = pair.split_at_mut(half);
            for (a, b) in first.iter_mut().zip(second) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half /= 2;
    }
    let (fours, rest) = values.as_chunks_mut::<4>();
    for [a, b, c, d] in fours {
        let (ac, bd) = (*a + *c, *b + *d);
        let (a_c, b_d) = (*a - *c, *b - *d);
        (*a, *b, *c, *d) = (ac + bd, ac - bd, a_c + b_d, a_c - b_d);
    }
    if let [a, b] = rest {
        (*a, *b) = (*a + *b, *a - *b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_angles_stay_and_single_coordinates_spread() {
        for dim in [1_usize, 2, 3, 7, 64, 100, 128, 384, 769, 1_536] {
            let rotation = Rotation::new(dim);
            let width = rotation.width();
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
            };
            let mut rng = SplitMix64::new(dim as u64);
            let mut draw = || -> Vec<f32> {
                let mut values = vec![0.0; width];
                #[expect(clippy::cast_possible_truncation, reason = "precision is not the point")]
                values[..dim].fill_with(|| rng.unit() as f32 - 0.3);
                values
            };
            let (a, b) = (draw(), draw());
            let (mut turned_a, mut turned_b) = (a.clone(), b.clone());
            rotation.apply(&mut turned_a);
            rotation.apply(&mut turned_b);
            let before = dot(&a, &b);
            let after = dot(&turned_a, &turned_b);
            let scale = (dot(&a, &a) * dot(&b, &b)).sqrt();
            assert!((before - after).abs() < 1e-5 * scale, "{dim}: {before} became {after}");
            if dim >= 64 {
                let mut axis = vec![0.0; width];
                axis[dim / 2] = 1.0;
                rotation.apply(&mut axis);
                let peak = axis.iter().fold(0.0_f32, |peak, value| peak.max(value.abs()));
                // A normal number exceeds 5.5 standard deviations once in 26 million.
                let bound = 5.5 / (width as f64).sqrt();
                assert!(f64::from(peak) < bound, "{dim}: an axis keeps {peak} in one coordinate");
            }
        }
    }
}
