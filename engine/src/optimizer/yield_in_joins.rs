//! Joins without a key, which make far more rows than they read, give way to others: cancelling a
//! statement takes effect where its task yields, and these operators never do by themselves.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;

use crate::exec::InPiecesExec;

/// The rule.
#[derive(Debug)]
pub(crate) struct YieldInJoins;

impl PhysicalOptimizerRule for YieldInJoins {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wrapped = plan.transform_up(|plan| {
            if matches!(plan.name(), "CrossJoinExec" | "NestedLoopJoinExec") {
                let mut children: Vec<Arc<dyn ExecutionPlan>> =
                    plan.children().into_iter().map(Arc::clone).collect();
                // The side that is compared with all of the other, batch by batch.
                if let Some(probed) = children.pop() {
                    children.push(Arc::new(InPiecesExec::new(probed)));
                }
                let plan = replace_children_if_necessary(plan, children)?;
                let wrapped: Arc<dyn ExecutionPlan> = Arc::new(CooperativeExec::new(plan));
                return Ok(Transformed::yes(wrapped));
            }
            Ok(Transformed::no(plan))
        })?;
        Ok(wrapped.data)
    }

    fn name(&self) -> &'static str {
        "yield_in_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
