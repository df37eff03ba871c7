//! The state as of an instant.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::Catalog;
use types::{CommitTs, TableId};

use super::horizon::{Pin, Pins};
use crate::error::{StorageError, format_micros};
use crate::memtable::{Definition, Table};
use crate::sequences::Sequences;
use crate::wal::LogPosition;

/// The state after one commit.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) position: LogPosition,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) tables: Arc<BTreeMap<TableId, Arc<Table>>>,
    /// The same in all states: what sequences gave away is gone at any instant.
    pub(crate) sequences: Arc<Sequences>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            position: LogPosition::START,
            catalog: Arc::default(),
            tables: Arc::default(),
            sequences: Arc::default(),
        }
    }
}

/// The state as of an instant. Pinned once per statement and handed down by value.
#[derive(Debug, Clone)]
pub struct ReadView {
    at: CommitTs,
    pins: Arc<Pins>,
    /// Absent in a view that keeps nothing.
    pin: Option<Arc<Pin>>,
    state: Arc<State>,
}

impl ReadView {
    /// The newest state, which `state` gives.
    pub(crate) fn pinned(pins: &Arc<Pins>, state: impl FnOnce() -> Arc<State>) -> Self {
        // The state is fetched when no horizon can be raised past it.
        let (pin, state) = pins.pin(|| {
            let state = state();
            (state.position.commit_ts, state)
        });
        Self { at: pin.at(), pins: Arc::clone(pins), pin: Some(Arc::new(pin)), state }
    }

    /// The instant.
    #[must_use]
    pub fn at(&self) -> CommitTs {
        self.at
    }

    /// Keeps what the view sees as long as it lives, also when the view is gone.
    #[must_use]
    pub fn pin(&self) -> Option<Arc<Pin>> {
        self.pin.clone()
    }

    /// The same view, which no longer keeps row versions from being dropped: for those that stay
    /// behind when a statement has ended.
    #[must_use]
    pub fn unpinned(&self) -> Self {
        Self { pin: None, ..self.clone() }
    }

    /// The same instant with another catalog, other tables in the place of some, and other sequences.
    pub(crate) fn with(
        &self,
        catalog: &Arc<Catalog>,
        own: &BTreeMap<TableId, Arc<Table>>,
        sequences: &Arc<Sequences>,
    ) -> Self {
        let mut tables = BTreeMap::clone(&self.state.tables);
        tables.extend(own.iter().map(|(id, table)| (*id, Arc::clone(table))));
        let (catalog, tables) = (Arc::clone(catalog), Arc::new(tables));
        let (position, sequences) = (self.state.position, Arc::clone(sequences));
        let state = State { catalog, tables, position, sequences };
        Self { state: Arc::new(state), ..self.clone() }
    }

    /// The catalog; ask it for what exists [`ReadView::at`] the instant.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.state.catalog
    }

    /// The catalog as a value that is the same as long as nothing was defined.
    #[must_use]
    pub fn shared_catalog(&self) -> &Arc<Catalog> {
        &self.state.catalog
    }

    /// How far sequences have come by now.
    #[must_use]
    pub fn sequences(&self) -> &Arc<Sequences> {
        &self.state.sequences
    }

    /// A table by id, whether it still exists or not.
    #[must_use]
    pub fn table(&self, id: TableId) -> Option<&Arc<Table>> {
        self.state.tables.get(&id)
    }

    /// The definition of a table at the view's instant.
    #[must_use]
    pub fn definition(&self, table: &Table) -> Arc<Definition> {
        let seen = self.catalog().collection_at(table.definition().id, self.at);
        seen.map_or_else(|| table.definition(), |seen| table.definition_of(seen))
    }

    /// A table by id when the view's instant can be read in it.
    ///
    /// # Errors
    /// When versions that ended after the instant may have been dropped.
    pub fn readable(&self, id: TableId) -> Result<Option<&Arc<Table>>, StorageError> {
        let Some(table) = self.table(id) else { return Ok(None) };
        let (instant, horizon) = (self.at(), table.horizon());
        if instant < horizon {
            let name = &table.definition().name;
            let earliest = format_micros(horizon);
            let why = format!("before the earliest readable instant of table {name}, {earliest}");
            return Err(StorageError::InstantOutOfRange { instant, why });
        }
        Ok(Some(table))
    }

    /// The same state as of an earlier instant.
    ///
    /// # Errors
    /// When `at` lies before the first commit or after this view's last one.
    pub fn as_of(&self, at: CommitTs) -> Result<Self, StorageError> {
        let out_of_range = |why: String| StorageError::InstantOutOfRange { instant: at, why };
        if at < self.state.catalog.genesis {
            let earliest = format_micros(self.state.catalog.genesis);
            return Err(out_of_range(format!("before the earliest readable instant, {earliest}")));
        }
        if at > self.state.position.commit_ts {
            return Err(out_of_range("after the last commit".to_owned()));
        }
        let (pin, ()) = self.pins.pin(|| (at, ()));
        Ok(Self { at, pin: Some(Arc::new(pin)), ..self.clone() })
    }

    /// The last entry of the log that this view's state holds.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        self.state.position
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.state.tables.values()
    }
}
