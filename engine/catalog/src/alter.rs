//! Changes of a collection's columns, conditions and name.
//!
//! Every change gives the collection its next version; the ones before stay with the instant at which
//! they ended, so that names and columns resolve as of any past instant. A column has an id that it
//! keeps, which is what stored rows, indexes and sequences know it by.

use serde::{Deserialize, Serialize};
use types::{CommitTs, TableId};

use crate::{
    Catalog, CatalogError, Check, Collection, Column, ColumnDefault, ColumnType, Numbered,
    SequenceOptions, SortedIndex,
};

/// What of a collection changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Alteration {
    /// A column comes, behind the others.
    AddColumn {
        /// The column.
        column: Column,
        /// What rows have there that were stored before, as [`StoredColumn::missing`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        missing: Option<String>,
        /// What its sequence gives, where it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sequence: Option<SequenceOptions>,
    },
    /// A column goes, with its indexes, its sequence and the conditions named.
    DropColumn {
        /// The column's id.
        column: usize,
        /// Names of the conditions over it.
        checks: Vec<String>,
    },
    /// A column gets another name.
    RenameColumn {
        /// The column's id.
        column: usize,
        /// Its new name.
        name: String,
        /// All conditions of the table, with the new name in them.
        checks: Vec<Check>,
    },
    /// A column gets a type that holds all values of the one before.
    SetType {
        /// The column's id.
        column: usize,
        /// The type.
        column_type: ColumnType,
        /// As in `AddColumn`, of that type.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        missing: Option<String>,
    },
    /// A column allows NULL or does not.
    SetNullable {
        /// The column's id.
        column: usize,
        /// Whether it does.
        nullable: bool,
    },
    /// What a column holds when a statement gives it no value.
    SetDefault {
        /// The column's id.
        column: usize,
        /// The expression; `None` for NULL.
        default: Option<String>,
    },
    /// A condition comes.
    AddCheck {
        /// The condition.
        check: Check,
    },
    /// A condition goes.
    DropCheck {
        /// Its name.
        name: String,
    },
    /// A sorted index comes.
    AddSorted {
        /// The index.
        index: SortedIndex,
    },
    /// A sorted index goes.
    DropSorted {
        /// Its name.
        name: String,
    },
    /// A sorted index or the primary key gets another name.
    RenameKey {
        /// The name before.
        from: String,
        /// The new name.
        to: String,
    },
    /// The collection gets another name.
    Rename {
        /// The name.
        name: String,
    },
}

impl Alteration {
    /// How many ids it gives away.
    pub(crate) fn ids_given(&self) -> u32 {
        match self {
            Self::AddColumn { sequence: Some(_), .. }
            | Self::AddCheck { .. }
            | Self::AddSorted { .. } => 1,
            Self::AddColumn { sequence: None, .. }
            | Self::DropColumn { .. }
            | Self::RenameColumn { .. }
            | Self::SetType { .. }
            | Self::SetNullable { .. }
            | Self::SetDefault { .. }
            | Self::DropCheck { .. }
            | Self::DropSorted { .. }
            | Self::RenameKey { .. }
            | Self::Rename { .. } => 0,
        }
    }
}

/// A column as stored rows have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredColumn {
    /// Its id.
    pub id: usize,
    /// Its type.
    pub column_type: ColumnType,
    /// What rows have that were stored before the column came: an Arrow IPC record batch of one row,
    /// in hexadecimal digits; `None` for NULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// A collection as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Past {
    /// The commit that changed it.
    pub(crate) until: CommitTs,
    pub(crate) collection: Collection,
}

impl Collection {
    /// The id of the column at a position.
    #[must_use]
    pub fn column_id(&self, position: usize) -> usize {
        self.ids.get(position).copied().unwrap_or(position)
    }

    /// The position of a column by id.
    #[must_use]
    pub fn position_of(&self, id: usize) -> Option<usize> {
        if self.ids.is_empty() {
            return (id < self.columns.len()).then_some(id);
        }
        self.ids.iter().position(|known| *known == id)
    }

