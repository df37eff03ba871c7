//! The codes of an index's points: when they are made, and made anew.
//!
//! Under cosine and inner product the codes of most forms depend on their vector alone. The ranges of
//! `sq8_calibrated`, and the centre that is taken off vectors under L2, come from a sample; they are
//! taken again, and every code with them, whenever the table has doubled, and ranges also when numbers
//! of new rows fall outside. Until there is a vector to sample there are no codes.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::{Mutex, RwLock};
use types::{Distance, Quantization};
use vector::quantize::{Batch, Codec, Codes, CodesView, Ranges};
use vector::{Row, Vectors};

/// Points that get their codes between two looks at the cancel flag, where a graph waits for codes.
const BATCH_POINTS: u32 = 16_384;
/// Below this many points, starting threads costs more than it saves.
const PARALLEL_POINTS_MIN: u32 = 256;
/// Codes that go to another place together.
const RELOCATED_TOGETHER: usize = 2_048;
/// Rows of a sample.
const SAMPLE_ROWS: u32 = 10_000;
/// A sample is taken again when there are this many times the rows that it was taken from.
const OUTGROWN: u32 = 2;
/// ... or when this share of the numbers of rows that came since is outside, and a third as many came.
const OUTSIDE_MAX: f64 = 0.02;

#[derive(Debug)]
pub(super) struct Coding {
    quantization: Quantization,
    distance: Distance,
    dim: usize,
    now: RwLock<Option<Arc<Codes>>>,
    /// Rows with a vector that there were, about, when the sample was taken.
    sampled_from: AtomicU32,
    /// The sample was taken from ordinals below this.
    sampled_to: AtomicU32,
    /// Rows with a vector that came since, and the sum of the shares of them that are outside.
    since: Mutex<(u32, f64)>,
    calibrations: AtomicU32,
    /// Whether a sample is to be taken before anything else.
    due: AtomicBool,
}

impl Coding {
    pub(super) fn new(quantization: Quantization, distance: Distance, dim: usize) -> Self {
        let plain = !needs_sample(quantization, distance) && dim > 0;
        let codec = plain.then(|| Codec::new(quantization, distance, dim, None)).flatten();
        Self {
            quantization,
            distance,
            dim,
            now: RwLock::new(codec.map(|codec| Arc::new(Codes::new(codec)))),
            sampled_from: AtomicU32::new(0),
            sampled_to: AtomicU32::new(0),
            since: Mutex::default(),
            calibrations: AtomicU32::new(0),
            due: AtomicBool::new(needs_sample(quantization, distance)),
        }
    }

    /// The same without codes.
    pub(super) fn emptied(&self) -> Self {
        let new = Self::new(self.quantization, self.distance, self.dim);
        new.calibrations.store(self.calibrations(), Ordering::Relaxed);
        new
    }

