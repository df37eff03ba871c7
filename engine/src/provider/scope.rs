//! What a session shares with the hooks that DataFusion calls while a statement is planned.
//!
//! A session plans one statement at a time, so the scope holds that statement's read view; plans
//! that were made keep what they pinned.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use catalog::{Sequence, SequencePosition};
use chrono::{DateTime, Utc};
use datafusion::datasource::MemTable;
use parking_lot::Mutex;
use storage::{ReadView, Store};
use types::{CommitTs, SequenceId, SqlState};

use crate::error::EngineError;
use crate::settings::Settings;
use crate::sql::types::name_parts;
use crate::tuner::Tuner;

/// The statement being planned.
#[derive(Debug)]
pub(crate) struct Scope {
    store: Arc<Store>,
    tuner: Arc<Tuner>,
    view: Mutex<ReadView>,
    /// Whether a statement is being planned; one that was cancelled may go on for a moment.
    busy: AtomicBool,
    /// Latest instant that the statement reads and the view has not reached.
    beyond: Mutex<Option<CommitTs>>,
    settings: Mutex<Settings>,
    /// The statement's `now()`, the same however often it is planned.
    started: Mutex<Option<DateTime<Utc>>>,
    /// Rows that a part of the statement reads and another part made.
    memory: Mutex<Memory>,
    numbers: Mutex<Numbers>,
    /// Changes of settings that a function asked for: name, value, whether for the transaction alone.
    asked: Mutex<Vec<(String, String, bool)>>,
}

/// What the session took from sequences.
#[derive(Debug, Default)]
struct Numbers {
    current: BTreeMap<SequenceId, i64>,
    last: Option<SequenceId>,
}

/// Rows in memory, and the statement they belong to: one that was cancelled may go on for a moment and
/// must not give its rows to the next.
#[derive(Debug, Default)]
struct Memory {
    statement: u64,
    tables: BTreeMap<&'static str, Arc<MemTable>>,
}

impl Memory {
    fn next(&mut self) -> u64 {
        self.tables.clear();
        self.statement += 1;
        self.statement
    }
}

