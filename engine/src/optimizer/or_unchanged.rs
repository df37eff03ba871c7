//! A rule of DataFusion that makes plans cheaper and fails on some: those stay what they were.
//!
//! Projections are pushed through joins by the names of columns, and refused by an assertion where
//! both sides have one name.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

/// A rule that is left out where it fails.
#[derive(Debug)]
pub(crate) struct OrUnchanged(pub(crate) Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for OrUnchanged {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match self.0.optimize(Arc::clone(&plan), config) {
            Ok(better) => Ok(better),
            Err(error) => {
                tracing::debug!(rule = self.0.name(), %error, "a plan stays what it is");
                Ok(plan)
            }
        }
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}
