//! The replicated state machine: catalog and tables, changed by applying commands in log order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use catalog::{Define, Defined};
use parking_lot::RwLock;
use types::{CommitTs, TableId};

use crate::command::{After, Command, Definitions, TableWrite, Transacted};
use crate::commit::{Effect, Outcome};
use crate::error::{Rejection, StorageError};
use crate::indexer::Indexer;
use crate::memtable::{Definition, Rows, Table, VectorIndex};
use crate::mvcc::{Pins, ReadView, State};
use crate::wal::{self, LogPosition};

/// Applies commands; owned by the store and its threads.
#[derive(Debug)]
pub(crate) struct Machine {
    state: RwLock<Arc<State>>,
    pub(crate) pins: Arc<Pins>,
    pub(crate) indexer: Indexer,
    pub(crate) chunk_bits: u32,
    /// Log bytes since the last checkpoint.
    pub(crate) log_bytes: AtomicU64,
}

impl Machine {
    pub(crate) fn new(state: State, chunk_bits: u32, index_threads: usize) -> Self {
        Self {
            state: RwLock::new(Arc::new(state)),
            pins: Arc::default(),
            indexer: Indexer::new(index_threads),
            chunk_bits,
            log_bytes: AtomicU64::new(0),
        }
    }

    /// Applies an entry read from the log.
    pub(crate) fn replay(&self, entry: &wal::Entry) -> Result<(), StorageError> {
        let state = Arc::clone(&self.state.read());
        let definitions = Known { state: &state, at: entry.commit_ts };
        let decoded = Command::decode(&entry.payload, &definitions);
        let (command, unread) = decoded.map_err(StorageError::apply)?;
        let position =
            LogPosition { term: entry.term, index: entry.index, commit_ts: entry.commit_ts };
        // A rejection was reported when the entry was first applied.
        let outcome = self.apply(&command, position, entry.payload.len())?;
        if unread && outcome.is_ok() {
            return Err(StorageError::apply("rows of a definition that is not there"));
        }
        Ok(())
    }

    /// Indexes that do not cover all rows, or lack codes.
    pub(crate) fn uncovered(&self) -> Vec<(Arc<Rows>, Arc<VectorIndex>)> {
        let state = Arc::clone(&self.state.read());
        let mut found = Vec::new();
        for table in state.tables.values() {
            let contents = table.contents();
            for index in contents.indexes() {
                if index.is_behind(&contents.rows) {
                    found.push((Arc::clone(&contents.rows), Arc::clone(index)));
                }
            }
        }
        found
    }

    /// The newest state.
    pub(crate) fn view(&self) -> ReadView {
        ReadView::pinned(&self.pins, || Arc::clone(&self.state.read()))
    }

    /// Applies one entry. The outcome depends on the state and the command alone.
    pub(crate) fn apply(
        &self,
        command: &Command,
        position: LogPosition,
        bytes: usize,
    ) -> Result<Outcome, StorageError> {
        let before = Arc::clone(&self.state.read());
        let mut after = State { position, ..State::clone(&before) };
        let outcome = match command {
            Command::Write(writes) => apply_writes(&before, writes, position.commit_ts)?,
            Command::Define(define) => {
                apply_define(&mut after, define, position.commit_ts, self.chunk_bits)?
            }
            Command::Transaction(transacted) => {
                apply_transaction(&mut after, transacted, position.commit_ts, self.chunk_bits)?
            }
            Command::Tick => Ok(Effect::Ticked),
        };
        *self.state.write() = Arc::new(after);
        // Not before there is something to find: a table may have come with its rows and index.
        if matches!(outcome, Ok(Effect::Written | Effect::Defined(_))) {
            self.indexer.wake();
        }
        self.log_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(outcome)
    }
}

/// The definitions of a state.
struct Known<'a> {
    state: &'a State,
    at: CommitTs,
}

impl Definitions for Known<'_> {
    fn now(&self, table: TableId) -> Option<Arc<Definition>> {
        self.state.tables.get(&table).map(|table| table.definition())
    }

    fn after(&self, next_id: u32, defines: &[Define]) -> Option<After> {
        let later = self.state.catalog.next_id().checked_sub(next_id)?;
        let moved = move |id: u32| if id >= next_id { id.saturating_add(later) } else { id };
        let mut catalog = Arc::clone(&self.state.catalog);
        for define in defines {
            catalog = Arc::new(catalog.define(&define.with_ids(moved), self.at).ok()?.0);
        }
        let tables = Arc::clone(&self.state.tables);
        Some(Box::new(move |id| {
            let id = TableId(moved(id.0));
            let collection = catalog.collection_by_id(id)?;
            let known = tables.get(&id).map(|table| table.definition_of(collection));
            Some(known.unwrap_or_else(|| Arc::new(Definition::new(collection.clone()))))
        }))
    }
}

/// All tables are checked before the first one changes.
fn apply_writes(
    state: &State,
    writes: &[TableWrite],
    at: CommitTs,
) -> Result<Outcome, StorageError> {
    let mut checked = Vec::with_capacity(writes.len());
    for (place, write) in writes.iter().enumerate() {
        if writes[..place].iter().any(|earlier| earlier.table == write.table) {
            return Ok(Err(Rejection::Malformed("a command names a table twice")));
        }
        let alive = state.catalog.collection_by_id(write.table);
        let Some(table) = state.tables.get(&write.table) else {
            return Ok(Err(Rejection::TableGone));
        };
        if !alive.is_some_and(|collection| collection.life.contains(at)) {
            return Ok(Err(Rejection::TableGone));
        }
        match table.check(write)? {
            Ok(proof) => checked.push((table, write, proof)),
            Err(rejection) => return Ok(Err(rejection)),
        }
    }
    for (table, write, proof) in checked {
        table.apply(write, proof, at)?;
    }
    Ok(Ok(Effect::Written))
}

