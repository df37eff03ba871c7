//! Changes of the catalog: what the log carries, and the next catalog they give.

use serde::{Deserialize, Serialize};
use types::limits::{IDENTIFIER_BYTES_MAX, RETENTION_MAX_MICROS};
use types::{CommitTs, Distance, IndexId, RowId, SchemaId, SequenceId, TableId};

use crate::{
    Alteration, Catalog, Check, Collection, Column, ColumnDefault, HnswOptions, Index, Lifetime,
    Namespace, Sequence, SequenceOptions, SequencePosition, SortedIndex, View,
};

/// A change of the catalog. Names are those the statement gave; ids are assigned when the change is
/// applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Define {
    /// The first entry of every log: makes the namespace `public`.
    Genesis,
    /// `CREATE SCHEMA`
    CreateNamespace {
        /// Its name.
        name: String,
    },
    /// `DROP SCHEMA`; its collections go with it only under `cascade`.
    DropNamespace {
        /// The namespace.
        id: SchemaId,
        /// Whether its collections go too.
        cascade: bool,
    },
    /// `CREATE TABLE`
    CreateCollection {
        /// The namespace it goes to.
        schema: SchemaId,
        /// Its name.
        name: String,
        /// Its columns.
        columns: Vec<Column>,
        /// Positions of the primary key's columns.
        primary_key: Vec<usize>,
        /// How long ended row versions can be read, in microseconds; `None` for the default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retention: Option<i64>,
        /// Conditions of its rows.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        checks: Vec<Check>,
        /// Its sorted indexes; columns are named by position.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        sorted: Vec<SortedIndex>,
        /// Name of the primary key's constraint; `None` for the one that follows from the table's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_name: Option<String>,
        /// What the sequences of its columns give, in the order of the columns that have one.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        sequences: Vec<SequenceOptions>,
    },
    /// `CREATE SEQUENCE`
    CreateSequence {
        /// The namespace it goes to.
        schema: SchemaId,
        /// Its name.
        name: String,
        /// What it gives.
        options: SequenceOptions,
        /// The table and the id of the column with which it goes.
        owner: Option<(TableId, usize)>,
    },
    /// `DROP SEQUENCE`
    DropSequence {
        /// The sequence.
        id: SequenceId,
    },
    /// Values of a sequence are given away, or it is set. No part of the catalog: see
    /// [`SequencePosition`].
    Advance {
        /// The sequence.
        id: SequenceId,
        /// How far it has come.
        position: SequencePosition,
    },
    /// `ALTER TABLE ... SET (retention = ...)`
    SetRetention {
        /// The collection.
        id: TableId,
        /// As in `CreateCollection`.
        retention: Option<i64>,
    },
    /// `ALTER TABLE`
    Alter {
        /// The collection.
        table: TableId,
        /// The version that it has before.
        version: u32,
        /// The id of the table's next row, when the change was checked against all rows before it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rows: Option<RowId>,
        /// What changes.
        change: Alteration,
    },
    /// `DROP TABLE`, with its indexes.
    DropCollection {
        /// The collection.
        id: TableId,
    },
    /// `CREATE INDEX`
    CreateIndex {
        /// The collection it serves.
        table: TableId,
        /// Its name.
        name: String,
        /// Id of the vector column.
        column: usize,
        /// The distance it answers.
        distance: Distance,
        /// How the graph is built.
        options: HnswOptions,
    },
    /// `CREATE VIEW`
    CreateView {
        /// The view; its id and life are given when it is made.
        view: View,
    },
    /// `DROP VIEW`
    DropView {
        /// The view.
        id: TableId,
    },
    /// `DROP INDEX`
    DropIndex {
        /// The index.
        id: IndexId,
    },
}

