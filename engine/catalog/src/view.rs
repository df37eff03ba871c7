//! A view: a query under a name.

use serde::{Deserialize, Serialize};
use types::{CommitTs, SchemaId, TableId};

use crate::define::check_name;
use crate::{Catalog, CatalogError, Column, Lifetime};

/// A view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its identity, also its `oid` in `pg_class`.
    pub id: TableId,
    /// The namespace it is in.
    pub schema: SchemaId,
    /// Its name.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Names of the query's own columns, in the same order.
    pub outputs: Vec<String>,
    /// The query in SQL, with every table's namespace.
    pub query: String,
    /// Tables and views that the query reads.
    pub reads: Vec<TableId>,
    /// When it exists.
    pub life: Lifetime,
}

impl Catalog {
    /// The views that exist at `at`, by id.
    pub fn views(&self, at: CommitTs) -> impl Iterator<Item = &View> {
        self.views.values().filter(move |view| view.life.contains(at))
    }

    /// Looks a view up by name, which is unique among tables, indexes, sequences and views.
    #[must_use]
    pub fn view(&self, schema: SchemaId, name: &str, at: CommitTs) -> Option<&View> {
        self.views(at).find(|view| view.schema == schema && view.name == name)
    }

    /// The views that read a table or view themselves.
    pub fn readers(&self, id: TableId, at: CommitTs) -> impl Iterator<Item = &View> {
        self.views(at).filter(move |view| view.reads.contains(&id))
    }

    /// The views of a namespace, and those that read `tables` or another one of them.
    pub(crate) fn views_over(
        &self,
        schema: SchemaId,
        tables: &[TableId],
        at: CommitTs,
    ) -> Vec<TableId> {
        let mut over: Vec<TableId> = Vec::new();
        loop {
            let goes = |view: &&View| {
                let reads = |id: &TableId| tables.contains(id) || over.contains(id);
                view.schema == schema || view.reads.iter().any(reads)
            };
            let next: Vec<TableId> = self.views(at).filter(goes).map(|view| view.id).collect();
            if next.len() == over.len() {
                return over;
            }
            over = next;
        }
    }

    /// Refuses a change of what views read.
    pub(crate) fn check_unread(&self, id: TableId, at: CommitTs) -> Result<(), CatalogError> {
        let name = || {
            let table = self.collections.get(&id).map(|table| table.name.clone());
            table.or_else(|| self.views.get(&id).map(|view| view.name.clone()))
        };
        match self.readers(id, at).next() {
            Some(view) => Err(CatalogError::ReadByView {
                name: name().unwrap_or_default(),
                view: view.name.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Adds a view, whose id and life are given here.
    pub(crate) fn add_view(&mut self, view: &View, at: CommitTs) -> Result<(), CatalogError> {
        self.check_relation_name(view.schema, &view.name, at)?;
        view.columns.iter().try_for_each(|column| check_name(&column.name))?;
        let there = |id: &TableId| {
            let table = self.collections.get(id).is_some_and(|table| table.life.contains(at));
            table || self.views.get(id).is_some_and(|view| view.life.contains(at))
        };
        if view.columns.is_empty() || view.columns.len() != view.outputs.len() {
            return Err(CatalogError::BadDefinition("a view of other columns"));
        }
        if !view.reads.iter().all(there) {
            return Err(CatalogError::Gone);
        }
        let id = TableId(self.take_id());
        let life = Lifetime::from(at);
        self.views.insert(id, View { id, life, ..view.clone() });
        Ok(())
    }

    pub(crate) fn drop_view(&mut self, id: TableId, at: CommitTs) -> Result<(), CatalogError> {
        self.check_unread(id, at)?;
        let view = self.views.get_mut(&id).filter(|view| view.life.contains(at));
        view.ok_or(CatalogError::Gone)?.life.dropped = Some(at);
        Ok(())
    }
}
