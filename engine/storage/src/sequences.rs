//! How far sequences have come.
//!
//! No part of what a transaction or an instant sees: a value that was given away stays given away,
//! whatever becomes of the statement that took it. Values are taken from blocks that the log knows to be
//! gone, so that most of them cost no entry; what is left of a block at a crash is never given.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::{Define, Sequence, SequencePosition};
use parking_lot::Mutex;
use types::SequenceId;

use crate::error::StorageError;

/// Values of the first block, PostgreSQL's choice; each further one has twice as many.
const BLOCK_FIRST: u64 = 32;
const BLOCK_MAX: u64 = 4_096;

/// What the log is told of: values that are given away.
type Tell<'a> = &'a dyn Fn(Define) -> Result<(), StorageError>;

/// How far all sequences have come.
#[derive(Debug, Default)]
pub struct Sequences {
    /// What the log says.
    logged: Mutex<BTreeMap<SequenceId, SequencePosition>>,
    blocks: Mutex<BTreeMap<SequenceId, Arc<Mutex<Block>>>>,
    /// In a transaction: the sequences of all, and the first id of those that are its own.
    shared: Option<(Arc<Self>, SequenceId)>,
}

/// Values that the log knows to be gone and that nobody has yet.
#[derive(Debug)]
struct Block {
    /// The last value given.
    position: SequencePosition,
    left: u64,
    /// How many the next one has.
    next: u64,
}

impl Sequences {
    pub(crate) fn restored(positions: BTreeMap<SequenceId, SequencePosition>) -> Self {
        Self { logged: Mutex::new(positions), ..Self::default() }
    }

    /// Those of a transaction that makes sequences with ids from `first` on.
    pub(crate) fn of_transaction(shared: &Arc<Self>, first: SequenceId) -> Self {
        Self { shared: Some((Arc::clone(shared), first)), ..Self::default() }
    }

    /// What the log says.
    pub(crate) fn positions(&self) -> BTreeMap<SequenceId, SequencePosition> {
        self.logged.lock().clone()
    }

    /// Notes what the log says.
    pub(crate) fn set(&self, id: SequenceId, position: SequencePosition) {
        self.logged.lock().insert(id, position);
    }

    /// Forgets what a transaction took from sequences that it made and took back.
    pub(crate) fn forget_from(&self, first: u32) {
        self.logged.lock().retain(|id, _| id.0 < first);
    }

    /// What a transaction took from its own sequences.
    pub(crate) fn advances(&self) -> Vec<Define> {
        let advance = |(id, position)| Define::Advance { id, position };
        self.positions().into_iter().map(advance).collect()
    }

    /// The sequence's own, unless it belongs to the transaction.
    fn holder(&self, id: SequenceId) -> Option<&Arc<Self>> {
        self.shared.as_ref().filter(|(_, first)| id < *first).map(|(shared, _)| shared)
    }

    fn position(&self, sequence: &Sequence) -> SequencePosition {
        let logged = self.logged.lock().get(&sequence.id).copied();
        logged.unwrap_or_else(|| sequence.beginning())
    }

    fn block(&self, sequence: &Sequence) -> Arc<Mutex<Block>> {
        let begin = || {
            let position = self.position(sequence);
            Arc::new(Mutex::new(Block { position, left: 0, next: BLOCK_FIRST }))
        };
        Arc::clone(self.blocks.lock().entry(sequence.id).or_insert_with(begin))
    }

    /// The next `count` values.
    pub(crate) fn take(
        &self,
        sequence: &Sequence,
        count: usize,
        tell: Tell<'_>,
    ) -> Result<Vec<i64>, StorageError> {
        if let Some(shared) = self.holder(sequence.id) {
            return shared.take(sequence, count, tell);
        }
        let end = || StorageError::SequenceEnd {
            name: sequence.name.clone(),
            rising: sequence.options.increment > 0,
            bound: match sequence.options.increment > 0 {
                true => sequence.options.max,
                false => sequence.options.min,
            },
        };
        let mut values = Vec::with_capacity(count);
        if self.shared.is_some() {
            let mut position = self.position(sequence);
            for _ in 0..count {
                position = sequence.next(position).ok_or_else(end)?;
                values.push(position.value);
            }
            self.set(sequence.id, position);
            return Ok(values);
        }
        let block = self.block(sequence);
        let mut block = block.lock();
        while values.len() < count {
            if block.left == 0 {
                let wanted = block.next.max((count - values.len()) as u64);
                let (mut position, mut left) = (block.position, 0);
                while left < wanted
                    && let Some(next) = sequence.next(position)
                {
                    (position, left) = (next, left + 1);
                }
                if left == 0 {
                    return Err(end());
                }
                tell(Define::Advance { id: sequence.id, position })?;
                block.left = left;
                block.next = (2 * block.next).min(BLOCK_MAX);
            }
            block.position = sequence.next(block.position).ok_or_else(end)?;
            block.left -= 1;
            values.push(block.position.value);
        }
        Ok(values)
    }

    /// Sets a sequence.
    pub(crate) fn put(
        &self,
        sequence: &Sequence,
        position: SequencePosition,
        tell: Tell<'_>,
    ) -> Result<(), StorageError> {
        if let Some(shared) = self.holder(sequence.id) {
            return shared.put(sequence, position, tell);
        }
        if self.shared.is_some() {
            self.set(sequence.id, position);
            return Ok(());
        }
        let block = self.block(sequence);
        let mut block = block.lock();
        tell(Define::Advance { id: sequence.id, position })?;
        *block = Block { position, left: 0, next: BLOCK_FIRST };
        Ok(())
    }

