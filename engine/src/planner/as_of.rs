//! `t AS OF TIMESTAMP e`: resolves the instant and gives the table of that instant.
//!
//! DataFusion's own planner reads a table version and drops it, so this hook is what makes the
//! clause true. It takes every version and refuses the kinds it does not know.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, Result, ScalarValue, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{TableFactor, TableVersion};
use types::{CommitTs, SqlState};

use crate::error::EngineError;
use crate::parse_value::parse_timestamp;
use crate::provider::{CollectionProvider, Scope};

/// The hook.
#[derive(Debug)]
pub(crate) struct AsOfPlanner {
    scope: Arc<Scope>,
}

impl AsOfPlanner {
    pub(crate) fn new(scope: Arc<Scope>) -> Self {
        Self { scope }
    }

    /// The collection that `name` named at `at`.
    fn table_at(&self, name: &TableReference, at: CommitTs) -> Result<CollectionProvider> {
        let view = self.scope.view();
        let at = if at > view.position().commit_ts {
            // The statement is planned again when the instant is closed.
            self.scope.note_beyond(at);
            view.position().commit_ts
        } else {
            at
        };
        let past = view.as_of(at).map_err(|e| EngineError::from(e).into_datafusion())?;
        let schema = name.schema().map_or_else(|| self.scope.schema(), str::to_owned);
        CollectionProvider::find(&past, &schema, name.table())?
            .map(CollectionProvider::of_the_past)
            .ok_or_else(|| EngineError::no_table(name.table()).into_datafusion())
    }
}

impl RelationPlanner for AsOfPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table { name, alias, args: None, version: Some(version), .. } = relation
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let instant = match version {
            TableVersion::ForSystemTimeAsOf(expr) | TableVersion::TimestampAsOf(expr) => expr,
            TableVersion::VersionAsOf(_) => {
                return Err(EngineError::unsupported("VERSION AS OF").into_datafusion());
            }
            TableVersion::Function(_) | TableVersion::Changes { .. } => {
                return Err(EngineError::unsupported("this form of reading the past")
                    .with_hint("Write: table AS OF TIMESTAMP expression.")
                    .into_datafusion());
            }
        };
        let expr = context.sql_to_expr(instant, &DFSchema::empty())?;
        let started = self.scope.started();
        let at = instant_of(&constant(expr, context.context_provider().options(), started)?)?;
        let reference = context.object_name_to_table_reference(name)?;
        let table = self.table_at(&reference, at)?;
        // Scans are told apart by name, not by source: two instants need two names.
        let id = table.definition().id;
        let scan = TableReference::bare(format!("{}#{id}@{at}", reference.table()));
        let source = provider_as_source(Arc::new(table));
        let plan = LogicalPlanBuilder::scan(scan, source, None)?
            .alias(TableReference::bare(reference.table()))?
            .build()?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn constant(
    expr: Expr,
    options: &ConfigOptions,
    started: Option<DateTime<Utc>>,
) -> Result<ScalarValue> {
    if let Expr::Placeholder(_) = expr {
        return Err(EngineError::unsupported("a parameter as instant")
            .with_hint("Write the instant into the statement.")
            .into_datafusion());
    }
    let context = SimplifyContext::builder()
        .with_config_options(Arc::new(options.clone()))
        .with_query_execution_start_time(started)
        .build();
    let simplifier = ExprSimplifier::new(context);
    let coerced = simplifier.coerce(expr, &DFSchema::empty())?;
    match simplifier.simplify(coerced)?.unalias() {
        Expr::Literal(value, _) => Ok(value),
        other => {
            Err(EngineError::syntax(format!("AS OF needs a constant, not {other}"))
                .into_datafusion())
        }
    }
}

/// Microseconds of a timestamp, a date or the text of one.
fn instant_of(value: &ScalarValue) -> Result<CommitTs> {
    let micros = match value {
        ScalarValue::TimestampNanosecond(Some(nanos), _) => Some(nanos.div_euclid(1_000)),
        ScalarValue::TimestampMicrosecond(Some(micros), _) => Some(*micros),
        ScalarValue::TimestampMillisecond(Some(millis), _) => millis.checked_mul(1_000),
        ScalarValue::TimestampSecond(Some(seconds), _) => seconds.checked_mul(1_000_000),
        ScalarValue::Date32(Some(days)) => Some(i64::from(*days) * 86_400_000_000),
        ScalarValue::Utf8(Some(text)) => parse_timestamp(text),
        _ => None,
    };
    micros.map(CommitTs).ok_or_else(|| {
        let message = format!("AS OF needs a timestamp, not {value}");
        EngineError::new(SqlState::DATATYPE_MISMATCH, message).into_datafusion()
    })
}
