//! From vectors to codes and back: how a vector is encoded, how a query is made ready, and what the
//! whole-number product of the two says about their distance.
//!
//! A code stands for a direction `c` in whole numbers. Kept with it is `f = |x|^2 / <x, c>`, so
//! that `f * <q, c>` is an estimate of `<q, x>` without bias over random rotations and exact for
//! `q = x` (EDEN: Vargaftik et al., ICML 2022; `RaBitQ`: Gao and Long, SIGMOD 2024). The query is
//! encoded the same way in 8 bits; so is a stored point that is compared with others.
//!
//! Record: the code, zero bytes up to a multiple of 4, `f` as `f32`, and but for cosine `|x|^2` as
//! `f32`, little-endian. Under cosine the vector is scaled to length one first. `f` is NaN where a vector
//! has no distance to anything. A second level is kept apart: the residual code and its own `f`.
//!
//! | form | bytes of the code | |
//! |---|---|---|
//! | `sq8` | width | a number + 128 |
//! | `sq8_calibrated` | dim | a step of the dimension's range |
//! | `polar4`, `polar8` | width / 2 | byte `i`: coordinates `i` and `i + width / 2` |
//! | `polar2` | width / 4, rounded up | byte `i`: pairs `i` (low nibble) and `i + bytes` |

use std::borrow::Cow;

use types::{Distance, Quantization};

use super::calibration::Ranges;
use super::rings::{self, POINTS_OF_16, POINTS_OF_256};
use super::rotation::Rotation;
use crate::kernels::codes::{self, CodeKernels};

/// Fewer coordinates than this are not made normal by a rotation.
const NORMAL_WIDTH_MIN: usize = 64;
/// Squared lengths beyond which single precision overflows on the way to a code or to an estimate, and
/// below which an inner product of two vectors vanishes.
const SQUARE_MAX: f64 = 1e36;
const SQUARE_MIN: f64 = 1e-30;
/// Largest size of a query's number.
const QUERY_MAX: f32 = 127.0;

/// Encodes the vectors of one column for one distance.
#[derive(Debug)]
pub struct Codec {
    quantization: Quantization,
    distance: Distance,
    /// Taken off every vector under L2, which it does not change; the error of an estimate grows with
    /// the length of what is coded. Empty for none.
    centre: Vec<f32>,
    form: Form,
    /// Bytes of a code without what is kept with it.
    code_bytes: usize,
    kernels: &'static CodeKernels,
}

#[derive(Debug)]
enum Form {
    Bytes(Rotation),
    Ranges(Ranges),
    Pairs { rotation: Rotation, residual: bool },
    SmallPairs(Rotation),
}

impl Form {
    fn code_bytes(&self) -> usize {
        match self {
            Self::Bytes(rotation) => rotation.width(),
            Self::Ranges(ranges) => ranges.dim(),
            Self::Pairs { rotation, .. } => rotation.width() / 2,
            Self::SmallPairs(rotation) => rotation.width().div_ceil(4),
        }
    }
}

/// A query made ready for a [`Codec`]'s records.
#[derive(Debug)]
pub struct CodeQuery<'a> {
    numbers: Cow<'a, [u8]>,
    /// What the kernel's sum holds too much.
    offset: i32,
    /// Value = `base + slope * f * product`, plus `|x|^2` under L2.
    base: f32,
    slope: f32,
    /// `|q|^2`, one under cosine.
    square: f32,
    /// How far the numbers are from the query, as a share of its length.
    off: f32,
    /// The query as the codes see it, for [`Codec::refine`]; empty in a stored point.
    exact: Vec<f32>,
}

