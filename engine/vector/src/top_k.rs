//! The k nearest of a stream, in a bounded max-heap. Ties go to the smaller ordinal, so that the
//! answer does not depend on the order in which points were met.

use std::collections::BinaryHeap;

/// A row and its search value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbor {
    /// Search value: smaller is nearer; NaN is farther than everything.
    pub value: f32,
    /// The row.
    pub ordinal: u32,
}

/// Orders `(value, ordinal)` as one integer: IEEE 754 totalOrder on the value with both NaN signs
/// last, then the ordinal.
#[inline]
pub(crate) fn key(value: f32, ordinal: u32) -> u64 {
    let bits = if value.is_nan() { f32::NAN.to_bits() & 0x7FFF_FFFF } else { value.to_bits() };
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 };
    u64::from(ordered) << 32 | u64::from(ordinal)
}

/// Inverse of [`key`].
#[expect(clippy::cast_possible_truncation, reason = "takes the two halves of the key apart")]
#[inline]
pub(crate) fn unkey(key: u64) -> Neighbor {
    let ordered = (key >> 32) as u32;
    let bits = if ordered >> 31 == 1 { ordered & 0x7FFF_FFFF } else { !ordered };
    Neighbor { value: f32::from_bits(bits), ordinal: key as u32 }
}

/// Collects the `k` nearest of what is pushed.
#[derive(Debug)]
pub struct TopK {
    k: usize,
    heap: BinaryHeap<u64>,
}

impl TopK {
    /// An empty collection for `k` rows; with `k` 0 it stays empty.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::with_capacity(k.min(1 << 16) + 1) }
    }

    /// Offers a row.
    pub fn push(&mut self, value: f32, ordinal: u32) {
        let key = key(value, ordinal);
        if self.heap.len() < self.k {
            self.heap.push(key);
            return;
        }
        if self.heap.peek().is_some_and(|worst| key < *worst) {
            self.heap.pop();
            self.heap.push(key);
        }
    }

    /// The rows kept, nearest first.
    #[must_use]
    pub fn into_sorted(self) -> Vec<Neighbor> {
        self.heap.into_sorted_vec().into_iter().map(unkey).collect()
    }

    /// The farthest value kept once there are `k`; a farther row does not get in.
    #[must_use]
    pub fn worst(&self) -> Option<f32> {
        let worst = self.heap.peek().filter(|_| self.heap.len() >= self.k)?;
        Some(unkey(*worst).value)
    }

    /// Rows kept so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing was kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keeps_what_sorting_would_keep(
            values in prop::collection::vec(prop::num::f32::ANY, 0..60),
            k in 0_usize..20,
        ) {
            let mut top = TopK::new(k);
            let mut model = Vec::new();
            for (ordinal, value) in values.iter().enumerate() {
                let ordinal = u32::try_from(ordinal).unwrap();
                top.push(*value, ordinal);
                model.push((*value, ordinal));
            }
            model.sort_by(|a, b| {
                a.0.is_nan().cmp(&b.0.is_nan())
                    .then(if a.0.is_nan() { std::cmp::Ordering::Equal } else { a.0.total_cmp(&b.0) })
                    .then(a.1.cmp(&b.1))
            });
            model.truncate(k);
            let got: Vec<u32> = top.into_sorted().iter().map(|n| n.ordinal).collect();
            let expected: Vec<u32> = model.iter().map(|n| n.1).collect();
            prop_assert_eq!(got, expected);
        }
    }
}
