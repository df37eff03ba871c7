//! Types that PostgreSQL gives and the planner below does not, before types are coerced: a whole number
//! is an `integer` where it fits, and ranks of rows are `bigint`.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::expr::WindowFunctionDefinition;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::optimizer::AnalyzerRule;
use udfs::CheckedFunction;

/// The rule.
#[derive(Debug)]
pub(crate) struct PostgresTypes;

impl AnalyzerRule for PostgresTypes {
    fn name(&self) -> &'static str {
        "postgres_types"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(typed(plan)?.data)
    }
}

/// From the leaves up. What a query reads of itself has the types it was planned with.
fn typed(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if matches!(plan, LogicalPlan::RecursiveQuery(_)) {
        return Ok(Transformed::no(plan));
    }
    plan.map_subqueries(typed)?
        .transform_data(|plan| plan.map_children(typed))?
        .transform_data(give_types)
}

fn give_types(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    // A LIMIT counts in its own type.
    if matches!(plan, LogicalPlan::Limit(_)) {
        return Ok(Transformed::no(plan));
    }
    let plan = match plan {
        LogicalPlan::Aggregate(aggregate) => LogicalPlan::Aggregate(grouped_by_columns(aggregate)?),
        other => other,
    };
    let names = NamePreserver::new(&plan);
    let whole = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let whole = expr.transform_down(whole_number)?;
        Ok(whole.update_data(|expr| name.restore(expr)))
    })?;
    let changed = whole.transformed;
    whole.transform_data(|plan| match plan {
        LogicalPlan::Window(_) => signed_ranks(plan.recompute_schema()?),
        LogicalPlan::Values(values) if changed => {
            Ok(Transformed::yes(LogicalPlanBuilder::values(values.values)?.build()?))
        }
        plan => Ok(Transformed::yes(plan.recompute_schema()?)),
    })
}

/// `GROUP BY ROLLUP (x + 1)` of a column that is computed below: what is above knows the expression by
/// its name, which changes with the types in it.
fn grouped_by_columns(aggregate: Aggregate) -> Result<Aggregate> {
    let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() else { return Ok(aggregate) };
    let mut computed: Vec<Expr> = Vec::new();
    for expr in sets.distinct_expr() {
        if !matches!(expr, Expr::Column(_)) {
            computed.push(expr.clone());
        }
    }
    if computed.is_empty() {
        return Ok(aggregate);
    }
    let sets = Expr::GroupingSet(sets.clone()).transform_down(|expr| {
        let column = match computed.contains(&expr) {
            true => Some(Expr::Column(Column::from_name(expr.schema_name().to_string()))),
            false => None,
        };
        Ok(column.map_or_else(
            || Transformed::no(expr),
            |column| Transformed::new(column, true, TreeNodeRecursion::Jump),
        ))
    })?;
    let named = computed.iter().map(|expr| expr.clone().alias(expr.schema_name().to_string()));
    let own = aggregate.input.schema().columns().into_iter().map(Expr::Column);
    let input = LogicalPlanBuilder::from(Arc::clone(&aggregate.input));
    let input = input.project(own.chain(named).collect::<Vec<_>>())?.build()?;
    Aggregate::try_new(Arc::new(typed(input)?.data), vec![sets.data], aggregate.aggr_expr)
}

fn whole_number(expr: Expr) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(number)), metadata) => match i32::try_from(number) {
            Ok(number) => {
                let literal = Expr::Literal(ScalarValue::Int32(Some(number)), metadata);
                Ok(Transformed::yes(literal))
            }
            Err(_) => {
                let literal = Expr::Literal(ScalarValue::Int64(Some(number)), metadata);
                Ok(Transformed::no(literal))
            }
        },
        // `count(*)` is recognised by its argument, an offset of `lag` by its type.
        Expr::AggregateFunction(call) if matches!(call.func.name(), "count" | "nth_value") => {
            Ok(Transformed::new(Expr::AggregateFunction(call), false, TreeNodeRecursion::Jump))
        }
        // More than an integer of 64 bits is a `numeric`.
        Expr::Literal(ScalarValue::UInt64(Some(number)), metadata) => {
            let literal = ScalarValue::Decimal128(Some(number.into()), 20, 0);
            Ok(Transformed::yes(Expr::Literal(literal, metadata)))
        }
        // Groups are known by the names of their expressions.
        Expr::GroupingSet(groups) => {
            Ok(Transformed::new(Expr::GroupingSet(groups), false, TreeNodeRecursion::Jump))
        }
        // A part of a plan may come a second time, with the types it has.
        Expr::ScalarFunction(call) if CheckedFunction::of(&call.func).is_some() => {
            Ok(Transformed::new(Expr::ScalarFunction(call), false, TreeNodeRecursion::Jump))
        }
        Expr::WindowFunction(call)
            if matches!(&call.fun, WindowFunctionDefinition::WindowUDF(_))
                || call.fun.name() == "count" =>
        {
            Ok(Transformed::new(Expr::WindowFunction(call), false, TreeNodeRecursion::Jump))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// `row_number`, `rank` and the like without the type that knows no sign.
fn signed_ranks(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = plan.schema();
    let unsigned = |at: usize| schema.field(at).data_type() == &DataType::UInt64;
    if !(0..schema.fields().len()).any(unsigned) {
        return Ok(Transformed::yes(plan));
    }
    let outputs: Vec<Expr> = schema
        .columns()
        .into_iter()
        .enumerate()
        // Another rule looks for it below, and takes it away.
        .filter(|(_, column)| column.name != Aggregate::INTERNAL_GROUPING_ID)
        .map(|(at, column)| match unsigned(at) {
            true => {
                let Column { relation, name, .. } = column.clone();
                cast(Expr::Column(column), DataType::Int64).alias_qualified(relation, name)
            }
            false => Expr::Column(column),
        })
        .collect();
    let plan = LogicalPlanBuilder::from(plan).project(outputs)?.build()?;
    Ok(Transformed::yes(plan))
}
