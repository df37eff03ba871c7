//! How recall depends on `ef`, learned from searches whose exact answer is known.
//!
//! `ef` counts in multiples of `k` and is looked at on a ladder of steps of a quarter. A sample is the
//! recall of one query on every rung. Old samples fade: a model forgets what the table was like.

use serde::{Deserialize, Serialize};
use types::limits::HNSW_EF_SEARCH;

/// Rungs of the ladder; the last is a thousand times `k`.
pub(crate) const RUNGS: usize = 32;
const STEP: f64 = 1.25;
/// Samples that a model remembers.
const MEMORY: f64 = 2_000.0;
/// Standard errors beyond one that a target allows for: this many divided by the samples, and at most.
const CAUTION: f64 = 64.0;
const CAUTION_MAX: f64 = 1.5;
/// Samples from which a model says anything.
const SAMPLES_MIN: f64 = 16.0;

/// The candidates of a walk for `k` rows at a multiple of `k`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small positive number"
)]
pub(crate) fn ef_of(ratio: f64, k: usize) -> usize {
    ((ratio * k as f64).ceil() as usize).clamp(k, k.max(*HNSW_EF_SEARCH.end() as usize))
}

/// The multiple of `k` on a rung.
pub(crate) fn ratio(rung: usize) -> f64 {
    STEP.powi(i32::try_from(rung).unwrap_or(0))
}

/// A mean and its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) recall: f64,
    pub(crate) error: f64,
    pub(crate) samples: f64,
}

/// What is known of one class of searches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecallModel {
    samples: f64,
    /// Sums of recalls on each rung, and of their squares.
    sums: Vec<f64>,
    squares: Vec<f64>,
}

impl Default for RecallModel {
    fn default() -> Self {
        Self { samples: 0.0, sums: vec![0.0; RUNGS], squares: vec![0.0; RUNGS] }
    }
}

impl RecallModel {
    /// Adds a sample.
    pub(crate) fn learn(&mut self, recalls: &[f64; RUNGS]) {
        let fade = 1.0 - 1.0 / MEMORY;
        let fade = if self.samples >= MEMORY { fade } else { 1.0 };
        self.samples = self.samples * fade + 1.0;
        for ((sum, square), recall) in self.sums.iter_mut().zip(&mut self.squares).zip(recalls) {
            *sum = *sum * fade + recall;
            *square = *square * fade + recall * recall;
        }
    }

    /// Samples remembered.
    pub(crate) fn samples(&self) -> f64 {
        self.samples
    }

    /// Whether what was read from a file is a model.
    pub(crate) fn is_sound(&self) -> bool {
        let sums = || self.sums.iter().chain(&self.squares);
        self.sums.len() == RUNGS
            && self.squares.len() == RUNGS
            && (0.0..=2.0 * MEMORY).contains(&self.samples)
            && sums().all(|sum| (0.0..=self.samples).contains(sum))
    }

    fn rung(&self, rung: usize) -> Estimate {
        let samples = self.samples;
        let recall = self.sums[rung] / samples;
        let variance = (self.squares[rung] / samples - recall * recall).max(0.0);
        // Few samples that all succeeded do not make it certain that the next one does.
        let error = ((variance + 0.25 / samples) / samples).sqrt();
        Estimate { recall, error, samples }
    }

    /// The recall to expect at a multiple of `k`.
    pub(crate) fn at(&self, multiple: f64) -> Option<Estimate> {
        if self.samples < SAMPLES_MIN {
            return None;
        }
        let place = (multiple.max(1.0).ln() / STEP.ln()).clamp(0.0, (RUNGS - 1) as f64);
        let below = (0..RUNGS - 1).rev().find(|rung| *rung as f64 <= place).unwrap_or(0);
        let part = place - below as f64;
        let (a, b) = (self.rung(below), self.rung(below + 1));
        let between = |a: f64, b: f64| a + (b - a) * part;
        let (recall, error) = (between(a.recall, b.recall), between(a.error, b.error));
        Some(Estimate { recall, error, samples: self.samples })
    }

