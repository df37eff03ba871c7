//! A distance bound to the fastest kernels of this machine.
//!
//! Inside a search L2 is kept squared, which orders alike and saves a root per point;
//! [`Metric::finish`] turns a search value into the distance SQL shows.

use std::borrow::Cow;

use types::Distance;

use crate::kernels::{self, Kernels};
use crate::row::{Bits, Row};
use crate::sparse::Sparse;

/// A distance and the kernels that compute it; made once, when an index or a query is opened.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    distance: Distance,
    kernels: &'static Kernels,
}

/// A vector made ready to be compared with many others.
#[derive(Debug, Clone)]
pub struct Probe<'a> {
    vector: Cow<'a, [f32]>,
    /// The squared Euclidean norm; only cosine reads it.
    square: f32,
    /// Which numbers are not zero, for distances of bits.
    bits: Vec<u8>,
    /// A sparse vector, which has no numbers in `vector`.
    sparse: Option<Sparse<'a>>,
}

/// Squared norms of which single precision keeps all digits; others are computed in double.
const SQUARES: std::ops::RangeInclusive<f32> = 1e-30..=1e30;

impl Metric {
    /// Binds `distance` to the kernels of this machine.
    #[must_use]
    pub fn new(distance: Distance) -> Self {
        Self { distance, kernels: kernels::detect() }
    }

    /// Binds `distance` to given kernels, to compare one instruction set with another.
    #[must_use]
    pub fn with_kernels(distance: Distance, kernels: &'static Kernels) -> Self {
        Self { distance, kernels }
    }

    /// The distance.
    #[must_use]
    pub fn distance(&self) -> Distance {
        self.distance
    }

