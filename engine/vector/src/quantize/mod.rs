//! Stored codes, and the seam through which a graph is walked: a [`Quantizer`] knows how far a stored
//! point is from a query without saying in which form the point is kept.
//!
//! [`FullPrecision`] keeps nothing of its own and reads the rows; [`CodesView`] reads codes.

mod calibration;
mod codec;
mod codes;
mod rescore;
mod rings;
mod rotation;

use crate::{Metric, Probe, Row, Vectors};

pub use calibration::Ranges;
pub use codec::{CodeQuery, Codec};
pub use codes::{Batch, Codes, CodesView};
pub use rescore::rescore;

/// Points whose memory is asked for ahead of their comparison.
const AHEAD: usize = 8;

/// Distances to stored points.
pub trait Quantizer: Sync {
    /// A query or a stored point made ready for many comparisons.
    type Query<'q>
    where
        Self: 'q;

    /// Prepares an outside vector of the column's dimension; `None` when it has no distance to
    /// anything (the zero vector under cosine).
    fn query<'q>(&'q self, vector: &'q [f32]) -> Option<Self::Query<'q>>;

    /// Prepares a stored point; `None` when it has no vector or no distance to anything.
    fn point(&self, ordinal: u32) -> Option<Self::Query<'_>>;

    /// Search value from `query` to a stored point, `None` when the point is not in this view.
    fn eval(&self, query: &Self::Query<'_>, ordinal: u32) -> Option<f32>;

    /// As [`Quantizer::eval`], for four points; NaN for one that is not in this view.
    fn eval_four(&self, query: &Self::Query<'_>, ordinals: [u32; 4]) -> [f32; 4] {
        ordinals.map(|ordinal| self.eval(query, ordinal).unwrap_or(f32::NAN))
    }

    /// Tells `met` the search value of each of `points` that has one.
    fn eval_all(&self, query: &Self::Query<'_>, points: &[u32], mut met: impl FnMut(u32, f32)) {
        points.iter().take(AHEAD).for_each(|point| self.prefetch(*point));
        let (fours, rest) = points.as_chunks::<4>();
        for (at, four) in fours.iter().enumerate() {
            points.iter().skip(4 * at + AHEAD).take(4).for_each(|point| self.prefetch(*point));
            for (point, value) in four.iter().zip(self.eval_four(query, *four)) {
                if !value.is_nan() {
                    met(*point, value);
                }
            }
        }
        for point in rest {
            if let Some(value) = self.eval(query, *point).filter(|value| !value.is_nan()) {
                met(*point, value);
            }
        }
    }

    /// Whether two points are the same to every query.
    fn same(&self, a: u32, b: u32) -> bool;

    /// Hints that `ordinal` will be asked for soon.
    fn prefetch(&self, ordinal: u32);
}

/// No quantization: points are the rows themselves.
#[derive(Debug)]
pub struct FullPrecision<'a, V> {
    metric: Metric,
    vectors: &'a V,
}

impl<'a, V: Vectors> FullPrecision<'a, V> {
    /// Walks `vectors` by `metric`.
    pub fn new(metric: Metric, vectors: &'a V) -> Self {
        Self { metric, vectors }
    }

    /// As [`Quantizer::query`], for a vector in any form.
    pub fn query_row<'q>(&self, row: Row<'q>) -> Option<Probe<'q>> {
        let probe = self.metric.probe_row(row);
        self.metric.is_defined(&probe).then_some(probe)
    }
}

impl<V: Vectors> Quantizer for FullPrecision<'_, V> {
    type Query<'q>
        = Probe<'q>
    where
        Self: 'q;

    fn query<'q>(&'q self, vector: &'q [f32]) -> Option<Probe<'q>> {
        self.query_row(Row::Full(vector))
    }

    fn point(&self, ordinal: u32) -> Option<Probe<'_>> {
        self.query_row(self.vectors.row(ordinal)?)
    }

    fn eval(&self, query: &Probe<'_>, ordinal: u32) -> Option<f32> {
        Some(self.metric.eval_row(query, self.vectors.row(ordinal)?))
    }

    fn same(&self, a: u32, b: u32) -> bool {
        self.vectors.row(a).is_some_and(|row| Some(row) == self.vectors.row(b))
    }

    fn prefetch(&self, ordinal: u32) {
        if let Some(row) = self.vectors.row(ordinal) {
            row.prefetch();
        }
    }
}

#[cfg(test)]
mod tests;
