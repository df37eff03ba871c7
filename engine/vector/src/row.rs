//! A stored vector in the form that its column keeps.

use std::borrow::Cow;

use half::f16;
use half::slice::HalfFloatSliceExt as _;

use crate::Sparse;

/// Numbers that are widened without asking for memory.
const WIDENED_ON_STACK: usize = 1_024;
/// Bytes of bits that are moved into place without asking for memory.
const MOVED_ON_STACK: usize = 256;

/// A stored vector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Row<'a> {
    /// Single precision.
    Full(&'a [f32]),
    /// Half precision.
    Half(&'a [f16]),
    /// One bit a dimension.
    Bits(Bits<'a>),
    /// The numbers that are not zero.
    Sparse(Sparse<'a>),
}

impl<'a> Row<'a> {
    /// Its dimension.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Full(numbers) => numbers.len(),
            Self::Half(halves) => halves.len(),
            Self::Bits(bits) => bits.len,
            Self::Sparse(sparse) => sparse.dim(),
        }
    }

    /// Whether there are no numbers, which no stored vector has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same numbers in single precision, zero and one for bits.
    #[must_use]
    pub fn to_f32(self) -> Cow<'a, [f32]> {
        match self {
            Self::Full(numbers) => Cow::Borrowed(numbers),
            Self::Half(halves) => Cow::Owned(halves.to_f32_vec()),
            Self::Bits(bits) => {
                let number = |at| f32::from(u8::from(bits.is_set(at)));
                Cow::Owned((0..bits.len).map(number).collect())
            }
            Self::Sparse(sparse) => {
                let mut numbers = vec![0.0; sparse.dim()];
                for (index, value) in sparse.entries() {
                    if let Some(number) =
                        usize::try_from(index).ok().and_then(|i| numbers.get_mut(i))
                    {
                        *number = value;
                    }
                }
                Cow::Owned(numbers)
            }
        }
    }

    /// What `read` makes of the numbers in single precision.
    pub(crate) fn widened<R>(self, read: impl FnOnce(&[f32]) -> R) -> R {
        match self {
            Self::Full(numbers) => read(numbers),
            Self::Half(halves) if halves.len() <= WIDENED_ON_STACK => {
                let mut numbers = [0.0; WIDENED_ON_STACK];
                let numbers = &mut numbers[..halves.len()];
                halves.convert_to_f32_slice(numbers);
                read(numbers)
            }
            Self::Half(_) | Self::Bits(_) | Self::Sparse(_) => read(&self.to_f32()),
        }
    }

    /// The memory that holds the vector.
    pub(crate) fn prefetch(self) {
        match self {
            Self::Full(numbers) => crate::kernels::prefetch(numbers),
            Self::Half(halves) => crate::kernels::prefetch(halves),
            Self::Bits(bits) => crate::kernels::prefetch(bits.bytes),
            Self::Sparse(sparse) => crate::kernels::prefetch(sparse.words()),
        }
    }
}

/// Bits, the least of a byte first.
#[derive(Debug, Clone, Copy)]
pub struct Bits<'a> {
    /// The bytes that the bits are in, and no others.
    bytes: &'a [u8],
    /// Bits of the first byte that come before.
    before: usize,
    len: usize,
}

impl<'a> Bits<'a> {
    /// `len` bits of `bytes` from bit `start` on; `None` when there are fewer.
    #[must_use]
    pub fn new(bytes: &'a [u8], start: usize, len: usize) -> Option<Self> {
        let bytes = bytes.get(start / 8..start.checked_add(len)?.div_ceil(8))?;
        Some(Self { bytes, before: start % 8, len })
    }

    /// The bits of numbers that are not zero.
    #[must_use]
    pub fn pack(numbers: &[f32]) -> Vec<u8> {
        let byte = |eight: &[f32]| {
            let bits = eight.iter().rev().map(|number| u8::from(*number != 0.0));
            bits.fold(0, |byte, bit| byte << 1 | bit)
        };
        numbers.chunks(8).map(byte).collect()
    }

    /// Number of bits.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bits, which no stored vector has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether bit `at` is set; false behind the last.
    #[must_use]
    pub fn is_set(&self, at: usize) -> bool {
        let bit = self.before + at;
        at < self.len && self.bytes.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    }

    /// What `read` makes of the bits from the first of a byte on, those behind the last being zero.
    pub(crate) fn packed<R>(&self, read: impl FnOnce(&[u8]) -> R) -> R {
        let count = self.len.div_ceil(8);
        if self.before == 0 && self.len.is_multiple_of(8) {
            return read(self.bytes);
        }
        let mut stack = [0; MOVED_ON_STACK];
        let mut heap = Vec::new();
        let moved = match stack.get_mut(..count) {
            Some(moved) => moved,
            None => {
                heap.resize(count, 0);
                &mut heap[..]
            }
        };
        for (at, moved) in moved.iter_mut().enumerate() {
            let byte = |at: usize| u16::from(self.bytes.get(at).copied().unwrap_or(0));
            *moved = (((byte(at + 1) << 8 | byte(at)) >> self.before) & 0xFF) as u8;
        }
        if let Some(last) = moved.last_mut()
            && !self.len.is_multiple_of(8)
        {
            *last &= (1 << (self.len % 8)) - 1;
        }
        read(moved)
    }
}

/// The same bits, wherever they are in their bytes.
impl PartialEq for Bits<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.packed(|a| other.packed(|b| a == b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_are_the_same_wherever_they_are(
            bits in prop::collection::vec(any::<bool>(), 1..3_000),
            before in 0_usize..20,
        ) {
            let numbers: Vec<f32> = bits.iter().map(|bit| f32::from(u8::from(*bit))).collect();
            let shifted = [vec![1.0; before], numbers.clone(), vec![1.0; 9]].concat();
            let (here, there) = (Bits::pack(&numbers), Bits::pack(&shifted));
            let here = Bits::new(&here, 0, bits.len()).unwrap();
            let there = Bits::new(&there, before, bits.len()).unwrap();
            prop_assert_eq!(here, there);
            prop_assert_eq!(&*Row::Bits(there).to_f32(), &numbers[..]);
            there.packed(|packed| assert_eq!(packed, &Bits::pack(&numbers)[..]));
            let flipped: Vec<f32> = numbers.iter().enumerate()
                .map(|(at, n)| if at == before % bits.len() { 1.0 - n } else { *n }).collect();
            let flipped = Bits::pack(&flipped);
            prop_assert_ne!(there, Bits::new(&flipped, 0, bits.len()).unwrap());
            prop_assert!(Bits::new(&flipped, before, bits.len() + 8).is_none());
        }
    }

    #[test]
    fn halves_are_widened() {
        for len in [1, 7, WIDENED_ON_STACK, WIDENED_ON_STACK + 1] {
            let numbers: Vec<f32> = (0_u8..=250).cycle().take(len).map(f32::from).collect();
            let halves: Vec<f16> = numbers.iter().map(|n| f16::from_f32(*n)).collect();
            assert_eq!(&*Row::Half(&halves).to_f32(), &numbers[..]);
            Row::Half(&halves).widened(|widened| assert_eq!(widened, &numbers[..]));
        }
    }
}
