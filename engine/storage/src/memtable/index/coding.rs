//! The codes of an index's points: when they are made, and made anew.
//!
//! Codes of most forms depend on their vector alone. The ranges of `sq8_calibrated` come from a
//! sample; they are taken again, and every code with them, when the table has outgrown the sample
//! or numbers of new rows fall outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::RwLock;
use types::{Distance, Quantization};
use vector::Vectors;
use vector::quantize::{Batch, Codec, Codes, Ranges};

/// Points that get their codes between two looks at the cancel flag, where a graph waits for codes.
const BATCH_POINTS: u32 = 16_384;
/// Below this many points, starting threads costs more than it saves.
const PARALLEL_POINTS_MIN: u32 = 256;
/// Rows of a sample.
const SAMPLE_ROWS: u32 = 10_000;
/// Ranges are taken again when there are this many times the rows that were sampled from.
const OUTGROWN: u32 = 8;
/// ... or when this share of the numbers of new rows is outside, and a quarter of the rows is new.
const OUTSIDE_MAX: f64 = 0.02;

#[derive(Debug)]
pub(super) struct Coding {
    quantization: Quantization,
    distance: Distance,
    dim: usize,
    now: RwLock<Option<Arc<Codes>>>,
    /// Rows there were when the ranges were taken.
    sampled_from: AtomicU32,
    calibrations: AtomicU32,
    /// Whether ranges are to be taken before anything else.
    due: AtomicBool,
}

impl Coding {
    pub(super) fn new(quantization: Quantization, distance: Distance, dim: usize) -> Self {
        let codec = match quantization {
            Quantization::Sq8Calibrated => None,
            _ if dim == 0 => None,
            Quantization::None
            | Quantization::Sq8
            | Quantization::Polar8
            | Quantization::Polar4
            | Quantization::Polar2 => Codec::new(quantization, distance, dim, None),
        };
        Self {
            quantization,
            distance,
            dim,
            now: RwLock::new(codec.map(|codec| Arc::new(Codes::new(codec)))),
            sampled_from: AtomicU32::new(0),
            calibrations: AtomicU32::new(0),
            due: AtomicBool::new(quantization == Quantization::Sq8Calibrated),
        }
    }

    /// The same without codes.
    pub(super) fn emptied(&self) -> Self {
        let new = Self::new(self.quantization, self.distance, self.dim);
        new.calibrations.store(self.calibrations(), Ordering::Relaxed);
        new
    }

