//! `ORDER BY distance(column, constant) LIMIT k` over a collection: asks the scan for its `k`
//! nearest rows. The sort stays above it.
//!
//! The rule fires when all of this holds, and otherwise leaves the plan alone:
//! * a sort with a fetch and one ascending key, NULLs last;
//! * between it and the scan nothing but projections, aliases, filters that the scan did not take, and
//!   joins (`search_below_join.rs`); a window or another limit in between changes which rows qualify;
//! * the key is a distance of an index's kind between a vector column and a literal, or a parameter
//!   that has no value yet, of its dimension.
//!
//! Where something in between drops rows by what the search cannot know, the search is one that may go
//! on (`iterate_searches.rs`).
//!
//! This is the one rule that may change a result: through an index the `k` rows are approximate.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    Expr, Filter, LogicalPlan, Projection, Sort, SubqueryAlias, TableScan,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use types::Distance;
use udfs::{distance_function, vector_of};

use super::search_below_join::push_below;
use crate::exec::{QueryVector, SemiJoin, VectorTopK, has_dimension};
use crate::provider::CollectionProvider;
use crate::sql::types::parameter_number;

/// The rule.
#[derive(Debug)]
pub(crate) struct PushVectorTopK;

impl OptimizerRule for PushVectorTopK {
    fn name(&self) -> &'static str {
        "push_vector_top_k"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Sort(sort) = &plan else { return Ok(Transformed::no(plan)) };
        let (Some(k), [key]) = (sort.fetch, sort.expr.as_slice()) else {
            return Ok(Transformed::no(plan));
        };
        if !key.asc || key.nulls_first {
            return Ok(Transformed::no(plan));
        }
        let wanted = Wanted::new(key.expr.clone(), k);
        let pushed = match push(&sort.input, wanted.clone())? {
            None => push(&sort.input, Wanted { may_go_on: true, ..wanted })?,
            pushed => pushed,
        };
        match pushed {
            Some(input) => {
                let sort = Sort { input: Arc::new(input), ..sort.clone() };
                Ok(Transformed::yes(LogicalPlan::Sort(sort)))
            }
            None => Ok(Transformed::no(plan)),
        }
    }
}

/// What is wanted of a plan, in its columns.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The sort key.
    key: Expr,
    k: usize,
    /// Whether conditions above may leave fewer rows than that, and the search may be asked for more.
    pub(super) may_go_on: bool,
    /// Joins above that say which rows qualify.
    pub(super) joins: Vec<SemiJoin>,
}

impl Wanted {
    fn new(key: Expr, k: usize) -> Self {
        Self { key, k, may_go_on: false, joins: Vec::new() }
    }

    /// The same with every expression rewritten; `None` when one cannot be.
    fn map(mut self, rewrite: impl Fn(Expr) -> Result<Option<Expr>>) -> Result<Option<Self>> {
        let Some(key) = rewrite(self.key.clone())? else { return Ok(None) };
        let mut joins = Vec::with_capacity(self.joins.len());
        for join in std::mem::take(&mut self.joins) {
            let on = join.on.into_iter().map(&rewrite).collect::<Result<Option<Vec<Expr>>>>()?;
            let Some(on) = on else { return Ok(None) };
            joins.push(SemiJoin { on, ..join });
        }
        Ok(Some(Self { key, joins, ..self }))
    }

    /// Whether all expressions are over columns of `schema`.
    pub(super) fn is_over(&self, schema: &DFSchema) -> bool {
        let over = |expr: &Expr| {
            let columns = expr.column_refs();
            !columns.is_empty() && columns.iter().all(|column| schema.has_column(column))
        };
        over(&self.key) && self.joins.iter().flat_map(|join| &join.on).all(over)
    }
}

/// Walks down to the scan; the plan with the scan replaced.
pub(super) fn push(plan: &LogicalPlan, wanted: Wanted) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let Some(wanted) = wanted.map(|expr| resolve(expr, projection))? else {
                return Ok(None);
            };
            let Some(input) = push(&projection.input, wanted)? else { return Ok(None) };
            let rebuilt = Projection::try_new_with_schema(
                projection.expr.clone(),
                Arc::new(input),
                Arc::clone(&projection.schema),
            )?;
            Ok(Some(LogicalPlan::Projection(rebuilt)))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let Some(wanted) = wanted.map(|expr| unalias(expr, alias).map(Some))? else {
                return Ok(None);
            };
            let Some(input) = push(&alias.input, wanted)? else { return Ok(None) };
            let rebuilt = SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?;
            Ok(Some(LogicalPlan::SubqueryAlias(rebuilt)))
        }
        LogicalPlan::Filter(filter) if wanted.may_go_on && !filter.predicate.is_volatile() => {
            let Some(input) = push(&filter.input, wanted)? else { return Ok(None) };
            let rebuilt = Filter::try_new(filter.predicate.clone(), Arc::new(input))?;
            Ok(Some(LogicalPlan::Filter(rebuilt)))
        }
        LogicalPlan::Join(join) => push_below(join, wanted),
        LogicalPlan::TableScan(scan) => ask(scan, wanted),
        _ => Ok(None),
    }
}

