//! Sectors: 508 bytes of a frame and a 4-byte stamp.
//!
//! Disks write 512-byte sectors whole or not at all, in any order. A fresh log file is all zero, so
//! after a crash a sector of the last frame is either zero or carries the frame's stamp.

use types::SplitMix64;

/// Bytes of a sector.
pub(super) const SECTOR: usize = 512;
/// Bytes of a frame that one sector carries.
pub(super) const SECTOR_PAYLOAD: usize = SECTOR - 4;

/// The stamp of all sectors of one frame. Never zero.
pub(super) fn stamp(salt: u64, frame_number: u64) -> [u8; 4] {
    let hash = SplitMix64::new(salt ^ frame_number.wrapping_mul(0x9E37_79B9)).next_u64();
    let bytes = hash.to_le_bytes();
    [bytes[0] | 0x81, bytes[1], bytes[2], bytes[3] | 0x81]
}

/// Sectors needed for `bytes` bytes of a frame.
pub(super) fn sectors_for(bytes: usize) -> usize {
    bytes.div_ceil(SECTOR_PAYLOAD)
}

/// Spreads a frame over sectors.
pub(super) fn scatter(frame: &[u8], stamp: [u8; 4]) -> Vec<u8> {
    let mut out = Vec::with_capacity(sectors_for(frame.len()) * SECTOR);
    for piece in frame.chunks(SECTOR_PAYLOAD) {
        out.extend_from_slice(piece);
        out.resize(out.len() + SECTOR_PAYLOAD - piece.len(), 0);
        out.extend_from_slice(&stamp);
    }
    out
}

/// Collects the first `length` bytes of a frame from its sectors, which must all be there.
pub(super) fn gather(sectors: &[u8], length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length + SECTOR);
    for sector in sectors.chunks_exact(SECTOR) {
        out.extend_from_slice(&sector[..SECTOR_PAYLOAD]);
        if out.len() >= length {
            break;
        }
    }
    out.truncate(length);
    out
}

/// Whether nothing but zeros stands between the end of a frame and the stamp of its last sector.
pub(super) fn padding_is_blank(sectors: &[u8], length: usize) -> bool {
    let used = length - (sectors_for(length) - 1) * SECTOR_PAYLOAD;
    let last = sectors.chunks_exact(SECTOR).next_back();
    last.is_some_and(|last| last[used..SECTOR_PAYLOAD].iter().all(|byte| *byte == 0))
}

/// What the stamp of a sector says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SectorState {
    /// All zero: never written.
    Blank,
    /// Written as part of the frame asked about.
    Stamped,
    /// Anything else: another frame's, or damaged.
    Foreign,
}

/// Judges one whole sector.
pub(super) fn judge(sector: &[u8], stamp: [u8; 4]) -> SectorState {
    if sector[SECTOR_PAYLOAD..] == stamp {
        SectorState::Stamped
    } else if sector.iter().all(|byte| *byte == 0) {
        SectorState::Blank
    } else {
        SectorState::Foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_scattered_is_gathered() {
        for length in [0, 1, 507, 508, 509, 1016, 5_000] {
            let frame: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let sectors = scatter(&frame, stamp(1, 2));
            assert_eq!(sectors.len(), sectors_for(length) * SECTOR);
            assert_eq!(gather(&sectors, length), frame);
        }
    }

    #[test]
    fn one_flipped_bit_makes_neither_a_blank_nor_a_stamped_sector() {
        let stamp = stamp(7, 9);
        for (whole, state) in [
            (vec![0; SECTOR], SectorState::Blank),
            (scatter(&[0; 10], stamp), SectorState::Stamped),
        ] {
            assert_eq!(judge(&whole, stamp), state);
            for bit in 0..SECTOR * 8 {
                let mut sector = whole.clone();
                sector[bit / 8] ^= 1 << (bit % 8);
                let payload_of_stamped = state == SectorState::Stamped && bit / 8 < SECTOR_PAYLOAD;
                let expected =
                    if payload_of_stamped { SectorState::Stamped } else { SectorState::Foreign };
                assert_eq!(judge(&sector, stamp), expected, "bit {bit}");
            }
        }
    }
}
