//! Ranges of the dimensions of a column, taken from a sample: the codes of `sq8_calibrated` are
//! steps of these ranges. Numbers outside become the nearest end; [`Ranges::outside`] tells when a
//! column no longer fits its ranges.

use std::borrow::Cow;

use types::Distance;

/// The least and greatest values of a dimension that codes can tell apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranges {
    /// The value of code 128, per dimension.
    middle: Vec<f32>,
    /// The difference between two codes, per dimension; above zero.
    step: Vec<f32>,
    /// Whether they are ranges of vectors scaled to length one.
    unit: bool,
}

/// Share of the sample that may fall outside at each end.
const CUT: f64 = 0.000_5;

/// Rows of a sample from which at least one may.
const CUT_ONE: usize = 100;

/// Least difference between two codes: a dimension that is the same in the whole sample has one.
const STEP_MIN: f32 = 1e-30;

impl Ranges {
    /// The ranges of a sample, `[rows, dim]`, of a column that is compared by `distance`. `None` for
    /// a sample without a vector that has a distance to anything.
    #[must_use]
    pub fn of_sample<'a>(
        distance: Distance,
        sample: impl Iterator<Item = &'a [f32]>,
    ) -> Option<Self> {
        let unit = distance == Distance::Cosine;
        let rows: Vec<Cow<'_, [f32]>> = sample.filter_map(|row| scaled(unit, row)).collect();
        let dim = rows.first()?.len();
        let mut ranges =
            Self { middle: Vec::with_capacity(dim), step: Vec::with_capacity(dim), unit };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of the number of rows"
        )]
        let cut = ((rows.len() as f64 * CUT) as usize).max(usize::from(rows.len() >= CUT_ONE));
        for at in 0..dim {
            let mut values: Vec<f32> = rows.iter().map(|row| row[at]).collect();
            values.sort_unstable_by(f32::total_cmp);
            let (low, high) = (values[cut], values[values.len() - 1 - cut]);
            // Divided first: the difference of two numbers may be too large for one.
            let step = (high / 255.0 - low / 255.0).max(STEP_MIN);
            ranges.step.push(step);
            ranges.middle.push(low + 128.0 * step);
        }
        Some(ranges)
    }

    /// Numbers of a vector.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.middle.len()
    }

    /// The share of the numbers of `vector` that lie outside.
    #[must_use]
    pub fn outside(&self, vector: &[f32]) -> f64 {
        let Some(vector) = scaled(self.unit, vector) else { return 0.0 };
        let steps = vector.iter().zip(&self.middle).zip(&self.step);
        let out = steps.filter(|((value, middle), step)| {
            let at = (**value - **middle) / **step;
            !(-128.5..127.5).contains(&at)
        });
        out.count() as f64 / self.dim().max(1) as f64
    }

    pub(super) fn encode(&self, vector: &[f32], code: &mut [u8]) {
        let steps = vector.iter().zip(&self.middle).zip(&self.step);
        for (byte, ((value, middle), step)) in code.iter_mut().zip(steps) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the cast saturates at 0 and 255"
            )]
            let code = ((value - middle) / step + 128.5) as u8;
            *byte = code;
        }
    }

    pub(super) fn decode(&self, code: &[u8]) -> Vec<f32> {
        let steps = code.iter().zip(&self.middle).zip(&self.step);
        steps.map(|((byte, middle), step)| middle + (f32::from(*byte) - 128.0) * step).collect()
    }

    /// `q` times the steps, and `<q, middle>`.
    pub(super) fn query(&self, query: &[f32]) -> (Vec<f32>, f32) {
        let bias = query.iter().zip(&self.middle).map(|(q, m)| f64::from(*q) * f64::from(*m));
        #[expect(clippy::cast_possible_truncation, reason = "as f32 distances have it")]
        let bias = bias.sum::<f64>() as f32;
        (query.iter().zip(&self.step).map(|(q, step)| q * step).collect(), bias)
    }
}

/// `vector`, scaled to length one when that is what is compared; `None` when it cannot be.
fn scaled(unit: bool, vector: &[f32]) -> Option<Cow<'_, [f32]>> {
    if !unit {
        return Some(Cow::Borrowed(vector));
    }
    let square: f64 = vector.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
    #[expect(clippy::cast_possible_truncation, reason = "checked to be finite")]
    let scale = square.sqrt().recip() as f32;
    let known = scale.is_finite() && scale > 0.0;
    known.then(|| Cow::Owned(vector.iter().map(|value| value * scale).collect()))
}
