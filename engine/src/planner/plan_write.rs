//! What INSERT, UPDATE and DELETE do: names resolved, the query of the write planned and run, its
//! answer collected, conflicts resolved, and what is to be returned computed.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{AsArray as _, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{SchemaRef, UInt64Type};
use catalog::Collection;
use datafusion::common::ScalarValue;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{self, Query, SelectItem};
use storage::ReadView;

use super::changes::{Target, delete_query, delete_target, update_query, update_target};
use super::copy::CopyIn;
use super::define::target;
use super::on_conflict::{self, OnConflict};
use super::returning::{ROWS, insert_qualifier, returned, returning_query};
use super::rules::{begin_rows, check_rows};
use super::write::{InsertRows, WriteBuilder, check_width, insert_source};
use crate::error::{EngineError, Result};
use crate::query::{Planner, require_select};
use crate::sql::types::fold;

/// What a write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Insert,
    Update,
    Delete,
}

/// A write whose names are resolved at one read view.
pub(crate) struct Write<'a> {
    pub(crate) verb: Verb,
    pub(crate) collection: &'a Collection,
    /// Columns of the collection that the new rows give.
    pub(crate) positions: Vec<usize>,
    /// INSERT: new rows. UPDATE: row ids and new rows. DELETE: row ids, and the rows when some of
    /// them are returned.
    pub(crate) query: Cow<'a, Query>,
    /// Whether the query joins other tables, which may find a row more than once.
    joins: bool,
    /// What to do with taken keys, and the query for the rows that are updated then.
    conflict: Option<(OnConflict<'a>, Option<Query>)>,
    /// The query for what is returned.
    pub(crate) returning: Option<Query>,
}

/// A write that is ready to be committed.
pub(crate) struct PlannedWrite {
    pub(crate) builder: WriteBuilder,
    /// Such as `INSERT 0 3`.
    pub(crate) tag: String,
    /// What it returns.
    pub(crate) returned: Option<(SchemaRef, RecordBatch)>,
    /// Whether a key that is taken when it is committed is a reason to begin anew.
    pub(crate) may_conflict: bool,
}

impl PlannedWrite {
    /// A write that returns nothing.
    pub(crate) fn of(builder: WriteBuilder, verb: Verb) -> Self {
        let (begun, ended) = builder.counts();
        let tag = match verb {
            Verb::Insert => format!("INSERT 0 {begun}"),
            Verb::Update => format!("UPDATE {ended}"),
            Verb::Delete => format!("DELETE {ended}"),
        };
        Self { builder, tag, returned: None, may_conflict: false }
    }
}

/// The condition of an UPDATE or DELETE of one table, and what it calls the table.
pub(crate) fn condition<'a>(
    statement: &'a ast::Statement,
    collection: &Collection,
) -> Option<(&'a ast::Expr, String)> {
    let (condition, target) = match statement {
        ast::Statement::Update(update) if update.from.is_none() => {
            (update.selection.as_ref()?, update_target(update).ok()?)
        }
        ast::Statement::Delete(delete) if delete.using.is_none() => {
            (delete.selection.as_ref()?, delete_target(delete).ok()?)
        }
        _ => return None,
    };
    Some((condition, fold(&target.qualifier(collection))))
}