/// Replaces the columns that a projection makes by what they are made of.
fn resolve(expr: Expr, projection: &Projection) -> Result<Option<Expr>> {
    let mut known = true;
    let resolved = expr.transform_up(|expr| {
        let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
        match projection.schema.maybe_index_of_column(column) {
            Some(at) => Ok(Transformed::yes(projection.expr[at].clone().unalias())),
            None => {
                known = false;
                Ok(Transformed::no(expr))
            }
        }
    })?;
    Ok(known.then_some(resolved.data))
}

/// Gives columns the qualifier that they have below an alias.
fn unalias(key: Expr, alias: &SubqueryAlias) -> Result<Expr> {
    let inner = alias.input.schema();
    let renamed = key.transform_up(|expr| {
        let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
        match alias.schema.maybe_index_of_column(column) {
            Some(at) => {
                let (qualifier, field) = inner.qualified_field(at);
                let column = Column::new(qualifier.cloned(), field.name());
                Ok(Transformed::yes(Expr::Column(column)))
            }
            None => Ok(Transformed::no(expr)),
        }
    })?;
    Ok(renamed.data)
}

/// The scan, asked for its nearest rows, when the key is a distance it can search by.
fn ask(scan: &TableScan, wanted: Wanted) -> Result<Option<LogicalPlan>> {
    let provider = source_as_provider(&scan.source)?;
    let Some(collection) = provider.downcast_ref::<CollectionProvider>() else { return Ok(None) };
    if collection.has_top_k() || scan.fetch.is_some() {
        return Ok(None);
    }
    // Parameters put in later leave an alias around the expression.
    let Wanted { key, k, may_go_on, mut joins } = wanted;
    let key = key.unalias_nested().data;
    let Some((distance, column, (query, data_type))) = distance_key(&key) else { return Ok(None) };
    let definition = collection.definition();
    let Ok(position) = definition.schema().index_of(&column.name) else { return Ok(None) };
    let field = definition.schema().field(position);
    let id = definition.column_id(position);
    if !storage::memtable::is_vector_field(field) || field.data_type() != &data_type {
        return Ok(None);
    }
    if let QueryVector::Known(query) = &query
        && !has_dimension(definition, id, query)
    {
        return Ok(None);
    }
    // Anything else would be computed for rows that it was not meant for, and twice.
    let plain = |join: &SemiJoin| join.on.iter().all(is_plain);
    if may_go_on {
        joins.retain(plain);
    } else if !joins.iter().all(plain) {
        return Ok(None);
    }
    let joins = joins.into_iter().map(over_collection).collect::<Result<_>>()?;
    let top_k = VectorTopK { column: id, query, distance, k, may_go_on, joins };
    let source = provider_as_source(Arc::new(collection.with_top_k(top_k)));
    Ok(Some(LogicalPlan::TableScan(TableScan { source, ..scan.clone() })))
}

/// Whether a key is a column, or a column as a wider whole number, which cannot fail.
fn is_plain(key: &Expr) -> bool {
    match key {
        Expr::Column(_) => true,
        Expr::Alias(alias) => is_plain(&alias.expr),
        Expr::Cast(cast) => {
            matches!(cast.field.data_type(), DataType::Int32 | DataType::Int64)
                && matches!(&*cast.expr, Expr::Column(_))
        }
        _ => false,
    }
}

/// A join whose key names columns as the collection does.
fn over_collection(join: SemiJoin) -> Result<SemiJoin> {
    let plain = |expr: Expr| {
        let plain = expr.transform_up(|expr| {
            let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
            let column = Column::new_unqualified(column.name.clone());
            Ok(Transformed::yes(Expr::Column(column)))
        })?;
        Ok(plain.data)
    };
    let on = join.on.into_iter().map(plain).collect::<Result<_>>()?;
    Ok(SemiJoin { on, ..join })
}

/// Distance, column and query of `distance(column, query)` in either order of arguments.
fn distance_key(key: &Expr) -> Option<(Distance, &Column, (QueryVector, DataType))> {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = key else { return None };
    let distance = distance_function(func)?.index_distance()?;
    let ([Expr::Column(column), query] | [query, Expr::Column(column)]) = args.as_slice() else {
        return None;
    };
    let query = match query {
        Expr::Literal(value, _) => (QueryVector::Known(vector_of(value)?), value.data_type()),
        Expr::Placeholder(placeholder) => {
            let number = parameter_number(&placeholder.id)?.checked_sub(1)?;
            let data_type = placeholder.field.as_ref()?.data_type().clone();
            (QueryVector::Parameter(number), data_type)
        }
        _ => return None,
    };
    Some((distance, column, query))
}
