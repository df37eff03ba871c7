//! The codes of a column's vectors by ordinal, and the [`Quantizer`] over them.
//!
//! Records stand in chunks behind an `Arc`. A search takes the list of chunks once and is never
//! disturbed; appending writes in place while no search holds the last chunk and copies it
//! otherwise.

use std::sync::{Arc, PoisonError, RwLock};

use super::Quantizer;
use super::codec::{CodeQuery, Codec};
use crate::kernels::prefetch;

const CHUNK_BITS: u32 = 11;
const CHUNK_POINTS: usize = 1 << CHUNK_BITS;

type Chunks = Vec<Arc<Vec<u8>>>;

/// The codes of ordinals `0..len`.
#[derive(Debug)]
pub struct Codes {
    codec: Arc<Codec>,
    stored: RwLock<Arc<Stored>>,
}

#[derive(Debug, Default, Clone)]
struct Stored {
    len: u32,
    records: Chunks,
    residuals: Chunks,
    /// What [`Codec::encode`] said of the records of a chunk, at most.
    off: Vec<f32>,
    /// Ordinals whose vectors have distances and no code, ascending.
    uncoded: Vec<u32>,
}

/// The codes that existed at one moment.
#[derive(Debug)]
pub struct CodesView<'a> {
    codec: &'a Codec,
    stored: Arc<Stored>,
    /// Ordinals from here on count as unknown.
    limit: u32,
}

/// Codes whose memory is asked for together in a scan.
const SCANNED_TOGETHER: usize = 32;

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

fn append(chunks: &mut Chunks, mut bytes: &[u8], record_bytes: usize) {
    if record_bytes == 0 {
        return;
    }
    let chunk_bytes = CHUNK_POINTS * record_bytes;
    while !bytes.is_empty() {
        if chunks.last().is_none_or(|chunk| chunk.len() == chunk_bytes) {
            chunks.push(Arc::new(Vec::new()));
        }
        let Some(chunk) = chunks.last_mut() else { return };
        let chunk = Arc::make_mut(chunk);
        let (now, later) = bytes.split_at(bytes.len().min(chunk_bytes - chunk.len()));
        // The first codes of a small table take what they need, a full chunk no more than that.
        let room = (chunk.len() + now.len()).next_power_of_two().min(CHUNK_POINTS * record_bytes);
        chunk.reserve_exact(room.max(chunk.len() + now.len()) - chunk.len());
        chunk.extend_from_slice(now);
        bytes = later;
    }
}

fn record(chunks: &Chunks, ordinal: u32, record_bytes: usize) -> Option<&[u8]> {
    let chunk = chunks.get((ordinal >> CHUNK_BITS) as usize)?;
    let start = (ordinal as usize % CHUNK_POINTS) * record_bytes;
    chunk.get(start..start + record_bytes)
}

impl Codes {
    /// No codes yet.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self { codec: Arc::new(codec), stored: RwLock::default() }
    }

    /// No codes, of the same codec.
    #[must_use]
    pub fn emptied(&self) -> Self {
        Self { codec: Arc::clone(&self.codec), stored: RwLock::default() }
    }

    /// What encodes.
    #[must_use]
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Ordinals that have codes.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.stored.read().unwrap_or_else(PoisonError::into_inner).len
    }

    /// Whether no ordinal has a code.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the codes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let stored = self.stored.read().unwrap_or_else(PoisonError::into_inner);
        stored.records.iter().chain(&stored.residuals).map(|chunk| chunk.capacity()).sum()
    }

    /// Gives the next ordinals their codes.
    pub fn append(&self, batch: &Batch) {
        let mut stored = self.stored.write().unwrap_or_else(PoisonError::into_inner);
        let stored = Arc::make_mut(&mut stored);
        let record_bytes = self.codec.record_bytes();
        append(&mut stored.records, &batch.records, record_bytes);
        append(&mut stored.residuals, &batch.residuals, self.codec.residual_bytes());
        for (at, off) in (stored.len as usize..).zip(&batch.off) {
            match stored.off.get_mut(at / CHUNK_POINTS) {
                Some(most) => *most = most.max(*off),
                None => stored.off.push(*off),
            }
        }
        stored.uncoded.extend(batch.uncoded.iter().map(|at| at + stored.len));
        let added = batch.records.len() / record_bytes;
        stored.len = stored.len.saturating_add(u32::try_from(added).unwrap_or(u32::MAX));
    }

    /// The codes as they are now.
    #[must_use]
    pub fn view(&self) -> CodesView<'_> {
        let stored = self.stored.read().unwrap_or_else(PoisonError::into_inner);
        CodesView { codec: &self.codec, limit: stored.len, stored: Arc::clone(&stored) }
    }

    /// The codes of ordinals below `limit`; `None` when not all of them have one.
    #[must_use]
    pub fn view_of(&self, limit: u32) -> Option<CodesView<'_>> {
        let view = self.view();
        (view.limit >= limit).then_some(CodesView { limit, ..view })
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
            let uncoded = &self.stored.uncoded;
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
        self.stored.uncoded.iter().copied().take_while(|ordinal| *ordinal < self.limit)
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
        let mut together = Vec::with_capacity(SCANNED_TOGETHER);
        let mut distances = 0;
        let mut compare = |together: &mut Vec<u32>| {
            let (fours, rest) = together.as_chunks::<4>();
            let mut tell = |value: f32, ordinal: u32| {
                if !value.is_nan() {
                    met(value, ordinal);
                }
            };
            for four in fours {
                let values = self.eval_four(query, *four);
                values.into_iter().zip(four).for_each(|(value, ordinal)| tell(value, *ordinal));
            }
            for ordinal in rest {
                tell(self.eval(query, *ordinal).unwrap_or(f32::NAN), *ordinal);
            }
            distances += together.len() as u64;
            together.clear();
        };
        for ordinal in ordinals {
            self.prefetch(ordinal);
            together.push(ordinal);
            if together.len() == SCANNED_TOGETHER {
                compare(&mut together);
            }
        }
        compare(&mut together);
        distances
    }

    fn record(&self, ordinal: u32) -> Option<&[u8]> {
        if ordinal >= self.limit {
            return None;
        }
        record(&self.stored.records, ordinal, self.codec.record_bytes())
    }

    fn residual(&self, ordinal: u32) -> &[u8] {
        record(&self.stored.residuals, ordinal, self.codec.residual_bytes()).unwrap_or_default()
    }

    /// At least what [`Codec::encode`] said of a point's record.
    fn off(&self, ordinal: u32) -> f32 {
        self.stored.off.get(ordinal as usize / CHUNK_POINTS).copied().unwrap_or(f32::INFINITY)
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

    fn eval(&self, query: &CodeQuery<'_>, ordinal: u32) -> Option<f32> {
        Some(self.codec.eval(query, self.record(ordinal)?))
    }

    fn eval_four(&self, query: &CodeQuery<'_>, ordinals: [u32; 4]) -> [f32; 4] {
        let records = ordinals.map(|ordinal| self.record(ordinal));
        if let [Some(a), Some(b), Some(c), Some(d)] = records {
            return self.codec.eval_x4(query, [a, b, c, d]);
        }
        records.map(|record| record.map_or(f32::NAN, |record| self.codec.eval(query, record)))
    }

    fn same(&self, a: u32, b: u32) -> bool {
        self.record(a).is_some_and(|record| Some(record) == self.record(b))
    }

    fn prefetch(&self, ordinal: u32) {
        if let Some(record) = self.record(ordinal) {
            prefetch(record);
        }
    }
}