    /// A column by id.
    #[must_use]
    pub fn column_by_id(&self, id: usize) -> Option<&Column> {
        self.columns.get(self.position_of(id)?)
    }

    /// Whether ids and positions of columns may differ.
    #[must_use]
    pub fn has_ids(&self) -> bool {
        !self.ids.is_empty()
    }

    /// The columns as rows have them that are stored now: its own, in order, then those that are gone.
    pub fn stored(&self) -> impl Iterator<Item = StoredColumn> + '_ {
        let own = self.columns.iter().enumerate().map(|(at, column)| {
            let id = self.column_id(at);
            let missing = self.missing.get(&id).cloned();
            StoredColumn { id, column_type: column.column_type, missing }
        });
        own.chain(self.gone.iter().cloned())
    }

    /// Types of the columns before the first change: those of rows that say nothing else.
    #[must_use]
    pub fn original(&self) -> Vec<ColumnType> {
        if self.original.is_empty() {
            return self.columns.iter().map(|column| column.column_type).collect();
        }
        self.original.clone()
    }

    /// What rows have in a column that were stored before it came, as [`StoredColumn::missing`].
    #[must_use]
    pub fn missing(&self, id: usize) -> Option<&str> {
        self.missing.get(&id).map(String::as_str)
    }

    fn next_column_id(&self) -> usize {
        let known = (0..self.columns.len()).map(|at| self.column_id(at));
        known.chain(self.gone.iter().map(|column| column.id)).max().map_or(0, |last| last + 1)
    }

    /// The collection after a change of its columns or conditions; ids of other objects are not given
    /// here.
    ///
    /// # Errors
    /// When a name is taken, or a column or condition is not there.
    pub fn altered(&self, alteration: &Alteration) -> Result<Self, CatalogError> {
        let mut next = self.clone();
        if next.original.is_empty() {
            next.original = next.original();
            next.ids = (0..next.columns.len()).collect();
        }
        next.version += 1;
        let at = |id: usize| self.position_of(id).ok_or(CatalogError::Changed);
        match alteration {
            Alteration::AddColumn { column, missing, .. } => {
                next.free_name(&column.name)?;
                let id = next.next_column_id();
                next.ids.push(id);
                next.columns.push(column.clone());
                next.missing.extend(missing.clone().map(|missing| (id, missing)));
            }
            Alteration::DropColumn { column, checks } => next.drop_column(at(*column)?, checks)?,
            Alteration::RenameColumn { column, name, checks } => {
                next.free_name(name)?;
                next.columns[at(*column)?].name.clone_from(name);
                next.checks.clone_from(checks);
            }
            Alteration::SetType { column, column_type, missing } => {
                next.columns[at(*column)?].column_type = *column_type;
                next.missing.remove(column);
                next.missing.extend(missing.clone().map(|missing| (*column, missing)));
            }
            Alteration::SetNullable { column, nullable } => {
                next.columns[at(*column)?].nullable = *nullable;
            }
            Alteration::SetDefault { column, default } => {
                let default = default.clone().map(ColumnDefault::Expression);
                next.columns[at(*column)?].default = default;
            }
            Alteration::AddCheck { check } => {
                if next.checks.iter().any(|known| known.name == check.name) {
                    return Err(CatalogError::Changed);
                }
                next.checks.push(check.clone());
            }
            Alteration::DropCheck { name } => {
                let position = next.checks.iter().position(|check| check.name == *name);
                next.checks.remove(position.ok_or(CatalogError::Changed)?);
            }
            Alteration::AddSorted { index } => next.add_sorted(index)?,
            Alteration::DropSorted { name } => next.drop_sorted(name)?,
            Alteration::RenameKey { from, to } => next.rename_key(from, to)?,
            Alteration::Rename { name } => {
                // The constraint keeps its name.
                next.primary_key_name = Some(next.primary_key_name());
                next.name.clone_from(name);
            }
        }
        Ok(next)
    }

    fn free_name(&self, name: &str) -> Result<(), CatalogError> {
        if self.column_position(name).is_some() {
            let table = self.name.clone();
            return Err(CatalogError::ColumnExists { column: name.to_owned(), table });
        }
        Ok(())
    }

    fn drop_column(&mut self, position: usize, checks: &[String]) -> Result<(), CatalogError> {
        if self.columns.len() == 1 || self.primary_key.contains(&position) {
            return Err(CatalogError::BadDefinition("a column that has to stay"));
        }
        let (id, column) = (self.ids.remove(position), self.columns.remove(position));
        let missing = self.missing.remove(&id);
        self.gone.push(StoredColumn { id, column_type: column.column_type, missing });
        for key in &mut self.primary_key {
            *key -= usize::from(*key > position);
        }
        self.checks.retain(|check| !checks.contains(&check.name));
        self.sorted.retain(|index| index.columns.iter().all(|c| c.column != id));
        Ok(())
    }
}

