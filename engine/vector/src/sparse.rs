//! Sparse vectors, and inverted lists over them: for each dimension the rows that are not zero in it.
//!
//! A search goes through the lists of the query's dimensions and adds up what each row has in common
//! with it; a row in none of them is as far as its length alone says. The answer is exact.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use types::Distance;

use crate::{Neighbor, TopK};

/// Rows that get their entries under one lock, so that searches wait for a moment only.
const APPENDED_TOGETHER: usize = 64;

/// A vector of which only the numbers that are not zero are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sparse<'a> {
    dim: usize,
    indices: &'a [Word],
    values: &'a [Word],
}

/// A number's bytes, the least significant first: read from wherever they lie.
pub type Word = [u8; 4];

impl<'a> Sparse<'a> {
    /// `values`, which are `f32`, at `indices`, which are `i32`, ascend from zero on and are below `dim`;
    /// `None` when there are not as many of both.
    #[must_use]
    pub fn new(dim: usize, indices: &'a [Word], values: &'a [Word]) -> Option<Self> {
        (indices.len() == values.len()).then_some(Self { dim, indices, values })
    }

    /// Its dimension.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The numbers that are kept, with their positions from zero on.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (i32, f32)> + use<'a> {
        let number = |(index, value): (&Word, &Word)| {
            (i32::from_le_bytes(*index), f32::from_le_bytes(*value))
        };
        self.indices.iter().zip(self.values).map(number)
    }

    /// The memory of the numbers.
    pub(crate) fn words(&self) -> &'a [Word] {
        self.values
    }

    /// Adds up `both` for positions that two vectors have in common, and `one` for numbers that only
    /// one has.
    fn fold(&self, other: &Self, both: impl Fn(f64, f64) -> f64, one: impl Fn(f64) -> f64) -> f64 {
        let mut sum = 0.0;
        let mut others = other.entries().peekable();
        for (index, value) in self.entries() {
            while let Some((_, value)) = others.next_if(|(before, _)| *before < index) {
                sum += one(f64::from(value));
            }
            sum += match others.next_if(|(same, _)| *same == index) {
                Some((_, other)) => both(f64::from(value), f64::from(other)),
                None => one(f64::from(value)),
            };
        }
        sum + others.map(|(_, value)| one(f64::from(value))).sum::<f64>()
    }

    /// The search value of two vectors: smaller is nearer, NaN when cosine meets a zero vector. L2 is
    /// squared.
    ///
    /// # Panics
    /// When the dimensions differ.
    #[must_use]
    pub fn between(&self, other: &Self, distance: Distance) -> f64 {
        assert_eq!(self.dim, other.dim, "vectors of different dimensions");
        let product = || self.fold(other, |a, b| a * b, |_| 0.0);
        match distance {
            Distance::L2 => self.fold(other, |a, b| (a - b) * (a - b), |a| a * a),
            Distance::L1 => self.fold(other, |a, b| (a - b).abs(), f64::abs),
            Distance::InnerProduct => -product(),
            Distance::Cosine => {
                let lengths = length(*self, distance).sqrt() * length(*other, distance).sqrt();
                1.0 - (product() / lengths).clamp(-1.0, 1.0)
            }
            Distance::Hamming | Distance::Jaccard => f64::NAN,
        }
    }
}