impl Define {
    /// How many ids it gives away.
    #[must_use]
    pub fn ids_given(&self) -> u32 {
        match self {
            // One more for the index of its primary key.
            Self::CreateCollection { sequences, checks, sorted, .. } => {
                let parts = u32::try_from(sequences.len() + checks.len() + sorted.len());
                parts.unwrap_or(u32::MAX).saturating_add(2)
            }
            Self::Alter { change, .. } => change.ids_given(),
            Self::Genesis
            | Self::CreateNamespace { .. }
            | Self::CreateIndex { .. }
            | Self::CreateView { .. }
            | Self::CreateSequence { .. } => 1,
            Self::DropNamespace { .. }
            | Self::DropSequence { .. }
            | Self::Advance { .. }
            | Self::SetRetention { .. }
            | Self::DropCollection { .. }
            | Self::DropView { .. }
            | Self::DropIndex { .. } => 0,
        }
    }

    /// The same change where every id is what `moved` makes of it.
    #[must_use]
    pub fn with_ids(&self, moved: impl Fn(u32) -> u32) -> Self {
        let mut next = self.clone();
        match &mut next {
            Self::Genesis | Self::CreateNamespace { .. } => {}
            Self::DropNamespace { id, .. } | Self::CreateCollection { schema: id, .. } => {
                id.0 = moved(id.0);
            }
            Self::SetRetention { id, .. }
            | Self::DropCollection { id }
            | Self::Alter { table: id, .. }
            | Self::CreateIndex { table: id, .. } => id.0 = moved(id.0),
            Self::DropIndex { id } => id.0 = moved(id.0),
            Self::DropView { id } => id.0 = moved(id.0),
            Self::CreateView { view } => {
                view.schema.0 = moved(view.schema.0);
                view.reads.iter_mut().for_each(|id| id.0 = moved(id.0));
            }
            Self::CreateSequence { schema, owner, .. } => {
                schema.0 = moved(schema.0);
                if let Some((table, _)) = owner {
                    table.0 = moved(table.0);
                }
            }
            Self::DropSequence { id } | Self::Advance { id, .. } => id.0 = moved(id.0),
        }
        next
    }
}

/// What a change made or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Defined {
    /// A namespace came.
    Namespace(SchemaId),
    /// A collection came.
    Collection(TableId),
    /// An index came.
    Index(IndexId),
    /// A sequence came.
    Sequence(SequenceId),
    /// Objects went.
    Dropped,
    /// A setting of a collection changed.
    Altered,
}