impl<'a> Write<'a> {
    /// Resolves a statement; `None` when it is not a write.
    pub(crate) fn resolve(
        view: &'a ReadView,
        default_schema: &str,
        statement: &'a ast::Statement,
    ) -> Result<Option<Self>> {
        let find = |name| {
            let collection = target(view, default_schema, name)?;
            let schema = view.catalog().namespace_by_id(collection.schema);
            let schema = schema.ok_or_else(|| EngineError::no_table(&collection.name))?;
            Ok::<_, EngineError>((collection, schema.name.as_str()))
        };
        let returning = |items: &Option<Vec<SelectItem>>, qualifier| {
            items.as_ref().map(|items| returning_query(items, qualifier))
        };
        let joins = |joins: bool, items: &Option<Vec<SelectItem>>| {
            let all = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_));
            if joins && items.iter().flatten().any(all) {
                return Err(EngineError::unsupported("RETURNING * of joined tables")
                    .with_hint("Name the columns of the table that changes."));
            }
            Ok(joins)
        };
        let changed =
            |verb, found: (&'a Collection, &str), target: &Target<'_>, query, items, others| {
                let (collection, _) = found;
                Ok::<_, EngineError>(Self {
                    verb,
                    collection,
                    positions: (0..collection.columns.len()).collect(),
                    query: Cow::Owned(query),
                    joins: joins(others, items)?,
                    conflict: None,
                    returning: returning(items, target.qualifier(collection)),
                })
            };
        Ok(Some(match statement {
            ast::Statement::Insert(insert) => {
                let ast::TableObject::TableName(name) = &insert.table else {
                    return Err(EngineError::unsupported("INSERT into anything but a table"));
                };
                let (collection, _) = find(name)?;
                let (positions, source) = insert_source(collection, insert)?;
                let qualifier = insert_qualifier(insert.table_alias.as_ref(), collection);
                let conflict = OnConflict::with_query(insert, collection, &qualifier)?;
                Self {
                    verb: Verb::Insert,
                    collection,
                    positions,
                    query: source,
                    joins: false,
                    conflict,
                    returning: returning(&insert.returning, qualifier),
                }
            }
            ast::Statement::Update(update) => {
                let target = update_target(update)?;
                let found = find(target.name)?;
                let query = update_query(update, &target, found)?;
                let (items, others) = (&update.returning, update.from.is_some());
                changed(Verb::Update, found, &target, query, items, others)?
            }
            ast::Statement::Delete(delete) => {
                let target = delete_target(delete)?;
                let found = find(target.name)?;
                let query = delete_query(delete, &target, found)?;
                let (items, others) = (&delete.returning, delete.using.is_some());
                changed(Verb::Delete, found, &target, query, items, others)?
            }
            _ => return Ok(None),
        }))
    }

    /// Whether it joins tables, resolves conflicts or returns rows.
    pub(crate) fn does_more(&self) -> bool {
        self.joins || self.conflict.is_some() || self.returning.is_some()
    }

    /// The queries beside the main one, which read rows in memory: none are there yet.
    pub(crate) fn other_queries(
        &self,
        planner: &Planner,
        state: &SessionState,
        schema: &SchemaRef,
    ) -> Result<Vec<&Query>> {
        on_conflict::keep_empty(planner, state, schema)?;
        planner.keep(state, ROWS, RecordBatch::new_empty(Arc::clone(schema)))?;
        let update = self.conflict.as_ref().and_then(|(_, query)| query.as_ref());
        Ok(update.into_iter().chain(&self.returning).collect())
    }
}

/// Turns a write into row ids and new rows, at one read view.
pub(crate) async fn plan_write(
    planner: &Planner,
    statement: &ast::Statement,
    parameters: &[ScalarValue],
) -> Result<PlannedWrite> {
    let mut state = planner.begin(None);
    loop {
        let planning = plan_write_here(planner, state.clone(), statement, parameters);
        let planned = Box::pin(planning).await;
        if !planner.close_beyond().await? {
            return planned;
        }
        state = planner.begin(Some(&state));
    }
}

/// Rows of an INSERT beyond which its values are read on the CPU executor.
const ROWS_AT_ONCE: usize = 16;

/// The write of an INSERT of a few rows that are constants and parameters, which need no plan, into a
/// table whose other columns have no defaults; `None` for any other statement.
pub(crate) fn rows_at_once(
    view: &ReadView,
    default_schema: &str,
    statement: &ast::Statement,
    parameters: &[ScalarValue],
) -> Result<Option<PlannedWrite>> {
    let ast::Statement::Insert(insert) = statement else { return Ok(None) };
    if insert.on.is_some() || insert.returning.is_some() {
        return Ok(None);
    }
    let Some(write) = Write::resolve(view, default_schema, statement)? else { return Ok(None) };
    let collection = write.collection;
    let Some(rows) = InsertRows::of(&write.query).filter(|rows| rows.len() <= ROWS_AT_ONCE) else {
        return Ok(None);
    };
    let has_default = |at: usize| collection.columns[at].default.is_some();
    let given = |at: &usize| write.positions.contains(at);
    let computes = (0..collection.columns.len()).any(|at| has_default(at) && !given(&at));
    if computes || !collection.checks.is_empty() {
        return Ok(None);
    }
    let table = view.table(collection.id).ok_or_else(|| EngineError::no_table(&collection.name))?;
    let definition = table.definition_of(collection);
    let mut builder = WriteBuilder::new(collection, definition.schema(), view.at());
    let columns = rows.columns(collection, &write.positions, parameters)?;
    builder.begin(&columns, &write.positions, rows.len())?;
    Ok(Some(PlannedWrite::of(builder, Verb::Insert)))
}

