//! A distance bound to the fastest kernels of this machine.
//!
//! Inside a search L2 is kept squared, which orders alike and saves a root per point;
//! [`Metric::finish`] turns a search value into the distance SQL shows.

use types::Distance;

use crate::kernels::{self, Kernels};

/// A distance and the kernels that compute it; made once, when an index or a query is opened.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    distance: Distance,
    kernels: &'static Kernels,
}

/// A vector made ready to be compared with many others.
#[derive(Debug, Clone, Copy)]
pub struct Probe<'a> {
    vector: &'a [f32],
    /// One over the Euclidean norm; only cosine reads it. Infinite for the zero vector.
    inverse_norm: f32,
}

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
        let inverse_norm = match self.distance {
            Distance::Cosine => (self.kernels.dot)(vector, vector).sqrt().recip(),
            Distance::L2 | Distance::InnerProduct => 1.0,
        };
        Probe { vector, inverse_norm }
    }

    /// Whether `probe` has a distance to anything: false for the zero vector under cosine.
    #[must_use]
    pub fn is_defined(&self, probe: &Probe<'_>) -> bool {
        probe.inverse_norm.is_finite()
    }

    /// The search value of two vectors of equal dimension: smaller is nearer, NaN when cosine meets
    /// a zero vector. Not the SQL distance: see [`Metric::finish`].
    ///
    /// # Panics
    /// When the dimensions differ.
    #[must_use]
    pub fn eval(&self, probe: &Probe<'_>, other: &[f32]) -> f32 {
        match self.distance {
            Distance::L2 => (self.kernels.l2_squared)(probe.vector, other),
            Distance::InnerProduct => -(self.kernels.dot)(probe.vector, other),
            Distance::Cosine => {
                let (dot, norm_squared) = (self.kernels.dot_and_norm)(probe.vector, other);
                if norm_squared == 0.0 || !probe.inverse_norm.is_finite() {
                    return f32::NAN;
                }
                1.0 - dot * probe.inverse_norm / norm_squared.sqrt()
            }
        }
    }

    /// The SQL distance that belongs to a search value.
    #[must_use]
    pub fn finish(&self, value: f32) -> f64 {
        match self.distance {
            Distance::L2 => f64::from(value).sqrt(),
            Distance::InnerProduct | Distance::Cosine => f64::from(value),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_have_pgvector_meaning() {
        let (a, b) = ([1.0, 2.0, 2.0], [4.0, 6.0, 2.0]);
        let cases = [
            (Distance::L2, 5.0),
            (Distance::InnerProduct, -20.0),
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