    /// The same with `batch` as its codes, which are this one's in another order.
    pub(super) fn relocated(&self, batch: &Batch) -> Self {
        let new = self.emptied();
        if let Some(codes) = self.codes() {
            let codes = codes.emptied();
            codes.append(batch);
            *new.now.write() = Some(Arc::new(codes));
            new.sampled_from.store(self.sampled_from.load(Ordering::Relaxed), Ordering::Relaxed);
            new.due.store(self.due.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        new
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    pub(super) fn codes(&self) -> Option<Arc<Codes>> {
        self.now.read().as_ref().map(Arc::clone)
    }

    pub(super) fn calibrations(&self) -> u32 {
        self.calibrations.load(Ordering::Relaxed)
    }

    /// Whether the points of a graph that covers `covered` ordinals wait for codes.
    pub(super) fn is_behind(&self, covered: u32) -> bool {
        let behind = |codes: &Arc<Codes>| codes.len() < covered;
        covered > 0
            && (self.due.load(Ordering::Relaxed) || self.now.read().as_ref().is_some_and(behind))
    }

    /// Makes the next codes of ordinals below `to`; false when `stopped` says so, and nothing was
    /// kept then.
    pub(super) fn extend(
        &self,
        vectors: &impl Vectors,
        to: u32,
        threads: usize,
        stopped: impl Fn() -> bool,
    ) -> bool {
        if self.due.load(Ordering::Relaxed) && !self.calibrate(vectors, to, threads, &stopped) {
            return false;
        }
        let Some(codes) = self.codes() else { return true };
        let from = codes.len();
        let to = to.min(from.saturating_add(BATCH_POINTS));
        if from >= to {
            return true;
        }
        let batches = encode(codes.codec(), vectors, from..to, threads);
        if stopped() {
            return false;
        }
        batches.iter().for_each(|batch| codes.append(batch));
        if self.outgrown(&codes, vectors, from..to) {
            self.due.store(true, Ordering::Relaxed);
        }
        true
    }

    /// Takes ranges from a sample of the ordinals below `to` and makes all codes anew. True also
    /// when there is no vector to sample.
    fn calibrate(
        &self,
        vectors: &impl Vectors,
        to: u32,
        threads: usize,
        stopped: &impl Fn() -> bool,
    ) -> bool {
        let step = to.div_ceil(SAMPLE_ROWS).max(1) as usize;
        let sample = (0..to).step_by(step).filter_map(|row| vectors.vector(row));
        let Some(ranges) = Ranges::of_sample(self.distance, sample) else {
            self.due.store(false, Ordering::Relaxed);
            return !stopped();
        };
        let codec = Codec::new(self.quantization, self.distance, self.dim, Some(ranges));
        let Some(codec) = codec else { return false };
        let codes = Codes::new(codec);
        let have = self.codes().map_or(0, |codes| codes.len());
        let batches = encode(codes.codec(), vectors, 0..have, threads);
        if stopped() {
            return false;
        }
        batches.iter().for_each(|batch| codes.append(batch));
        *self.now.write() = Some(Arc::new(codes));
        self.sampled_from.store(to, Ordering::Relaxed);
        self.calibrations.fetch_add(1, Ordering::Relaxed);
        self.due.store(false, Ordering::Relaxed);
        true
    }

    /// Whether the ranges no longer fit rows like those of `new`.
    fn outgrown(&self, codes: &Codes, vectors: &impl Vectors, new: std::ops::Range<u32>) -> bool {
        let Some(ranges) = codes.codec().ranges() else { return false };
        let sampled_from = self.sampled_from.load(Ordering::Relaxed);
        if new.end >= sampled_from.saturating_mul(OUTGROWN) && sampled_from < SAMPLE_ROWS {
            return true;
        }
        if new.end < sampled_from.saturating_add(sampled_from / 3) {
            return false;
        }
        let outside = new.filter_map(|row| Some(ranges.outside(vectors.vector(row)?)));
        let (sum, count) = outside.fold((0.0, 0), |(sum, count), share| (sum + share, count + 1));
        sum > OUTSIDE_MAX * f64::from(count)
    }
}

/// The codes of `points`, in order.
fn encode(
    codec: &Codec,
    vectors: &impl Vectors,
    points: std::ops::Range<u32>,
    threads: usize,
) -> Vec<Batch> {
    let batch =
        |part: std::ops::Range<u32>| Batch::encode(codec, part.map(|point| vectors.vector(point)));
    let count = points.end - points.start;
    let parts = u32::try_from(threads).unwrap_or(1);
    if count < PARALLEL_POINTS_MIN || parts < 2 {
        return vec![batch(points)];
    }
    let size = count.div_ceil(parts);
    let part = |at: u32| {
        let start = points.start + (at * size).min(count);
        start..(start + size).min(points.end)
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..parts).map(|at| scope.spawn(move || batch(part(at)))).collect();
        let joined = running.into_iter().enumerate().map(|(at, thread)| {
            // A thread that could not do its part leaves it to this one.
            thread.join().unwrap_or_else(|_| batch(part(u32::try_from(at).unwrap_or(0))))
        });
        joined.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::SplitMix64;
    use vector::Matrix;

    #[expect(clippy::cast_possible_truncation, reason = "precision is not the point")]
    fn rows(count: usize, scale: f32) -> Vec<f32> {
        let mut rng = SplitMix64::new(count as u64);
        (0..count * 4).map(|_| (rng.unit() as f32 - 0.5) * scale).collect()
    }

    #[test]
    fn ranges_are_taken_again_when_new_rows_fall_outside() {
        let mut values = rows(4_000, 1.0);
        values.extend(rows(4_000, 50.0));
        let matrix = Matrix::new(4, values);
        let coding = Coding::new(Quantization::Sq8Calibrated, Distance::L2, 4);
        let extend = |to| {
            assert!(coding.extend(&matrix, to, 2, || false));
            while coding.is_behind(to) {
                assert!(coding.extend(&matrix, to, 2, || false));
            }
            coding.codes().unwrap().len()
        };
        assert_eq!((extend(1_000), coding.calibrations()), (1_000, 1));
        assert_eq!((extend(4_000), coding.calibrations()), (4_000, 1));
        assert_eq!((extend(8_000), coding.calibrations()), (8_000, 2));
        let fresh =
            Ranges::of_sample(Distance::L2, (0..8_000).filter_map(|row| matrix.vector(row)))
                .unwrap();
        let codes = coding.codes().unwrap();
        let ranges = codes.codec().ranges().unwrap();
        let far = matrix.vector(7_000).unwrap();
        assert!(ranges.outside(far) <= fresh.outside(far) + 0.3);
        let codec = Codec::new(Quantization::Sq8Calibrated, Distance::L2, 4, Some(ranges.clone()));
        let all = Batch::encode(&codec.unwrap(), (0..8_000).map(|row| matrix.vector(row)));
        assert_eq!(codes.view().gather((0..8_000).map(Some)), all);
    }

    #[test]
    fn what_was_stopped_leaves_no_codes() {
        let matrix = Matrix::new(4, rows(1_000, 1.0));
        for quantization in [Quantization::Sq8, Quantization::Sq8Calibrated] {
            let coding = Coding::new(quantization, Distance::Cosine, 4);
            assert!(!coding.extend(&matrix, 1_000, 2, || true));
            assert_eq!(coding.codes().map_or(0, |codes| codes.len()), 0);
            assert!(coding.extend(&matrix, 1_000, 2, || false));
            assert_eq!(coding.codes().map_or(0, |codes| codes.len()), 1_000);
        }
    }
}
