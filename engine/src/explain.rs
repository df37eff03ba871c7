//! EXPLAIN: the physical plan as lines of text, after running it with ANALYZE.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::metrics::MetricType;
use datafusion::sql::sqlparser::ast::{self, Expr, Query, UtilityOption, Value};

use crate::error::{EngineError, Result};
use crate::query::Planned;
use crate::sql::types::fold;

/// What EXPLAIN was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Explain {
    pub(crate) analyze: bool,
    pub(crate) verbose: bool,
    pub(crate) query: Query,
}

impl Explain {
    /// Reads an EXPLAIN; `None` when the statement is not one.
    pub(crate) fn of(statement: &ast::Statement) -> Result<Option<Self>> {
        let ast::Statement::Explain { analyze, verbose, statement, format, options, estimate, query_plan, .. } =
            statement
        else {
            return Ok(None);
        };
        if format.is_some() || *estimate || *query_plan {
            return Err(EngineError::unsupported("this form of EXPLAIN"));
        }
        let ast::Statement::Query(query) = &**statement else {
            return Err(EngineError::unsupported("EXPLAIN of anything but a query"));
        };
        let query = Query::clone(query);
        let mut explain = Self { analyze: *analyze, verbose: *verbose, query };
        for option in options.iter().flatten() {
            explain.apply(option)?;
        }
        Ok(Some(explain))
    }

    fn apply(&mut self, option: &UtilityOption) -> Result<()> {
        match fold(&option.name).as_str() {
            "analyze" => self.analyze = boolean(option)?,
            "verbose" => self.verbose = boolean(option)?,
            "format" if matches!(&option.arg, Some(Expr::Identifier(f)) if fold(f) == "text") => {}
            "costs" | "timing" | "summary" if !boolean(option)? => {}
            other => return Err(EngineError::unsupported(format!("EXPLAIN option {other}"))),
        }
        Ok(())
    }

    /// The plan as text, one line a row.
    pub(crate) async fn run(&self, planned: &Planned) -> Result<RecordBatch> {
        let physical = planned.physical().await?;
        let text = if self.analyze {
            let context = planned.state.task_ctx();
            let run = Arc::clone(&physical);
            datafusion::physical_plan::collect(run, context).await?;
            let mut shown = DisplayableExecutionPlan::with_metrics(physical.as_ref());
            if !self.verbose {
                shown = shown.set_metric_types(vec![MetricType::Summary]);
            }
            shown.indent(self.verbose).to_string()
        } else {
            plain(&physical, self.verbose)
        };
        let lines: StringArray = text.lines().map(Some).collect();
        Ok(RecordBatch::try_new(schema(), vec![Arc::new(lines)])?)
    }
}

fn plain(physical: &Arc<dyn ExecutionPlan>, verbose: bool) -> String {
    DisplayableExecutionPlan::new(physical.as_ref()).indent(verbose).to_string()
}

/// The result's one column.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("QUERY PLAN", DataType::Utf8, false)]))
}

fn boolean(option: &UtilityOption) -> Result<bool> {
    let text = match &option.arg {
        None => return Ok(true),
        Some(Expr::Identifier(word)) => fold(word),
        Some(Expr::Value(value)) => match &value.value {
            Value::Boolean(value) => return Ok(*value),
            other => other.to_string(),
        },
        Some(other) => other.to_string(),
    };
    match text.as_str() {
        "on" | "true" | "1" => Ok(true),
        "off" | "false" | "0" => Ok(false),
        _ => Err(EngineError::syntax(format!("{} requires a Boolean value", option.name))),
    }
}