/// Plans and runs the query of a write at the read view that the scope holds.
async fn plan_write_here(
    planner: &Planner,
    state: SessionState,
    statement: &ast::Statement,
    parameters: &[ScalarValue],
) -> Result<PlannedWrite> {
    let view = planner.scope.view();
    let write = Write::resolve(&view, &planner.settings.default_schema(), statement)?;
    let write = write.ok_or_else(|| EngineError::bug("not a write"))?;
    let collection = write.collection;
    let table = view.table(collection.id).ok_or_else(|| EngineError::no_table(&collection.name))?;
    let definition = table.definition_of(collection);
    let mut builder = WriteBuilder::new(collection, definition.schema(), view.at());
    let mut gone = WriteBuilder::new(collection, definition.schema(), view.at());
    if write.verb == Verb::Insert
        && let Some(rows) = InsertRows::of(&write.query)
    {
        let columns = rows.columns(collection, &write.positions, parameters)?;
        let into = (&mut builder, &*write.positions);
        begin_rows(planner, &state, collection, into, (columns, rows.len())).await?;
    } else {
        collect(planner, state.clone(), &write, parameters, (&mut builder, &mut gone)).await?;
    }
    if write.verb != Verb::Delete {
        check_rows(planner, &state, collection, &builder.rows()?).await?;
    }
    if let Some((conflict, query)) = &write.conflict {
        let conflict = (conflict, query.as_ref());
        let rows = (&mut builder, &**table);
        on_conflict::resolve(planner, state.clone(), conflict, rows, parameters).await?;
        if query.is_some() {
            check_rows(planner, &state, collection, &builder.rows()?).await?;
        }
    }
    let returned = match &write.returning {
        None => None,
        Some(query) => {
            let of = if write.verb == Verb::Delete { &gone } else { &builder };
            planner.keep(&state, ROWS, of.rows()?)?;
            Some(returned(planner, state, query, parameters).await?)
        }
    };
    let may_conflict = write.conflict.is_some();
    Ok(PlannedWrite { returned, may_conflict, ..PlannedWrite::of(builder, write.verb) })
}

/// Turns the rows of a COPY into a write; how many there were.
pub(crate) async fn plan_copy(planner: &Planner, copy: CopyIn) -> Result<(WriteBuilder, usize)> {
    let state = planner.begin(None);
    let view = planner.scope.view();
    let (target, columns, rows) = copy.finish()?;
    let collection = &target.collection;
    let table = view.table(collection.id).ok_or_else(|| EngineError::no_table(&collection.name))?;
    let definition = table.definition_of(collection);
    let mut builder = WriteBuilder::new(collection, definition.schema(), view.at());
    let into = (&mut builder, &*target.positions);
    begin_rows(planner, &state, collection, into, (columns, rows)).await?;
    check_rows(planner, &state, collection, &builder.rows()?).await?;
    Ok((builder, rows))
}

/// Runs the query of a write and collects its rows; those that a DELETE returns go to `gone`.
async fn collect(
    planner: &Planner,
    state: SessionState,
    write: &Write<'_>,
    parameters: &[ScalarValue],
    (builder, gone): (&mut WriteBuilder, &mut WriteBuilder),
) -> Result<()> {
    require_select(&write.query)?;
    let planned = planner.plan_here(state.clone(), &write.query, parameters).await?;
    if write.verb == Verb::Insert {
        let width = planned.plan.schema().fields().len();
        check_width(std::iter::once(width), write.positions.len())?;
    }
    let mut seen = HashSet::new();
    for mut batch in planned.collect().await? {
        if write.joins {
            batch = first_of_each(&batch, &mut seen)?;
        }
        let rows = batch.num_rows();
        match write.verb {
            Verb::Insert => {
                let given = (batch.columns().to_vec(), rows);
                let into = (&mut *builder, &*write.positions);
                begin_rows(planner, &state, write.collection, into, given).await?;
            }
            Verb::Update => {
                builder.end(batch.column(0))?;
                builder.begin(&batch.columns()[1..], &write.positions, rows)?;
            }
            Verb::Delete => {
                builder.end(batch.column(0))?;
                if write.returning.is_some() {
                    gone.begin(&batch.columns()[1..], &write.positions, rows)?;
                }
            }
        }
    }
    Ok(())
}

/// The first row of each row id: a join may find a row more than once, and it changes once.
fn first_of_each(batch: &RecordBatch, seen: &mut HashSet<u64>) -> Result<RecordBatch> {
    let ids = batch.column(0).as_primitive_opt::<UInt64Type>();
    let ids = ids.ok_or_else(|| EngineError::bug("row ids are not integers"))?;
    let first: BooleanArray = ids.values().iter().map(|id| Some(seen.insert(*id))).collect();
    Ok(filter_record_batch(batch, &first)?)
}
