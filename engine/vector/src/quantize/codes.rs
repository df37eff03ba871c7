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
    codec: Codec,
    stored: RwLock<Arc<Stored>>,
}

#[derive(Debug, Default, Clone)]
struct Stored {
    len: u32,
    records: Chunks,
    residuals: Chunks,
}

/// The codes that existed at one moment.
#[derive(Debug)]
pub struct CodesView<'a> {
    codec: &'a Codec,
    stored: Arc<Stored>,
}

/// Codes that are not in a [`Codes`] yet.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Batch {
    records: Vec<u8>,
    residuals: Vec<u8>,
}

impl Batch {
    /// Encodes vectors in order; `None` is a row without a vector.
    pub fn encode<'v>(codec: &Codec, vectors: impl Iterator<Item = Option<&'v [f32]>>) -> Self {
        let mut batch = Self::default();
        for vector in vectors {
            let (record, residual) = (batch.records.len(), batch.residuals.len());
            batch.records.resize(record + codec.record_bytes(), 0);
            batch.residuals.resize(residual + codec.residual_bytes(), 0);
            let (records, residuals) = (&mut batch.records, &mut batch.residuals);
            codec.encode(vector, &mut records[record..], &mut residuals[residual..]);
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
        Self { codec, stored: RwLock::default() }
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
        let added = batch.records.len() / record_bytes;
        stored.len = stored.len.saturating_add(u32::try_from(added).unwrap_or(u32::MAX));
    }

    /// The codes as they are now.
    #[must_use]
    pub fn view(&self) -> CodesView<'_> {
        let stored = self.stored.read().unwrap_or_else(PoisonError::into_inner);
        CodesView { codec: &self.codec, stored: Arc::clone(&stored) }
    }
}

impl CodesView<'_> {
    /// Ordinals that have codes.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.stored.len
    }

    /// Whether no ordinal has a code.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The codes of `ordinals`, in that order; those without one are left out.
    #[must_use]
    pub fn gather(&self, ordinals: impl Iterator<Item = u32>) -> Batch {
        let mut batch = Batch::default();
        for ordinal in ordinals {
            let Some(record) = self.record(ordinal) else { continue };
            batch.records.extend_from_slice(record);
            batch.residuals.extend_from_slice(self.residual(ordinal));
        }
        batch
    }

    fn record(&self, ordinal: u32) -> Option<&[u8]> {
        record(&self.stored.records, ordinal, self.codec.record_bytes())
    }

    fn residual(&self, ordinal: u32) -> &[u8] {
        record(&self.stored.residuals, ordinal, self.codec.residual_bytes()).unwrap_or_default()
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

    fn prefetch(&self, ordinal: u32) {
        if let Some(record) = self.record(ordinal) {
            prefetch(record);
        }
    }
}