    /// Prepares `vector` for [`Metric::eval`].
    #[must_use]
    pub fn probe<'a>(&self, vector: &'a [f32]) -> Probe<'a> {
        self.probe_row(Row::Full(vector))
    }

    /// Prepares a stored vector for [`Metric::eval`].
    #[must_use]
    pub fn probe_row<'a>(&self, row: Row<'a>) -> Probe<'a> {
        if let Row::Sparse(sparse) = row {
            let vector = Cow::Borrowed(&[][..]);
            return Probe { vector, square: 1.0, bits: Vec::new(), sparse: Some(sparse) };
        }
        let vector = row.to_f32();
        let (mut square, mut bits) = (1.0, Vec::new());
        match self.distance {
            // The same sum as in `eval`, so that the cosine of a vector and itself is one.
            Distance::Cosine => square = (self.kernels.dot_and_norm)(&vector, &vector).1,
            Distance::Hamming | Distance::Jaccard => bits = Bits::pack(&vector),
            Distance::L2 | Distance::InnerProduct | Distance::L1 => {}
        }
        Probe { vector, square, bits, sparse: None }
    }

    /// Whether `probe` has a distance to anything: false for the zero vector under cosine.
    #[must_use]
    pub fn is_defined(&self, probe: &Probe<'_>) -> bool {
        if self.distance != Distance::Cosine {
            return true;
        }
        match probe.sparse {
            Some(sparse) => sparse.entries().any(|(_, value)| value != 0.0),
            None => probe.vector.iter().any(|value| *value != 0.0),
        }
    }

    /// The search value of two vectors of equal dimension: smaller is nearer, NaN when cosine meets
    /// a zero vector. Not the SQL distance: see [`Metric::finish`].
    ///
    /// # Panics
    /// When the dimensions differ.
    #[must_use]
    pub fn eval(&self, probe: &Probe<'_>, other: &[f32]) -> f32 {
        match self.distance {
            Distance::L2 => (self.kernels.l2_squared)(&probe.vector, other),
            Distance::InnerProduct => -(self.kernels.dot)(&probe.vector, other),
            Distance::L1 => (self.kernels.l1)(&probe.vector, other),
            Distance::Cosine => {
                let (dot, square) = (self.kernels.dot_and_norm)(&probe.vector, other);
                let cosine = if SQUARES.contains(&square) && SQUARES.contains(&probe.square) {
                    f64::from(dot) / (f64::from(square) * f64::from(probe.square)).sqrt()
                } else {
                    cosine(&probe.vector, other)
                };
                #[expect(clippy::cast_possible_truncation, reason = "between 0 and 2")]
                let distance = (1.0 - cosine.clamp(-1.0, 1.0)) as f32;
                distance
            }
            Distance::Hamming | Distance::Jaccard => self.eval_bits(probe, &Bits::pack(other)),
        }
    }

    /// As [`Metric::eval`], for a stored vector.
    ///
    /// # Panics
    /// When the dimensions differ.
    #[must_use]
    pub fn eval_row(&self, probe: &Probe<'_>, row: Row<'_>) -> f32 {
        match (row, self.distance) {
            (Row::Full(other), _) => self.eval(probe, other),
            (Row::Bits(bits), Distance::Hamming | Distance::Jaccard) => {
                bits.packed(|other| self.eval_bits(probe, other))
            }
            (Row::Sparse(other), _) if let Some(sparse) = &probe.sparse => {
                #[expect(clippy::cast_possible_truncation, reason = "a search value")]
                let value = sparse.between(&other, self.distance) as f32;
                value
            }
            (Row::Half(_) | Row::Bits(_) | Row::Sparse(_), _) => {
                row.widened(|other| self.eval(probe, other))
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a search value")]
    fn eval_bits(&self, probe: &Probe<'_>, other: &[u8]) -> f32 {
        self.between_bits(&probe.bits, other) as f32
    }

    /// The SQL distance of two stored vectors.
    ///
    /// # Panics
    /// When the dimensions differ.
    #[must_use]
    pub fn between_rows(&self, left: Row<'_>, right: Row<'_>) -> f64 {
        match (left, right, self.distance) {
            (Row::Bits(a), Row::Bits(b), Distance::Hamming | Distance::Jaccard) => {
                a.packed(|a| b.packed(|b| self.between_bits(a, b)))
            }
            (Row::Sparse(a), Row::Sparse(b), distance) => {
                let value = a.between(&b, distance);
                // Of one sign: sorting tells signs of NaN apart.
                let value = if value.is_nan() { f64::NAN } else { value };
                if distance == Distance::L2 { value.sqrt() } else { value }
            }
            _ => left.widened(|left| right.widened(|right| self.between(left, right))),
        }
    }

    /// The SQL distance of bits in bytes, those behind the last being zero.
    fn between_bits(&self, left: &[u8], right: &[u8]) -> f64 {
        let (both, either) = (self.kernels.bits)(left, right);
        if self.distance != Distance::Jaccard {
            return f64::from(either - both);
        }
        if both == 0 { 1.0 } else { 1.0 - f64::from(both) / f64::from(either) }
    }

    /// The SQL distance that belongs to a search value.
    #[must_use]
    pub fn finish(&self, value: f32) -> f64 {
        if value.is_nan() {
            // Of one sign: sorting tells signs of NaN apart.
            return f64::NAN;
        }
        match self.distance {
            Distance::L2 => f64::from(value).sqrt(),
            Distance::InnerProduct
            | Distance::Cosine
            | Distance::L1
            | Distance::Hamming
            | Distance::Jaccard => f64::from(value),
        }
    }

    /// The SQL distance of two vectors.
    ///
    /// # Panics
    /// When the dimensions differ.
    #[must_use]
    pub fn between(&self, left: &[f32], right: &[f32]) -> f64 {
        self.finish(self.eval(&self.probe(left), right))
    }
}

/// The cosine of two vectors of any length; NaN when one is zero.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    product(a, b) / (product(a, a).sqrt() * product(b, b).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_have_pgvector_meaning() {
        let (a, b) = ([1.0, 2.0, 2.0], [4.0, 6.0, 2.0]);
        let cases = [
            (Distance::L2, 5.0),
            (Distance::InnerProduct, -20.0),
            (Distance::L1, 7.0),
            (Distance::Hamming, 0.0),
            (Distance::Cosine, 1.0 - 20.0 / (3.0 * 56.0_f64.sqrt())),
        ];
        for (distance, expected) in cases {
            let got = Metric::new(distance).between(&a, &b);
            assert!((got - expected).abs() < 1e-6, "{distance:?}: {got} instead of {expected}");
        }
        assert!(Metric::new(Distance::Cosine).between(&[0.0; 3], &b).is_nan());
        assert!(Metric::new(Distance::Cosine).between(&b, &[0.0; 3]).is_nan());
    }
}
