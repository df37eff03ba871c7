//! Which rows may be within a distance of a query, told by their codes.

use std::ops::Range;

use vector::quantize::Quantizer as _;

use super::VectorIndex;
use crate::memtable::rows::Rows;

/// What rounding adds to the error of an estimate, as a share of it.
const ROUNDING: f32 = 1e-4;
/// ... and what is lost of the smallest numbers.
const VANISHING: f32 = 1e-36;

impl VectorIndex {
    /// For each of `ordinals` of `rows` whether its distance to `query` may be `most` or less; `None`
    /// when codes cannot tell. `most` is a distance as SQL has it.
    #[must_use]
    pub fn may_be_within(
        &self,
        query: &[f32],
        most: f64,
        (ordinals, rows): (Range<u32>, &Rows),
    ) -> Option<Vec<bool>> {
        let codes = self.coding.codes()?;
        let view = codes.view();
        let query = view.query(query)?;
        let known = ordinals.start..ordinals.end.min(view.len()).min(rows.shared_len());
        if known.is_empty() || !view.error_bound(&query, known.start).is_finite() {
            return None;
        }
        let mut may = vec![true; ordinals.len()];
        view.scan(&query, known, |value, ordinal| {
            let wrong = view.error_bound(&query, ordinal) + ROUNDING * value.abs() + VANISHING;
            let far = self.metric.finish(value - wrong) > most;
            if let Some(may) = may.get_mut((ordinal - ordinals.start) as usize) {
                *may = !far;
            }
        });
        Some(may)
    }
}
