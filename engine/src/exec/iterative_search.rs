//! A search below conditions that it cannot take as a row filter, such as those of a join: it is
//! asked for more rows, and more, until enough of what is made of them is left.
//!
//! The input holds one search that may go on, with a sort above it that takes what is wanted. Each row
//! of the input comes from one row of the search, so that those of the nearest rows are the first of
//! the sort: when there are enough of them, no farther row changes the answer. Rounds ask for four
//! times as many rows as the one before; the last compares all that qualify.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream, collect,
};
use futures::{StreamExt as _, TryStreamExt as _};

use super::VectorTopKExec;

/// Rows of the first round for each that is wanted, and at least.
const FIRST_ROUND: usize = 4;
const FIRST_ROUND_MIN: usize = 40;
/// How many times the rows of a round the next one asks for.
const WIDENED: usize = 4;

/// The operator.
#[derive(Debug)]
pub(crate) struct IterativeSearchExec {
    input: Arc<dyn ExecutionPlan>,
    wanted: usize,
    /// Rounds of the last execution.
    rounds: Arc<AtomicUsize>,
    metrics: ExecutionPlanMetricsSet,
}

impl IterativeSearchExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, wanted: usize) -> Self {
        Self { input, wanted, rounds: Arc::default(), metrics: ExecutionPlanMetricsSet::new() }
    }
}

/// One execution.
struct Iteration {
    input: Arc<dyn ExecutionPlan>,
    wanted: usize,
    rounds: Arc<AtomicUsize>,
    context: Arc<TaskContext>,
}

impl Iteration {
    async fn run(self) -> Result<Vec<RecordBatch>> {
        let mut k = FIRST_ROUND_MIN.max(self.wanted.saturating_mul(FIRST_ROUND));
        for round in 1.. {
            let (plan, search) = self.asking_for(k)?;
            let batches = collect(plan, Arc::clone(&self.context)).await?;
            self.rounds.store(round, Ordering::Relaxed);
            let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
            if rows >= self.wanted || search.found_all() {
                return Ok(batches);
            }
            k = k.saturating_mul(WIDENED);
        }
        internal_err!("rounds without an end")
    }

    /// The input, not executed yet, with its search asked for `k` rows; and that search.
    fn asking_for(&self, k: usize) -> Result<(Arc<dyn ExecutionPlan>, Arc<VectorTopKExec>)> {
        let mut found = None;
        let plan = Arc::clone(&self.input).transform_up(|node| {
            let search = node.downcast_ref::<VectorTopKExec>();
            let widened = search.and_then(|search| search.asking_for(k));
            Ok(Transformed::yes(match widened {
                Some(search) => {
                    let search = Arc::new(search);
                    found = Some(Arc::clone(&search));
                    search
                }
                None => node.reset_state()?,
            }))
        })?;
        match found {
            Some(search) => Ok((plan.data, search)),
            None => internal_err!("rounds of no search"),
        }
    }
}

/// Whether `plan` holds a search that may go on, with no sort that takes a part in between.
pub(crate) fn goes_on_below(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let mut found = false;
    plan.apply(|node| {
        if node.fetch().is_some() && !Arc::ptr_eq(node, plan) {
            return Ok(TreeNodeRecursion::Jump);
        }
        let search = node.downcast_ref::<VectorTopKExec>();
        found |= search.is_some_and(VectorTopKExec::may_go_on);
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

impl DisplayAs for IterativeSearchExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IterativeSearch: rows_wanted={}", self.wanted)?;
        match self.rounds.load(Ordering::Relaxed) {
            0 => Ok(()),
            rounds => write!(f, ", rounds={rounds}"),
        }
    }
}

impl ExecutionPlan for IterativeSearchExec {
    fn name(&self) -> &'static str {
        "IterativeSearchExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.as_slice() {
            [input] => Ok(Arc::new(Self::new(Arc::clone(input), self.wanted))),
            _ => internal_err!("rounds of {} inputs", children.len()),
        }
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let (input, rounds) = (Arc::clone(&self.input), Arc::clone(&self.rounds));
        let iteration = Iteration { input, wanted: self.wanted, rounds, context };
        let batches = futures::stream::once(iteration.run())
            .map_ok(|batches| futures::stream::iter(batches.into_iter().map(Ok)))
            .try_flatten()
            .inspect(move |batch: &Result<RecordBatch>| {
                if let Ok(batch) = batch {
                    baseline.record_output(batch.num_rows());
                }
            });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}