impl Codec {
    /// The codec of vectors of `dim` numbers; `None` when `quantization` keeps no codes or needs
    /// ranges that were not given, and for distances that codes do not estimate.
    #[must_use]
    pub fn new(
        quantization: Quantization,
        distance: Distance,
        dim: usize,
        ranges: Option<Ranges>,
    ) -> Option<Self> {
        if !Distance::OF_CODES.contains(&distance) {
            return None;
        }
        let rotation = || Rotation::new(dim);
        let form = match quantization {
            Quantization::None => return None,
            Quantization::Sq8 => Form::Bytes(rotation()),
            Quantization::Sq8Calibrated => Form::Ranges(ranges.filter(|r| r.dim() == dim)?),
            Quantization::Polar8 => Form::Pairs { rotation: rotation(), residual: true },
            Quantization::Polar4 => Form::Pairs { rotation: rotation(), residual: false },
            Quantization::Polar2 => Form::SmallPairs(rotation()),
        };
        let (code_bytes, kernels) = (form.code_bytes(), codes::detect());
        Some(Self { quantization, distance, centre: Vec::new(), form, code_bytes, kernels })
    }

    /// Whether a vector has a code, and is of use in a sample, whatever the centre is.
    #[must_use]
    pub fn suits(distance: Distance, vector: &[f32]) -> bool {
        can_be_coded(distance, square_sum(vector))
    }

    /// The same codec around `centre`, best near the mean of the vectors, under L2. Under other
    /// distances there is none.
    #[must_use]
    pub fn with_centre(mut self, centre: Vec<f32>) -> Self {
        if self.distance == Distance::L2 {
            self.centre = centre;
        }
        self
    }

    /// The same codec on other kernels, to compare one instruction set with another.
    #[must_use]
    pub fn with_kernels(mut self, kernels: &'static CodeKernels) -> Self {
        self.kernels = kernels;
        self
    }

    /// The form of the codes.
    #[must_use]
    pub fn quantization(&self) -> Quantization {
        self.quantization
    }

    /// The ranges of `sq8_calibrated`.
    #[must_use]
    pub fn ranges(&self) -> Option<&Ranges> {
        match &self.form {
            Form::Ranges(ranges) => Some(ranges),
            Form::Bytes(_) | Form::Pairs { .. } | Form::SmallPairs(_) => None,
        }
    }