impl Catalog {
    /// A collection by id as it is at `at`.
    #[must_use]
    pub fn collection_at(&self, id: TableId, at: CommitTs) -> Option<&Collection> {
        let now = self.collections.get(&id).filter(|collection| collection.life.contains(at))?;
        Some(self.as_of(now, at))
    }

    /// The collection as it was at `at`, while it was there.
    pub(crate) fn as_of<'a>(&'a self, now: &'a Collection, at: CommitTs) -> &'a Collection {
        let past = self.past.get(&now.id).and_then(|past| past.iter().find(|p| at < p.until));
        past.map_or(now, |past| &past.collection)
    }

    /// Checks the names that a change gives, and that no view is in its way.
    fn check_alteration(
        &self,
        now: &Collection,
        alteration: &Alteration,
        at: CommitTs,
    ) -> Result<(), CatalogError> {
        let (id, schema) = (now.id, now.schema);
        match alteration {
            Alteration::Rename { name } => {
                self.check_unread(id, at)?;
                self.check_relation_name(schema, name, at)?;
            }
            Alteration::AddColumn { column, .. } => crate::define::check_name(&column.name)?,
            Alteration::RenameColumn { name, .. } => {
                self.check_unread(id, at)?;
                crate::define::check_name(name)?;
            }
            Alteration::AddCheck { check } => crate::define::check_name(&check.name)?,
            Alteration::DropColumn { .. } | Alteration::SetType { .. } => {
                self.check_unread(id, at)?;
            }
            Alteration::AddSorted { index: SortedIndex { name, .. } }
            | Alteration::RenameKey { to: name, .. } => {
                self.check_relation_name(schema, name, at)?;
            }
            Alteration::SetNullable { .. }
            | Alteration::SetDefault { .. }
            | Alteration::DropSorted { .. }
            | Alteration::DropCheck { .. } => {}
        }
        Ok(())
    }

    pub(crate) fn alter(
        &mut self,
        (id, version): (TableId, u32),
        alteration: &Alteration,
        at: CommitTs,
    ) -> Result<(), CatalogError> {
        let now = self.collections.get(&id).filter(|c| c.life.contains(at));
        let now = now.ok_or(CatalogError::Gone)?.clone();
        if now.version != version {
            return Err(CatalogError::Changed);
        }
        self.check_alteration(&now, alteration, at)?;
        let mut next = now.altered(alteration)?;
        match alteration {
            Alteration::AddCheck { .. } => {
                if let Some(check) = next.checks.last_mut() {
                    check.oid = self.take_id();
                }
            }
            Alteration::AddSorted { .. } => {
                if let Some(index) = next.sorted.last_mut() {
                    index.oid = self.take_id();
                }
            }
            Alteration::AddColumn { sequence: Some(options), column, .. } => {
                self.collections.insert(id, next.clone());
                let name = self.sequence_name(now.schema, &now.name, &column.name, at);
                let owner = Some((id, next.column_id(next.columns.len() - 1)));
                let made = self.add_sequence(now.schema, &name, (*options, owner), at)?;
                let numbered = column.sequence().map_or(Numbered::Serial, |(_, how)| how);
                if let Some(column) = next.columns.last_mut() {
                    column.default = Some(ColumnDefault::Sequence { id: made, numbered });
                }
            }
            Alteration::DropColumn { column, .. } => {
                let of_column = |index: &crate::Index| index.table == id && index.column == *column;
                for index in self.indexes.values_mut().filter(|i| i.life.contains(at)) {
                    if of_column(index) {
                        index.life.dropped = Some(at);
                    }
                }
                for sequence in self.sequences.values_mut().filter(|s| s.life.contains(at)) {
                    if sequence.owner == Some((id, *column)) {
                        sequence.life.dropped = Some(at);
                    }
                }
            }
            Alteration::RenameColumn { .. }
            | Alteration::AddColumn { sequence: None, .. }
            | Alteration::SetType { .. }
            | Alteration::SetNullable { .. }
            | Alteration::SetDefault { .. }
            | Alteration::DropCheck { .. }
            | Alteration::DropSorted { .. }
            | Alteration::RenameKey { .. }
            | Alteration::Rename { .. } => {}
        }
        self.collections.insert(id, next);
        // What rows have beside the columns of then, the newest version says.
        let collection = Collection { gone: Vec::new(), ..now };
        self.past.entry(id).or_default().push(Past { until: at, collection });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Define, Defined};

