//! The operators above a search, or above a row found by key, run on its rows at once. A search has few rows; to set up a stream
//! for each operator above it takes longer than to run them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{lexsort_to_indices, take_record_batch};
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::physical_expr::projection::Projector;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;

use super::{CollectionScanExec, VectorTopKExec};

/// Nodes of an expression that is evaluated at once, which may be on a thread with a small stack.
const EXPRESSION_NODES_MAX: usize = 200;

/// One operator.
#[derive(Debug)]
enum Step {
    Sort { order: LexOrdering, fetch: Option<usize> },
    Project(Projector),
    Limit { skip: usize, fetch: Option<usize> },
}

/// The operators above a search, the lowest first.
#[derive(Debug)]
pub(crate) struct Steps(Vec<Step>);

impl Steps {
    /// What stands above the search in `plan`, and the search; `None` when there is an operator that
    /// needs more than one look at the rows of one search.
    pub(crate) fn above_search(
        plan: &Arc<dyn ExecutionPlan>,
    ) -> Result<Option<(Self, VectorTopKExec)>> {
        let above = Self::above(plan)?;
        let search = |(steps, leaf): (Self, &Arc<dyn ExecutionPlan>)| {
            Some((steps, leaf.downcast_ref::<VectorTopKExec>()?.clone()))
        };
        Ok(above.and_then(search))
    }

    /// What stands above the scan in `plan`, and the columns that the scan returns.
    pub(crate) fn above_scan(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<(Self, Vec<usize>)>> {
        let above = Self::above(plan)?;
        let scan = |(steps, leaf): (Self, &Arc<dyn ExecutionPlan>)| {
            Some((steps, leaf.downcast_ref::<CollectionScanExec>()?.projection().to_vec()))
        };
        Ok(above.and_then(scan))
    }

    /// What stands above the only leaf of `plan`, and the leaf.
    fn above(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<(Self, &Arc<dyn ExecutionPlan>)>> {
        let mut steps = Vec::new();
        let mut plan = plan;
        loop {
            if plan.children().is_empty() {
                steps.reverse();
                return Ok(Some((Self(steps), plan)));
            }
            if let Some(sort) = plan.downcast_ref::<SortExec>() {
                if !sort.expr().iter().all(|sort| is_small(&sort.expr)) {
                    return Ok(None);
                }
                steps.push(Step::Sort { order: sort.expr().clone(), fetch: sort.fetch() });
                plan = sort.input();
            } else if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
                if !projection.expr().iter().all(|projected| is_small(&projected.expr)) {
                    return Ok(None);
                }
                let schema = projection.input().schema();
                let projector = projection.projection_expr().make_projector(&schema)?;
                steps.push(Step::Project(projector));
                plan = projection.input();
            } else if let Some(limit) = plan.downcast_ref::<GlobalLimitExec>() {
                steps.push(Step::Limit { skip: limit.skip(), fetch: limit.fetch() });
                plan = limit.input();
            } else {
                return Ok(None);
            }
        }
    }

    /// What becomes of the search's rows.
    pub(crate) fn run(&self, mut rows: RecordBatch) -> Result<RecordBatch> {
        for step in &self.0 {
            rows = match step {
                Step::Sort { order, fetch } => sorted(&rows, order, *fetch)?,
                Step::Project(projector) => projector.project_batch(&rows)?,
                Step::Limit { skip, fetch } => {
                    let from = rows.num_rows().min(*skip);
                    let left = rows.num_rows() - from;
                    rows.slice(from, fetch.map_or(left, |fetch| left.min(fetch)))
                }
            };
        }
        Ok(rows)
    }
}

fn sorted(rows: &RecordBatch, order: &LexOrdering, fetch: Option<usize>) -> Result<RecordBatch> {
    let columns: Result<Vec<_>> =
        order.iter().map(|sort| sort.evaluate_to_sort_column(rows)).collect();
    let indices = lexsort_to_indices(&columns?, fetch)?;
    // A search returns its rows by distance, and then there is nothing to copy.
    if indices.values().iter().copied().eq(0..u32::try_from(indices.len()).unwrap_or(0)) {
        return Ok(rows.slice(0, indices.len()));
    }
    Ok(take_record_batch(rows, &indices)?)
}

fn is_small(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let mut nodes = 0;
    let counted = expr.apply(|_| {
        nodes += 1;
        let more = nodes <= EXPRESSION_NODES_MAX;
        Ok(if more { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    counted.is_ok() && nodes <= EXPRESSION_NODES_MAX
}
