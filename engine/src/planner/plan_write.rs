//! What INSERT, UPDATE and DELETE do: names resolved, the query of the write planned and run, its
//! answer collected.

use std::borrow::Cow;

use catalog::Collection;
use datafusion::common::ScalarValue;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{self, Query};
use storage::ReadView;

use super::define::target;
use super::write::{
    InsertRows, WriteBuilder, check_width, delete_query, delete_target, insert_source,
    update_query, update_target,
};
use crate::error::{EngineError, Result};
use crate::query::{Planner, require_select};

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
    /// INSERT: new rows. UPDATE: row ids and new rows. DELETE: row ids.
    pub(crate) query: Cow<'a, Query>,
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
        Ok(Some(match statement {
            ast::Statement::Insert(insert) => {
                let ast::TableObject::TableName(name) = &insert.table else {
                    return Err(EngineError::unsupported("INSERT into anything but a table"));
                };
                let (collection, _) = find(name)?;
                let (positions, source) = insert_source(collection, insert)?;
                Self { verb: Verb::Insert, collection, positions, query: Cow::Borrowed(source) }
            }
            ast::Statement::Update(update) => {
                let target = update_target(update)?;
                let (collection, schema) = find(target.name)?;
                let query = Cow::Owned(update_query(update, &target, collection, schema)?);
                let positions = (0..collection.columns.len()).collect();
                Self { verb: Verb::Update, collection, positions, query }
            }
            ast::Statement::Delete(delete) => {
                let target = delete_target(delete)?;
                let (collection, schema) = find(target.name)?;
                let query = Cow::Owned(delete_query(delete, &target, collection, schema)?);
                Self { verb: Verb::Delete, collection, positions: Vec::new(), query }
            }
            _ => return Ok(None),
        }))
    }
}

/// Turns a write into row ids and new rows, at one read view.
pub(crate) async fn plan_write(
    planner: &Planner,
    statement: &ast::Statement,
    parameters: &[ScalarValue],
) -> Result<(Verb, WriteBuilder)> {
    let mut state = planner.begin(None);
    loop {
        let planned = plan_write_here(planner, state.clone(), statement, parameters).await;
        if !planner.close_beyond().await? {
            return planned;
        }
        state = planner.begin(Some(&state));
    }
}

/// Plans and runs the query of a write at the read view that the scope holds.
async fn plan_write_here(
    planner: &Planner,
    state: SessionState,
    statement: &ast::Statement,
    parameters: &[ScalarValue],
) -> Result<(Verb, WriteBuilder)> {
    let view = planner.scope.view();
    let write = Write::resolve(&view, &planner.settings.default_schema(), statement)?;
    let Write { verb, collection, positions, query } =
        write.ok_or_else(|| EngineError::bug("not a write"))?;
    let table = view.table(collection.id).ok_or_else(|| EngineError::no_table(&collection.name))?;
    let mut builder = WriteBuilder::new(collection, table.schema(), view.at());
    if verb == Verb::Insert
        && let Some(rows) = InsertRows::of(&query)
    {
        builder.begin(&rows.columns(collection, &positions, parameters)?, &positions)?;
        return Ok((verb, builder));
    }
    require_select(&query)?;
    let planned = planner.plan_here(state, &query, parameters).await?;
    if verb == Verb::Insert {
        let width = planned.plan.schema().fields().len();
        check_width(std::iter::once(width), positions.len())?;
    }
    for batch in planned.collect().await? {
        let mut columns = batch.columns();
        if verb != Verb::Insert {
            builder.end(&columns[0])?;
            columns = &columns[1..];
        }
        if verb != Verb::Delete {
            builder.begin(columns, &positions)?;
        }
    }
    Ok((verb, builder))
}