    /// How far a sequence has come.
    #[must_use]
    pub fn last(&self, sequence: &Sequence) -> SequencePosition {
        match self.holder(sequence.id) {
            Some(shared) => shared.last(sequence),
            None if self.shared.is_some() => self.position(sequence),
            None => self.block(sequence).lock().position,
        }
    }

    /// Gives back what is left of all blocks, at the end of a server that had time for it.
    pub(crate) fn give_back(&self, tell: Tell<'_>) -> Result<(), StorageError> {
        let blocks = std::mem::take(&mut *self.blocks.lock());
        for (id, block) in blocks {
            let Block { position, left, .. } = *block.lock();
            if left > 0 {
                match tell(Define::Advance { id, position }) {
                    // One that was dropped.
                    Ok(()) | Err(StorageError::Rejected(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use catalog::{ColumnType, Lifetime, SequenceOptions};
    use types::{CommitTs, SchemaId};

    fn sequence(options: SequenceOptions) -> Sequence {
        let life = Lifetime { created: CommitTs(1), dropped: None };
        let (id, schema) = (SequenceId(7), SchemaId(1));
        Sequence { id, schema, name: "s".to_owned(), options, owner: None, life }
    }

    fn counting() -> SequenceOptions {
        SequenceOptions::counting(ColumnType::Int8)
    }

    /// Notes in `sequences` what the log would.
    fn log(sequences: &Sequences, define: &Define) {
        let Define::Advance { id, position } = define else { panic!() };
        sequences.set(*id, *position);
    }

    #[test]
    fn values_are_given_once_whatever_is_lost() {
        let sequence = sequence(counting());
        let mut kept = Sequences::default();
        let mut all = Vec::new();
        for count in [1, 40, 3, 100, 1] {
            all.extend(
                kept.take(&sequence, count, &|d| {
                    log(&kept, &d);
                    Ok(())
                })
                .unwrap(),
            );
            // Only what the log says is left.
            kept = Sequences::restored(kept.positions());
        }
        assert_eq!(all.len(), 145);
        assert!(all.array_windows().all(|[a, b]| a < b), "{all:?}");
    }

    #[test]
    fn a_stop_in_order_leaves_no_gap_and_few_entries_are_written() {
        let sequence = sequence(counting());
        let (sequences, entries) = (Sequences::default(), Mutex::new(0));
        let tell = |d| {
            log(&sequences, &d);
            *entries.lock() += 1;
            Ok(())
        };
        let one = || sequences.take(&sequence, 1, &tell).unwrap()[0];
        assert!((1..=1_000).all(|expected| one() == expected));
        assert_eq!(*entries.lock(), 6, "blocks of 32, 64, 128, 256, 512 and 1,024 values");
        sequences.give_back(&tell).unwrap();
        let next = Sequences::restored(sequences.positions());
        assert_eq!(next.take(&sequence, 1, &|_| Ok(())).unwrap(), [1_001]);
    }

    #[test]
    fn the_end_is_an_error_or_the_beginning() {
        let three = SequenceOptions { max: 3, ..counting() };
        let (ends, sequences) = (sequence(three), Sequences::default());
        let tell = |_| Ok(());
        assert_eq!(sequences.take(&ends, 3, &tell).unwrap(), [1, 2, 3]);
        assert!(matches!(
            sequences.take(&ends, 1, &tell),
            Err(StorageError::SequenceEnd { bound: 3, rising: true, .. })
        ));
        let (round, sequences) =
            (sequence(SequenceOptions { cycle: true, ..three }), Sequences::default());
        assert_eq!(sequences.take(&round, 7, &tell).unwrap(), [1, 2, 3, 1, 2, 3, 1]);
        let position = SequencePosition { value: 3, called: false };
        sequences.put(&round, position, &tell).unwrap();
        assert_eq!(sequences.take(&round, 2, &tell).unwrap(), [3, 1]);
    }

    #[test]
    fn what_cannot_be_logged_is_not_given() {
        let (sequence, sequences) = (sequence(counting()), Sequences::default());
        let full = |_| Err(StorageError::Closed);
        assert!(sequences.take(&sequence, 1, &full).is_err());
        assert_eq!(sequences.take(&sequence, 1, &|_| Ok(())).unwrap(), [1]);
    }

    #[test]
    fn a_transaction_counts_what_is_its_own() {
        let (old, shared) = (sequence(counting()), Arc::new(Sequences::default()));
        let own = Sequence { id: SequenceId(20), ..old.clone() };
        let inside = Sequences::of_transaction(&shared, SequenceId(20));
        let never = |_| panic!("its own are nobody else's");
        assert_eq!(inside.take(&own, 2, &never).unwrap(), [1, 2]);
        assert_eq!(inside.take(&old, 1, &|_| Ok(())).unwrap(), [1]);
        assert_eq!(shared.take(&old, 1, &never).unwrap(), [2]);
        let position = SequencePosition { value: 2, called: true };
        assert_eq!(inside.advances(), [Define::Advance { id: SequenceId(20), position }]);
        inside.forget_from(20);
        assert_eq!(inside.advances(), []);
    }
}
