//! `IN` with NULL on a side, where the optimizer would read NULL as false.
//!
//! * A NULL in a list is taken out of it: `x IN (1, NULL)` is `x IN (1) OR NULL`.
//! * `x IN (SELECT y ...)` inside another expression becomes a CASE that tells false from unknown.
//!   At the top of a WHERE the difference does not show, and `NOT IN` is a join that knows it.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Case, Exists, InList, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, ExprSchemable as _, Filter, LogicalPlan, LogicalPlanBuilder, Subquery, lit,
};
use datafusion::optimizer::AnalyzerRule;

/// The rule.
#[derive(Debug)]
pub(crate) struct NullAwareIn;

impl AnalyzerRule for NullAwareIn {
    fn name(&self) -> &'static str {
        "null_aware_in"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(rewrite_plan)?.data)
    }
}

fn rewrite_plan(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&plan);
    let rewritten = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let rewritten = expr.transform_up(split_nulls)?;
        let rewritten = rewritten.transform_data(|expr| expr.transform_up(name_apart))?;
        let rewritten = rewritten.transform_data(|expr| expr.transform_up(always_a_row))?;
        Ok(rewritten.update_data(|expr| name.restore(expr)))
    })?;
    rewritten.transform_data(|plan| {
        let LogicalPlan::Filter(filter) = plan else { return Ok(Transformed::no(plan)) };
        let schema = Arc::clone(filter.input.schema());
        let conjuncts = split_conjunction_owned(filter.predicate.clone())
            .into_iter()
            .map(|conjunct| match top_level(&conjunct) {
                true => Ok(conjunct),
                false => Ok(conjunct
                    .transform_up(|expr| match expr {
                        // A join that knows NULL would count the columns that correlate, too.
                        Expr::InSubquery(within) if may_be_unknown(&within, &schema)? => {
                            Ok(Transformed::yes(three_valued(within)?))
                        }
                        Expr::InSubquery(within) if within.negated => {
                            let found = InSubquery { negated: false, ..within };
                            let found = Box::new(Expr::InSubquery(found));
                            Ok(Transformed::yes(Expr::IsNotTrue(found)))
                        }
                        Expr::Not(inner) if matches!(*inner, Expr::InSubquery(_)) => {
                            Ok(Transformed::yes(Expr::IsNotTrue(inner)))
                        }
                        other => Ok(Transformed::no(other)),
                    })?
                    .data),
            })
            .collect::<Result<Vec<Expr>>>()?;
        let Some(predicate) = conjunction(conjuncts) else {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        };
        Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?)))
    })
}

/// `x = ANY (SELECT x ...)`: the optimizer compares by name, so the subquery's column gets one of its
/// own.
fn name_apart(expr: Expr) -> Result<Transformed<Expr>> {
    let Expr::SetComparison(mut comparison) = expr else { return Ok(Transformed::no(expr)) };
    let inner = comparison.subquery.subquery.as_ref().clone();
    let named = LogicalPlanBuilder::from(inner).alias("azimuth any")?.build()?;
    comparison.subquery.subquery = Arc::new(named);
    Ok(Transformed::yes(Expr::SetComparison(comparison)))
}

/// `EXISTS (SELECT count(*) ...)`: without groups there is a row, whatever is counted.
fn always_a_row(expr: Expr) -> Result<Transformed<Expr>> {
    let Expr::Exists(exists) = &expr else { return Ok(Transformed::no(expr)) };
    let mut plan = &*exists.subquery.subquery;
    while let LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Sort(_) =
        plan
        && let [input] = plan.inputs().as_slice()
    {
        plan = input;
    }
    match plan {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => {
            Ok(Transformed::yes(lit(!exists.negated)))
        }
        _ => Ok(Transformed::no(expr)),
    }
}

fn unknown() -> Expr {
    Expr::Literal(ScalarValue::Boolean(None), None)
}

fn is_null(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => value.is_null(),
        Expr::Cast(cast) => is_null(&cast.expr),
        _ => false,
    }
}

/// Takes the NULLs out of a list.
fn split_nulls(expr: Expr) -> Result<Transformed<Expr>> {
    let Expr::InList(InList { expr: value, list, negated }) = expr else {
        return Ok(Transformed::no(expr));
    };
    let before = list.len();
    let list: Vec<Expr> = list.into_iter().filter(|item| !is_null(item)).collect();
    if list.len() == before {
        return Ok(Transformed::no(Expr::InList(InList { expr: value, list, negated })));
    }
    if list.is_empty() {
        return Ok(Transformed::yes(unknown()));
    }
    let rest = Expr::InList(InList { expr: value, list, negated });
    Ok(Transformed::yes(if negated { rest.and(unknown()) } else { rest.or(unknown()) }))
}

/// Whether a conjunct is `x IN (SELECT ...)` itself, or `x NOT IN (SELECT ...)` of a column and a
/// subquery that does not depend on the row: the join that knows NULL has one key.
fn top_level(conjunct: &Expr) -> bool {
    let (within, negated) = match conjunct {
        Expr::InSubquery(within) => (within, within.negated),
        Expr::Not(inner) => match &**inner {
            Expr::InSubquery(within) => (within, !within.negated),
            _ => return false,
        },
        _ => return false,
    };
    !negated
        || within.subquery.outer_ref_columns.is_empty() && !within.expr.column_refs().is_empty()
}

fn may_be_unknown(within: &InSubquery, schema: &DFSchema) -> Result<bool> {
    let output = within.subquery.subquery.schema().field(0);
    Ok(within.expr.nullable(schema)? || output.is_nullable())
}

/// `CASE WHEN x IN S THEN true WHEN S has a NULL, or x is NULL and S has rows, THEN NULL ELSE false`
fn three_valued(within: InSubquery) -> Result<Expr> {
    let InSubquery { expr, subquery, negated } = within;
    let output = Expr::Column(Column::from(subquery.subquery.schema().qualified_field(0)));
    let null_in_output = exists(&subquery, Some(output.is_null()))?;
    let any_row = exists(&subquery, None)?;
    let is_unknown = null_in_output.or(expr.clone().is_null().and(any_row));
    let found = Expr::InSubquery(InSubquery { expr, subquery, negated: false });
    Ok(Expr::Case(Case {
        expr: None,
        when_then_expr: vec![
            // Else the CASE would become a join that counts the columns that correlate.
            (Box::new(Expr::IsTrue(Box::new(found))), Box::new(lit(!negated))),
            (Box::new(is_unknown), Box::new(unknown())),
        ],
        else_expr: Some(Box::new(lit(negated))),
    }))
}

fn exists(subquery: &Subquery, filter: Option<Expr>) -> Result<Expr> {
    let plan = match filter {
        Some(filter) => LogicalPlanBuilder::from(subquery.subquery.as_ref().clone())
            .filter(filter)?
            .build()
            .map(Arc::new)?,
        None => Arc::clone(&subquery.subquery),
    };
    let outer_ref_columns = plan.all_out_ref_exprs();
    let subquery = Subquery { subquery: plan, outer_ref_columns, spans: subquery.spans.clone() };
    Ok(Expr::Exists(Exists { subquery, negated: false }))
}
