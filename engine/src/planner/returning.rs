//! `RETURNING`: a query over the rows that a statement made, or ended.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use catalog::Collection;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{Ident, Query, SelectItem, SetExpr};
use types::SqlState;

use super::changes::{joined, query_of, table_factor, table_name};
use crate::error::{EngineError, Result};
use crate::provider::MEMORY_CATALOG;
use crate::query::{Planner, named_schema};
use crate::sql::names::name_repeated;

/// Name of the rows among the tables in memory.
pub(crate) const ROWS: &str = "rows";

/// The query whose rows are returned.
pub(crate) fn returning_query(items: &[SelectItem], qualifier: Ident) -> Query {
    let rows = table_factor(table_name(MEMORY_CATALOG, MEMORY_CATALOG, ROWS), qualifier);
    let mut query = query_of(items.to_vec(), joined(rows, &[]), None);
    if let SetExpr::Select(select) = &mut *query.body {
        name_repeated(select);
    }
    query
}

/// Refuses what would not have a row for each of the rows, in a clause.
pub(crate) fn check_row_by_row(plan: &LogicalPlan, clause: &str) -> Result<()> {
    let mut found = None;
    plan.apply(|plan| {
        found = match plan {
            LogicalPlan::Aggregate(_) => Some("aggregate"),
            LogicalPlan::Window(_) => Some("window"),
            _ => found,
        };
        Ok(TreeNodeRecursion::Continue)
    })?;
    match found {
        None => Ok(()),
        Some(kind) => {
            let message = format!("{kind} functions are not allowed in {clause}");
            Err(EngineError::new(SqlState::GROUPING_ERROR, message))
        }
    }
}

/// What the rows that are kept in memory return, under the names PostgreSQL gives.
pub(crate) async fn returned(
    planner: &Planner,
    state: SessionState,
    query: &Query,
    parameters: &[ScalarValue],
) -> Result<(SchemaRef, RecordBatch)> {
    let planned = planner.plan_here(state, query, parameters).await?;
    check_row_by_row(&planned.plan, "RETURNING")?;
    let physical = planned.physical().await?;
    let schema = named_schema(query, &physical.schema());
    let batches = planned.collect().await?;
    let batch = concat_batches(&physical.schema(), &batches)?;
    Ok((schema, batch))
}

/// What the statement calls its table, of an INSERT.
pub(crate) fn insert_qualifier(
    alias: Option<&datafusion::sql::sqlparser::ast::TableAliasWithoutColumns>,
    collection: &Collection,
) -> Ident {
    alias.map_or_else(
        || Ident::with_quote('"', collection.name.clone()),
        |alias| alias.alias.clone(),
    )
}
