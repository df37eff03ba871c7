//! A condition without columns above an aggregate that has a row for no rows stays there: pushed below,
//! it would take the rows and leave the one that counts them. DataFusion's rule pushes it, as it does
//! every condition that uses nothing but columns of the groups.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Aggregate, Expr, Filter, GroupingSet, LogicalPlan};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// DataFusion's `push_down_filter`, which this keeps from such conditions.
#[derive(Debug)]
pub(crate) struct KeepAboveAggregates(pub(crate) Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for KeepAboveAggregates {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = plan else { return self.0.rewrite(plan, config) };
        let (below, mut parts) = merged(filter);
        let kept: Vec<Expr> = match &*below {
            LogicalPlan::Aggregate(aggregate) => {
                let always = has_a_row_for_none(aggregate);
                let stays = |part: &mut Expr| {
                    part.column_refs().is_empty() && (always || part.is_volatile())
                };
                parts.extract_if(.., stays).collect()
            }
            _ => Vec::new(),
        };
        let pushed = match conjunction(parts) {
            None => Transformed::no(Arc::unwrap_or_clone(below)),
            Some(predicate) => {
                let filter = Filter::try_new(predicate, below)?;
                self.0.rewrite(LogicalPlan::Filter(filter), config)?
            }
        };
        match conjunction(kept) {
            None => Ok(pushed),
            Some(predicate) => pushed.map_data(|plan| {
                Ok(LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(plan))?))
            }),
        }
    }
}

/// What is below `filter` and the filters below it, and all their conditions, the lowest first.
fn merged(filter: Filter) -> (Arc<LogicalPlan>, Vec<Expr>) {
    let mut parts = vec![filter.predicate];
    let mut below = filter.input;
    while let LogicalPlan::Filter(filter) = &*below {
        parts.insert(0, filter.predicate.clone());
        below = Arc::clone(&filter.input);
    }
    (below, parts.into_iter().flat_map(split_conjunction_owned).collect())
}

fn has_a_row_for_none(aggregate: &Aggregate) -> bool {
    match aggregate.group_expr.as_slice() {
        [] => true,
        [Expr::GroupingSet(GroupingSet::Rollup(_) | GroupingSet::Cube(_))] => true,
        [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => sets.iter().any(Vec::is_empty),
        _ => false,
    }
}