    /// Bytes of a record, a multiple of 4.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        let norm = if self.distance == Distance::Cosine { 0 } else { 4 };
        self.code_bytes.next_multiple_of(4) + 4 + norm
    }

    /// Bytes of a record's second level, 0 where there is none.
    #[must_use]
    pub fn residual_bytes(&self) -> usize {
        match &self.form {
            Form::Pairs { rotation, residual: true } => {
                (rotation.width() / 2).next_multiple_of(4) + 4
            }
            Form::Bytes(_) | Form::Ranges(_) | Form::Pairs { .. } | Form::SmallPairs(_) => 0,
        }
    }

    fn centred<'v>(&self, vector: &'v [f32]) -> Cow<'v, [f32]> {
        if self.centre.is_empty() {
            return Cow::Borrowed(vector);
        }
        vector.iter().zip(&self.centre).map(|(value, centre)| value - centre).collect()
    }

    /// The share of the numbers of `vector` that lie outside of ranges; 0 for codes without ranges.
    #[must_use]
    pub fn outside(&self, vector: &[f32]) -> f64 {
        match &self.form {
            Form::Ranges(ranges) => ranges.outside(&self.centred(vector)),
            Form::Bytes(_) | Form::Pairs { .. } | Form::SmallPairs(_) => 0.0,
        }
    }

    /// `vector` as the codes see it, and its squared length; `None` when it has no distance to
    /// anything, or one that is beyond what codes can tell.
    fn turned(&self, vector: &[f32]) -> Option<(Vec<f32>, f64)> {
        let centred = self.centred(vector);
        let vector = centred.as_ref();
        let mut square = square_sum(vector);
        let width = match &self.form {
            Form::Bytes(r) | Form::Pairs { rotation: r, .. } | Form::SmallPairs(r) => r.width(),
            Form::Ranges(ranges) => ranges.dim(),
        };
        let mut turned = Vec::with_capacity(width);
        if self.distance == Distance::Cosine {
            if !can_be_coded(self.distance, square) {
                return None;
            }
            let scale = square.sqrt().recip();
            #[expect(clippy::cast_possible_truncation, reason = "at most one")]
            turned.extend(vector.iter().map(|value| (f64::from(*value) * scale) as f32));
            square = 1.0;
        } else {
            if !can_be_coded(self.distance, square) {
                return None;
            }
            turned.extend_from_slice(vector);
        }
        turned.resize(width, 0.0);
        match &self.form {
            Form::Bytes(r) | Form::Pairs { rotation: r, .. } | Form::SmallPairs(r) => {
                r.apply(&mut turned);
            }
            Form::Ranges(_) => {}
        }
        Some((turned, square))
    }

    /// Writes the record of `vector`, and its second level where there is one. Returns how far what the
    /// record stands for is from the vector, as a share of its length; infinite where nothing is known,
    /// NaN for a vector that has distances and no code.
    ///
    /// # Panics
    /// When a slice does not have the length that this codec says.
    pub fn encode(&self, vector: Option<&[f32]>, record: &mut [u8], residual: &mut [u8]) -> f32 {
        assert_eq!(record.len(), self.record_bytes(), "a record of another codec");
        assert_eq!(residual.len(), self.residual_bytes(), "a second level of another codec");
        let (code, kept) = record.split_at_mut(self.code_bytes.next_multiple_of(4));
        code.fill(0);
        residual.fill(0);
        let Some((turned, square)) = vector.and_then(|vector| self.turned(vector)) else {
            write_kept(kept, f32::NAN, 0.0);
            let coded = vector.is_none() || self.distance == Distance::Cosine;
            return if coded { 0.0 } else { f32::NAN };
        };
        let code = &mut code[..self.code_bytes];
        let encoded = match &self.form {
            Form::Bytes(_) => encode_bytes(&turned, code),
            Form::Ranges(ranges) => {
                ranges.encode(&turned, code);
                #[expect(clippy::cast_possible_truncation, reason = "as f32 distances have it")]
                write_kept(kept, 1.0, square as f32);
                return f32::INFINITY;
            }
            Form::Pairs { residual: second, .. } => {
                let scale = unit_scale(&turned);
                let encoded = encode_pairs(&turned, scale, code);
                if *second {
                    encode_residuals(&turned, (scale, square), code, residual);
                }
                encoded
            }
            Form::SmallPairs(_) => encode_small_pairs(&turned, code),
        };
        #[expect(clippy::cast_possible_truncation, reason = "as f32 distances have it")]
        write_kept(kept, factor(square, encoded.along), square as f32);
        encoded.off(square)
    }

    /// Makes an outside vector ready; `None` when it has no distance to anything, or one that is beyond
    /// what codes can tell.
    #[must_use]
    pub fn query(&self, vector: &[f32]) -> Option<CodeQuery<'static>> {
        let (turned, square) = self.turned(vector)?;
        let (weights, bias) = match &self.form {
            Form::Bytes(_) | Form::Pairs { .. } | Form::SmallPairs(_) => {
                (Cow::Borrowed(&turned), 0.0)
            }
            Form::Ranges(ranges) => {
                let (weights, bias) = ranges.query(&turned);
                (Cow::Owned(weights), bias)
            }
        };
        let numbers = whole_numbers(&weights);
        let encoded = Encoded::of(&weights, &numbers);
        let weight = square_sum(&weights);
        let (factor, off) = (factor(weight, encoded.along), encoded.off(weight));
        #[expect(clippy::cast_possible_truncation, reason = "as f32 distances have it")]
        let square = square as f32;
        let (base, slope) = self.line(factor, (square, bias));
        let (numbers, offset) = self.numbers(&numbers);
        let numbers = Cow::Owned(numbers);
        Some(CodeQuery { numbers, offset, base, slope, square, off, exact: turned })
    }

    /// Base and slope of the line from products to values, for a query of squared length `square`
    /// that adds `bias` to every product.
    fn line(&self, factor: f32, (square, bias): (f32, f32)) -> (f32, f32) {
        match self.distance {
            Distance::L2 => (square - 2.0 * bias, -2.0 * factor),
            Distance::InnerProduct | Distance::L1 | Distance::Hamming | Distance::Jaccard => {
                (-bias, -factor)
            }
            Distance::Cosine => (1.0 - bias, -factor),
        }
    }

    /// Whole numbers in the order and the bytes that the kernel wants, and the kernel's offset.
    fn numbers(&self, numbers: &[f32]) -> (Vec<u8>, i32) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 127")]
        let signed = |number: &f32| *number as i8 as u8;
        match &self.form {
            Form::Bytes(_) | Form::Ranges(_) => {
                let numbers: Vec<u8> = numbers.iter().map(|n| signed(n) ^ 0x80).collect();
                let offset = self.byte_offset(&numbers);
                (numbers, offset)
            }
            Form::Pairs { .. } => (numbers.iter().map(signed).collect(), 0),
            Form::SmallPairs(_) => {
                let half = numbers.len() / 2;
                let pairs = 2 * self.code_bytes;
                let padded = |part: &[f32]| {
                    let mut part: Vec<u8> = part.iter().map(signed).collect();
                    part.resize(pairs, 0);
                    part
                };
                let (first, second) = numbers.split_at(half);
                ([padded(first), padded(second)].concat(), 0)
            }
        }
    }

    /// 128 times the sum of numbers that stand as bytes with 128 added.
    fn byte_offset(&self, numbers: &[u8]) -> i32 {
        const ONES: [u8; 256] = [129; 256];
        let sum = |part: &[u8]| (self.kernels.bytes)(&ONES[..part.len()], part);
        let sum: i32 = numbers.chunks(ONES.len()).map(sum).sum();
        128 * (sum - 128 * i32::try_from(numbers.len()).unwrap_or(i32::MAX))
    }

    /// Makes a stored point ready to be compared with others; `None` when it has no distance to
    /// anything.
    #[must_use]
    pub fn stored<'a>(&self, record: &'a [u8]) -> Option<CodeQuery<'a>> {
        let (factor, square) = self.kept(record);
        if factor.is_nan() {
            return None;
        }
        let code = &record[..self.code_bytes];
        let (numbers, offset) = match &self.form {
            Form::Bytes(_) => (Cow::Borrowed(code), self.byte_offset(code)),
            Form::Ranges(ranges) => {
                let mut decoded = ranges.decode(code);
                decoded.iter_mut().zip(&self.centre).for_each(|(value, centre)| *value += centre);
                return self.query(&decoded);
            }
            Form::Pairs { .. } => {
                let mut numbers = vec![0; 2 * code.len()];
                (self.kernels.polar4_numbers)(&POINTS_OF_256, code, &mut numbers);
                (Cow::Owned(numbers), 0)
            }
            Form::SmallPairs(_) => {
                let mut numbers = vec![0; 4 * code.len()];
                (self.kernels.polar2_numbers)(&POINTS_OF_16, code, &mut numbers);
                (Cow::Owned(numbers), 0)
            }
        };
        let (base, slope) = self.line(factor, (square, 0.0));
        let (off, exact) = (f32::INFINITY, Vec::new());
        Some(CodeQuery { numbers, offset, base, slope, square, off, exact })
    }

    /// The factor and the squared length that are kept with a code.
    #[inline]
    fn kept(&self, record: &[u8]) -> (f32, f32) {
        let kept = &record[self.code_bytes.next_multiple_of(4)..];
        let (numbers, _) = kept.as_chunks::<4>();
        let at = |i: usize| numbers.get(i).map_or(0.0, |bytes| f32::from_le_bytes(*bytes));
        (at(0), at(1))
    }

    #[inline]
    fn value(&self, query: &CodeQuery<'_>, record: &[u8], sum: i32) -> f32 {
        let (factor, square) = self.kept(record);
        let value = query.base + query.slope * factor * (sum - query.offset) as f32;
        if self.distance != Distance::L2 {
            return value;
        }
        let value = value + square;
        if value < 0.0 { 0.0 } else { value }
    }

    /// The estimated search value ([`crate::Metric::eval`]) of a query and a record; NaN when the
    /// record's vector has no distance to anything.
    ///
    /// # Panics
    /// When the record is another codec's.
    #[inline]
    #[must_use]
    pub fn eval(&self, query: &CodeQuery<'_>, record: &[u8]) -> f32 {
        let code = &record[..self.code_bytes];
        let sum = match &self.form {
            Form::Bytes(_) | Form::Ranges(_) => (self.kernels.bytes)(&query.numbers, code),
            Form::Pairs { .. } => (self.kernels.polar4)(&POINTS_OF_256, &query.numbers, code),
            Form::SmallPairs(_) => (self.kernels.polar2)(&POINTS_OF_16, &query.numbers, code),
        };
        self.value(query, record, sum)
    }

    /// As [`Codec::eval`], for four records.
    ///
    /// # Panics
    /// When a record is another codec's.
    #[inline]
    #[must_use]
    pub fn eval_x4(&self, query: &CodeQuery<'_>, records: [&[u8]; 4]) -> [f32; 4] {
        let codes = records.map(|record| &record[..self.code_bytes]);
        let sums = match &self.form {
            Form::Bytes(_) | Form::Ranges(_) => (self.kernels.bytes_x4)(&query.numbers, codes),
            Form::Pairs { .. } => (self.kernels.polar4_x4)(&POINTS_OF_256, &query.numbers, codes),
            Form::SmallPairs(_) => (self.kernels.polar2_x4)(&POINTS_OF_16, &query.numbers, codes),
        };
        std::array::from_fn(|i| self.value(query, records[i], sums[i]))
    }

    /// As [`Codec::eval`], for as many records as there are.
    ///
    /// # Panics
    /// When a record is another codec's, or there are more records than values.
    #[inline]
    pub(super) fn eval_many(&self, query: &CodeQuery<'_>, records: &[&[u8]], values: &mut [f32]) {
        let (fours, rest) = records.as_chunks::<4>();
        for (four, values) in fours.iter().zip(values.as_chunks_mut::<4>().0) {
            *values = self.eval_x4(query, *four);
        }
        for (record, value) in rest.iter().zip(&mut values[records.len() - rest.len()..]) {
            *value = self.eval(query, record);
        }
    }

    /// The search value with all that is kept of the vector and the query unrounded: slower than
    /// [`Codec::eval`] and nearer to the truth. `residual` is empty where there is no second level.
    #[must_use]
    pub fn refine(&self, query: &CodeQuery<'_>, record: &[u8], residual: &[u8]) -> f32 {
        let (mut factor, square) = self.kept(record);
        let code = &record[..self.code_bytes];
        let numbers = match &self.form {
            Form::Bytes(_) => code.iter().map(|byte| f32::from(*byte) - 128.0).collect(),
            Form::Ranges(ranges) => ranges.decode(code),
            Form::Pairs { residual: false, .. } => pair_numbers(code),
            Form::Pairs { residual: true, .. } => {
                let (codes, kept) = residual.split_at(code.len().next_multiple_of(4));
                if let Some(kept) = kept.first_chunk() {
                    factor = f32::from_le_bytes(*kept);
                }
                let pairs =
                    code.iter().zip(codes).map(|(c, r)| rings::decode_with_residual(*c, *r));
                let (mut first, second): (Vec<f32>, Vec<f32>) = pairs.unzip();
                first.extend(second);
                first
            }
            Form::SmallPairs(rotation) => small_pair_numbers(code, rotation.width()),
        };
        #[expect(clippy::cast_possible_truncation, reason = "as f32 distances have it")]
        let product = factor * product(&numbers, &query.exact) as f32;
        match self.distance {
            Distance::L2 => (query.square + square - 2.0 * product).max(0.0),
            Distance::InnerProduct | Distance::L1 | Distance::Hamming | Distance::Jaccard => {
                -product
            }
            Distance::Cosine => 1.0 - product,
        }
    }
}

