//! What retention allows a flush to drop.

use catalog::Collection;
use types::{CommitTs, TableId};

use super::horizon::Pins;
use super::read_view::ReadView;
use crate::flush::Horizons;
use crate::memtable::Table;

/// Where every ended row version is taken out, however few there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thorough {
    Nowhere,
    In(TableId),
    Everywhere,
}

/// What retention allows to drop at one moment.
pub(crate) struct Retention<'a> {
    pub(crate) pins: &'a Pins,
    pub(crate) view: &'a ReadView,
    pub(crate) now: i64,
    pub(crate) thorough: Thorough,
}

impl Retention<'_> {
    /// Nothing later than the view, whose ends are the last ones the files tell of.
    fn limit(&self, table: &Table) -> CommitTs {
        let collection = self.view.catalog().collection_by_id(table.definition().id);
        let retention = collection.map_or(i64::MAX, Collection::retention_micros);
        CommitTs(self.now.saturating_sub(retention)).min(self.view.at())
    }
}

impl Horizons for Retention<'_> {
    fn candidate(&self, table: &Table) -> CommitTs {
        self.pins.candidate(table, self.limit(table))
    }

    fn raise(&self, table: &Table) -> CommitTs {
        self.pins.raise(table, self.limit(table))
    }

    fn thorough(&self, table: &Table) -> bool {
        match self.thorough {
            Thorough::Nowhere => false,
            Thorough::In(id) => table.definition().id == id,
            Thorough::Everywhere => true,
        }
    }
}