    /// The same where each ordinal has the codes that the given old one has in `view`.
    pub(super) fn relocated(&self, view: &CodesView<'_>, old: &[Option<u32>]) -> Self {
        let new = self.emptied();
        if let Some(codes) = self.codes() {
            let codes = codes.emptied();
            for part in old.chunks(RELOCATED_TOGETHER) {
                codes.append(&view.gather(part.iter().copied()));
            }
            *new.now.write() = Some(Arc::new(codes));
            let rows = u32::try_from(old.len()).unwrap_or(u32::MAX);
            let at_most = |from: &AtomicU32| from.load(Ordering::Relaxed).min(rows);
            new.sampled_from.store(at_most(&self.sampled_from), Ordering::Relaxed);
            new.sampled_to.store(at_most(&self.sampled_to), Ordering::Relaxed);
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

    /// Makes the next codes of ordinals below `to`, by a sample of those below `known`; false when
    /// `stopped` says so, and nothing was kept then.
    pub(super) fn extend(
        &self,
        vectors: &impl Vectors,
        (to, known): (u32, u32),
        threads: usize,
        stopped: impl Fn() -> bool,
    ) -> bool {
        let unmade = needs_sample(self.quantization, self.distance) && self.codes().is_none();
        let due = unmade || self.due.load(Ordering::Relaxed);
        if due && !self.calibrate(vectors, known, threads, &stopped) {
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

    /// Takes a sample of the ordinals below `known` and makes all codes anew. True also when there is no
    /// vector to sample.
    fn calibrate(
        &self,
        vectors: &impl Vectors,
        known: u32,
        threads: usize,
        stopped: &impl Fn() -> bool,
    ) -> bool {
        let step = known.div_ceil(SAMPLE_ROWS).max(1);
        let sample = (0..known).step_by(step as usize).filter_map(|row| vectors.row(row));
        let suits = |row: &Cow<'_, [f32]>| Codec::suits(self.distance, row);
        let sample: Vec<Cow<'_, [f32]>> = sample.map(Row::to_f32).filter(suits).collect();
        let Some(codec) = self.codec_of(&sample) else {
            self.due.store(false, Ordering::Relaxed);
            return !stopped();
        };
        let codes = Codes::new(codec);
        let have = self.codes().map_or(0, |codes| codes.len());
        for from in (0..have).step_by(BATCH_POINTS as usize) {
            let part = from..have.min(from.saturating_add(BATCH_POINTS));
            let batches = encode(codes.codec(), vectors, part, threads);
            if stopped() {
                return false;
            }
            batches.iter().for_each(|batch| codes.append(batch));
        }
        *self.now.write() = Some(Arc::new(codes));
        let sampled = u32::try_from(sample.len()).unwrap_or(u32::MAX);
        self.sampled_from.store(sampled.saturating_mul(step), Ordering::Relaxed);
        self.sampled_to.store(known, Ordering::Relaxed);
        *self.since.lock() = (0, 0.0);
        self.calibrations.fetch_add(1, Ordering::Relaxed);
        self.due.store(false, Ordering::Relaxed);
        true
    }

    /// The codec that suits a sample; `None` when it holds no vector with a distance to anything.
    fn codec_of(&self, sample: &[Cow<'_, [f32]>]) -> Option<Codec> {
        let first = sample.first()?;
        let mut centre = Vec::new();
        if self.distance == Distance::L2 {
            centre.extend((0..first.len()).map(|at| middle(sample.iter().map(|row| row[at]))));
        }
        let ranges = if self.quantization == Quantization::Sq8Calibrated {
            let off = |row: &Cow<'_, [f32]>| -> Vec<f32> {
                let centre = centre.iter().copied().chain(std::iter::repeat(0.0));
                row.iter().zip(centre).map(|(value, centre)| value - centre).collect()
            };
            let centred: Vec<Vec<f32>> = sample.iter().map(off).collect();
            Some(Ranges::of_sample(self.distance, centred.iter().map(Vec::as_slice))?)
        } else {
            None
        };
        let codec = Codec::new(self.quantization, self.distance, self.dim, ranges)?;
        Some(codec.with_centre(centre))
    }

    /// Whether the sample no longer fits, now that there are the rows of `new`.
    fn outgrown(&self, codes: &Codes, vectors: &impl Vectors, new: std::ops::Range<u32>) -> bool {
        if !needs_sample(self.quantization, self.distance) {
            return false;
        }
        let sampled_from = self.sampled_from.load(Ordering::Relaxed);
        let sampled_to = self.sampled_to.load(Ordering::Relaxed);
        let mut since = self.since.lock();
        for row in new.filter(|row| *row >= sampled_to).filter_map(|row| vectors.row(row)) {
            since.0 = since.0.saturating_add(1);
            since.1 += codes.codec().outside(&row.to_f32());
        }
        let (count, outside) = *since;
        count > 0
            && (count >= sampled_from.saturating_mul(OUTGROWN - 1)
                || count >= sampled_from / 3 && outside > OUTSIDE_MAX * f64::from(count))
    }
}

/// The mean of the middle half of `values`: rows that are far off do not move it.
fn middle(values: impl Iterator<Item = f32>) -> f32 {
    let mut values: Vec<f32> = values.collect();
    let cut = values.len() / 4;
    let keep = values.len() - 2 * cut;
    if cut > 0 {
        values.select_nth_unstable_by(cut, f32::total_cmp);
        values[cut..].select_nth_unstable_by(keep - 1, f32::total_cmp);
    }
    let sum: f64 = values[cut..cut + keep].iter().map(|value| f64::from(*value)).sum();
    #[expect(clippy::cast_possible_truncation, reason = "a mean of 32-bit numbers")]
    let mean = (sum / keep as f64) as f32;
    mean
}

/// Whether codes need a sample: for ranges, or for the centre under L2.
fn needs_sample(quantization: Quantization, distance: Distance) -> bool {
    match quantization {
        Quantization::None => false,
        Quantization::Sq8Calibrated => true,
        Quantization::Sq8 | Quantization::Polar8 | Quantization::Polar4 | Quantization::Polar2 => {
            distance == Distance::L2
        }
    }
}

/// The codes of `points`, in order.
fn encode(
    codec: &Codec,
    vectors: &impl Vectors,
    points: std::ops::Range<u32>,
    threads: usize,
) -> Vec<Batch> {
    let vector = |point| vectors.row(point).map(Row::to_f32);
    let batch = |part: std::ops::Range<u32>| Batch::encode(codec, part.map(vector));
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

    fn extend(coding: &Coding, vectors: &impl Vectors, to: u32) -> (u32, u32) {
        assert!(coding.extend(vectors, (to, to), 2, || false));
        for _ in 0..100 {
            if !coding.is_behind(to) {
                break;
            }
            assert!(coding.extend(vectors, (to, to), 2, || false));
        }
        assert!(!coding.is_behind(to), "codes are made over and over");
        (coding.codes().map_or(0, |codes| codes.len()), coding.calibrations())
    }

    /// Whether the codes are those that one sample of all rows gives.
    fn assert_fresh(coding: &Coding, matrix: &Matrix, rows: u32) {
        let fresh = Coding::new(coding.quantization, coding.distance, coding.dim);
        extend(&fresh, matrix, rows);
        let all = || (0..rows).map(Some);
        let [got, expected] = [coding, &fresh].map(|c| c.codes().unwrap().view().gather(all()));
        assert_eq!(got, expected);
    }

    #[test]
    fn samples_are_taken_again_when_rows_doubled_or_fall_outside() {
        let mut values = rows(3_000, 1.0);
        values.extend(rows(2_000, 50.0));
        let matrix = Matrix::new(4, values);
        let calibrated = Coding::new(Quantization::Sq8Calibrated, Distance::Cosine, 4);
        assert_eq!(extend(&calibrated, &matrix, 1_500), (1_500, 1));
        assert_eq!(extend(&calibrated, &matrix, 2_900), (2_900, 1));
        assert_eq!(extend(&calibrated, &matrix, 3_000), (3_000, 2));
        let ranges = Coding::new(Quantization::Sq8Calibrated, Distance::L2, 4);
        assert_eq!(extend(&ranges, &matrix, 3_000), (3_000, 1));
        assert_eq!(extend(&ranges, &matrix, 3_500), (3_500, 1));
        assert_eq!(extend(&ranges, &matrix, 4_000), (4_000, 2));
        assert_fresh(&ranges, &matrix, 4_000);
        let centre = Coding::new(Quantization::Sq8, Distance::L2, 4);
        assert_eq!(extend(&centre, &matrix, 1_000), (1_000, 1));
        assert_eq!(extend(&centre, &matrix, 2_000), (2_000, 2));
        assert_fresh(&centre, &matrix, 2_000);
        let alone = Coding::new(Quantization::Sq8, Distance::InnerProduct, 4);
        assert_eq!(extend(&alone, &matrix, 5_000), (5_000, 0));
    }

    /// A column whose first rows have no vector.
    struct Late(Matrix);

    impl Vectors for Late {
        fn dim(&self) -> usize {
            self.0.dim()
        }

        fn row(&self, ordinal: u32) -> Option<Row<'_>> {
            if ordinal < 1_000 { None } else { self.0.row(ordinal) }
        }
    }

    #[test]
    fn the_centre_is_that_of_most_rows() {
        let cases: [(&[f32], f32); 4] = [
            (&[1.0, 2.0, 3.0, 4.0, 1e30], 3.0),
            (&[-1e30, 2.0, 4.0, 1e30], 3.0),
            (&[1.0, 2.0, 6.0], 3.0),
            (&[7.0], 7.0),
        ];
        for (values, expected) in cases {
            assert!((middle(values.iter().copied()) - expected).abs() < 1e-6, "{values:?}");
        }
    }

    #[test]
    fn codes_are_made_once_there_is_a_vector() {
        let late = Late(Matrix::new(4, rows(3_000, 1.0)));
        for quantization in [Quantization::Sq8, Quantization::Sq8Calibrated] {
            let coding = Coding::new(quantization, Distance::L2, 4);
            assert_eq!(extend(&coding, &late, 1_000), (0, 0));
            assert_eq!(extend(&coding, &late, 1_001), (1_001, 1));
            let (codes, calibrations) = extend(&coding, &late, 3_000);
            assert_eq!(codes, 3_000);
            assert!(calibrations >= 2, "the ranges of one row");
        }
    }

    #[test]
    fn a_column_far_from_the_origin_is_told_apart() {
        let mut rng = SplitMix64::new(9);
        #[expect(clippy::cast_possible_truncation, reason = "precision is not the point")]
        let mut near = |at: f32| at + rng.unit() as f32 / 10.0;
        let values = (0..4_000).flat_map(|_| [near(48.2), near(16.4)]).collect();
        let matrix = Matrix::new(2, values);
        let coding = Coding::new(Quantization::Sq8, Distance::L2, 2);
        extend(&coding, &matrix, 4_000);
        let codes = coding.codes().unwrap();
        let view = codes.view();
        let metric = vector::Metric::new(Distance::L2);
        let mut hits = 0.0;
        for at in 0..50 {
            let query = matrix.vector(at * 70).unwrap();
            let probe = metric.probe(query);
            let truth = vector::flat::search(&metric, &probe, &matrix, 0..4_000, 10).0;
            let mut top = vector::TopK::new(20);
            let query = vector::quantize::Quantizer::query(&view, query).unwrap();
            view.scan(&query, 0..4_000, |value, ordinal| top.push(value, ordinal));
            let found = top.into_sorted();
            let met = truth.iter().filter(|t| found.iter().any(|f| f.ordinal == t.ordinal));
            hits += met.count() as f64;
        }
        assert!(hits / 500.0 > 0.95, "{} of the nearest among twice as many", hits / 500.0);
    }

    #[test]
    fn what_was_stopped_leaves_no_codes() {
        let matrix = Matrix::new(4, rows(1_000, 1.0));
        for quantization in [Quantization::Sq8, Quantization::Sq8Calibrated] {
            let coding = Coding::new(quantization, Distance::Cosine, 4);
            assert!(!coding.extend(&matrix, (1_000, 1_000), 2, || true));
            assert_eq!(coding.codes().map_or(0, |codes| codes.len()), 0);
            assert!(coding.extend(&matrix, (1_000, 1_000), 2, || false));
            assert_eq!(coding.codes().map_or(0, |codes| codes.len()), 1_000);
        }
    }
}
