//! A sequence: an object that gives numbers. How far it has come is not part of the catalog.

use serde::{Deserialize, Serialize};
use types::{SchemaId, SequenceId, TableId};

use crate::{ColumnType, Lifetime};

/// What numbers a sequence gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceOptions {
    /// `smallint`, `integer` or `bigint`.
    pub data_type: ColumnType,
    /// The first value.
    pub start: i64,
    /// From one value to the next; not zero.
    pub increment: i64,
    /// The least value.
    pub min: i64,
    /// The greatest value.
    pub max: i64,
    /// Whether it begins anew at its end.
    pub cycle: bool,
}

impl SequenceOptions {
    /// The bounds of a type's values; `None` when it is not one of integers.
    #[must_use]
    pub fn bounds(data_type: ColumnType) -> Option<(i64, i64)> {
        let of = |known, min: i64, max: i64| (data_type == known).then_some((min, max));
        of(ColumnType::Int2, i16::MIN.into(), i16::MAX.into())
            .or_else(|| of(ColumnType::Int4, i32::MIN.into(), i32::MAX.into()))
            .or_else(|| of(ColumnType::Int8, i64::MIN, i64::MAX))
    }

    /// One, two, three, up to the greatest value of a type of integers.
    #[must_use]
    pub fn counting(data_type: ColumnType) -> Self {
        let max = Self::bounds(data_type).map_or(i64::MAX, |(_, max)| max);
        Self { data_type, start: 1, increment: 1, min: 1, max, cycle: false }
    }

    /// Whether the numbers fit each other and the type.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let Some((least, most)) = Self::bounds(self.data_type) else { return false };
        self.increment != 0
            && least <= self.min
            && self.min < self.max
            && self.max <= most
            && (self.min..=self.max).contains(&self.start)
    }

    /// The value after `last`, and `None` where the sequence ends.
    #[must_use]
    pub fn after(&self, last: i64) -> Option<i64> {
        let next = last.checked_add(self.increment);
        let next = next.filter(|next| (self.min..=self.max).contains(next));
        match (next, self.increment > 0) {
            (Some(next), _) => Some(next),
            (None, _) if !self.cycle => None,
            (None, true) => Some(self.min),
            (None, false) => Some(self.max),
        }
    }
}

/// A sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// Its identity, also its `oid` in `pg_class`.
    pub id: SequenceId,
    /// The namespace it is in.
    pub schema: SchemaId,
    /// Its name.
    pub name: String,
    /// What it gives.
    pub options: SequenceOptions,
    /// The table and the id of the column with which it goes.
    pub owner: Option<(TableId, usize)>,
    /// When it exists.
    pub life: Lifetime,
}

/// How far a sequence has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequencePosition {
    /// The last value that was given away, or the one to give next.
    pub value: i64,
    /// Whether `value` was given away.
    pub called: bool,
}

impl Sequence {
    /// Where it begins.
    #[must_use]
    pub fn beginning(&self) -> SequencePosition {
        SequencePosition { value: self.options.start, called: false }
    }

    /// The next value, and where the sequence is then; `None` at its end.
    #[must_use]
    pub fn next(&self, at: SequencePosition) -> Option<SequencePosition> {
        let value = if at.called { self.options.after(at.value)? } else { at.value };
        Some(SequencePosition { value, called: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_follow_each_other_up_to_the_end() {
        let up = SequenceOptions { max: 3, ..SequenceOptions::counting(ColumnType::Int4) };
        assert_eq!([1, 2, 3].map(|last| up.after(last)), [Some(2), Some(3), None]);
        let around = SequenceOptions { cycle: true, ..up };
        assert_eq!(around.after(3), Some(1));
        let down =
            SequenceOptions { increment: -2, min: -5, max: -1, start: -1, cycle: true, ..up };
        assert_eq!([-1, -3, -5].map(|last| down.after(last)), [Some(-3), Some(-5), Some(-1)]);
        let last = SequenceOptions { max: i64::MAX, ..SequenceOptions::counting(ColumnType::Int8) };
        assert_eq!(last.after(i64::MAX), None);
    }

    #[test]
    fn numbers_that_do_not_fit_are_no_sequence() {
        let good = SequenceOptions::counting(ColumnType::Int2);
        assert!(good.is_valid());
        for bad in [
            SequenceOptions { increment: 0, ..good },
            SequenceOptions { start: 0, ..good },
            SequenceOptions { max: 40_000, ..good },
            SequenceOptions { min: 5, max: 5, start: 5, ..good },
            SequenceOptions { data_type: ColumnType::Text, ..good },
        ] {
            assert!(!bad.is_valid(), "{bad:?}");
        }
    }
}