/// What a distance needs to know of each vector alone: the sum of absolute numbers, or of squares.
fn length(vector: Sparse<'_>, distance: Distance) -> f64 {
    let values = vector.entries().map(|(_, value)| f64::from(value));
    if distance == Distance::L1 {
        values.map(f64::abs).sum()
    } else {
        values.map(|value| value * value).sum()
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    ordinal: u32,
    value: f32,
}

#[derive(Debug, Default)]
struct Lists {
    by_index: HashMap<i32, Vec<Entry>>,
    /// See [`length`], by ordinal; NaN for a row without a vector.
    lengths: Vec<f64>,
    entries: usize,
    /// The greatest of `lengths`.
    longest: f64,
}

/// Inverted lists of the ordinals `0..len`.
#[derive(Debug)]
pub struct InvertedLists {
    distance: Distance,
    lists: RwLock<Lists>,
}

impl InvertedLists {
    /// No rows yet.
    #[must_use]
    pub fn new(distance: Distance) -> Self {
        Self { distance, lists: RwLock::default() }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Lists> {
        self.lists.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ordinals that have entries.
    #[must_use]
    pub fn len(&self) -> u32 {
        u32::try_from(self.read().lengths.len()).unwrap_or(u32::MAX)
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the entries and what is kept for each row and list.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let lists = self.read();
        let kept: usize = lists.by_index.values().map(|list| list.capacity()).sum();
        let list = size_of::<(i32, Vec<Entry>)>() + 1;
        kept * size_of::<Entry>() + lists.by_index.capacity() * list + lists.lengths.capacity() * 8
    }

    /// Gives the next ordinals their entries; `None` is a row without a vector.
    pub fn append<'v>(&self, rows: &[Option<Sparse<'v>>]) {
        for rows in rows.chunks(APPENDED_TOGETHER) {
            let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
            for row in rows {
                let ordinal = u32::try_from(lists.lengths.len()).unwrap_or(u32::MAX);
                let own = row.map_or(f64::NAN, |row| length(row, self.distance));
                lists.lengths.push(own);
                lists.longest = lists.longest.max(own);
                for (index, value) in row.iter().flat_map(Sparse::entries) {
                    lists.by_index.entry(index).or_default().push(Entry { ordinal, value });
                    lists.entries += 1;
                }
            }
        }
    }

    /// Numbers that are not zero, of a row on average.
    #[must_use]
    pub fn mean_entries(&self) -> f64 {
        let lists = self.read();
        lists.entries as f64 / lists.lengths.len().max(1) as f64
    }

    /// Entries that a search for `query` reads.
    #[must_use]
    pub fn entries_of(&self, query: Sparse<'_>) -> usize {
        let lists = self.read();
        let list = |(index, _)| lists.by_index.get(&index).map_or(0, Vec::len);
        query.entries().map(list).sum()
    }

    /// The `k` nearest of the ordinals below `limit` that are admitted, nearest first, and how many
    /// distances were computed. `admitted` has them all; rows without a distance are left out. Last, by how much
    /// a distance can be wrong.
    pub fn search(
        &self,
        query: Sparse<'_>,
        (k, limit): (usize, u32),
        admit: impl Fn(u32) -> bool,
        admitted: impl Iterator<Item = u32>,
    ) -> (Vec<Neighbor>, u64, f64) {
        let lists = self.read();
        let limit = (limit as usize).min(lists.lengths.len());
        let mut common = vec![0.0_f64; limit];
        for (index, weight) in query.entries() {
            let weight = f64::from(weight);
            for entry in lists.by_index.get(&index).into_iter().flatten() {
                let Some(sum) = common.get_mut(entry.ordinal as usize) else { break };
                let value = f64::from(entry.value);
                *sum += if self.distance == Distance::L1 {
                    // What the sum of both lengths has too much.
                    weight.abs() + value.abs() - (weight - value).abs()
                } else {
                    weight * value
                };
            }
        }
        let own = length(query, self.distance);
        // L2 is a small difference of large numbers when vectors are much longer than they are apart.
        let error = match self.distance {
            Distance::L2 | Distance::L1 => 8.0 * f64::EPSILON * (own + lists.longest),
            Distance::InnerProduct | Distance::Cosine | Distance::Hamming | Distance::Jaccard => {
                0.0
            }
        };
        let value = |ordinal: u32| {
            let (common, length) = (common[ordinal as usize], lists.lengths[ordinal as usize]);
            if length.is_nan() {
                return f64::NAN; // no vector
            }
            match self.distance {
                Distance::L2 => (own + length - 2.0 * common).max(0.0),
                Distance::L1 => (own + length - common).max(0.0),
                Distance::Cosine if length == 0.0 => f64::NAN,
                Distance::Cosine => 1.0 - common / (own.sqrt() * length.sqrt()),
                Distance::InnerProduct | Distance::Hamming | Distance::Jaccard => -common,
            }
        };
        let mut top = TopK::new(k);
        let mut distances = 0;
        let mut push = |ordinal: u32, top: &mut TopK| {
            distances += 1;
            let value = value(ordinal);
            if !value.is_nan() {
                #[expect(clippy::cast_possible_truncation, reason = "a search value")]
                top.push(value as f32, ordinal);
            }
        };
        // The distance of all rows that have nothing in common with the query, where it is the same.
        let nothing = match self.distance {
            Distance::InnerProduct => Some(0.0),
            Distance::Cosine => Some(1.0),
            Distance::L2 | Distance::L1 | Distance::Hamming | Distance::Jaccard => None,
        };
        if let Some(nothing) = nothing {
            // One whose numbers cancel is as far as one without any.
            let touched = (0..).zip(&common).filter(|(_, common)| **common != 0.0);
            let touched = touched.map(|(ordinal, _)| ordinal).filter(|ordinal| admit(*ordinal));
            touched.for_each(|ordinal| push(ordinal, &mut top));
            if top.worst().is_some_and(|worst| worst < nothing) {
                return (top.into_sorted(), distances, error);
            }
            top = TopK::new(k);
        }
        for ordinal in admitted.take_while(|ordinal| (*ordinal as usize) < limit) {
            push(ordinal, &mut top);
        }
        (top.into_sorted(), distances, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Positions and numbers of one vector.
    type Owned = (Vec<Word>, Vec<Word>);
    const DIM: usize = 40;

    fn vector() -> impl Strategy<Value = Owned> {
        prop::collection::btree_map(0_i32..40, -8_i8..8, 0..12).prop_map(|entries| {
            let kept = entries.into_iter().filter(|(_, value)| *value != 0);
            kept.map(|(index, value): (i32, i8)| {
                (index.to_le_bytes(), (f32::from(value) / 2.0).to_le_bytes())
            })
            .unzip()
        })
    }

    fn sparse(owned: &Owned) -> Sparse<'_> {
        Sparse::new(DIM, &owned.0, &owned.1).unwrap()
    }

    fn dense(owned: &Owned) -> Vec<f64> {
        let mut out = vec![0.0; DIM];
        for (index, value) in sparse(owned).entries() {
            out[usize::try_from(index).unwrap()] = f64::from(value);
        }
        out
    }

    fn expected(a: &[f64], b: &[f64], distance: Distance) -> f64 {
        let sum =
            |term: fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| term(*a, *b)).sum::<f64>();
        let square = |v: &[f64]| v.iter().map(|n| n * n).sum::<f64>();
        match distance {
            Distance::L2 => sum(|a, b| (a - b) * (a - b)),
            Distance::L1 => sum(|a, b| (a - b).abs()),
            Distance::InnerProduct => -sum(|a, b| a * b),
            Distance::Cosine | Distance::Hamming | Distance::Jaccard => {
                1.0 - sum(|a, b| a * b) / (square(a) * square(b)).sqrt()
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn lists_answer_like_a_scan(
            rows in prop::collection::vec(prop::option::weighted(0.9, vector()), 1..150),
            query in vector(),
            k in 1_usize..12,
            step in 1_u32..4,
        ) {
            let count = u32::try_from(rows.len()).unwrap();
            for distance in Distance::OF_NUMBERS {
                let lists = InvertedLists::new(distance);
                let kept: Vec<_> = rows.iter().map(|row| row.as_ref().map(sparse)).collect();
                lists.append(&kept);
                prop_assert_eq!(lists.len(), count);
                // The last rows are behind the limit.
                let limit = count - count / 5;
                let admit = |ordinal: u32| ordinal.is_multiple_of(step);
                let admitted = (0..limit).filter(|ordinal| admit(*ordinal));
                let (found, ..) = lists.search(sparse(&query), (k, limit), admit, admitted.clone());
                let mut truth: Vec<f64> = admitted
                    .filter_map(|ordinal| rows[ordinal as usize].as_ref())
                    .map(|row| {
                        let value = sparse(&query).between(&sparse(row), distance);
                        let slow = expected(&dense(&query), &dense(row), distance);
                        assert!((value - slow).abs() < 1e-9 || value.is_nan() && slow.is_nan());
                        slow
                    })
                    .filter(|value| !value.is_nan())
                    .collect();
                truth.sort_by(f64::total_cmp);
                truth.truncate(k);
                let values: Vec<f64> = found.iter().map(|n| f64::from(n.value)).collect();
                prop_assert_eq!(values.len(), truth.len());
                for (value, truth) in values.iter().zip(&truth) {
                    prop_assert!((value - truth).abs() < 1e-5, "{distance:?}: {value} {truth}");
                }
                for neighbor in &found {
                    prop_assert!(admit(neighbor.ordinal) && neighbor.ordinal < limit);
                }
            }
        }
    }
}