impl Scope {
    pub(crate) fn new(store: Arc<Store>, tuner: Arc<Tuner>) -> Self {
        Self {
            view: Mutex::new(store.read_view().unpinned()),
            store,
            tuner,
            busy: AtomicBool::new(false),
            beyond: Mutex::new(None),
            settings: Mutex::default(),
            started: Mutex::default(),
            memory: Mutex::default(),
            numbers: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    /// Begins a statement at `view`; the number that [`Scope::keep`] asks for.
    pub(crate) fn begin(
        &self,
        view: ReadView,
        settings: Settings,
        started: Option<DateTime<Utc>>,
    ) -> u64 {
        *self.started.lock() = started;
        let mut kept = self.view.lock();
        *kept = if self.busy.load(Ordering::Acquire) { view } else { view.unpinned() };
        drop(kept);
        *self.beyond.lock() = None;
        *self.settings.lock() = settings;
        self.memory.lock().next()
    }

    /// Forgets the view of a transaction that ended.
    pub(crate) fn leave(&self) {
        let newest = self.store.read_view();
        let mut view = self.view.lock();
        *view = if self.busy.load(Ordering::Acquire) { newest } else { newest.unpinned() };
    }

    /// When the result is dropped the statement is planned: the view keeps no row versions any more.
    pub(crate) fn until_rest(self: &Arc<Self>) -> impl Drop + use<> {
        self.busy.store(true, Ordering::Release);
        Rest(Arc::clone(self))
    }

    /// Keeps rows for the rest of statement `statement`, under a name of [`super::MEMORY_CATALOG`].
    pub(crate) fn keep(
        &self,
        statement: u64,
        name: &'static str,
        rows: RecordBatch,
    ) -> Result<(), EngineError> {
        let table = MemTable::try_new(rows.schema(), vec![vec![rows]])?;
        let mut memory = self.memory.lock();
        if memory.statement != statement {
            return Err(EngineError::cancelled());
        }
        memory.tables.insert(name, Arc::new(table));
        Ok(())
    }

    /// What [`Scope::keep`] keeps.
    pub(crate) fn kept(&self, name: &str) -> Option<Arc<MemTable>> {
        self.memory.lock().tables.get(name).map(Arc::clone)
    }

    /// The next values of a sequence, for the session to know again.
    pub(crate) fn next_values(
        &self,
        view: &ReadView,
        sequence: &Sequence,
        count: usize,
    ) -> Result<Vec<i64>, EngineError> {
        if self.settings.lock().is_on("transaction_read_only") {
            let message = "cannot execute nextval() in a read-only transaction";
            return Err(EngineError::new(SqlState::READ_ONLY_SQL_TRANSACTION, message));
        }
        let values = self.store.next_values(view, sequence, count)?;
        if let Some(last) = values.last() {
            let mut numbers = self.numbers.lock();
            numbers.current.insert(sequence.id, *last);
            numbers.last = Some(sequence.id);
        }
        Ok(values)
    }

    /// What the session took last from a sequence.
    pub(crate) fn current_value(&self, sequence: &Sequence) -> Result<i64, EngineError> {
        self.numbers.lock().current.get(&sequence.id).copied().ok_or_else(|| {
            let name = &sequence.name;
            let message =
                format!("currval of sequence \"{name}\" is not yet defined in this session");
            EngineError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
        })
    }

    /// What the session took last from any sequence.
    pub(crate) fn last_value(&self) -> Result<i64, EngineError> {
        let numbers = self.numbers.lock();
        let value = numbers.last.and_then(|id| numbers.current.get(&id).copied());
        value.ok_or_else(|| {
            let message = "lastval is not yet defined in this session";
            EngineError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
        })
    }

    /// Sets a sequence.
    pub(crate) fn set_sequence(
        &self,
        view: &ReadView,
        sequence: &Sequence,
        position: SequencePosition,
    ) -> Result<(), EngineError> {
        if self.settings.lock().is_on("transaction_read_only") {
            let message = "cannot execute setval() in a read-only transaction";
            return Err(EngineError::new(SqlState::READ_ONLY_SQL_TRANSACTION, message));
        }
        self.store.set_sequence(view, sequence, position)?;
        if position.called {
            self.numbers.lock().current.insert(sequence.id, position.value);
        }
        Ok(())
    }

    /// Asks for a change of a setting, from the next statement on.
    pub(crate) fn ask_for(&self, name: &str, value: &str, local: bool) {
        self.asked.lock().push((name.to_owned(), value.to_owned(), local));
    }

    /// What [`Scope::ask_for`] asked for.
    pub(crate) fn asked(&self) -> Vec<(String, String, bool)> {
        std::mem::take(&mut *self.asked.lock())
    }

    /// Forgets what the session took from sequences.
    pub(crate) fn forget_values(&self) {
        *self.numbers.lock() = Numbers::default();
    }

    /// What the views of the server's own state ask.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// What is known of searches.
    pub(crate) fn tuner(&self) -> &Tuner {
        &self.tuner
    }

    /// The statement's `now()`.
    pub(crate) fn started(&self) -> Option<DateTime<Utc>> {
        *self.started.lock()
    }

    /// The statement's read view.
    pub(crate) fn view(&self) -> ReadView {
        self.view.lock().clone()
    }

    /// The schema of unqualified names.
    pub(crate) fn schema(&self) -> String {
        self.settings.lock().default_schema()
    }

    /// Schema and name of a relation in a text; the schema of unqualified names where there is none.
    pub(crate) fn split_name(&self, text: &str) -> (String, String) {
        let mut parts = name_parts(text);
        let name = parts.pop().unwrap_or_default();
        (parts.pop().unwrap_or_else(|| self.schema()), name)
    }

    /// The session's settings.
    pub(crate) fn settings(&self) -> Settings {
        self.settings.lock().clone()
    }

    /// Notes that the statement needs an instant that the view has not reached.
    pub(crate) fn note_beyond(&self, at: CommitTs) {
        let mut beyond = self.beyond.lock();
        *beyond = Some(beyond.map_or(at, |known| known.max(at)));
    }

    /// What [`Scope::note_beyond`] noted.
    pub(crate) fn beyond(&self) -> Option<CommitTs> {
        *self.beyond.lock()
    }
}

/// Lets go of what a statement pinned.
struct Rest(Arc<Scope>);

impl Drop for Rest {
    fn drop(&mut self) {
        let mut view = self.0.view.lock();
        self.0.memory.lock().next();
        self.0.busy.store(false, Ordering::Release);
        *view = view.unpinned();
    }
}
