//! Frames: the entries of one group commit between a header and a checksum.
//!
//! Layout (little-endian; before it is spread over sectors):
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `AZFR` |
//! | 4 | 4 | CRC-32C of bytes 8..48, seeded with the file's salt |
//! | 8 | 8 | frame number, from 1, without gaps |
//! | 16 | 8 | index of the first entry |
//! | 24 | 4 | number of entries |
//! | 28 | 4 | Raft group, 0 |
//! | 32 | 4 | checksum of the previous frame |
//! | 36 | 4 | flags, 0 |
//! | 40 | 8 | bytes of records |
//! | 48 | n | records |
//! | 48+n | 4 | CRC-32C of bytes 0..48+n, seeded with the file's salt |
//!
//! A record is: kind `u8` (1 = entry), three zero bytes, payload length `u32`, term `u64`, index
//! `u64`, commit timestamp `i64`, payload.

use types::{CommitTs, Lsn, Term};

use super::Entry;

pub(super) const HEADER_BYTES: usize = 48;
const CRC_BYTES: usize = 4;
const RECORD_BYTES: usize = 32;
const MAGIC: [u8; 4] = *b"AZFR";
const KIND_ENTRY: u8 = 1;

/// No frame is longer: one entry of the largest size, or many that were gathered below it.
const FRAME_BYTES_MAX: usize = 2 * types::limits::ENTRY_BYTES_MAX;

/// Raft group of a server that has one group.
pub(super) const GROUP: u32 = 0;

/// Identity of a frame in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// Number of the frame.
    pub(super) number: u64,
    /// Checksum of the frame before it.
    pub(super) previous_crc: u32,
}

/// Why a frame cannot be read although all its sectors are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage(pub(super) &'static str);

/// What the header of a frame says, once its own checksum holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) link: Link,
    pub(super) first_index: Lsn,
    pub(super) count: u32,
    records: usize,
}

impl Header {
    /// Bytes of the whole frame.
    pub(super) fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.records + CRC_BYTES
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the seed is the salt's lower half")]
fn checksum(salt: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(salt as u32, bytes)
}

/// Bytes of a frame that holds `entries`.
pub(super) fn frame_bytes(entries: &[Entry]) -> usize {
    let records: usize = entries.iter().map(|entry| RECORD_BYTES + entry.payload.len()).sum();
    HEADER_BYTES + records + CRC_BYTES
}

/// Encodes a frame; also returns its checksum. `entries` is not empty.
pub(super) fn encode(entries: &[Entry], link: Link, salt: u64) -> (Vec<u8>, u32) {
    let total = frame_bytes(entries);
    let mut out = Vec::with_capacity(total);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&link.number.to_le_bytes());
    out.extend_from_slice(&entries.first().map_or(0, |entry| entry.index.0).to_le_bytes());
    out.extend_from_slice(&u32::try_from(entries.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&GROUP.to_le_bytes());
    out.extend_from_slice(&link.previous_crc.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&((total - HEADER_BYTES - CRC_BYTES) as u64).to_le_bytes());
    let header_crc = checksum(salt, &out[8..HEADER_BYTES]);
    out[4..8].copy_from_slice(&header_crc.to_le_bytes());
    for entry in entries {
        out.extend_from_slice(&[KIND_ENTRY, 0, 0, 0]);
        out.extend_from_slice(
            &u32::try_from(entry.payload.len()).unwrap_or(u32::MAX).to_le_bytes(),
        );
        out.extend_from_slice(&entry.term.0.to_le_bytes());
        out.extend_from_slice(&entry.index.0.to_le_bytes());
        out.extend_from_slice(&entry.commit_ts.0.to_le_bytes());
        out.extend_from_slice(&entry.payload);
    }
    let crc = checksum(salt, &out);
    out.extend_from_slice(&crc.to_le_bytes());
    (out, crc)
}

/// Reads little-endian integers off a slice that is long enough by construction.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}

/// Reads a header from the first bytes of a frame.
pub(super) fn decode_header(bytes: &[u8], salt: u64) -> Result<Header, Damage> {
    let cut = Damage("the frame's header is cut off");
    if bytes.len() < HEADER_BYTES {
        return Err(cut);
    }
    let mut cursor = Cursor(bytes);
    if cursor.take(4) != Some(&MAGIC) {
        return Err(Damage("the frame does not begin with its magic"));
    }
    let crc = cursor.u32();
    if crc != Some(checksum(salt, &bytes[8..HEADER_BYTES])) {
        return Err(Damage("the checksum of the frame's header is wrong"));
    }
    let mut read = || -> Option<Header> {
        let number = cursor.u64()?;
        let first_index = Lsn(cursor.u64()?);
        let count = cursor.u32()?;
        let _group = cursor.u32()?;
        let previous_crc = cursor.u32()?;
        let _flags = cursor.u32()?;
        let records = usize::try_from(cursor.u64()?).ok()?;
        let sane = (1..1 << 62).contains(&first_index.0) && records <= FRAME_BYTES_MAX;
        sane.then_some(Header { link: Link { number, previous_crc }, first_index, count, records })
    };
    read().ok_or(Damage("the frame's header holds impossible numbers"))
}

/// Reads a whole frame; also returns its checksum.
pub(super) fn decode(
    bytes: &[u8],
    header: &Header,
    salt: u64,
) -> Result<(Vec<Entry>, u32), Damage> {
    let body_end = bytes.len().checked_sub(CRC_BYTES).ok_or(Damage("the frame is cut off"))?;
    let crc = checksum(salt, &bytes[..body_end]);
    if bytes[body_end..] != crc.to_le_bytes() {
        return Err(Damage("the frame's checksum is wrong"));
    }
    let mut cursor = Cursor(&bytes[HEADER_BYTES..body_end]);
    let mut entries = Vec::new();
    let mut index = header.first_index;
    for _ in 0..header.count {
        let entry = decode_record(&mut cursor).ok_or(Damage("a record is malformed"))?;
        if entry.index != index {
            return Err(Damage("entries are not numbered without gaps"));
        }
        index = index.next();
        entries.push(entry);
    }
    if !cursor.0.is_empty() {
        return Err(Damage("bytes follow the last record"));
    }
    Ok((entries, crc))
}

fn decode_record(cursor: &mut Cursor<'_>) -> Option<Entry> {
    if cursor.take(4)? != [KIND_ENTRY, 0, 0, 0] {
        return None;
    }
    let length = cursor.u32()? as usize;
    let term = Term(cursor.u64()?);
    let index = Lsn(cursor.u64()?);
    let commit_ts = CommitTs(cursor.i64()?);
    Some(Entry { term, index, commit_ts, payload: cursor.take(length)?.to_vec() })
}
