//! Planning and running queries on the CPU executor.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use chrono::{DateTime, Utc};
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{ParamValues, Result as DataFusionResult, ScalarValue};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};
use datafusion::physical_plan::{ExecutionPlan, collect, execute_stream};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{self, Query, SetExpr};
use futures::StreamExt as _;
use storage::{ReadView, Store};
use tokio::sync::mpsc;
use types::SqlState;

use crate::error::{EngineError, Result};
use crate::executor::{Executor, Task};
use crate::planner::expanded;
use crate::prepared::Lease;
use crate::provider::Scope;
use crate::search_config::SearchConfig;
use crate::settings::Settings;
use crate::sql::names::{output_names, output_types, shown_name};
use crate::sql::types::PG_TYPE_KEY;

/// Batches that may wait for a slow reader.
const BATCHES_BUFFERED: usize = 4;

/// Everything that planning a statement needs, owned, so that it can move to the executor.
#[derive(Debug, Clone)]
pub(crate) struct Planner {
    pub(crate) store: Arc<Store>,
    pub(crate) scope: Arc<Scope>,
    pub(crate) base: Arc<SessionState>,
    pub(crate) settings: Settings,
    /// What a transaction sees, and when it began.
    pub(crate) transaction: Option<(ReadView, DateTime<Utc>)>,
}

/// Which of the session's statements a state is of.
#[derive(Debug)]
struct StatementNumber(u64);

/// A plan and the state it was made in.
pub(crate) struct Planned {
    pub(crate) plan: LogicalPlan,
    pub(crate) state: SessionState,
}

impl Planner {
    /// Begins a statement: pins a read view. `again` is the state of an earlier try, whose `now()`
    /// stays.
    pub(crate) fn begin(&self, again: Option<&SessionState>) -> SessionState {
        let mut state = SessionState::clone(&self.base);
        let options = state.config_mut().options_mut();
        options.catalog.default_schema = self.settings.default_schema();
        options.extensions.insert(SearchConfig::from_settings(&self.settings));
        state.mark_start_execution();
        if let Some(again) = again {
            let started = again.execution_props().query_execution_start_time;
            state.execution_props_mut().query_execution_start_time = started;
        }
        let view = match &self.transaction {
            Some((view, began)) => {
                state.execution_props_mut().query_execution_start_time = Some(*began);
                view.clone()
            }
            None => self.store.read_view(),
        };
        let started = state.execution_props().query_execution_start_time;
        let statement = self.scope.begin(view, self.settings.clone(), started);
        state.config_mut().set_extension(Arc::new(StatementNumber(statement)));
        state
    }

    /// Keeps rows for the rest of the statement that `state` is of.
    pub(crate) fn keep(
        &self,
        state: &SessionState,
        name: &'static str,
        rows: RecordBatch,
    ) -> Result<()> {
        let statement = state.config().get_extension::<StatementNumber>();
        let statement = statement.ok_or_else(|| EngineError::bug("a statement without number"))?;
        self.scope.keep(statement.0, name, rows)
    }

    /// Plans a query at a fresh read view. `parameters` is `None` when the values are not known yet.
    pub(crate) async fn plan(
        &self,
        query: &Query,
        parameters: Option<&[ScalarValue]>,
    ) -> Result<Planned> {
        let mut state = self.begin(None);
        loop {
            let plan = plan_once(&self.scope, &state, query, parameters).await;
            if !self.close_beyond().await? {
                return Ok(Planned { plan: plan?, state });
            }
            state = self.begin(Some(&state));
        }
    }

    /// When the statement reads an instant that a later commit could still join: closes it. True
    /// when the statement has to be planned again.
    pub(crate) async fn close_beyond(&self) -> Result<bool> {
        let Some(beyond) = self.scope.beyond() else { return Ok(false) };
        if self.transaction.is_some() {
            let message = "the instant lies after the one that the transaction reads at";
            return Err(EngineError::new(SqlState::DATETIME_FIELD_OVERFLOW, message)
                .with_hint("Read it outside of the transaction."));
        }
        self.store.close_instant(beyond).await?;
        Ok(true)
    }

    /// Plans a query at the read view that the scope already holds.
    pub(crate) async fn plan_here(
        &self,
        state: SessionState,
        query: &Query,
        parameters: &[ScalarValue],
    ) -> Result<Planned> {
        let plan = plan_once(&self.scope, &state, query, Some(parameters)).await?;
        Ok(Planned { plan, state })
    }

