//! What a transaction of several statements has done so far, and the state with it.
//!
//! A transaction reads at one instant. The first write to a table forks it (`memtable/table/fork.rs`):
//! its view has the fork in the table's place, so scans, keys, counts and indexes see its own rows and
//! nobody else does. Changes of the catalog are made to a catalog of its own. Committing is one
//! [`Command`] of all that is left; the log decides, as for every write, whether another commit came
//! first. Dropping it is all there is to a rollback, and a savepoint is a copy.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::{Catalog, Define, Defined};
use types::limits::ENTRY_BYTES_MAX;
use types::{RowId, SequenceId, TableId};

use crate::command::{Command, TableWrite, Transacted};
use crate::error::{Rejection, StorageError};
use crate::memtable::{Definition, Table, batch_bytes};
use crate::mvcc::ReadView;
use crate::sequences::Sequences;

/// A transaction that has not ended.
#[derive(Debug)]
pub struct Transaction {
    /// The state at its instant, without what it did.
    base: ReadView,
    /// The state with it.
    view: ReadView,
    catalog: Arc<Catalog>,
    /// Changes of the catalog, in order.
    defines: Vec<Define>,
    /// The tables it wrote to or made.
    own: BTreeMap<TableId, Arc<Table>>,
    /// Rows of before that it ended.
    ended: BTreeMap<TableId, Vec<RowId>>,
    /// Bytes of all rows it added, of those that it removed again, too.
    bytes: usize,
    chunk_bits: u32,
    /// Those of all, and how far its own have come. Not taken back with a savepoint.
    sequences: Arc<Sequences>,
}

impl Transaction {
    /// A transaction at the instant of `view`, which has done nothing.
    pub(crate) fn new(view: ReadView, chunk_bits: u32) -> Self {
        let catalog = Arc::clone(view.shared_catalog());
        let (own, ended) = (BTreeMap::new(), BTreeMap::new());
        let base = view.clone();
        let first = SequenceId(catalog.next_id());
        let sequences = Arc::new(Sequences::of_transaction(base.sequences(), first));
        let (defines, bytes) = (Vec::new(), 0);
        Self { base, view, catalog, defines, own, ended, bytes, chunk_bits, sequences }
    }

    /// The state as the transaction sees it.
    #[must_use]
    pub fn view(&self) -> &ReadView {
        &self.view
    }

    /// Whether it has done nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.defines.is_empty()
    }

    /// Writes to a table, seen from the next [`Transaction::view`] on.
    ///
    /// # Errors
    /// When a row ended meanwhile, a key is taken, the transaction grows too large, or the table is
    /// damaged; nothing is written then.
    pub fn write(&mut self, write: &TableWrite) -> Result<(), StorageError> {
        let bytes = self.bytes + write.begun.as_ref().map_or(0, batch_bytes);
        if bytes > ENTRY_BYTES_MAX {
            return Err(StorageError::EntryTooLarge { bytes, max: ENTRY_BYTES_MAX });
        }
        let at = self.base.at();
        let table = match self.own.get(&write.table) {
            Some(table) => Arc::clone(table),
            None => {
                let shared = self.base.readable(write.table)?.ok_or(Rejection::TableGone)?;
                shared.check_lookup()?;
                Arc::new(shared.fork(at)?)
            }
        };
        let proof = table.check(write)??;
        table.apply(write, proof, at)?;
        let before = write.ended.iter().filter(|row| !table.is_own(**row));
        self.ended.entry(write.table).or_default().extend(before);
        self.bytes = bytes;
        if self.own.insert(write.table, table).is_none() {
            self.look_again();
        }
        Ok(())
    }

    fn look_again(&mut self) {
        self.view = self.base.with(&self.catalog, &self.own, &self.sequences);
    }

    /// Changes the catalog.
    ///
    /// # Errors
    /// When a name is taken or an object is gone; nothing changes then.
    pub fn define(&mut self, define: &Define) -> Result<(), StorageError> {
        let at = self.base.at();
        let (catalog, defined) = self.catalog.define(define, at).map_err(Rejection::Catalog)?;
        // A savepoint may have taken back others of these ids.
        self.sequences.forget_from(self.catalog.next_id());
        if let Defined::Collection(id) = defined
            && let Some(collection) = catalog.collection_by_id(id)
        {
            let empty = Table::new(collection.clone(), self.chunk_bits);
            let empty = Arc::new(empty.map_err(StorageError::apply)?);
            self.own.insert(id, Arc::new(empty.fork(at)?));
        }
        if let Define::Alter { table: id, rows, .. } = define
            && let Some(collection) = catalog.collection_by_id(*id)
        {
            let table = match self.own.get(id) {
                Some(table) => Arc::clone(table),
                None => {
                    let shared = self.base.readable(*id)?.ok_or(Rejection::TableGone)?;
                    if rows.is_some_and(|rows| rows != shared.rows().next_row()) {
                        return Err(Rejection::Conflict.into());
                    }
                    Arc::new(shared.fork(at)?)
                }
            };
            table.redefine(Arc::new(Definition::new(collection.clone())))?;
            self.own.insert(*id, table);
        }
        self.catalog = Arc::new(catalog);
        self.defines.push(define.clone());
        self.look_again();
        Ok(())
    }

    /// A copy to go back to.
    ///
    /// # Errors
    /// None but those of a bug.
    pub fn copy(&self) -> Result<Self, StorageError> {
        let copy = |(id, table): (&TableId, &Arc<Table>)| Ok((*id, Arc::new(table.copy()?)));
        let own = self.own.iter().map(copy).collect::<Result<_, StorageError>>()?;
        Ok(Self {
            view: self.base.with(&self.catalog, &own, &self.sequences),
            base: self.base.clone(),
            catalog: Arc::clone(&self.catalog),
            defines: self.defines.clone(),
            own,
            ended: self.ended.clone(),
            sequences: Arc::clone(&self.sequences),
            ..*self
        })
    }

    /// All that is left of what it did; `None` when that is nothing.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn command(&self) -> Result<Option<Command>, StorageError> {
        let at = self.base.at();
        let mut writes = Vec::with_capacity(self.own.len());
        for (id, table) in &self.own {
            let ended = self.ended.get(id).cloned().unwrap_or_default();
            let begun = table.own_rows()?;
            let lives = self.catalog.collection_by_id(*id).is_some_and(|c| c.life.contains(at));
            if lives && (begun.is_some() || !ended.is_empty()) {
                let version = table.definition().version;
                writes.push(TableWrite { table: *id, version, read_ts: at, ended, begun });
            }
        }
        if self.defines.is_empty() {
            return Ok((!writes.is_empty()).then_some(Command::Write(writes)));
        }
        let (next_id, mut defines) = (self.base.catalog().next_id(), self.defines.clone());
        let lives = |define: &Define| match define {
            Define::Advance { id, .. } => {
                self.catalog.sequence_by_id(*id).is_some_and(|s| s.life.contains(at))
            }
            _ => false,
        };
        defines.extend(self.sequences.advances().into_iter().filter(lives));
        Ok(Some(Command::Transaction(Transacted { next_id, defines, writes })))
    }
}
