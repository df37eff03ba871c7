//! The catalog as a value: namespaces, collections, indexes and sequences with the instants at which they
//! came and went.
//!
//! A [`Catalog`] never changes in place. [`Catalog::define`] takes one logged change and its commit
//! timestamp and gives the next catalog; the same changes in the same order give the same catalog
//! and the same ids on every replica. Dropped objects stay, marked, so that names resolve as of any
//! past instant.
//!
//! No file, no async, no Arrow, no SQL text. The records are stored as JSON inside log entries and
//! checkpoints (`serde`); adding a field with `#[serde(default)]` keeps old bytes readable.
#![forbid(unsafe_code)]

mod alter;
mod collection;
mod define;
mod index;
mod namespace;
mod sequence;
mod sorted;
mod view;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{CommitTs, IndexId, SchemaId, SequenceId, TableId};

pub use alter::{Alteration, StoredColumn};
pub use collection::{Check, Collection, Column, ColumnDefault, ColumnType, ItemType, Numbered};
pub use define::{CatalogError, Define, Defined};
pub use index::{HnswOptions, Index, RECALL_ONE};
pub use namespace::Namespace;
pub use sequence::{Sequence, SequenceOptions, SequencePosition};
pub use sorted::{Key, SortedColumn, SortedIndex};
pub use view::View;

/// When an object exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// Commit that made it.
    pub created: CommitTs,
    /// Commit that dropped it.
    pub dropped: Option<CommitTs>,
}

impl Lifetime {
    pub(crate) fn from(created: CommitTs) -> Self {
        Self { created, dropped: None }
    }

    /// Whether the object exists at `instant`.
    #[must_use]
    pub fn contains(&self, instant: CommitTs) -> bool {
        self.created <= instant && self.dropped.is_none_or(|dropped| instant < dropped)
    }
}

/// A name of a namespace, and what has it.
#[derive(Debug, Clone)]
pub struct Relation<'a> {
    /// Its identity.
    pub oid: u32,
    /// The namespace.
    pub schema: SchemaId,
    /// The name.
    pub name: Cow<'a, str>,
}

/// All namespaces, collections, indexes and sequences that ever were.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Catalog {
    /// The first commit: no instant before it can be read.
    pub genesis: CommitTs,
    next_id: u32,
    namespaces: BTreeMap<SchemaId, Namespace>,
    collections: BTreeMap<TableId, Collection>,
    indexes: BTreeMap<IndexId, Index>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    sequences: BTreeMap<SequenceId, Sequence>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    views: BTreeMap<TableId, View>,
    /// Collections as they were before each change, the first ones first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    past: BTreeMap<TableId, Vec<alter::Past>>,
}

impl Catalog {
    /// The id that the next object gets.
    #[must_use]
    pub fn next_id(&self) -> u32 {
        self.next_id
    }

    /// The namespaces that exist at `at`, by id.
    pub fn namespaces(&self, at: CommitTs) -> impl Iterator<Item = &Namespace> {
        self.namespaces.values().filter(move |namespace| namespace.life.contains(at))
    }

    /// The collections that exist at `at`, as they are then, by id.
    pub fn collections(&self, at: CommitTs) -> impl Iterator<Item = &Collection> {
        let there = self.collections.values().filter(move |c| c.life.contains(at));
        there.map(move |collection| self.as_of(collection, at))
    }

    /// The indexes that exist at `at`, by id.
    pub fn indexes(&self, at: CommitTs) -> impl Iterator<Item = &Index> {
        self.indexes.values().filter(move |index| index.life.contains(at))
    }

    /// The sequences that exist at `at`, by id.
    pub fn sequences(&self, at: CommitTs) -> impl Iterator<Item = &Sequence> {
        self.sequences.values().filter(move |sequence| sequence.life.contains(at))
    }

    /// The indexes of one collection that exist at `at`, by id.
    pub fn indexes_of(&self, table: TableId, at: CommitTs) -> impl Iterator<Item = &Index> {
        self.indexes(at).filter(move |index| index.table == table)
    }

    /// Looks a namespace up by name.
    #[must_use]
    pub fn namespace(&self, name: &str, at: CommitTs) -> Option<&Namespace> {
        self.namespaces(at).find(|namespace| namespace.name == name)
    }

    /// Looks a collection up by name.
    #[must_use]
    pub fn collection(&self, schema: SchemaId, name: &str, at: CommitTs) -> Option<&Collection> {
        self.collections(at).find(|c| c.schema == schema && c.name == name)
    }

    /// Looks an index up by name, which is unique among tables and indexes of a namespace.
    #[must_use]
    pub fn index(&self, schema: SchemaId, name: &str, at: CommitTs) -> Option<&Index> {
        self.indexes(at).find(|index| index.schema == schema && index.name == name)
    }

    /// Looks a sequence up by name, which is unique among tables, indexes and sequences.
    #[must_use]
    pub fn sequence(&self, schema: SchemaId, name: &str, at: CommitTs) -> Option<&Sequence> {
        self.sequences(at).find(|sequence| sequence.schema == schema && sequence.name == name)
    }

    /// A sequence by id, whether it still exists or not.
    #[must_use]
    pub fn sequence_by_id(&self, id: SequenceId) -> Option<&Sequence> {
        self.sequences.get(&id)
    }

    /// Everything whose name must differ from the others of a namespace: tables, their keys,
    /// other indexes, sequences, views.
    pub fn relations(&self, at: CommitTs) -> impl Iterator<Item = Relation<'_>> {
        let tables = self.collections(at).flat_map(|table| {
            let keys = table.keys().map(|key| Relation {
                oid: key.oid,
                schema: table.schema,
                name: key.name,
            });
            let itself =
                Relation { oid: table.id.0, schema: table.schema, name: (&*table.name).into() };
            std::iter::once(itself).chain(keys)
        });
        let indexes = self.indexes(at).map(|index| Relation {
            oid: index.id.0,
            schema: index.schema,
            name: (&*index.name).into(),
        });
        let sequences = self.sequences(at).map(|sequence| Relation {
            oid: sequence.id.0,
            schema: sequence.schema,
            name: (&*sequence.name).into(),
        });
        let views = self.views(at).map(|view| Relation {
            oid: view.id.0,
            schema: view.schema,
            name: (&*view.name).into(),
        });
        tables.chain(indexes).chain(sequences).chain(views)
    }

    /// A collection by id as it is now, whether it still exists or not.
    #[must_use]
    pub fn collection_by_id(&self, id: TableId) -> Option<&Collection> {
        self.collections.get(&id)
    }

    /// A namespace by id, whether it still exists or not.
    #[must_use]
    pub fn namespace_by_id(&self, id: SchemaId) -> Option<&Namespace> {
        self.namespaces.get(&id)
    }

    /// An index by id, whether it still exists or not.
    #[must_use]
    pub fn index_by_id(&self, id: IndexId) -> Option<&Index> {
        self.indexes.get(&id)
    }

    /// Every collection that ever was, dropped ones included.
    pub fn collections_ever(&self) -> impl Iterator<Item = &Collection> {
        self.collections.values()
    }

    /// Every index that ever was, dropped ones included.
    pub fn indexes_ever(&self) -> impl Iterator<Item = &Index> {
        self.indexes.values()
    }
}
