//! Sorted indexes: `UNIQUE`, `CREATE INDEX ... USING btree` and what takes them back.

use catalog::{
    Alteration, Collection, ColumnType, Define, ItemType, Key, SortedColumn, SortedIndex,
};
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, CreateIndex, Expr, GroupByExpr, Ident, IndexColumn, IndexType,
    NullsDistinctOption, ObjectName, SelectItem, SetExpr, UniqueConstraint, Value,
};
use types::limits::KEY_COLUMNS_MAX;
use types::{CommitTs, SqlState};

use super::alter::{Altered, Step};
use super::changes::{joined, query_of, table_factor, table_name};
use super::define::Names;
use super::rules::{computed, shown};
use crate::error::{EngineError, Result};
use crate::provider::DATABASE;
use crate::sql::rewrite::call;
use crate::sql::types::{fold, last_part};

/// A sorted index before it has a name.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) name: Option<String>,
    /// Columns by position.
    pub(crate) columns: Vec<SortedColumn>,
    pub(crate) unique: bool,
    pub(crate) constraint: bool,
}

/// Whether `CREATE INDEX` asks for a sorted index.
pub(crate) fn is_sorted(create: &CreateIndex) -> bool {
    match &create.using {
        None | Some(IndexType::BTree) => true,
        Some(IndexType::Custom(name)) => fold(name) == "btree",
        Some(_) => false,
    }
}

/// Refuses what no unique constraint here has.
pub(crate) fn refuse_options(unique: &UniqueConstraint) -> Result<()> {
    EngineError::refuse_present(&[
        (unique.characteristics.is_some(), "DEFERRABLE"),
        (unique.nulls_distinct == NullsDistinctOption::NotDistinct, "NULLS NOT DISTINCT"),
        (unique.index_name.is_some() || unique.index_type.is_some(), "an index of UNIQUE"),
        (!unique.index_options.is_empty(), "an option of UNIQUE"),
    ])
}

impl Wanted {
    /// A constraint of the column at a position.
    pub(crate) fn of_column(
        column: usize,
        name: Option<&Ident>,
        unique: &UniqueConstraint,
    ) -> Result<Self> {
        refuse_options(unique)?;
        let columns = vec![SortedColumn { column, descending: false, nulls_first: false }];
        let name = name.or(unique.name.as_ref()).map(fold);
        Ok(Self { name, columns, unique: true, constraint: true })
    }

    /// A constraint over the named columns, whose positions `position` gives.
    pub(crate) fn constraint(
        name: Option<&Ident>,
        columns: &[IndexColumn],
        position: impl Fn(&Ident) -> Result<usize>,
    ) -> Result<Self> {
        let columns = sorted_columns(columns, position, "unique")?;
        if columns.iter().any(|column| column.descending || column.nulls_first) {
            return Err(EngineError::syntax("a constraint has no order"));
        }
        Ok(Self { name: name.map(fold), columns, unique: true, constraint: true })
    }

    /// The index under its own name, or PostgreSQL's choice: the table, the columns, and `key` for a
    /// constraint, `idx` else. `names` are those of the columns.
    pub(crate) fn named(
        self,
        table: &str,
        names: &[String],
        free: impl Fn((&str, &str)) -> String,
    ) -> SortedIndex {
        let Self { name, columns, unique, constraint } = self;
        let name = name.unwrap_or_else(|| {
            let base = format!("{table}_{}", names.join("_"));
            free((&base, if constraint { "key" } else { "idx" }))
        });
        SortedIndex { oid: 0, name, columns, unique, constraint }
    }
}

