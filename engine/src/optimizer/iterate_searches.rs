//! Puts the rounds of a search that may go on above the sort that takes what is wanted. What runs
//! without them compares every row.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;

use crate::exec::{IterativeSearchExec, goes_on_below};

/// The rule.
#[derive(Debug)]
pub(crate) struct IterateSearches;

impl PhysicalOptimizerRule for IterateSearches {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wrapped = plan.transform_down(|plan| {
            let sort = match plan.downcast_ref::<SortPreservingMergeExec>() {
                // The sorts of parts, whose first rows it takes.
                Some(merge) => Some(merge.input()),
                None => plan.downcast_ref::<SortExec>().map(|_| &plan),
            };
            let (Some(sort), Some(wanted)) = (sort, plan.fetch()) else {
                return Ok(Transformed::no(plan));
            };
            let single = plan.properties().output_partitioning().partition_count() == 1;
            if !single || !goes_on_below(sort)? {
                return Ok(Transformed::no(plan));
            }
            let wrapped: Arc<dyn ExecutionPlan> = Arc::new(IterativeSearchExec::new(plan, wanted));
            Ok(Transformed::new(wrapped, true, TreeNodeRecursion::Jump))
        })?;
        Ok(wrapped.data)
    }

    fn name(&self) -> &'static str {
        "iterate_searches"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