    /// The same of a query whose parameters have no values yet.
    pub(crate) async fn describe_here(
        &self,
        state: SessionState,
        query: &Query,
    ) -> Result<Planned> {
        let plan = plan_once(&self.scope, &state, query, None).await?;
        Ok(Planned { plan, state })
    }
}

async fn plan_once(
    scope: &Scope,
    state: &SessionState,
    query: &Query,
    parameters: Option<&[ScalarValue]>,
) -> Result<LogicalPlan> {
    let query = expanded(scope, query)?.into_owned();
    let statement = ast::Statement::Query(Box::new(query));
    let plan = state.statement_to_plan(DfStatement::Statement(Box::new(statement))).await?;
    read_only().verify_plan(&plan)?;
    match parameters {
        Some(parameters) => {
            let values = ParamValues::from(parameters.to_vec());
            inline_query_vectors(state, plan.replace_params_with_values(&values)?).await
        }
        None => Ok(plan),
    }
}

/// Evaluates query vectors that are subqueries, `v <=> (SELECT ...)`, so that the search knows what
/// to search for when it is planned. Subqueries that depend on the row or have not exactly one row
/// stay what they are.
async fn inline_query_vectors(state: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr
                    && udfs::distance_function(&call.func).is_some()
                {
                    found.extend(call.args.iter().filter_map(query_subquery).cloned());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let mut values = HashMap::new();
    for subquery in found {
        let physical = state.create_physical_plan(&subquery.subquery).await?;
        let batches = collect(physical, state.task_ctx()).await?;
        let batches: Vec<&RecordBatch> = batches.iter().filter(|b| b.num_rows() > 0).collect();
        if let [batch] = batches.as_slice()
            && batch.num_rows() == 1
        {
            let value = ScalarValue::try_from_array(batch.column(0), 0)?;
            values.insert(subquery, value);
        }
    }
    if values.is_empty() {
        return Ok(plan);
    }
    Ok(replace_expressions(plan, |expr| {
        Ok(match query_subquery(&expr).and_then(|subquery| values.get(subquery)) {
            Some(value) => Transformed::yes(Expr::Literal(value.clone(), None)),
            None => Transformed::no(expr),
        })
    })?)
}

/// Replaces expressions all over a plan; columns keep the names that plans above know them by.
pub(crate) fn replace_expressions(
    plan: LogicalPlan,
    mut replace: impl FnMut(Expr) -> DataFusionResult<Transformed<Expr>>,
) -> DataFusionResult<LogicalPlan> {
    let replaced = plan.transform_up_with_subqueries(|plan| {
        let names_columns = matches!(
            plan,
            LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_)
        );
        plan.map_expressions(|expr| {
            let name = expr.schema_name().to_string();
            expr.transform_up(&mut replace)?.map_data(|expr| match &expr {
                Expr::Alias(_) | Expr::Column(_) => Ok(expr),
                other if !names_columns || other.schema_name().to_string() == name => Ok(expr),
                _ => Ok(expr.alias(name)),
            })
        })
    })?;
    Ok(replaced.data)
}

fn query_subquery(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::ScalarSubquery(subquery) if subquery.outer_ref_columns.is_empty() => Some(subquery),
        _ => None,
    }
}

/// A query that only reads: `WITH ... INSERT` arrives as a query, too.
pub(crate) fn require_select(query: &Query) -> Result<()> {
    match &*query.body {
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            Err(EngineError::unsupported("WITH before a write"))
        }
        SetExpr::Select(_)
        | SetExpr::Query(_)
        | SetExpr::SetOperation { .. }
        | SetExpr::Values(_)
        | SetExpr::Table(_) => Ok(()),
    }
}

/// DataFusion would let any query read and write the server's files.
fn read_only() -> SQLOptions {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false)
}

impl Planned {
    /// Names and types of the result, as they are when types have been coerced.
    pub(crate) fn analysed_schema(&self) -> SchemaRef {
        let analysed = self.state.analyzer().execute_and_check(
            self.plan.clone(),
            self.state.config_options(),
            |_, _| {},
        );
        // With parameters whose types nobody knows, what is known has to do.
        let plan = analysed.as_ref().unwrap_or(&self.plan);
        Arc::new(plan.schema().as_arrow().clone())
    }

    /// The physical plan.
    pub(crate) async fn physical(&self) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self.state.create_physical_plan(&self.plan).await?)
    }

    /// All rows.
    pub(crate) async fn collect(&self) -> Result<Vec<RecordBatch>> {
        let physical = self.physical().await?;
        Ok(collect(physical, self.state.task_ctx()).await?)
    }
}

