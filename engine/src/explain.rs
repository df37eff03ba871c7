//! EXPLAIN: the physical plan as lines of text, after running it with ANALYZE.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::metrics::MetricType;
use datafusion::sql::sqlparser::ast::{self, Expr, Query, UtilityOption, Value};

use types::SqlState;

use crate::error::{EngineError, Result};
use crate::query::Planned;
use crate::search_config::SearchConfig;
use crate::sql::types::fold;

/// What EXPLAIN was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Explain {
    pub(crate) analyze: bool,
    pub(crate) verbose: bool,
    /// Whether the answer is compared with the exact one.
    pub(crate) recall: bool,
    pub(crate) query: Query,
}

impl Explain {
    /// Reads an EXPLAIN; `None` when the statement is not one.
    pub(crate) fn of(statement: &ast::Statement) -> Result<Option<Self>> {
        let ast::Statement::Explain {
            analyze,
            verbose,
            statement,
            format,
            options,
            estimate,
            query_plan,
            ..
        } = statement
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
        let mut explain = Self { analyze: *analyze, verbose: *verbose, recall: false, query };
        for option in options.iter().flatten() {
            explain.apply(option)?;
        }
        if explain.recall && !explain.analyze {
            let message = "EXPLAIN option RECALL requires ANALYZE";
            return Err(EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
        Ok(Some(explain))
    }

    /// Readies a plan for what was asked.
    pub(crate) fn prepare(&self, planned: &mut Planned) {
        let options = planned.state.config_mut().options_mut();
        if let Some(config) = options.extensions.get_mut::<SearchConfig>() {
            config.measure_recall = self.recall;
        }
    }

    fn apply(&mut self, option: &UtilityOption) -> Result<()> {
        match fold(&option.name).as_str() {
            "analyze" => self.analyze = boolean(option)?,
            "recall" => self.recall = boolean(option)?,
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
        let lines: StringArray = text.lines().map(|line| Some(shorten_vectors(line))).collect();
        Ok(RecordBatch::try_new(schema(), vec![Arc::new(lines)])?)
    }
}

fn plain(physical: &Arc<dyn ExecutionPlan>, verbose: bool) -> String {
    DisplayableExecutionPlan::new(physical.as_ref()).indent(verbose).to_string()
}

/// Numbers of a vector that a plan shows.
const NUMBERS_SHOWN: usize = 4;

/// Cuts long lists of numbers, which are query vectors: `[0.1, 0.2, 0.3, 0.4, ... 384 numbers]`.
fn shorten_vectors(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(start) = rest.find('[') {
        let (before, list) = rest.split_at(start);
        out.push_str(before);
        let end = list[1..].find(|c: char| !"0123456789.,-+eE ".contains(c)).map(|end| end + 1);
        let end = end.filter(|end| list[*end..].starts_with(']')).map(|end| end + 1);
        let numbers = end.map_or(0, |end| list[..end].matches(',').count() + 1);
        match end {
            Some(end) if numbers > 2 * NUMBERS_SHOWN => {
                let inner = list[1..end - 1].split(',').take(NUMBERS_SHOWN);
                let shown: Vec<&str> = inner.map(str::trim).collect();
                out.push_str(&format!("[{}, ... {numbers} numbers]", shown.join(", ")));
                rest = &list[end..];
            }
            Some(_) | None => {
                out.push('[');
                rest = &list[1..];
            }
        }
    }
    out + rest
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_vectors_are_cut_and_nothing_else_is() {
        let nine = "[0.1, -2, 3e-4, 4, 5, 6, 7, 8, 9]";
        let line = format!("f(v@1, {nine}) ASC, fetch=[a@0, b], {nine}]");
        let cut = "[0.1, -2, 3e-4, 4, ... 9 numbers]";
        assert_eq!(shorten_vectors(&line), format!("f(v@1, {cut}) ASC, fetch=[a@0, b], {cut}]"));
        for kept in ["[1, 2, 3]", "metrics=[rows=1, x=[2]]", "no list", "[1, 2", "[]"] {
            assert_eq!(shorten_vectors(kept), kept);
        }
    }
}
