//! Sorted indexes: lookups of rows by scalar columns, which `UNIQUE` and `USING btree` make. They are
//! part of their collection and change with it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use types::{CommitTs, SchemaId};

use crate::{Catalog, CatalogError, Collection};

/// A column of a sorted index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SortedColumn {
    /// The column's id.
    pub column: usize,
    /// Whether it was declared `DESC`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub descending: bool,
    /// Whether NULLs were declared to come first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nulls_first: bool,
}

/// A sorted index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SortedIndex {
    /// Its identity in `pg_class` and `pg_constraint`; assigned when it is made.
    #[serde(default)]
    pub oid: u32,
    /// Its name, unique among the relations of the namespace.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<SortedColumn>,
    /// Whether no two rows may be equal in all columns, NULL apart.
    pub unique: bool,
    /// Whether it is there for a constraint of its name.
    pub constraint: bool,
}

/// What rows of a collection are found by: its primary key and its sorted indexes alike.
#[derive(Debug, Clone)]
pub struct Key<'a> {
    /// Identity of the index, and of the constraint where there is one.
    pub oid: u32,
    /// Their name.
    pub name: Cow<'a, str>,
    /// Positions of the columns.
    pub positions: Vec<usize>,
    /// The columns.
    pub columns: Cow<'a, [SortedColumn]>,
    /// Whether it is the primary key.
    pub primary: bool,
    /// Whether no two rows may be equal in all columns.
    pub unique: bool,
    /// Whether it is there for a constraint.
    pub constraint: bool,
}

impl Collection {
    /// The primary key and the sorted indexes.
    pub fn keys(&self) -> impl Iterator<Item = Key<'_>> {
        let primary = (!self.primary_key.is_empty()).then(|| {
            let column = |at: &usize| SortedColumn {
                column: self.column_id(*at),
                descending: false,
                nulls_first: false,
            };
            Key {
                oid: self.primary_key_oid,
                name: Cow::Owned(self.primary_key_name()),
                positions: self.primary_key.clone(),
                columns: self.primary_key.iter().map(column).collect(),
                primary: true,
                unique: true,
                constraint: true,
            }
        });
        primary.into_iter().chain(self.sorted.iter().map(|index| Key {
            oid: index.oid,
            name: Cow::Borrowed(&index.name),
            positions: index.columns.iter().filter_map(|c| self.position_of(c.column)).collect(),
            columns: Cow::Borrowed(&index.columns),
            primary: false,
            unique: index.unique,
            constraint: index.constraint,
        }))
    }

    pub(crate) fn add_sorted(&mut self, index: &SortedIndex) -> Result<(), CatalogError> {
        let scalar = |column: &SortedColumn| {
            self.column_by_id(column.column).is_some_and(|c| c.column_type.vector().is_none())
        };
        if index.columns.is_empty() || !index.columns.iter().all(scalar) {
            return Err(CatalogError::Changed);
        }
        self.sorted.push(index.clone());
        Ok(())
    }

    pub(crate) fn drop_sorted(&mut self, name: &str) -> Result<(), CatalogError> {
        let position = self.sorted.iter().position(|index| index.name == name);
        self.sorted.remove(position.ok_or(CatalogError::Changed)?);
        Ok(())
    }

    pub(crate) fn rename_key(&mut self, from: &str, to: &str) -> Result<(), CatalogError> {
        if !self.primary_key.is_empty() && self.primary_key_name() == from {
            self.primary_key_name = Some(to.to_owned());
            return Ok(());
        }
        let index = self.sorted.iter_mut().find(|index| index.name == from);
        to.clone_into(&mut index.ok_or(CatalogError::Changed)?.name);
        Ok(())
    }
}

impl Catalog {
    /// The collection that has a key of the name, and the key.
    #[must_use]
    pub fn key_named(
        &self,
        schema: SchemaId,
        name: &str,
        at: CommitTs,
    ) -> Option<(&Collection, Key<'_>)> {
        let of =
            |collection| Some((collection, Collection::keys(collection).find(|k| k.name == name)?));
        self.collections(at).filter(|collection| collection.schema == schema).find_map(of)
    }

    /// The collection that has the key, and the key.
    #[must_use]
    pub fn key_by_oid(&self, oid: u32, at: CommitTs) -> Option<(&Collection, Key<'_>)> {
        let of =
            |collection| Some((collection, Collection::keys(collection).find(|k| k.oid == oid)?));
        self.collections(at).find_map(of)
    }

    /// A name that is free for a relation: `base`, cut where that is too long, and a number when it is
    /// taken; `others` are names that are about to be given.
    #[must_use]
    pub fn free_name(
        &self,
        schema: SchemaId,
        (base, ending): (&str, &str),
        others: &[String],
        at: CommitTs,
    ) -> String {
        let relations: Vec<_> = self.relations(at).filter(|r| r.schema == schema).collect();
        let taken = |name: &String| {
            others.contains(name) || relations.iter().any(|relation| relation.name == *name)
        };
        let room = types::limits::IDENTIFIER_BYTES_MAX - ending.len() - 5;
        let end = (0..=base.len().min(room)).rev().find(|end| base.is_char_boundary(*end));
        let base = format!("{}_{ending}", &base[..end.unwrap_or(0)]);
        let numbered = (1..).map(|number: u32| format!("{base}{number}"));
        let free = std::iter::once(base.clone()).chain(numbered).take(1_000).find(|n| !taken(n));
        free.unwrap_or(base)
    }
}
