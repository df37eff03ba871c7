//! The codes of a column's vectors by ordinal, and the [`Quantizer`] over them.
//!
//! Records are appended and never change, so a search that took a view is never disturbed.

use std::sync::{Arc, PoisonError, RwLock};

use super::Quantizer;
use super::codec::{CodeQuery, Codec};
use crate::kernels::prefetch;
use crate::pages::{Records, RecordsView};

/// Ordinals that share a bound of the error of their codes.
const BOUND_POINTS: usize = 1 << 11;

/// The codes of ordinals `0..len`.
#[derive(Debug)]
pub struct Codes {
    codec: Arc<Codec>,
    records: Records,
    residuals: Records,
    known: RwLock<Arc<Known>>,
}

/// What is known of codes beside their bytes.
#[derive(Debug, Default, Clone)]
struct Known {
    len: u32,
    /// What [`Codec::encode`] said of the records of [`BOUND_POINTS`], at most.
    off: Vec<f32>,
    /// Ordinals whose vectors have distances and no code, ascending.
    uncoded: Vec<u32>,
}

/// The codes that existed at one moment.
#[derive(Debug)]
pub struct CodesView<'a> {
    codec: &'a Codec,
    records: RecordsView<'a>,
    residuals: RecordsView<'a>,
    known: Arc<Known>,
    /// Ordinals from here on count as unknown.
    limit: u32,
}

/// Codes whose memory is asked for together.
const TOGETHER: usize = 32;

/// Codes that are not in a [`Codes`] yet.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    records: Vec<u8>,
    residuals: Vec<u8>,
    /// What [`Codec::encode`] said of each record, or more.
    off: Vec<f32>,
    /// Which vectors have distances and no code, by their place.
    uncoded: Vec<u32>,
}

/// Equal codes.
impl PartialEq for Batch {
    fn eq(&self, other: &Self) -> bool {
        let same = self.records == other.records && self.residuals == other.residuals;
        same && self.uncoded == other.uncoded
    }
}

impl Eq for Batch {}

impl Batch {
    /// Encodes vectors in order; `None` is a row without a vector.
    pub fn encode<V: AsRef<[f32]>>(
        codec: &Codec,
        vectors: impl Iterator<Item = Option<V>>,
    ) -> Self {
        let mut batch = Self::default();
        for vector in vectors {
            let (record, residual) = (batch.records.len(), batch.residuals.len());
            batch.records.resize(record + codec.record_bytes(), 0);
            batch.residuals.resize(residual + codec.residual_bytes(), 0);
            let (records, residuals) = (&mut batch.records, &mut batch.residuals);
            let vector = vector.as_ref().map(AsRef::as_ref);
            let off = codec.encode(vector, &mut records[record..], &mut residuals[residual..]);
            if off.is_nan() {
                batch.uncoded.push(u32::try_from(batch.off.len()).unwrap_or(u32::MAX));
            }
            batch.off.push(if off.is_nan() { 0.0 } else { off });
        }
        batch
    }
}

impl Codes {
    /// No codes yet.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self::of(Arc::new(codec))
    }

    /// No codes, of the same codec.
    #[must_use]
    pub fn emptied(&self) -> Self {
        Self::of(Arc::clone(&self.codec))
    }

    fn of(codec: Arc<Codec>) -> Self {
        let records = Records::new(codec.record_bytes());
        let residuals = Records::new(codec.residual_bytes());
        Self { codec, records, residuals, known: RwLock::default() }
    }

    /// What encodes.
    #[must_use]
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Ordinals that have codes.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.known.read().unwrap_or_else(PoisonError::into_inner).len
    }

    /// Whether no ordinal has a code.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the codes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.records.memory_bytes() + self.residuals.memory_bytes()
    }

    /// Gives the next ordinals their codes.
    pub fn append(&self, batch: &Batch) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let known = Arc::make_mut(&mut known);
        self.records.append(&batch.records);
        self.residuals.append(&batch.residuals);
        for (at, off) in (known.len as usize..).zip(&batch.off) {
            match known.off.get_mut(at / BOUND_POINTS) {
                Some(most) => *most = most.max(*off),
                None => known.off.push(*off),
            }
        }
        known.uncoded.extend(batch.uncoded.iter().map(|at| at + known.len));
        known.len = known.len.saturating_add(u32::try_from(batch.off.len()).unwrap_or(u32::MAX));
    }

    /// The codes as they are now.
    #[must_use]
    pub fn view(&self) -> CodesView<'_> {
        self.first(u32::MAX)
    }

    fn first(&self, limit: u32) -> CodesView<'_> {
        let known = Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner));
        let limit = limit.min(known.len);
        CodesView {
            codec: &self.codec,
            records: self.records.view(limit),
            residuals: self.residuals.view(limit),
            known,
            limit,
        }
    }

    /// The codes of ordinals below `limit`; `None` when not all of them have one.
    #[must_use]
    pub fn view_of(&self, limit: u32) -> Option<CodesView<'_>> {
        let view = self.first(limit);
        (view.limit >= limit).then_some(view)
    }
}