impl Codec {
    /// An upper estimate of the standard deviation of the error of [`Codec::eval`]; infinite where no
    /// statement can be made: for ranges, which may not fit, and in few dimensions, which a rotation
    /// does not make normal.
    #[must_use]
    pub fn deviation(&self, query: &CodeQuery<'_>, record: &[u8]) -> f32 {
        // Mean squared errors per coordinate of a standard normal number, see `rings`; that of a byte
        // is a twelfth of the square of its step, with the largest of all coordinates at 127. The
        // query has one of its own.
        const BYTE: f32 = (3.8 / 127.0) * (3.8 / 127.0) / 12.0;
        let (code, width) = match &self.form {
            Form::Ranges(_) => return f32::INFINITY,
            Form::Bytes(rotation) => (BYTE, rotation.width()),
            Form::Pairs { rotation, .. } => (0.0082, rotation.width()),
            Form::SmallPairs(rotation) => (0.110, rotation.width()),
        };
        if width < NORMAL_WIDTH_MIN {
            return f32::INFINITY;
        }
        let relative = ((code + BYTE) / width as f32).sqrt();
        let lengths = query.square.sqrt() * self.kept(record).1.sqrt();
        match self.distance {
            Distance::L2 => 2.0 * relative * lengths,
            Distance::InnerProduct | Distance::L1 | Distance::Hamming | Distance::Jaccard => {
                relative * lengths
            }
            Distance::Cosine => relative,
        }
    }
}

