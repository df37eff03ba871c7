//! A condition without columns above an aggregate of all rows stays there: pushed below, it would take
//! the rows and leave the one that counts them.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DataFusionError, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Filter, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

/// The rule.
#[derive(Debug)]
pub(crate) struct GuardAggregates;

impl AnalyzerRule for GuardAggregates {
    fn name(&self) -> &'static str {
        "guard_aggregates"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(guard)?.data)
    }
}

fn guard(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Filter(filter) = plan else { return Ok(Transformed::no(plan)) };
    let Some(column) = column_of_all_rows(&filter.input) else {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    };
    let kept = |part: Expr| match part {
        Expr::Literal(..) => part,
        part if part.column_refs().is_empty() => {
            let signature = Signature::any(2, Volatility::Immutable);
            let kept = ScalarUDF::from(Kept(signature));
            kept.call(vec![part, Expr::Column(column.clone())])
        }
        part => part,
    };
    let parts = split_conjunction_owned(filter.predicate.clone()).into_iter().map(kept);
    match conjunction(parts) {
        Some(predicate) => {
            let filter = Filter::try_new(predicate, filter.input)?;
            Ok(Transformed::yes(LogicalPlan::Filter(filter)))
        }
        None => Ok(Transformed::no(LogicalPlan::Filter(filter))),
    }
}

/// A column of `plan`, when it is one row that is made of all.
fn column_of_all_rows(plan: &Arc<LogicalPlan>) -> Option<Column> {
    let mut inner = plan;
    loop {
        inner = match &**inner {
            LogicalPlan::Aggregate(aggregate) => {
                return aggregate.group_expr.is_empty().then(|| plan.schema().columns().pop())?;
            }
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Filter(filter) => &filter.input,
            LogicalPlan::Sort(sort) => &sort.input,
            _ => return None,
        };
    }
}

/// Its first argument; the second keeps it where that is.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Kept(Signature);

impl ScalarUDFImpl for Kept {
    fn name(&self) -> &'static str {
        "kept"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let first = args.args.into_iter().next();
        first.ok_or_else(|| DataFusionError::Internal("nothing to keep".to_owned()))
    }
}
