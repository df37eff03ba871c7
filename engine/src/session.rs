//! A session: one principal's settings and statements, one at a time.

mod base_state;
mod session_statement;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast;
use parking_lot::Mutex;
use storage::{Applied, Command, Rejection, StorageError, TableWrite};
use tokio_util::sync::CancellationToken;
use types::{Coded as _, Principal, SqlState};

use self::base_state::base_state;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::executor::Executor;
use crate::explain::{self, Explain};
use crate::planner::{
    CopyIn, CopyOptions, CopyTarget, InsertRows, Verb, WriteBuilder, cast_parameters,
    declared_types, define, describe_plan, plan_write, target,
};
use crate::prepared::{BoundPlan, BoundWork, Found, KeptPlan, PlanSlot};
use crate::provider::Scope;
use crate::query::{Planner, RowStream, named_schema, require_select};
use crate::settings::Settings;
use crate::sql::{ParsedStatement, Statement, Tree, parse};

/// Times a statement is planned again after a concurrent commit got in its way. Nothing of a failed
/// try is visible, so trying again is safe; giving up leaves the retry to the client.
const CONFLICT_RETRIES: usize = 10;

/// What became of a statement.
#[derive(Debug)]
pub enum Outcome {
    /// Rows.
    Rows(RowStream),
    /// Done; the command tag, and a message to the client if there is one.
    Done {
        /// Such as `INSERT 0 3`.
        tag: String,
        /// Such as `relation "t" already exists, skipping`.
        notice: Option<String>,
    },
    /// The client is to send data, then call [`Session::copy_done`].
    CopyIn(Box<CopyIn>),
    /// The client's prepared statements are to be forgotten: one, or all.
    Deallocate(Option<String>),
    /// Like `Done`, and everything the session holds is to be forgotten.
    DiscardAll,
}

/// What is known of a statement before its parameters are.
#[derive(Debug, Clone)]
pub struct Described {
    /// Types of the parameters.
    pub parameters: Vec<FieldRef>,
    /// Columns of the result; `None` when the statement returns no rows.
    pub columns: Option<SchemaRef>,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    engine: Arc<Engine>,
    principal: Principal,
    settings: Settings,
    scope: Arc<Scope>,
    base: Arc<SessionState>,
    cancel: Arc<Mutex<CancellationToken>>,
}

impl Session {
    pub(crate) fn new(engine: Arc<Engine>, principal: Principal) -> Result<Self> {
        let scope = Arc::new(Scope::new(Arc::clone(&engine.store), Arc::clone(&engine.tuner)));
        let base = Arc::new(base_state(&engine, &scope)?);
        let settings = Settings::default();
        Ok(Self { engine, principal, settings, scope, base, cancel: Arc::default() })
    }