fn apply_define(
    state: &mut State,
    define: &Define,
    at: CommitTs,
    chunk_bits: u32,
) -> Result<Outcome, StorageError> {
    let defined = match change_catalog(state, define, at, chunk_bits)? {
        Ok(defined) => defined,
        Err(rejection) => return Ok(Err(rejection)),
    };
    redefine(state, define)?;
    change_indexes(state, &defined, at);
    advance(state, define);
    Ok(Ok(Effect::Defined(defined)))
}

/// All changes of the catalog and all writes are checked before the first table changes.
fn apply_transaction(
    state: &mut State,
    transacted: &Transacted,
    at: CommitTs,
    chunk_bits: u32,
) -> Result<Outcome, StorageError> {
    let first = transacted.next_id;
    let Some(later) = state.catalog.next_id().checked_sub(first) else {
        return Ok(Err(Rejection::Malformed("ids that were never given")));
    };
    let moved = |id: u32| if id >= first { id.saturating_add(later) } else { id };
    let mut next = state.clone();
    let mut done = Vec::with_capacity(transacted.defines.len());
    for define in &transacted.defines {
        let define = define.with_ids(moved);
        match change_catalog(&mut next, &define, at, chunk_bits)? {
            Ok(defined) => done.push((define, defined)),
            Err(rejection) => return Ok(Err(rejection)),
        }
    }
    let write =
        |write: &TableWrite| TableWrite { table: TableId(moved(write.table.0)), ..write.clone() };
    let writes: Vec<TableWrite> = transacted.writes.iter().map(write).collect();
    // Rows are written in the new columns; until the state is replaced nobody else asks for these.
    let mut before = Vec::new();
    for (define, _) in &done {
        before.extend(redefine(&next, define)?);
    }
    if let Err(rejection) = apply_writes(&next, &writes, at)? {
        let mut before = before.into_iter().rev();
        before.try_for_each(|(table, definition)| table.redefine(definition))?;
        return Ok(Err(rejection));
    }
    for (define, defined) in &done {
        change_indexes(&next, defined, at);
        advance(&next, define);
    }
    *state = next;
    Ok(Ok(Effect::Written))
}

/// Changes the catalog of `state`, and adds the table that came. Tables that are shared do not change.
fn change_catalog(
    state: &mut State,
    define: &Define,
    at: CommitTs,
    chunk_bits: u32,
) -> Result<Result<Defined, Rejection>, StorageError> {
    if let Define::Alter { table, rows: Some(rows), .. } = define
        && state.tables.get(table).is_some_and(|table| table.rows().next_row() != *rows)
    {
        return Ok(Err(Rejection::Conflict));
    }
    let (catalog, defined) = match state.catalog.define(define, at) {
        // What plans were made for is the same.
        Ok((_, defined)) if matches!(define, Define::Advance { .. }) => return Ok(Ok(defined)),
        Ok(changed) => changed,
        Err(error) => return Ok(Err(Rejection::Catalog(error))),
    };
    if let Defined::Collection(id) = &defined
        && let Some(collection) = catalog.collection_by_id(*id)
    {
        let table = Table::new(collection.clone(), chunk_bits).map_err(StorageError::apply)?;
        let mut tables = BTreeMap::clone(&state.tables);
        tables.insert(*id, Arc::new(table));
        state.tables = Arc::new(tables);
    }
    state.catalog = Arc::new(catalog);
    Ok(Ok(defined))
}

/// A table and its definition before.
type Redefined = (Arc<Table>, Arc<Definition>);

/// Gives a table its newest definition; the table and the one before.
fn redefine(state: &State, define: &Define) -> Result<Option<Redefined>, StorageError> {
    let Define::Alter { table: id, .. } = define else { return Ok(None) };
    let known = state.tables.get(id).zip(state.catalog.collection_by_id(*id));
    let Some((table, collection)) = known else { return Ok(None) };
    let before = table.definition();
    table.redefine(Arc::new(Definition::new(collection.clone())))?;
    Ok(Some((Arc::clone(table), before)))
}

/// Notes how far a sequence has come.
fn advance(state: &State, define: &Define) {
    if let Define::Advance { id, position } = define {
        state.sequences.set(*id, *position);
    }
}

/// Gives tables the index that came at `at`, and takes those that went.
fn change_indexes(state: &State, defined: &Defined, at: CommitTs) {
    match defined {
        Defined::Index(id) => {
            let index = state.catalog.index_by_id(*id).filter(|index| index.life.contains(at));
            if let Some(index) = index
                && let Some(table) = state.tables.get(&index.table)
            {
                table.add_index(index);
            }
        }
        Defined::Dropped => {
            let gone = state.catalog.indexes_ever().filter(|index| index.life.dropped == Some(at));
            for index in gone {
                if let Some(table) = state.tables.get(&index.table) {
                    table.drop_index(index);
                }
            }
        }
        Defined::Collection(_)
        | Defined::Namespace(_)
        | Defined::Sequence(_)
        | Defined::Altered => {}
    }
}