    /// The least multiple of `k` whose recall is `target` or more, a standard error allowed for and more
    /// while samples are few; the largest when none is.
    pub(crate) fn ratio_for(&self, target: f64) -> Option<f64> {
        if self.samples < SAMPLES_MIN {
            return None;
        }
        let errors = 1.0 + (CAUTION / self.samples).min(CAUTION_MAX);
        let safe = |rung: usize| {
            let Estimate { recall, error, .. } = self.rung(rung);
            recall - errors * error
        };
        let Some(reached) = (0..RUNGS).find(|rung| safe(*rung) >= target) else {
            // The error of a recall of one alone may be larger than what is allowed for.
            let best = (0..RUNGS).max_by(|a, b| {
                let (a, b) = (self.rung(*a).recall, self.rung(*b).recall);
                a.total_cmp(&b).then(std::cmp::Ordering::Greater)
            });
            return best.map(ratio);
        };
        let Some(before) = reached.checked_sub(1) else { return Some(1.0) };
        let (low, high) = (safe(before), safe(reached));
        let part = ((target - low) / (high - low)).clamp(0.0, 1.0);
        Some(ratio(before) * STEP.powf(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::SplitMix64;

    /// Queries each of which needs some multiple of k for each of its ten neighbours.
    fn sample(rng: &mut SplitMix64, hardness: f64) -> [f64; RUNGS] {
        let needs: Vec<f64> = (0..10).map(|_| (rng.unit() * 4.0).exp() * hardness).collect();
        std::array::from_fn(|rung| {
            needs.iter().filter(|need| **need <= ratio(rung)).count() as f64 / 10.0
        })
    }

    /// The share of needs at most `ratio`: uniform in the logarithm.
    fn truth(ratio: f64, hardness: f64) -> f64 {
        ((ratio / hardness).ln() / 4.0).clamp(0.0, 1.0)
    }

    #[test]
    fn the_multiple_that_reaches_a_target_is_found() {
        let mut rng = SplitMix64::new(5);
        let mut model = RecallModel::default();
        assert_eq!(model.ratio_for(0.9), None);
        assert_eq!(model.at(4.0), None);
        for _ in 0..1_000 {
            model.learn(&sample(&mut rng, 1.0));
        }
        assert!(model.is_sound());
        for target in [0.5, 0.9, 0.95, 0.99] {
            let ratio = model.ratio_for(target).unwrap();
            let recall = truth(ratio, 1.0);
            assert!((target - 0.005..target + 0.02).contains(&recall), "{target}: {recall}");
            let estimate = model.at(ratio).unwrap();
            assert!((estimate.recall - recall).abs() < 3.0 * estimate.error + 0.005);
        }
        assert_eq!(model.ratio_for(-1.0), Some(1.0), "never fewer than k");
    }

    #[test]
    fn what_the_table_was_like_is_forgotten() {
        let mut rng = SplitMix64::new(6);
        let mut model = RecallModel::default();
        for hardness in [1.0, 3.0] {
            for _ in 0..6_000 {
                model.learn(&sample(&mut rng, hardness));
            }
            let recall = truth(model.ratio_for(0.9).unwrap(), hardness);
            assert!((0.88..0.93).contains(&recall), "{recall} after hardness {hardness}");
        }
        assert!(model.is_sound());
    }

    #[test]
    fn a_target_out_of_reach_takes_the_least_of_the_best() {
        let mut model = RecallModel::default();
        let flat: [f64; RUNGS] = std::array::from_fn(|rung| if rung < 5 { 0.5 } else { 0.8 });
        (0..100).for_each(|_| model.learn(&flat));
        assert_eq!(model.ratio_for(0.95), Some(ratio(5)));
        assert_eq!(ef_of(ratio(5), 10), 31);
        assert_eq!(ef_of(1e9, 10), 1_000);
        assert_eq!(ef_of(1.0, 5_000), 5_000);
    }
}