/// The columns of an index, by position.
fn sorted_columns(
    columns: &[IndexColumn],
    position: impl Fn(&Ident) -> Result<usize>,
    kind: &str,
) -> Result<Vec<SortedColumn>> {
    if columns.len() > KEY_COLUMNS_MAX {
        let message = format!("cannot use more than {KEY_COLUMNS_MAX} columns in an index");
        return Err(EngineError::new(SqlState::TOO_MANY_COLUMNS, message));
    }
    let mut sorted: Vec<SortedColumn> = Vec::with_capacity(columns.len());
    for IndexColumn { column, operator_class } in columns {
        EngineError::refuse_present(&[
            (operator_class.is_some(), "an operator class of btree"),
            (column.with_fill.is_some(), "WITH FILL"),
        ])?;
        let Expr::Identifier(ident) = &column.expr else {
            return Err(EngineError::unsupported("an index on an expression"));
        };
        let at = position(ident)?;
        if kind == "unique" && sorted.iter().any(|known| known.column == at) {
            let name = fold(ident);
            let message = format!("column \"{name}\" appears twice in unique constraint");
            return Err(EngineError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        let descending = column.options.asc == Some(false);
        let nulls_first = column.options.nulls_first.unwrap_or(descending);
        sorted.push(SortedColumn { column: at, descending, nulls_first });
    }
    Ok(sorted)
}

/// Refuses values whose bytes do not say which are equal.
pub(crate) fn check_key_type(column: &catalog::Column) -> Result<()> {
    match column.column_type {
        ColumnType::Interval | ColumnType::Array(ItemType::Interval) => {
            Err(EngineError::unsupported("an interval in a key or an index"))
        }
        other if other.vector().is_some() => Err(EngineError::unsupported("a vector as key")),
        _ => Ok(()),
    }
}

/// Refuses an index over values that have no order.
pub(crate) fn check_sortable(columns: &[catalog::Column], wanted: &Wanted) -> Result<()> {
    for sorted in &wanted.columns {
        let column = &columns[sorted.column];
        if let Some((kind, _)) = column.column_type.vector() {
            let message = format!(
                "data type {} has no default operator class for access method \"btree\"",
                kind.name()
            );
            return Err(EngineError::new(SqlState::UNDEFINED_OBJECT, message)
                .with_hint("Use: CREATE INDEX ON table USING hnsw (column vector_cosine_ops)."));
        }
        check_key_type(column)?;
    }
    Ok(())
}

impl Altered<'_> {
    /// `CREATE INDEX`
    pub(super) async fn create_index(&self, create: &CreateIndex) -> Result<Step> {
        EngineError::refuse_present(&[
            (!create.include.is_empty(), "INCLUDE"),
            (create.nulls_distinct == Some(false), "NULLS NOT DISTINCT"),
            (create.predicate.is_some(), "a partial index"),
            (!create.with.is_empty(), "an option of btree"),
            (
                !create.index_options.is_empty() || !create.alter_options.is_empty(),
                "an index option",
            ),
        ])?;
        let name = create.name.as_ref().map(|name| match name.0.as_slice() {
            [_] => Ok(last_part(name)),
            _ => Err(EngineError::syntax("an index is in the schema of its table")),
        });
        let name = name.transpose()?;
        if let Some(name) = &name
            && create.if_not_exists
            && self.is_relation(name)
        {
            return Ok(Step::nothing(format!("relation \"{name}\" already exists, skipping")));
        }
        let position = |ident: &Ident| {
            let name = fold(ident);
            let message = || format!("column \"{name}\" does not exist");
            let found = self.collection.column_position(&name);
            found.ok_or_else(|| EngineError::new(SqlState::UNDEFINED_COLUMN, message()))
        };
        let columns = sorted_columns(&create.columns, position, "index")?;
        self.add_sorted(Wanted { name, columns, unique: create.unique, constraint: false }).await
    }

    fn is_relation(&self, name: &str) -> bool {
        let (view, schema) = (self.planner.scope.view(), self.collection.schema);
        view.catalog().relations(self.at).any(|r| r.schema == schema && r.name == *name)
    }

    /// `ADD UNIQUE`
    pub(super) async fn add_unique(&self, unique: &UniqueConstraint) -> Result<Step> {
        refuse_options(unique)?;
        let position = |ident: &Ident| {
            let name = fold(ident);
            let found = self.collection.column_position(&name);
            found.ok_or_else(|| {
                let message = format!("column \"{name}\" named in key does not exist");
                EngineError::new(SqlState::UNDEFINED_COLUMN, message)
            })
        };
        let wanted = Wanted::constraint(unique.name.as_ref(), &unique.columns, position)?;
        self.add_sorted(wanted).await
    }

    /// Adds an index whose columns are named by position.
    pub(super) async fn add_sorted(&self, mut wanted: Wanted) -> Result<Step> {
        let collection = self.collection;
        check_sortable(&collection.columns, &wanted)?;
        let positions: Vec<usize> = wanted.columns.iter().map(|c| c.column).collect();
        for column in &mut wanted.columns {
            column.column = collection.column_id(column.column);
        }
        let names: Vec<String> =
            positions.iter().map(|at| collection.columns[*at].name.clone()).collect();
        let view = self.planner.scope.view();
        let (catalog, schema) = (view.catalog(), collection.schema);
        let free = |parts: (&str, &str)| catalog.free_name(schema, parts, &[], self.at);
        let index = wanted.named(&collection.name, &names, free);
        let rows = if index.unique {
            if let Some(detail) = self.duplicate(&names).await? {
                let message = format!("could not create unique index \"{}\"", index.name);
                let error = EngineError::new(SqlState::UNIQUE_VIOLATION, message);
                return Err(error.with_detail(detail));
            }
            self.checked_rows()
        } else {
            None
        };
        Ok(self.one(Alteration::AddSorted { index }, rows))
    }

    /// Values that more than one row has in the columns.
    async fn duplicate(&self, names: &[String]) -> Result<Option<String>> {
        let column = |name: &String| Expr::Identifier(Ident::with_quote('"', name));
        let alias = Ident::with_quote('"', &self.collection.name);
        let table = table_name(DATABASE, self.schema, &self.collection.name);
        let items = names.iter().map(|name| SelectItem::UnnamedExpr(column(name))).collect();
        let known = names.iter().map(|name| Expr::IsNotNull(Box::new(column(name))));
        let known = known.reduce(|left, right| binary(left, BinaryOperator::And, right));
        let mut query = query_of(items, joined(table_factor(table, alias), &[]), known);
        let one = Expr::value(Value::Number("1".to_owned(), false));
        if let SetExpr::Select(select) = &mut *query.body {
            select.group_by =
                GroupByExpr::Expressions(names.iter().map(column).collect(), Vec::new());
            let count = call("count", vec![one.clone()]);
            select.having = Some(binary(count, BinaryOperator::Gt, one.clone()));
        }
        query.limit_clause = Some(ast::LimitClause::LimitOffset {
            limit: Some(one),
            offset: None,
            limit_by: Vec::new(),
        });
        let state = self.planner.begin(None);
        let found = computed(self.planner, &state, &query).await?;
        if found.num_rows() == 0 {
            return Ok(None);
        }
        let value = |column: &arrow::array::ArrayRef| -> Result<String> {
            let value = datafusion::common::ScalarValue::try_from_array(column, 0)?;
            Ok(shown(&value))
        };
        let values: Vec<String> = found.columns().iter().map(value).collect::<Result<_>>()?;
        let (names, values) = (names.join(", "), values.join(", "));
        Ok(Some(format!("Key ({names})=({values}) is duplicated.")))
    }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// A change of a collection that needs nothing but its catalog.
fn altered(collection: &Collection, change: Alteration) -> Define {
    Define::Alter { table: collection.id, version: collection.version, rows: None, change }
}

/// `DROP INDEX` of a sorted index; `None` when there is none of the name.
pub(super) fn drop_index(
    names: &Names<'_>,
    name: &ObjectName,
    at: CommitTs,
) -> Result<Option<Define>> {
    let (schema, index) = names.split(name)?;
    let found = names.catalog().key_named(schema, &index, at);
    let Some((collection, key)) = found else { return Ok(None) };
    if key.constraint {
        let table = &collection.name;
        let on = format!("constraint {index} on table {table}");
        let message = format!("cannot drop index {index} because {on} requires it");
        return Err(EngineError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
            .with_hint(format!("You can drop {on} instead.")));
    }
    Ok(Some(altered(collection, Alteration::DropSorted { name: index })))
}

/// `ALTER INDEX ... RENAME TO`
pub(super) fn rename_index(
    names: &Names<'_>,
    name: &ObjectName,
    to: &ObjectName,
    at: CommitTs,
) -> Result<Define> {
    let (schema, from) = names.split(name)?;
    if to.0.len() != 1 {
        return Err(EngineError::syntax("an index keeps its schema"));
    }
    let Some((collection, _)) = names.catalog().key_named(schema, &from, at) else {
        if names.catalog().index(schema, &from, at).is_some() {
            return Err(EngineError::unsupported("renaming an hnsw index"));
        }
        let message = format!("relation \"{from}\" does not exist");
        return Err(EngineError::new(SqlState::UNDEFINED_TABLE, message));
    };
    Ok(altered(collection, Alteration::RenameKey { from, to: last_part(to) }))
}

/// The key of a collection that an `ON CONFLICT` names by its columns or its constraint.
pub(super) fn unique_key<'a>(
    collection: &'a Collection,
    matches: impl Fn(&Key<'_>) -> bool,
) -> Option<Key<'a>> {
    collection.keys().find(|key| key.unique && matches(key))
}
