//! Header, footer and trailer of a segment file.

use std::path::Path;

use twox_hash::xxhash3_128::Hasher;

use crate::error::StorageError;
use crate::wal::{Cursor, StoreId};

pub(super) const MAGIC: [u8; 8] = *b"AZSEG\0\0\x01";
/// Blocks begin and end at multiples of this, as Arrow's buffers and vector kernels like it.
pub(super) const ALIGNMENT: usize = 64;
pub(super) const HEADER_BYTES: usize = 64;
pub(super) const ENTRY_BYTES: usize = 40;
pub(super) const TRAILER_BYTES: usize = 64;

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `i64` per row: when it began.
    Begins,
    /// The lookup table of primary keys.
    Keys,
    /// `u64` per row: its id. Absent when each id is one more than the one before.
    RowIds,
    /// The zone map: an Arrow record batch body, then its message; absent where no column has one.
    Zones,
    /// The columns of one chunk: an Arrow record batch body, then its message.
    Chunk,
}

impl Kind {
    /// What a code stands for.
    pub(super) fn name(code: u32) -> &'static str {
        match code {
            1 => "instants",
            2 => "keys",
            3 => "chunk",
            4 => "row ids",
            5 => "zones",
            _ => "unknown",
        }
    }

    pub(super) fn code(self) -> u32 {
        match self {
            Self::Begins => 1,
            Self::Keys => 2,
            Self::Chunk => 3,
            Self::RowIds => 4,
            Self::Zones => 5,
        }
    }
}

/// A block as the footer tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) kind: u32,
    pub(super) crc: u32,
    pub(super) offset: usize,
    /// Bytes, padding included.
    pub(super) length: usize,
    /// Bytes before the padding, for a chunk before its message.
    pub(super) body: usize,
    /// Bytes of a chunk's message, which follows its body.
    pub(super) message: usize,
}

impl Block {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.kind.to_le_bytes());
        out.extend_from_slice(&self.crc.to_le_bytes());
        out.extend_from_slice(&(self.offset as u64).to_le_bytes());
        out.extend_from_slice(&(self.length as u64).to_le_bytes());
        out.extend_from_slice(&(self.body as u64).to_le_bytes());
        out.extend_from_slice(&(self.message as u64).to_le_bytes());
    }

    fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        Some(Self {
            kind: cursor.u32()?,
            crc: cursor.u32()?,
            offset: usize::try_from(cursor.u64()?).ok()?,
            length: usize::try_from(cursor.u64()?).ok()?,
            body: usize::try_from(cursor.u64()?).ok()?,
            message: usize::try_from(cursor.u64()?).ok()?,
        })
    }
}

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(super) store: StoreId,
    pub(super) number: u64,
    pub(super) table: u32,
    /// Id of the first row. Its upper half came later and stands behind the rest.
    pub(super) first_row: u64,
    pub(super) rows: u32,
    /// Rows of a chunk; the last chunk may have fewer.
    pub(super) chunk_rows: u32,
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..24].copy_from_slice(&self.store.0);
        out[24..32].copy_from_slice(&self.number.to_le_bytes());
        out[32..36].copy_from_slice(&self.table.to_le_bytes());
        let first_row = self.first_row.to_le_bytes();
        out[36..40].copy_from_slice(&first_row[..4]);
        out[40..44].copy_from_slice(&self.rows.to_le_bytes());
        out[44..48].copy_from_slice(&self.chunk_rows.to_le_bytes());
        out[48..52].copy_from_slice(&first_row[4..]);
        out
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(bytes.strip_prefix(&MAGIC)?);
        let store = StoreId(cursor.take(16)?.try_into().ok()?);
        let (number, table, low) = (cursor.u64()?, cursor.u32()?, cursor.u32()?);
        let (rows, chunk_rows, high) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let first_row = u64::from(high) << 32 | u64::from(low);
        Some(Self { store, number, table, first_row, rows, chunk_rows })
    }
}