impl Codec {
    /// The most by which [`Codec::eval`] can be wrong, when `off` is what [`Codec::encode`] said of the
    /// record or more: by the inequality of Cauchy and Schwarz, whatever the vectors. Infinite where
    /// nothing is known.
    #[must_use]
    pub fn error_bound(&self, query: &CodeQuery<'_>, record: &[u8], off: f32) -> f32 {
        // <q, x> - <q', x'> = <q, x - x'> + <q - q', x'>, and x' is longer than x by a right angle.
        let share = off + query.off * (1.0 + off * off).sqrt();
        let lengths = query.square.sqrt() * self.kept(record).1.sqrt();
        match self.distance {
            Distance::L2 => 2.0 * share * lengths,
            Distance::InnerProduct | Distance::L1 | Distance::Hamming | Distance::Jaccard => {
                share * lengths
            }
            Distance::Cosine => share,
        }
    }
}

/// Whether a vector of this squared length has a code.
fn can_be_coded(distance: Distance, square: f64) -> bool {
    match distance {
        Distance::Cosine => square > 0.0,
        Distance::L2 => square <= SQUARE_MAX,
        Distance::L1 | Distance::Hamming | Distance::Jaccard => false,
        Distance::InnerProduct => square == 0.0 || (SQUARE_MIN..=SQUARE_MAX).contains(&square),
    }
}

