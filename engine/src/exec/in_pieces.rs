//! The rows of an input in small pieces, between which others get their turn.
//!
//! A join without a key compares every row of one batch with every row of the other side before it
//! looks up: with a whole batch that may take minutes, in which nothing else runs on its thread and
//! cancelling does not show.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream,
};
use futures::{StreamExt as _, TryStreamExt as _};

/// Rows of a piece: with a million rows on the other side a fraction of a second of comparing.
const PIECE_ROWS: usize = 64;

/// The operator.
#[derive(Debug)]
pub(crate) struct InPiecesExec {
    input: Arc<dyn ExecutionPlan>,
}

impl InPiecesExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        Self { input }
    }
}

impl DisplayAs for InPiecesExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InPieces: rows={PIECE_ROWS}")
    }
}

impl ExecutionPlan for InPiecesExec {
    fn name(&self) -> &'static str {
        "InPiecesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.as_slice() {
            [input] => Ok(Arc::new(Self::new(Arc::clone(input)))),
            _ => internal_err!("pieces of one input"),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let schema = self.schema();
        let pieces = input
            .map_ok(|batch| {
                let starts = (0..batch.num_rows()).step_by(PIECE_ROWS);
                let piece = move |from: usize| {
                    Ok(batch.slice(from, PIECE_ROWS.min(batch.num_rows() - from)))
                };
                futures::stream::iter(starts.map(piece))
            })
            .try_flatten()
            .then(|piece| async {
                tokio::task::yield_now().await;
                piece
            });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, pieces)))
    }
}