/// Footer and trailer. The trailer is the hash of header and footer, and where the footer lies.
pub(super) fn tail(
    header: &[u8; HEADER_BYTES],
    blocks: &[Block],
    offset: usize,
) -> (Vec<u8>, u128) {
    let mut out = Vec::with_capacity(blocks.len() * ENTRY_BYTES + TRAILER_BYTES);
    blocks.iter().for_each(|block| block.put(&mut out));
    let root = root(header, &out);
    out.extend_from_slice(&(offset as u64).to_le_bytes());
    out.extend_from_slice(&(blocks.len() as u64).to_le_bytes());
    out.extend_from_slice(&root.to_le_bytes());
    out.resize(blocks.len() * ENTRY_BYTES + TRAILER_BYTES - 8, 0);
    out.extend_from_slice(&MAGIC);
    (out, root)
}

fn root(header: &[u8], footer: &[u8]) -> u128 {
    let mut hash = Hasher::new();
    hash.write(header);
    hash.write(footer);
    hash.finish_128()
}

/// Reads header, footer and trailer of a file whose root hash is known, and checks that blocks and
/// what lies between them fill the file.
pub(super) fn read(
    path: &Path,
    bytes: &[u8],
    expected: u128,
) -> Result<(Header, Vec<Block>), StorageError> {
    let corrupt = |offset: usize, what: &str| StorageError::corrupt(path, offset, what);
    let trailer_at = bytes.len().checked_sub(TRAILER_BYTES).filter(|at| *at >= HEADER_BYTES);
    let trailer_at = trailer_at.ok_or_else(|| corrupt(0, "the file is cut off"))?;
    let (head, trailer) = (&bytes[..HEADER_BYTES], &bytes[trailer_at..]);
    let mut cursor = Cursor(trailer);
    let mut places = || Some((cursor.u64()?, cursor.u64()?, cursor.take(16)?));
    let (footer_at, count, hash) =
        places().ok_or_else(|| corrupt(trailer_at, "the trailer is cut off"))?;
    let zeros = &trailer[32..TRAILER_BYTES - 8];
    let places = usize::try_from(footer_at).ok().zip(usize::try_from(count).ok());
    let places = places.filter(|(at, count)| {
        let bytes = count.checked_mul(ENTRY_BYTES);
        bytes.and_then(|bytes| at.checked_add(bytes)) == Some(trailer_at) && *at >= HEADER_BYTES
    });
    // The version is judged in the header, when its hash is known to be right.
    let whole = trailer[TRAILER_BYTES - 8..].starts_with(&MAGIC[..7])
        && trailer[TRAILER_BYTES - 1] == head[7]
        && zeros.iter().all(|byte| *byte == 0);
    let Some((footer_at, _)) = places.filter(|_| whole) else {
        return Err(corrupt(trailer_at, "the trailer is damaged"));
    };
    let footer = &bytes[footer_at..trailer_at];
    if hash != expected.to_le_bytes() || root(head, footer) != expected {
        return Err(corrupt(footer_at, "the hash of header and footer is wrong"));
    }
    let header = Header::read(head).ok_or_else(|| StorageError::foreign(path, MAGIC, head))?;
    let mut cursor = Cursor(footer);
    let blocks: Vec<Block> = std::iter::from_fn(|| Block::read(&mut cursor)).collect();
    let mut at = HEADER_BYTES;
    for block in &blocks {
        let used = block.body.checked_add(block.message);
        let aligned = block.length.is_multiple_of(ALIGNMENT);
        if block.offset != at || !aligned || used.is_none_or(|used| used > block.length) {
            return Err(corrupt(footer_at, "blocks do not follow each other"));
        }
        at = at.saturating_add(block.length);
    }
    if at != footer_at {
        return Err(corrupt(footer_at, "blocks do not fill the file"));
    }
    Ok((header, blocks))
}