/// What a code says of the vector it was made from.
struct Encoded {
    /// `<x, c>`
    along: f64,
    /// `|c|^2`
    square: f64,
}

impl Encoded {
    fn of(turned: &[f32], numbers: &[f32]) -> Self {
        Self { along: product(turned, numbers), square: square_sum(numbers) }
    }

    /// `|x - f c| / |x|` for a vector of squared length `square`: as `f` makes `<x, f c>` what `|x|^2`
    /// is, the two are at a right angle.
    #[expect(clippy::cast_possible_truncation, reason = "rounded up")]
    fn off(&self, square: f64) -> f32 {
        /// What single precision adds on the way to the codes.
        const ROUNDING: f64 = 1e-5;
        if square == 0.0 {
            return 0.0;
        }
        let longer = square * self.square / (self.along * self.along);
        let off = ((longer - 1.0).max(0.0).sqrt() + ROUNDING) as f32;
        if self.along > 0.0 && off.is_finite() { off } else { f32::INFINITY }
    }
}

fn write_kept(kept: &mut [u8], factor: f32, square: f32) {
    let (numbers, _) = kept.as_chunks_mut::<4>();
    for (bytes, number) in numbers.iter_mut().zip([factor, square]) {
        *bytes = number.to_le_bytes();
    }
}

/// `|x|^2 / <x, c>`; 0 for the zero vector.
#[expect(clippy::cast_possible_truncation, reason = "as f32 distances have it")]
fn factor(square: f64, along: f64) -> f32 {
    if along > 0.0 { (square / along) as f32 } else { 0.0 }
}

/// Sums in eight lanes: fast, and the same on every machine.
fn lanes(a: &[f32], b: &[f32]) -> f64 {
    let ((a_lanes, a_tail), (b_lanes, b_tail)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0_f64; 8];
    for (x, y) in a_lanes.iter().zip(b_lanes) {
        for i in 0..8 {
            sums[i] += f64::from(x[i]) * f64::from(y[i]);
        }
    }
    let tail = a_tail.iter().zip(b_tail).map(|(x, y)| f64::from(*x) * f64::from(*y));
    sums.iter().sum::<f64>() + tail.sum::<f64>()
}