impl CodesView<'_> {
    /// Ordinals that have codes.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.limit
    }

    /// Whether no ordinal has a code.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The codes of `ordinals`, in that order; `None` stands for a row without a vector.
    #[must_use]
    pub fn gather(&self, ordinals: impl Iterator<Item = Option<u32>>) -> Batch {
        let mut batch = Batch::default();
        let nothing = Batch::encode(self.codec, std::iter::once(None::<&[f32]>));
        for ordinal in ordinals {
            let known = ordinal.and_then(|o| Some((self.record(o)?, self.residual(o))));
            let (record, residual) = known.unwrap_or((&nothing.records, &nothing.residuals));
            batch.records.extend_from_slice(record);
            batch.residuals.extend_from_slice(residual);
            let uncoded = &self.known.uncoded;
            if ordinal.is_some_and(|ordinal| uncoded.binary_search(&ordinal).is_ok()) {
                batch.uncoded.push(u32::try_from(batch.off.len()).unwrap_or(u32::MAX));
            }
            batch.off.push(ordinal.map_or(0.0, |ordinal| self.off(ordinal)));
        }
        batch
    }

    /// Ordinals whose vectors have distances and no code, ascending: what is said by codes leaves them
    /// out.
    pub fn uncoded(&self) -> impl Iterator<Item = u32> {
        self.known.uncoded.iter().copied().take_while(|ordinal| *ordinal < self.limit)
    }

    /// Bytes that are read to compare a point.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        self.codec.record_bytes()
    }

    /// Whether there is more to a code than comparisons read.
    #[must_use]
    pub fn has_residuals(&self) -> bool {
        self.codec.residual_bytes() > 0
    }

    /// Compares a query with all of `ordinals` and tells `met` the values; the number of distances
    /// computed. Points that have no code or no distance are left out.
    pub fn scan(
        &self,
        query: &CodeQuery<'_>,
        ordinals: impl Iterator<Item = u32>,
        mut met: impl FnMut(f32, u32),
    ) -> u64 {
        let mut together = Vec::with_capacity(TOGETHER);
        let mut distances = 0;
        let mut compare = |together: &mut Vec<u32>| {
            self.eval_all(query, together, |ordinal, value| met(value, ordinal));
            distances += together.len() as u64;
            together.clear();
        };
        for ordinal in ordinals {
            together.push(ordinal);
            if together.len() == TOGETHER {
                compare(&mut together);
            }
        }
        compare(&mut together);
        distances
    }

    #[inline]
    fn record(&self, ordinal: u32) -> Option<&[u8]> {
        self.records.row(ordinal)
    }

    fn residual(&self, ordinal: u32) -> &[u8] {
        self.residuals.row(ordinal).unwrap_or_default()
    }

    /// At least what [`Codec::encode`] said of a point's record.
    fn off(&self, ordinal: u32) -> f32 {
        self.known.off.get(ordinal as usize / BOUND_POINTS).copied().unwrap_or(f32::INFINITY)
    }

    /// The most by which an estimate can be wrong, see [`Codec::error_bound`].
    #[must_use]
    pub fn error_bound(&self, query: &CodeQuery<'_>, ordinal: u32) -> f32 {
        let bound = |record| self.codec.error_bound(query, record, self.off(ordinal));
        self.record(ordinal).map_or(f32::INFINITY, bound)
    }

    /// The standard deviation of the error of an estimate, see [`Codec::deviation`].
    #[must_use]
    pub fn deviation(&self, query: &CodeQuery<'_>, ordinal: u32) -> f32 {
        self.record(ordinal).map_or(0.0, |record| self.codec.deviation(query, record))
    }

    /// The search value with all that is kept of the vector; `None` when it has no code.
    #[must_use]
    pub fn refine(&self, query: &CodeQuery<'_>, ordinal: u32) -> Option<f32> {
        let record = self.record(ordinal)?;
        Some(self.codec.refine(query, record, self.residual(ordinal)))
    }
}

impl Quantizer for CodesView<'_> {
    type Query<'q>
        = CodeQuery<'q>
    where
        Self: 'q;

    fn query<'q>(&'q self, vector: &'q [f32]) -> Option<CodeQuery<'q>> {
        self.codec.query(vector)
    }

    fn point(&self, ordinal: u32) -> Option<CodeQuery<'_>> {
        self.codec.stored(self.record(ordinal)?)
    }

    #[inline]
    fn eval(&self, query: &CodeQuery<'_>, ordinal: u32) -> Option<f32> {
        Some(self.codec.eval(query, self.record(ordinal)?))
    }

    #[inline]
    fn eval_four(&self, query: &CodeQuery<'_>, ordinals: [u32; 4]) -> [f32; 4] {
        let records = ordinals.map(|ordinal| self.record(ordinal));
        if let [Some(a), Some(b), Some(c), Some(d)] = records {
            return self.codec.eval_x4(query, [a, b, c, d]);
        }
        records.map(|record| record.map_or(f32::NAN, |record| self.codec.eval(query, record)))
    }

    #[inline]
    fn eval_all(&self, query: &CodeQuery<'_>, points: &[u32], mut met: impl FnMut(u32, f32)) {
        for points in points.chunks(TOGETHER) {
            let mut records = [&[][..]; TOGETHER];
            let mut all = true;
            for (record, point) in records.iter_mut().zip(points) {
                *record = self.record(*point).unwrap_or_default();
                prefetch(record);
                all &= !record.is_empty();
            }
            let mut values = [f32::NAN; TOGETHER];
            if all {
                self.codec.eval_many(query, &records[..points.len()], &mut values);
            } else {
                let one = |point: &u32| self.eval(query, *point).unwrap_or(f32::NAN);
                values.iter_mut().zip(points).for_each(|(value, point)| *value = one(point));
            }
            for (point, value) in points.iter().zip(values).filter(|(_, value)| !value.is_nan()) {
                met(*point, value);
            }
        }
    }

    #[inline]
    fn same(&self, a: u32, b: u32) -> bool {
        self.record(a).is_some_and(|record| Some(record) == self.record(b))
    }

    #[inline]
    fn prefetch(&self, ordinal: u32) {
        if let Some(record) = self.record(ordinal) {
            prefetch(record);
        }
    }
}
