//! Sorts whose partitions are merged sort by all that the merge does.
//!
//! A column that has one value in each partition is left out of the order of the sort, though the value
//! of another partition may differ, as the branches of a union do; and partitions that keep the first
//! rows only share the value past which no row counts. They have to compare the same.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;

/// The rule. It runs when sorts and merges are in place and before anything asks what a sort compares.
#[derive(Debug)]
pub(crate) struct WholeOrder;

impl PhysicalOptimizerRule for WholeOrder {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let whole = plan.transform_up(|plan| {
            let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>() else {
                return Ok(Transformed::no(plan));
            };
            let sort = merge.input().downcast_ref::<SortExec>();
            let Some(sort) = sort.filter(|sort| sort.expr() != merge.expr()) else {
                return Ok(Transformed::no(plan));
            };
            let sort = SortExec::new(merge.expr().clone(), Arc::clone(sort.input()))
                .with_fetch(sort.fetch())
                .with_preserve_partitioning(sort.preserve_partitioning());
            Ok(Transformed::yes(replace_children_if_necessary(plan, vec![Arc::new(sort)])?))
        })?;
        Ok(whole.data)
    }

    fn name(&self) -> &'static str {
        "whole_order"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