fn square_sum(values: &[f32]) -> f64 {
    lanes(values, values)
}

fn product(a: &[f32], b: &[f32]) -> f64 {
    lanes(a, b)
}

fn peak(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |peak, value| if value.abs() > peak { value.abs() } else { peak })
}

/// The nearest whole number, of numbers below `2^22` in size.
fn nearest(value: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (value + SHIFT) - SHIFT
}

/// Whole numbers in the proportions of `values`, the largest 127; zeros for zeros.
fn whole_numbers(values: &[f32]) -> Vec<f32> {
    let scale = QUERY_MAX / peak(values);
    let scale = if scale.is_finite() { scale } else { 0.0 };
    values.iter().map(|value| nearest(value * scale)).collect()
}

/// The code in bytes.
fn encode_bytes(turned: &[f32], code: &mut [u8]) -> Encoded {
    let whole = whole_numbers(turned);
    for (byte, number) in code.iter_mut().zip(&whole) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 1 to 255; NaN becomes 0"
        )]
        let number = (number + 128.0) as u8;
        *byte = number;
    }
    Encoded::of(turned, &whole)
}

/// One over the root mean square of the coordinates; 0 for the zero vector.
fn unit_scale(turned: &[f32]) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be finite")]
    let scale = (turned.len() as f64 / square_sum(turned)).sqrt() as f32;
    if scale.is_finite() { scale } else { 0.0 }
}

fn encode_pairs(turned: &[f32], scale: f32, code: &mut [u8]) -> Encoded {
    let (first, second) = turned.split_at(turned.len() / 2);
    for (byte, (x, y)) in code.iter_mut().zip(first.iter().zip(second)) {
        *byte = rings::encode_256(x * scale, y * scale);
    }
    Encoded::of(turned, &pair_numbers(code))
}

fn encode_residuals(turned: &[f32], (scale, square): (f32, f64), code: &[u8], residual: &mut [u8]) {
    let (first, second) = turned.split_at(turned.len() / 2);
    let (codes, kept) = residual.split_at_mut(code.len().next_multiple_of(4));
    let mut decoded = vec![0.0; turned.len()];
    let (decoded_first, decoded_second) = decoded.split_at_mut(turned.len() / 2);
    for (at, (x, y)) in first.iter().zip(second).enumerate() {
        codes[at] = rings::encode_residual(code[at], x * scale, y * scale);
        (decoded_first[at], decoded_second[at]) = rings::decode_with_residual(code[at], codes[at]);
    }
    write_kept(kept, factor(square, product(turned, &decoded)), 0.0);
}

fn encode_small_pairs(turned: &[f32], code: &mut [u8]) -> Encoded {
    let scale = unit_scale(turned);
    let (first, second) = turned.split_at(turned.len() / 2);
    let bytes = code.len();
    for (at, (x, y)) in first.iter().zip(second).enumerate() {
        let pair = rings::encode_16(x * scale, y * scale);
        code[at % bytes] |= if at < bytes { pair } else { pair << 4 };
    }
    Encoded::of(turned, &small_pair_numbers(code, turned.len()))
}

/// The whole numbers that a code of pairs stands for.
fn pair_numbers(code: &[u8]) -> Vec<f32> {
    let points = &*POINTS_OF_256;
    let signed = |value: i8, negative: bool| f32::from(if negative { -value } else { value });
    let first = code.iter().map(|c| signed(points.x[usize::from(c & 63)], c & 0x80 != 0));
    let second = code.iter().map(|c| signed(points.y[usize::from(c & 63)], c & 0x40 != 0));
    first.chain(second).collect()
}

fn small_pair_numbers(code: &[u8], width: usize) -> Vec<f32> {
    let points = &*POINTS_OF_16;
    let nibbles = || code.iter().map(|c| c & 15).chain(code.iter().map(|c| c >> 4)).take(width / 2);
    let first = nibbles().map(|n| f32::from(points.x[usize::from(n)]));
    first.chain(nibbles().map(|n| f32::from(points.y[usize::from(n)]))).collect()
}
