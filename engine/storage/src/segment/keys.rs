//! The lookup table of a segment's primary keys: hashes in ascending order with the rows they are
//! of, and a directory by the hash's upper bits, so that a lookup touches two or three cache lines.
//!
//! Hashes are XXH3 of the key's row format; equal hashes are told apart by the rows themselves.

use twox_hash::XxHash3_128;

use crate::wal::Cursor;

/// Keys that share a place in the directory, about.
const BUCKET_KEYS: usize = 8;

/// The hash of a key.
pub(crate) fn hash_key(key: &[u8]) -> u64 {
    let [low @ .., _, _, _, _, _, _, _, _] = XxHash3_128::oneshot(key).to_le_bytes();
    u64::from_le_bytes(low)
}

/// Writes the table of the keys of a segment's rows, in row order.
pub(super) fn build(hashes: &[u64]) -> Vec<u8> {
    let bits = (hashes.len() / BUCKET_KEYS).max(1).ilog2();
    let mut entries: Vec<(u64, u32)> = hashes.iter().copied().zip(0..).collect();
    entries.sort_unstable();
    let mut out = Vec::with_capacity(8 + (4 << bits) + 12 * entries.len());
    out.extend_from_slice(&bits.to_le_bytes());
    out.extend_from_slice(&u32::try_from(entries.len()).unwrap_or(u32::MAX).to_le_bytes());
    let mut at = 0;
    for bucket in 0..=1_u64 << bits {
        while at < entries.len() && bucket_of(entries[at].0, bits) < bucket {
            at += 1;
        }
        out.extend_from_slice(&u32::try_from(at).unwrap_or(u32::MAX).to_le_bytes());
    }
    entries.iter().for_each(|(hash, _)| out.extend_from_slice(&hash.to_le_bytes()));
    entries.iter().for_each(|(_, row)| out.extend_from_slice(&row.to_le_bytes()));
    out
}

fn bucket_of(hash: u64, bits: u32) -> u64 {
    if bits == 0 { 0 } else { hash >> (64 - bits) }
}

/// A table in its bytes, which were checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyTable<'a> {
    bits: u32,
    directory: &'a [[u8; 4]],
    hashes: &'a [[u8; 8]],
    rows: &'a [[u8; 4]],
}

impl<'a> KeyTable<'a> {
    /// `None` when the bytes are no table of `rows` keys.
    pub(super) fn read(bytes: &'a [u8], rows: usize) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        let (bits, count) = (cursor.u32()?, cursor.u32()? as usize);
        if count != rows || bits > 31 {
            return None;
        }
        let (directory, _) = cursor.take(4 * ((1 << bits) + 1))?.as_chunks::<4>();
        let (hashes, _) = cursor.take(8 * count)?.as_chunks::<8>();
        let (places, _) = cursor.take(4 * count)?.as_chunks::<4>();
        Some(Self { bits, directory, hashes, rows: places })
    }

    /// Rows whose key may have the hash, ascending.
    pub(super) fn rows(self, hash: u64) -> impl DoubleEndedIterator<Item = u32> + 'a {
        let bucket = usize::try_from(bucket_of(hash, self.bits)).unwrap_or(usize::MAX);
        let bound = |at: usize| self.directory.get(at).map_or(0, |at| u32::from_le_bytes(*at));
        let (from, to) = (bound(bucket) as usize, bound(bucket.saturating_add(1)) as usize);
        let hashes = self.hashes.get(from..to).unwrap_or_default();
        let first = from + hashes.partition_point(|other| u64::from_le_bytes(*other) < hash);
        let last = from + hashes.partition_point(|other| u64::from_le_bytes(*other) <= hash);
        self.rows.get(first..last).unwrap_or_default().iter().map(|row| u32::from_le_bytes(*row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn every_row_is_found_by_its_hash_and_nothing_else(
            mut hashes in prop::collection::vec(any::<u64>(), 0..400),
            repeated in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            strangers in prop::collection::vec(any::<u64>(), 20),
        ) {
            for index in repeated {
                if !hashes.is_empty() {
                    hashes.push(*index.get(&hashes));
                }
            }
            hashes.extend([0, u64::MAX]);
            let bytes = build(&hashes);
            let table = KeyTable::read(&bytes, hashes.len()).unwrap();
            for hash in hashes.iter().chain(&strangers) {
                let expected: Vec<u32> =
                    (0..).zip(&hashes).filter(|(_, h)| *h == hash).map(|(row, _)| row).collect();
                prop_assert_eq!(table.rows(*hash).collect::<Vec<_>>(), expected);
            }
            prop_assert!(KeyTable::read(&bytes, hashes.len() + 1).is_none());
            prop_assert!(KeyTable::read(&bytes[..bytes.len() - 1], hashes.len()).is_none());
        }
    }
}