    /// Who the session acts for.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The session's settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The session's settings, to change.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// A handle that cancels the statement that runs when it is called.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller { current: Arc::clone(&self.cancel) }
    }

    /// Begins a statement: cancelling from here on means this one. The token tells the statement's
    /// row loop when to stop.
    pub fn begin_statement(&self) -> CancellationToken {
        let token = CancellationToken::new();
        *self.cancel.lock() = token.clone();
        token
    }

    /// Reads the statements of `sql`.
    ///
    /// # Errors
    /// When any of them is not SQL, or a limit is exceeded.
    pub fn parse(sql: &str) -> Result<Vec<ParsedStatement>> {
        parse(sql)
    }

    fn planner(&self) -> Planner {
        Planner {
            store: Arc::clone(&self.engine.store),
            scope: Arc::clone(&self.scope),
            base: Arc::clone(&self.base),
            settings: self.settings.clone(),
        }
    }

    /// Runs a statement. Cancellation and `statement_timeout` end it with 57014; a write that was
    /// handed to the log is waited for.
    ///
    /// # Errors
    /// Whatever is wrong with the statement or went wrong with it; nothing has changed then.
    pub async fn execute(
        &mut self,
        statement: &ParsedStatement,
        parameters: Vec<ScalarValue>,
    ) -> Result<Outcome> {
        let _rest = self.scope.until_rest();
        if parameters.len() < statement.parameters {
            let message = format!(
                "the statement has {} parameters, {} values were given",
                statement.parameters,
                parameters.len()
            );
            return Err(EngineError::new(SqlState::PROTOCOL_VIOLATION, message));
        }
        let sql = match &statement.statement {
            Statement::Sql(sql) => sql,
            Statement::Checkpoint => {
                self.engine.checkpoint().await?;
                return Ok(done("CHECKPOINT"));
            }
            Statement::CheckTable(name) => return self.check_table(name).await,
            Statement::Vacuum(names) => return self.vacuum(names).await,
        };
        match &***sql {
            ast::Statement::Query(query) => {
                require_select(query)?;
                self.select(Arc::clone(sql), statement.plan.as_deref(), parameters).await
            }
            ast::Statement::Explain { .. } => self.explain(Arc::clone(sql), parameters).await,
            ast::Statement::Insert(_) | ast::Statement::Update(_) | ast::Statement::Delete(_) => {
                self.write(sql, &parameters).await
            }
            ast::Statement::Copy { .. } => self.copy(sql),
            other => match self.session_statement(other)? {
                Some(outcome) => Ok(outcome),
                None => self.define(other).await,
            },
        }
    }

    async fn select(
        &self,
        tree: Arc<Tree>,
        slot: Option<&PlanSlot>,
        parameters: Vec<ScalarValue>,
    ) -> Result<Outcome> {
        if let Some(slot) = slot
            && let Some(rows) = self.run_kept(&tree, slot, &parameters).await?
        {
            return Ok(Outcome::Rows(rows));
        }
        let planner = self.planner();
        let task = self.engine.executor.spawn(async move {
            let ast::Statement::Query(query) = &**tree else {
                return Err(EngineError::bug("not a query"));
            };
            let planned = planner.plan(query, Some(&parameters)).await?;
            let physical = planned.physical().await?;
            let schema = named_schema(query, &physical.schema());
            Ok((schema, physical, planned.state))
        });
        let (schema, physical, state) = self.interruptible(task).await?;
        let context = state.task_ctx();
        let rows = RowStream::start(&self.engine.executor, schema, physical, context, None);
        Ok(Outcome::Rows(rows))
    }

    /// Runs a prepared query by the plan that is kept with it, which is made first when it is due;
    /// `None` when there is none that suits.
    async fn run_kept(
        &self,
        tree: &Arc<Tree>,
        slot: &PlanSlot,
        parameters: &[ScalarValue],
    ) -> Result<Option<RowStream>> {
        let view = self.engine.store.read_view();
        let kept = match slot.find(&view, &self.settings) {
            Found::None => return Ok(None),
            Found::Plan(kept) => kept,
            Found::Due => {
                let (planner, tree) = (self.planner(), Arc::clone(tree));
                let parameters = parameters.to_vec();
                let task = self.engine.executor.spawn(async move {
                    let ast::Statement::Query(query) = &**tree else {
                        return Err(EngineError::bug("not a query"));
                    };
                    KeptPlan::plan(&planner, query, &parameters).await
                });
                let plan = match self.interruptible(task).await {
                    Ok(plan) => plan.map(Arc::new),
                    Err(error) if error.sql_state() == SqlState::QUERY_CANCELED => {
                        return Err(error);
                    }
                    // What is wrong is told when it is planned with its values.
                    Err(_) => None,
                };
                slot.keep(plan.clone());
                let Some(kept) = plan else { return Ok(None) };
                kept
            }
        };
        let Some(bound) = kept.bind(&view, parameters)? else { return Ok(None) };
        let BoundPlan { schema, work, lease } = bound;
        let executor = &self.engine.executor;
        match work {
            BoundWork::Search(search) if search.search.is_short() => {
                let rows = Executor::run_here(|| search.run())?;
                Ok(Some(RowStream::ready(schema, rows)))
            }
            BoundWork::Search(search) => {
                let task = executor.spawn(async move {
                    let rows = search.run();
                    drop(lease);
                    rows
                });
                let rows = self.interruptible(task).await?;
                Ok(Some(RowStream::ready(schema, rows)))
            }
            BoundWork::Plan(plan, context) => {
                Ok(Some(RowStream::start(executor, schema, plan, context, Some(lease))))
            }
        }
    }

    async fn explain(&self, tree: Arc<Tree>, parameters: Vec<ScalarValue>) -> Result<Outcome> {
        let planner = self.planner();
        let task = self.engine.executor.spawn(async move {
            let explain = Explain::of(&tree)?;
            let explain = explain.ok_or_else(|| EngineError::bug("EXPLAIN was not read"))?;
            require_select(&explain.query)?;
            let mut planned = planner.plan(&explain.query, Some(&parameters)).await?;
            explain.prepare(&mut planned);
            explain.run(&planned).await
        });
        let batch = self.interruptible(task).await?;
        Ok(Outcome::Rows(RowStream::ready(explain::schema(), batch)))
    }

    /// Waits for `work` unless the statement is cancelled or runs out of time first.
    async fn interruptible<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let token = self.cancel.lock().clone();
        let timeout = async {
            match self.settings.statement_timeout() {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            result = work => result,
            () = token.cancelled() => Err(EngineError::cancelled()),
            () = timeout => Err(timed_out()),
        }
    }

    async fn write(&self, statement: &Arc<Tree>, parameters: &[ScalarValue]) -> Result<Outcome> {
        for _ in 0..CONFLICT_RETRIES {
            let (planner, statement) = (self.planner(), Arc::clone(statement));
            let parameters = parameters.to_vec();
            let task = self
                .engine
                .executor
                .spawn(async move { plan_write(&planner, &statement, &parameters).await });
            let (verb, builder) = self.interruptible(task).await?;
            let (begun, ended) = builder.counts();
            let tag = match verb {
                Verb::Insert => format!("INSERT 0 {begun}"),
                Verb::Update => format!("UPDATE {ended}"),
                Verb::Delete => format!("DELETE {ended}"),
            };
            let Some(write) = builder.finish()? else { return Ok(done(&tag)) };
            match self.commit(write).await {
                Ok(_) => return Ok(done(&tag)),
                Err(error) if error.sql_state() == SqlState::SERIALIZATION_FAILURE => {}
                Err(error) => return Err(error),
            }
        }
        let message = "could not serialize access due to concurrent update";
        Err(EngineError::new(SqlState::SERIALIZATION_FAILURE, message)
            .with_hint("Run the statement again."))
    }

    /// Hands a write to the log and waits until it is durable and applied.
    async fn commit(&self, write: TableWrite) -> Result<Applied> {
        self.engine.admit_write().await?;
        self.engine.store.check_write(&write)?;
        let begun = write.begun.clone();
        let table = write.table;
        let applied = self.engine.store.commit_log().propose(Command::Write(vec![write])).await;
        applied.map_err(|error| match &error {
            StorageError::Rejected(Rejection::DuplicateKey { row, .. }) => {
                let view = self.engine.store.read_view();
                let detail = view.catalog().collection_by_id(table).and_then(|collection| {
                    let batch = begun.as_ref()?;
                    Some(key_detail(collection, batch, *row))
                });
                let error = EngineError::from(error);
                detail.map_or(error.clone(), |detail| error.with_detail(detail))
            }
            _ => EngineError::from(error),
        })
    }

    fn copy(&self, statement: &ast::Statement) -> Result<Outcome> {
        let ast::Statement::Copy { source, to, target: place, options, legacy_options, .. } =
            statement
        else {
            return Err(EngineError::bug("COPY was not read"));
        };
        let (ast::CopySource::Table { table_name, columns }, false, ast::CopyTarget::Stdin) =
            (source, to, place)
        else {
            return Err(EngineError::unsupported("COPY of anything but a table FROM STDIN"));
        };
        let view = self.engine.store.read_view();
        let collection = target(&view, &self.settings.default_schema(), table_name)?;
        let target = CopyTarget::new(collection, table_name, columns)?;
        let options = CopyOptions::parse(options, legacy_options)?;
        Ok(Outcome::CopyIn(Box::new(CopyIn::new(target, options))))
    }

    /// Commits the rows of a COPY; its command tag.
    ///
    /// # Errors
    /// When the data is cut off or a row cannot be inserted; nothing is inserted then.
    pub async fn copy_done(&self, copy: CopyIn) -> Result<String> {
        let view = self.engine.store.read_view();
        let id = copy.target().collection.id;
        let name = copy.target().name.to_string();
        let table = view.table(id).map(Arc::clone).ok_or_else(|| EngineError::no_table(&name))?;
        let task = self.engine.executor.spawn_blocking(move || {
            let (target, columns, rows) = copy.finish()?;
            let mut builder = WriteBuilder::new(&target.collection, table.schema(), view.at());
            if rows > 0 {
                builder.begin(&columns, &target.positions)?;
            }
            Ok((builder.finish()?, rows))
        });
        let (write, rows) = self.interruptible(task).await?;
        if let Some(write) = write {
            self.commit(write).await?;
        }
        Ok(format!("COPY {rows}"))
    }

    /// Drops the row versions of some or all tables that nothing can read any more.
    async fn vacuum(&self, names: &[ast::ObjectName]) -> Result<Outcome> {
        let view = self.engine.store.read_view();
        let schema = self.settings.default_schema();
        let mut tables = Vec::with_capacity(names.len().max(1));
        for name in names {
            tables.push(Some(target(&view, &schema, name)?.id));
        }
        drop(view);
        if tables.is_empty() {
            tables.push(None);
        }
        for table in tables {
            let store = Arc::clone(&self.engine.store);
            let work = self.engine.executor.spawn_blocking(move || Ok(store.vacuum(table)?));
            self.interruptible(work).await?;
        }
        Ok(done("VACUUM"))
    }

    /// Reads every byte of a table's files against its checksum.
    async fn check_table(&self, name: &ast::ObjectName) -> Result<Outcome> {
        let view = self.engine.store.read_view();
        let id = target(&view, &self.settings.default_schema(), name)?.id;
        let store = Arc::clone(&self.engine.store);
        let checking = self.engine.executor.spawn_blocking(move || Ok(store.check_table(id)?));
        self.interruptible(checking).await?;
        Ok(done("CHECK TABLE"))
    }

    async fn define(&self, statement: &ast::Statement) -> Result<Outcome> {
        let view = self.engine.store.read_view();
        let change = define(&view, &self.settings.default_schema(), statement)?;
        let Some(change) = change else {
            let text = statement.to_string();
            let words: Vec<&str> = text.split_whitespace().take(2).collect();
            return Err(EngineError::unsupported(words.join(" ")));
        };
        for define in change.defines {
            let proposed = self.engine.store.commit_log().propose(Command::Define(define));
            let applied = proposed.await?;
            if let storage::Effect::Defined(catalog::Defined::Index(id)) = applied.effect {
                self.build_index(id).await?;
            }
        }
        Ok(Outcome::Done { tag: change.tag.to_owned(), notice: change.notice })
    }

    /// Waits until a new index covers the rows that were there when it was made; takes it back when
    /// the statement is cancelled.
    async fn build_index(&self, id: types::IndexId) -> Result<()> {
        let store = &self.engine.store;
        let view = store.read_view();
        let Some(index) = view.catalog().index_by_id(id) else { return Ok(()) };
        let table = index.table;
        let rows = view.table(table).map(|table| table.rows());
        let before = rows.as_ref().map_or(types::RowId(0), |rows| rows.next_row());
        let built =
            self.interruptible(async { Ok(store.wait_indexed(table, id, before).await?) }).await;
        match built {
            Ok(_) => {
                // The graph is worth more than the log that made it: keep it.
                if rows.is_some_and(|rows| !rows.is_empty())
                    && let Err(error) = self.engine.checkpoint().await
                {
                    tracing::warn!(%error, "could not write a checkpoint after CREATE INDEX");
                }
                Ok(())
            }
            Err(error) => {
                let drop = catalog::Define::DropIndex { id };
                store.commit_log().propose(Command::Define(drop)).await?;
                Err(error)
            }
        }
    }

    /// What a statement takes and gives. `declared` holds the type ids that the client declared for
    /// parameters, 0 for those it left open; they are written into the returned statement.
    ///
    /// # Errors
    /// When the statement cannot be planned, or a declared type cannot be a parameter.
    pub async fn describe(
        &self,
        mut statement: ParsedStatement,
        declared: &[u32],
    ) -> Result<(ParsedStatement, Described)> {
        let count = statement.parameters.max(declared.len());
        let known = declared_types(declared)?;
        let Statement::Sql(sql) = &statement.statement else {
            return Ok((statement, Described { parameters: Vec::new(), columns: None }));
        };
        let _rest = self.scope.until_rest();
        let (planner, mut sql, casts) = (self.planner(), Arc::clone(sql), known.clone());
        let task = self.engine.executor.spawn(async move {
            let is_values = matches!(&**sql, ast::Statement::Insert(insert)
                if insert.source.as_ref().is_some_and(|s| InsertRows::of(s).is_some()));
            if !is_values && casts.iter().any(Option::is_some) {
                let mut copy = sql.copy();
                cast_parameters(&mut copy, &casts);
                sql = Tree::new(copy, sql.is_deep());
            }
            let (inferred, columns) = describe_plan(&planner, &sql).await?;
            Ok((sql, inferred, columns))
        });
        let (sql, inferred, columns) = self.interruptible(task).await?;
        statement.statement = Statement::Sql(sql);
        statement.plan = Some(Arc::default());
        let parameters = (0..count)
            .map(|at| {
                let declared = known.get(at).cloned().flatten().map(|(_, field)| field);
                let text = || Arc::new(Field::new("", DataType::Utf8, true));
                declared.or_else(|| inferred.get(&at).cloned()).unwrap_or_else(text)
            })
            .collect();
        let columns = match columns {
            Some(columns) => Some(columns),
            None => self.session_columns(&statement)?,
        };
        Ok((statement, Described { parameters, columns }))
    }
}

/// Cancels a session's running statement, from any thread.
#[derive(Debug, Clone)]
pub struct Canceller {
    current: Arc<Mutex<CancellationToken>>,
}

impl Canceller {
    /// Cancels the statement that runs now; without one nothing happens.
    pub fn cancel(&self) {
        self.current.lock().cancel();
    }
}

/// The error of a statement that ran out of time.
#[must_use]
pub fn timed_out() -> EngineError {
    EngineError::new(SqlState::QUERY_CANCELED, "canceling statement due to statement timeout")
}

fn done(tag: &str) -> Outcome {
    Outcome::Done { tag: tag.to_owned(), notice: None }
}

/// `Key (id)=(5) already exists.`
fn key_detail(collection: &catalog::Collection, batch: &RecordBatch, row: usize) -> String {
    let name = |at: &usize| collection.columns[*at].name.clone();
    let value = |at: &usize| {
        let value = ScalarValue::try_from_array(batch.column(*at), row);
        value.map_or_else(|_| String::new(), |value| value.to_string())
    };
    let names: Vec<String> = collection.primary_key.iter().map(name).collect();
    let values: Vec<String> = collection.primary_key.iter().map(value).collect();
    format!("Key ({})=({}) already exists.", names.join(", "), values.join(", "))
}