/// The schema of a result, with the names PostgreSQL would give.
pub(crate) fn named_schema(query: &Query, schema: &Schema) -> SchemaRef {
    let names = output_names(query, schema.fields().len());
    let Some(names) = names else { return Arc::new(schema.clone()) };
    let types = output_types(query).unwrap_or_default();
    let rename = |(at, (field, name)): (usize, (&Arc<Field>, Option<String>))| {
        let name = name.or_else(|| shown_name(field.name()).map(str::to_owned));
        let told = types.get(at).copied().flatten();
        if name.is_none() && told.is_none() {
            return Arc::clone(field);
        }
        let mut named = field.as_ref().clone();
        if let Some(name) = name {
            named.set_name(name);
        }
        if let Some(told) = told {
            named.metadata_mut().insert(PG_TYPE_KEY.to_owned(), told.to_owned());
        }
        Arc::new(named)
    };
    let fields = schema.fields().iter().zip(names).enumerate().map(rename);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The rows of a query, as they are made. Dropping it cancels the query.
#[derive(Debug)]
pub struct RowStream {
    schema: SchemaRef,
    source: RowSource,
    /// The command tag of a write that returns rows.
    tag: Option<String>,
}

#[derive(Debug)]
enum RowSource {
    /// All rows, until they are taken.
    Ready(Option<RecordBatch>),
    /// What sends them; dropping it ends it.
    Running { batches: mpsc::Receiver<Result<RecordBatch>>, task: Option<Task<()>> },
}

impl RowStream {
    /// Starts a planned query. `lease` is held until it ends.
    pub(crate) fn start(
        executor: &Executor,
        schema: SchemaRef,
        physical: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
        lease: Option<Lease>,
    ) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES_BUFFERED);
        let task = executor.spawn(async move {
            let mut stream = match execute_stream(physical, context) {
                Ok(stream) => stream,
                Err(error) => {
                    let _ = sender.send(Err(error.into())).await;
                    return Ok(());
                }
            };
            while let Some(batch) = stream.next().await {
                let failed = batch.is_err();
                if sender.send(batch.map_err(EngineError::from)).await.is_err() || failed {
                    break;
                }
            }
            // Before the reader learns that there is no more and executes the plan again.
            drop((stream, lease));
            Ok(())
        });
        Self { schema, source: RowSource::Running { batches, task: Some(task) }, tag: None }
    }

    /// Rows that are there already.
    pub(crate) fn ready(schema: SchemaRef, batch: RecordBatch) -> Self {
        Self { schema, source: RowSource::Ready(Some(batch)), tag: None }
    }

    /// Rows that a write returns.
    pub(crate) fn of_write(schema: SchemaRef, batch: RecordBatch, tag: String) -> Self {
        Self { tag: Some(tag), ..Self::ready(schema, batch) }
    }

    /// Whether what the rows tell of is done: they are those of a write, or were fetched.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.tag.is_some()
    }

    /// The command tag after `rows` rows were sent.
    #[must_use]
    pub fn tag(&self, rows: u64) -> String {
        self.tag.clone().unwrap_or_else(|| format!("SELECT {rows}"))
    }

    /// Names and types of the columns.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next rows; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<RecordBatch>> {
        match &mut self.source {
            RowSource::Ready(batch) => batch.take().map(Ok),
            RowSource::Running { batches, task } => {
                if let Some(batch) = batches.recv().await {
                    return Some(batch);
                }
                // The end, unless what should have sent more broke off.
                task.take()?.await.err().map(Err)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rows_that_break_off_end_in_an_error() {
        let executor = Executor::new(1).unwrap();
        let schema = Arc::new(Schema::empty());
        let (sender, batches) = mpsc::channel(1);
        let task = executor.spawn(async move {
            let _ = sender.send(Ok(RecordBatch::new_empty(Arc::new(Schema::empty())))).await;
            panic!("a bug");
        });
        let source = RowSource::Running { batches, task: Some(task) };
        let mut rows = RowStream { schema, source, tag: None };
        assert!(rows.next().await.unwrap().is_ok());
        let error = rows.next().await.unwrap().unwrap_err();
        assert!(error.to_string().contains("bug in the server"), "{error}");
        assert!(rows.next().await.is_none());
        drop(tokio::task::spawn_blocking(move || drop(executor)).await);
    }
}