/// Why a change cannot be made. Checked again when the change is applied, because another change
/// may have come in between.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The name is taken by a namespace.
    #[error("schema \"{0}\" already exists")]
    NamespaceExists(String),
    /// The name is taken by a table or index of the namespace.
    #[error("relation \"{0}\" already exists")]
    RelationExists(String),
    /// The name is taken by another column.
    #[error("column \"{column}\" of relation \"{table}\" already exists")]
    ColumnExists {
        /// The name.
        column: String,
        /// The table's.
        table: String,
    },
    /// A view reads it.
    #[error("cannot change {name} because view {view} depends on it")]
    ReadByView {
        /// What is to change.
        name: String,
        /// A view that reads it.
        view: String,
    },
    /// The collection is no longer what the statement was planned for.
    #[error("could not serialize access due to a concurrent change of the table")]
    Changed,
    /// The object is gone.
    #[error("the object was dropped by a concurrent statement")]
    Gone,
    /// The namespace still has collections.
    #[error("cannot drop schema \"{0}\" because other objects depend on it")]
    NamespaceNotEmpty(String),
    /// A column takes its values from the sequence.
    #[error("cannot drop sequence {0} because other objects depend on it")]
    SequenceInUse(String),
    /// A position that names no column.
    #[error("malformed definition: {0}")]
    BadDefinition(&'static str),
    /// The name is empty, too long or reserved.
    #[error("name \"{name}\" {why}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Checks that a name can be given to an object.
pub(crate) fn check_name(name: &str) -> Result<(), CatalogError> {
    let bad = |why| Err(CatalogError::BadName { name: name.to_owned(), why });
    match name {
        "" => bad("is empty"),
        long if long.len() > IDENTIFIER_BYTES_MAX => bad("is longer than 63 bytes"),
        zero if zero.contains('\0') => bad("contains a zero byte"),
        _ => Ok(()),
    }
}

impl Catalog {
    /// The catalog after `change` committed at `at`, and what came of it.
    ///
    /// # Errors
    /// When a name is taken or an object is gone; the catalog stays as it is.
    pub fn define(&self, change: &Define, at: CommitTs) -> Result<(Self, Defined), CatalogError> {
        let mut next = self.clone();
        let defined = match change {
            Define::Genesis => {
                next.genesis = at;
                next.next_id = types::FIRST_USER_OID;
                next.add_namespace("public", at)?
            }
            Define::CreateNamespace { name } => next.add_namespace(name, at)?,
            Define::DropNamespace { id, cascade } => next.drop_namespace(*id, *cascade, at)?,
            Define::CreateCollection {
                schema,
                name,
                columns,
                primary_key,
                retention,
                checks,
                sorted,
                key_name,
                sequences,
            } => {
                let parts = (&columns[..], &primary_key[..], key_name.as_deref());
                let id = next.add_collection(*schema, name, parts, at)?;
                next.set_retention(id, *retention, at)?;
                next.add_parts(id, (checks, sorted, sequences), at)?;
                Defined::Collection(id)
            }
            Define::CreateSequence { schema, name, options, owner } => {
                Defined::Sequence(next.add_sequence(*schema, name, (*options, *owner), at)?)
            }
            Define::DropSequence { id } => {
                if next.numbers_a_column(*id, at) {
                    return Err(CatalogError::SequenceInUse(next.sequences[id].name.clone()));
                }
                let sequence = next.sequences.get_mut(id).filter(|s| s.life.contains(at));
                sequence.ok_or(CatalogError::Gone)?.life.dropped = Some(at);
                Defined::Dropped
            }
            Define::Advance { id, .. } => {
                let sequence = next.sequences.get(id).filter(|s| s.life.contains(at));
                sequence.ok_or(CatalogError::Gone)?;
                Defined::Altered
            }
            Define::SetRetention { id, retention } => {
                next.set_retention(*id, *retention, at)?;
                Defined::Altered
            }
            Define::Alter { table, version, rows: _, change } => {
                next.alter((*table, *version), change, at)?;
                let drops = matches!(change, Alteration::DropColumn { .. });
                if drops { Defined::Dropped } else { Defined::Altered }
            }
            Define::DropCollection { id } => next.drop_collection(*id, at)?,
            Define::CreateIndex { table, name, column, distance, options } => {
                next.add_index(*table, name, (*column, *distance, *options), at)?
            }
            Define::CreateView { view } => {
                next.add_view(view, at)?;
                Defined::Altered
            }
            Define::DropView { id } => {
                next.drop_view(*id, at)?;
                Defined::Altered
            }
            Define::DropIndex { id } => {
                let index = next.indexes.get_mut(id).filter(|i| i.life.contains(at));
                index.ok_or(CatalogError::Gone)?.life.dropped = Some(at);
                Defined::Dropped
            }
        };
        Ok((next, defined))
    }

    pub(crate) fn take_id(&mut self) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn add_namespace(&mut self, name: &str, at: CommitTs) -> Result<Defined, CatalogError> {
        check_name(name)?;
        if name.starts_with("pg_") || matches!(name, "information_schema" | "azimuth") {
            return Err(CatalogError::BadName { name: name.to_owned(), why: "is reserved" });
        }
        if self.namespace(name, at).is_some() {
            return Err(CatalogError::NamespaceExists(name.to_owned()));
        }
        let id = SchemaId(self.take_id());
        let life = Lifetime::from(at);
        self.namespaces.insert(id, Namespace { id, name: name.to_owned(), life });
        Ok(Defined::Namespace(id))
    }

    fn drop_namespace(
        &mut self,
        id: SchemaId,
        cascade: bool,
        at: CommitTs,
    ) -> Result<Defined, CatalogError> {
        let inside: Vec<TableId> = self
            .collections
            .values()
            .filter(|c| c.schema == id && c.life.contains(at))
            .map(|c| c.id)
            .collect();
        let views = self.views_over(id, &inside, at);
        let namespace = self.namespaces.get_mut(&id).filter(|n| n.life.contains(at));
        let namespace = namespace.ok_or(CatalogError::Gone)?;
        let sequences =
            self.sequences.values_mut().filter(|s| s.schema == id && s.life.contains(at));
        let sequences: Vec<&mut Sequence> = sequences.collect();
        let is_empty = inside.is_empty() && sequences.is_empty() && views.is_empty();
        if !is_empty && !cascade {
            return Err(CatalogError::NamespaceNotEmpty(namespace.name.clone()));
        }
        namespace.life.dropped = Some(at);
        sequences.into_iter().for_each(|sequence| sequence.life.dropped = Some(at));
        for view in views {
            if let Some(view) = self.views.get_mut(&view) {
                view.life.dropped = Some(at);
            }
        }
        for table in inside {
            self.drop_collection(table, at)?;
        }
        Ok(Defined::Dropped)
    }

    pub(crate) fn check_relation_name(
        &self,
        schema: SchemaId,
        name: &str,
        at: CommitTs,
    ) -> Result<(), CatalogError> {
        check_name(name)?;
        if !self.namespaces.get(&schema).is_some_and(|n| n.life.contains(at)) {
            return Err(CatalogError::Gone);
        }
        if self.relations(at).any(|relation| relation.schema == schema && relation.name == name) {
            return Err(CatalogError::RelationExists(name.to_owned()));
        }
        Ok(())
    }

    fn add_collection(
        &mut self,
        schema: SchemaId,
        name: &str,
        (columns, primary_key, key_name): (&[Column], &[usize], Option<&str>),
        at: CommitTs,
    ) -> Result<TableId, CatalogError> {
        self.check_relation_name(schema, name, at)?;
        if primary_key.iter().any(|position| *position >= columns.len()) {
            return Err(CatalogError::BadDefinition("a primary key of unknown columns"));
        }
        let id = TableId(self.take_id());
        let primary_key_oid = self.take_id();
        let life = Lifetime::from(at);
        let parts = (columns, primary_key);
        let mut collection = Collection::new((id, schema, name), parts, primary_key_oid, life);
        if let Some(key_name) = key_name {
            self.check_relation_name(schema, key_name, at)?;
            collection.primary_key_name = Some(key_name.to_owned());
        } else if !primary_key.is_empty() {
            collection.primary_key_name = self.key_name(schema, &collection.primary_key_name(), at);
        }
        self.collections.insert(id, collection);
        Ok(id)
    }

    fn add_checks(&mut self, id: TableId, checks: &[Check]) -> Result<(), CatalogError> {
        for (at, check) in checks.iter().enumerate() {
            check_name(&check.name)?;
            if checks[..at].iter().any(|other| other.name == check.name) {
                return Err(CatalogError::BadDefinition("two constraints of one name"));
            }
        }
        let numbered = |check: &Check| Check { oid: self.take_id(), ..check.clone() };
        let numbered: Vec<Check> = checks.iter().map(numbered).collect();
        self.collections.get_mut(&id).ok_or(CatalogError::Gone)?.checks = numbered;
        Ok(())
    }

    /// What a new collection has beside its columns.
    fn add_parts(
        &mut self,
        id: TableId,
        (checks, sorted, sequences): (&[Check], &[SortedIndex], &[SequenceOptions]),
        at: CommitTs,
    ) -> Result<(), CatalogError> {
        self.add_checks(id, checks)?;
        for index in sorted {
            let schema = self.collections.get(&id).ok_or(CatalogError::Gone)?.schema;
            self.check_relation_name(schema, &index.name, at)?;
            let index = SortedIndex { oid: self.take_id(), ..index.clone() };
            self.collections.get_mut(&id).ok_or(CatalogError::Gone)?.add_sorted(&index)?;
        }
        self.number_columns(id, sequences, at)
    }

    /// Makes the sequences of a new collection's columns.
    fn number_columns(
        &mut self,
        id: TableId,
        sequences: &[SequenceOptions],
        at: CommitTs,
    ) -> Result<(), CatalogError> {
        let collection = self.collections.get(&id).ok_or(CatalogError::Gone)?;
        let (schema, table) = (collection.schema, collection.name.clone());
        let columns = collection.columns.iter().enumerate();
        let numbered: Vec<(usize, String)> = columns
            .filter(|(_, column)| column.sequence().is_some())
            .map(|(position, column)| (position, column.name.clone()))
            .collect();
        if numbered.len() != sequences.len() {
            return Err(CatalogError::BadDefinition("sequences that no column has"));
        }
        for ((position, column), options) in numbered.iter().zip(sequences) {
            let name = self.sequence_name(schema, &table, column, at);
            let owner = Some((id, *position));
            let made = self.add_sequence(schema, &name, (*options, owner), at)?;
            let collection = self.collections.get_mut(&id).ok_or(CatalogError::Gone)?;
            if let Some(ColumnDefault::Sequence { id, .. }) =
                &mut collection.columns[*position].default
            {
                *id = made;
            }
        }
        Ok(())
    }

    /// PostgreSQL's name for the sequence of a column: table, column, `seq`, cut where that is too long,
    /// and a number when it is taken.
    pub(crate) fn sequence_name(
        &self,
        schema: SchemaId,
        table: &str,
        column: &str,
        at: CommitTs,
    ) -> String {
        let cut = |text: &str, most: usize| {
            let end = (0..=text.len().min(most)).rev().find(|end| text.is_char_boundary(*end));
            text[..end.unwrap_or(0)].to_owned()
        };
        // Room for both underscores, `seq` and a number.
        let room = IDENTIFIER_BYTES_MAX - 9;
        let column = cut(column, room.saturating_sub(table.len()).max(room / 2));
        let table = cut(table, room - column.len());
        let base = format!("{table}_{column}_seq");
        let numbers = (1..).map(|number: u32| format!("{base}{number}"));
        let taken = |name: &String| self.check_relation_name(schema, name, at).is_err();
        let free = std::iter::once(base.clone()).chain(numbers).take(1_000).find(|n| !taken(n));
        free.unwrap_or(base)
    }

    /// PostgreSQL's name for a primary key that would have one that is taken; `None` when it is not.
    fn key_name(&self, schema: SchemaId, name: &str, at: CommitTs) -> Option<String> {
        let taken = |name: &str| {
            self.relations(at).any(|relation| relation.schema == schema && relation.name == name)
        };
        let numbered = (1..1_000).map(|number: u32| format!("{name}{number}"));
        taken(name).then(|| numbered.into_iter().find(|name| !taken(name))).flatten()
    }

    pub(crate) fn add_sequence(
        &mut self,
        schema: SchemaId,
        name: &str,
        (options, owner): (SequenceOptions, Option<(TableId, usize)>),
        at: CommitTs,
    ) -> Result<SequenceId, CatalogError> {
        self.check_relation_name(schema, name, at)?;
        let owned = |(table, position): (TableId, usize)| {
            let table = self.collections.get(&table).filter(|c| c.life.contains(at));
            table.is_some_and(|table| table.column_by_id(position).is_some())
        };
        if !options.is_valid() || !owner.is_none_or(owned) {
            return Err(CatalogError::BadDefinition("a sequence of impossible numbers"));
        }
        let id = SequenceId(self.take_id());
        let (name, life) = (name.to_owned(), Lifetime::from(at));
        self.sequences.insert(id, Sequence { id, schema, name, options, owner, life });
        Ok(id)
    }

    /// Whether a column that exists takes its values from a sequence.
    fn numbers_a_column(&self, id: SequenceId, at: CommitTs) -> bool {
        let takes = |column: &Column| column.sequence().is_some_and(|(of, _)| of == id);
        self.collections(at).any(|collection| collection.columns.iter().any(takes))
    }

    fn set_retention(
        &mut self,
        id: TableId,
        retention: Option<i64>,
        at: CommitTs,
    ) -> Result<(), CatalogError> {
        if retention.is_some_and(|micros| !(0..=RETENTION_MAX_MICROS).contains(&micros)) {
            return Err(CatalogError::BadDefinition("a retention out of range"));
        }
        let collection = self.collections.get_mut(&id).filter(|c| c.life.contains(at));
        collection.ok_or(CatalogError::Gone)?.retention = retention;
        Ok(())
    }

    fn drop_collection(&mut self, id: TableId, at: CommitTs) -> Result<Defined, CatalogError> {
        self.check_unread(id, at)?;
        let collection = self.collections.get_mut(&id).filter(|c| c.life.contains(at));
        collection.ok_or(CatalogError::Gone)?.life.dropped = Some(at);
        for index in self.indexes.values_mut() {
            if index.table == id && index.life.contains(at) {
                index.life.dropped = Some(at);
            }
        }
        for sequence in self.sequences.values_mut() {
            if sequence.owner.is_some_and(|(table, _)| table == id) && sequence.life.contains(at) {
                sequence.life.dropped = Some(at);
            }
        }
        Ok(Defined::Dropped)
    }

    fn add_index(
        &mut self,
        table: TableId,
        name: &str,
        (column, distance, options): (usize, Distance, HnswOptions),
        at: CommitTs,
    ) -> Result<Defined, CatalogError> {
        let collection = self.collections.get(&table).filter(|c| c.life.contains(at));
        let collection = collection.ok_or(CatalogError::Gone)?;
        let column_type = collection.column_by_id(column).ok_or(CatalogError::Changed)?.column_type;
        let kind = column_type.vector().map(|(kind, _)| kind);
        if !kind.is_some_and(|kind| kind.distances().contains(&distance)) {
            return Err(CatalogError::BadDefinition("an index of no vector column"));
        }
        let schema = collection.schema;
        self.check_relation_name(schema, name, at)?;
        let id = IndexId(self.take_id());
        let life = Lifetime::from(at);
        let name = name.to_owned();
        self.indexes.insert(id, Index { id, schema, table, name, column, distance, options, life });
        Ok(Defined::Index(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ColumnType;

    fn columns() -> Vec<Column> {
        vec![Column::new("id", ColumnType::Int8, false)]
    }

    fn create(schema: SchemaId, name: &str) -> Define {
        Define::CreateCollection {
            schema,
            name: name.to_owned(),
            columns: columns(),
            primary_key: vec![0],
            retention: None,
            checks: Vec::new(),
            sorted: Vec::new(),
            key_name: None,
            sequences: Vec::new(),
        }
    }

    fn started() -> (Catalog, SchemaId) {
        let (catalog, _) = Catalog::default().define(&Define::Genesis, CommitTs(1)).unwrap();
        let public = catalog.namespace("public", CommitTs(1)).unwrap().id;
        (catalog, public)
    }

    #[test]
    fn names_resolve_as_of_any_instant() {
        let (catalog, public) = started();
        let (catalog, made) = catalog.define(&create(public, "t"), CommitTs(10)).unwrap();
        let Defined::Collection(first) = made else { panic!("{made:?}") };
        let (catalog, _) =
            catalog.define(&Define::DropCollection { id: first }, CommitTs(20)).unwrap();
        let (catalog, made) = catalog.define(&create(public, "t"), CommitTs(30)).unwrap();
        let Defined::Collection(second) = made else { panic!("{made:?}") };
        let at = |ts| catalog.collection(public, "t", CommitTs(ts)).map(|c| c.id);
        assert_eq!(
            [9, 10, 19, 20, 29, 30].map(at),
            [None, Some(first), Some(first), None, None, Some(second)]
        );
        let json = serde_json::to_string(&catalog).unwrap();
        assert_eq!(serde_json::from_str::<Catalog>(&json).unwrap(), catalog);
    }

    #[test]
    fn changes_say_how_many_ids_they_give() {
        let (catalog, public) = started();
        let index = |table| Define::CreateIndex {
            table,
            name: "i".to_owned(),
            column: 1,
            distance: Distance::L2,
            options: HnswOptions::default(),
        };
        let mut with_vector = create(public, "t");
        let Define::CreateCollection { columns, .. } = &mut with_vector else { panic!() };
        let column_type = ColumnType::Vector(types::Dim(3));
        columns.push(Column::new("v", column_type, true));
        let table = TableId(catalog.next_id());
        let changes = [
            with_vector,
            index(table),
            Define::CreateNamespace { name: "n".to_owned() },
            Define::SetRetention { id: table, retention: None },
            Define::DropIndex { id: IndexId(table.0 + 2) },
            Define::DropCollection { id: table },
            Define::DropNamespace { id: SchemaId(table.0 + 3), cascade: false },
        ];
        let mut now = catalog.clone();
        for (at, change) in (2..).map(CommitTs).zip(&changes) {
            let (next, _) = now.define(change, at).unwrap();
            assert_eq!(next.next_id() - now.next_id(), change.ids_given(), "{change:?}");
            now = next;
        }
        // The same when another table came first.
        let (mut now, _) = catalog.define(&create(public, "first"), CommitTs(2)).unwrap();
        let moved = |id| if id >= table.0 { id + 2 } else { id };
        for (at, change) in (3..).map(CommitTs).zip(&changes) {
            (now, _) = now.define(&change.with_ids(moved), at).unwrap();
        }
        assert_eq!(now.collection_by_id(TableId(table.0 + 2)).unwrap().name, "t");
    }

    #[test]
    fn taken_names_and_gone_objects_are_refused() {
        let (catalog, public) = started();
        let (catalog, _) = catalog.define(&create(public, "t"), CommitTs(2)).unwrap();
        let refused = |change: &Define| catalog.define(change, CommitTs(3)).unwrap_err();
        for name in ["t", "t_pkey"] {
            assert_eq!(
                refused(&create(public, name)),
                CatalogError::RelationExists(name.to_owned())
            );
        }
        let rename = Define::Alter {
            table: catalog.collection(public, "t", CommitTs(2)).unwrap().id,
            version: 0,
            rows: None,
            change: Alteration::Rename { name: "u".to_owned() },
        };
        let (renamed, _) = catalog.define(&rename, CommitTs(3)).unwrap();
        let (again, _) = renamed.define(&create(public, "t"), CommitTs(4)).unwrap();
        let key = again.collection(public, "t", CommitTs(4)).unwrap().primary_key_name();
        assert_eq!(key, "t_pkey1");
        assert_eq!(refused(&create(SchemaId(1), "x")), CatalogError::Gone);
        assert_eq!(refused(&Define::DropCollection { id: TableId(7) }), CatalogError::Gone);
        assert_eq!(
            refused(&Define::DropNamespace { id: public, cascade: false }),
            CatalogError::NamespaceNotEmpty("public".to_owned())
        );
        for name in ["pg_x", "", "information_schema", &"x".repeat(64)] {
            let change = Define::CreateNamespace { name: name.to_owned() };
            assert!(matches!(refused(&change), CatalogError::BadName { .. }), "{name}");
        }
        let cascade = Define::DropNamespace { id: public, cascade: true };
        let (after, _) = catalog.define(&cascade, CommitTs(3)).unwrap();
        assert_eq!(after.collections(CommitTs(3)).count(), 0);
        assert_eq!(after.collections(CommitTs(2)).count(), 1);
    }
}