    #[test]
    fn columns_keep_their_ids_and_the_past_its_names() {
        let (catalog, _) = Catalog::default().define(&Define::Genesis, CommitTs(1)).unwrap();
        let public = catalog.namespace("public", CommitTs(1)).unwrap().id;
        let column = |name: &str| Column::new(name, ColumnType::Int4, true);
        let create = Define::CreateCollection {
            schema: public,
            name: "t".to_owned(),
            columns: vec![column("a"), column("id"), column("b")],
            primary_key: vec![1],
            retention: None,
            checks: Vec::new(),
            sorted: Vec::new(),
            key_name: None,
            sequences: Vec::new(),
        };
        let (mut catalog, made) = catalog.define(&create, CommitTs(2)).unwrap();
        let Defined::Collection(id) = made else { panic!("{made:?}") };
        let changes = [
            Alteration::DropColumn { column: 0, checks: Vec::new() },
            Alteration::AddColumn { column: column("a"), missing: None, sequence: None },
            Alteration::RenameColumn { column: 2, name: "c".to_owned(), checks: Vec::new() },
            Alteration::SetType { column: 2, column_type: ColumnType::Int8, missing: None },
            Alteration::Rename { name: "u".to_owned() },
        ];
        for (version, change) in (0..).zip(&changes) {
            let define =
                |version| Define::Alter { table: id, version, rows: None, change: change.clone() };
            let at = CommitTs(10 * (i64::from(version) + 1));
            let stale = catalog.define(&define(version + 1), at);
            assert_eq!(stale.unwrap_err(), CatalogError::Changed);
            (catalog, _) = catalog.define(&define(version), at).unwrap();
        }
        let names = |name: &str, at| {
            let found = catalog.collection(public, name, CommitTs(at))?;
            Some(found.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(","))
        };
        let seen: Vec<Option<String>> = [9, 10, 20, 30, 49, 50].map(|at| names("t", at)).into();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            seen,
            [text("a,id,b"), text("id,b"), text("id,b,a"), text("id,c,a"), text("id,c,a"), None]
        );
        assert_eq!(names("u", 50), text("id,c,a"));
        let now = catalog.collection_by_id(id).unwrap();
        assert_eq!(
            (now.primary_key.as_slice(), now.primary_key_name()),
            (&[0][..], "t_pkey".into())
        );
        let stored: Vec<(usize, ColumnType)> =
            now.stored().map(|column| (column.id, column.column_type)).collect();
        let (small, large) = (ColumnType::Int4, ColumnType::Int8);
        assert_eq!(stored, [(1, small), (2, large), (3, small), (0, small)]);
        assert_eq!(now.original(), [small; 3]);
        let json = serde_json::to_string(&catalog).unwrap();
        assert_eq!(serde_json::from_str::<Catalog>(&json).unwrap(), catalog);
    }
}
