//! A session: one principal's settings and statements, one at a time.

mod base_state;
mod cursors;
mod prepared_statement;
mod session_statement;
mod transaction;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast;
use parking_lot::Mutex;
use storage::Command;
use tokio_util::sync::CancellationToken;
use types::{Coded as _, Principal, SqlState};

use self::base_state::base_state;
use self::cursors::Cursors;
use self::prepared_statement::Named;
use self::transaction::Open;
pub use self::transaction::TransactionStatus;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::executor::Executor;
use crate::explain::{self, Explain};
use crate::planner::{
    CopyIn, CopyOptions, Declared, InsertRows, cast_parameters, check_definition, declared_types,
    define, describe_plan, is_sorted, target,
};
use crate::point_read::PointRead;
use crate::prepared::{BoundPlan, BoundWork, Found, KeptPlan, PlanSlot};
use crate::provider::Scope;
use crate::query::{Planner, RowStream, named_schema, require_select};
use crate::settings::Settings;
use crate::sql::{ParsedStatement, Statement, Tree, parse};

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
        notice: Option<Notice>,
    },
    /// The client is to send data, then call [`Session::copy_done`].
    CopyIn(Box<CopyIn>),
    /// Rows that the client takes in a format of COPY.
    CopyOut(Box<(RowStream, CopyOptions)>),
    /// The client's prepared statements are to be forgotten: one, or all.
    Deallocate(Option<String>),
    /// Like `Done`, and everything the session holds is to be forgotten.
    DiscardAll,
}

impl Outcome {
    /// Done, with nothing to tell but the command tag.
    #[must_use]
    pub fn done(tag: String) -> Self {
        Self::Done { tag, notice: None }
    }
}

/// A message to the client that is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// `NOTICE` or `WARNING`
    pub severity: &'static str,
    /// Its code.
    pub state: SqlState,
    /// Lower case, no full stop.
    pub message: String,
}

impl Notice {
    fn information(message: String) -> Self {
        Self { severity: "NOTICE", state: SqlState::SUCCESSFUL_COMPLETION, message }
    }
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
    /// The transaction of several statements that is open.
    transaction: Option<Box<Open>>,
    cursors: Cursors,
    /// What `PREPARE` named.
    prepared: BTreeMap<String, Named>,
}

impl Session {
    pub(crate) fn new(engine: Arc<Engine>, principal: Principal) -> Result<Self> {
        let scope = Arc::new(Scope::new(Arc::clone(&engine.store), Arc::clone(&engine.tuner)));
        let base = Arc::new(base_state(&engine, &scope)?);
        let settings = Settings::default();
        let (cancel, transaction, cursors) = (Arc::default(), None, Cursors::new());
        let prepared = BTreeMap::new();
        let session = Self {
            engine,
            principal,
            settings,
            scope,
            base,
            cancel,
            transaction,
            cursors,
            prepared,
        };
        Ok(session)
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
            transaction: self.transaction.as_ref().and_then(|open| open.view()),
        }
    }

    /// Runs a statement. Cancellation and `statement_timeout` end it with 57014; a write that was
    /// handed to the log is waited for.
    ///
    /// # Errors
    /// Whatever is wrong with the statement or went wrong with it; nothing has changed then, and a
    /// transaction has failed.
    pub async fn execute(
        &mut self,
        statement: &ParsedStatement,
        parameters: Vec<ScalarValue>,
    ) -> Result<Outcome> {
        let outcome = self.run(statement, parameters).await;
        if outcome.is_err() {
            self.fail();
        }
        outcome
    }

    async fn run(
        &mut self,
        statement: &ParsedStatement,
        parameters: Vec<ScalarValue>,
    ) -> Result<Outcome> {
        self.set_what_was_asked()?;
        let _rest = self.scope.until_rest();
        if parameters.len() < statement.parameters {
            let message = format!(
                "the statement has {} parameters, {} values were given",
                statement.parameters,
                parameters.len()
            );
            return Err(EngineError::new(SqlState::PROTOCOL_VIOLATION, message));
        }
        self.check_not_failed(Some(statement))?;
        let sql = match &statement.statement {
            Statement::Sql(sql) => sql,
            Statement::Checkpoint => {
                self.engine.checkpoint().await?;
                return Ok(done("CHECKPOINT"));
            }
            Statement::CheckTable(name) => {
                return self.check_table(name).await;
            }
            Statement::Fetch(fetch) => return self.fetch(fetch).await,
            Statement::Vacuum(names) => {
                self.check_outside("VACUUM")?;
                return self.vacuum(names).await;
            }
            Statement::Reindex(reindex) => return self.reindex(reindex).await,
        };
        if let Some(outcome) = self.transaction_statement(sql).await? {
            return Ok(outcome);
        }
        if let Some(outcome) = self.session_statement(sql)? {
            return Ok(outcome);
        }
        self.look(Some(&***sql)).await?;
        match &***sql {
            ast::Statement::Prepare { .. } => self.prepare(sql).await,
            ast::Statement::Execute { .. } => Box::pin(self.execute_prepared(sql)).await,
            ast::Statement::Query(query) => {
                require_select(query)?;
                self.select(Arc::clone(sql), statement.plan.as_deref(), parameters).await
            }
            ast::Statement::Explain { .. } => self.explain(Arc::clone(sql), parameters).await,
            ast::Statement::Insert(_) | ast::Statement::Update(_) | ast::Statement::Delete(_) => {
                let kept = (statement.plan.as_deref(), statement.described.as_ref());
                self.write(sql, &parameters, kept).await
            }
            ast::Statement::Declare { stmts } => self.declare(stmts, parameters).await,
            ast::Statement::Close { cursor } => self.close_cursor(cursor),
            ast::Statement::Truncate(truncate) => self.truncate(truncate).await,
            ast::Statement::CreateView(create) => self.create_view(create).await,
            ast::Statement::CreateTable(create) if create.query.is_some() => {
                self.create_table_as(sql, &parameters).await
            }
            ast::Statement::AlterTable(alter) => self.alter_table(alter).await,
            ast::Statement::CreateIndex(create) => {
                if create.concurrently {
                    self.check_outside("CREATE INDEX CONCURRENTLY")?;
                }
                match is_sorted(create) {
                    true => self.create_sorted_index(create).await,
                    false => self.define(sql).await,
                }
            }
            ast::Statement::Copy { .. } => self.copy(sql).await,
            other => self.define(other).await,
        }
    }

    async fn select(
        &self,
        tree: Arc<Tree>,
        slot: Option<&PlanSlot>,
        parameters: Vec<ScalarValue>,
    ) -> Result<Outcome> {
        if let ast::Statement::Query(query) = &**tree
            && let Some(rows) = self.read_point(query, &parameters)?
        {
            return Ok(Outcome::Rows(rows));
        }
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

    /// Answers a query for one row by key; `None` when it is not one.
    fn read_point(
        &self,
        query: &ast::Query,
        parameters: &[ScalarValue],
    ) -> Result<Option<RowStream>> {
        let view = self.view();
        let Some(read) = PointRead::of(query, &view, &self.settings.default_schema()) else {
            return Ok(None);
        };
        let rows = read.rows(&view, parameters)?;
        Ok(rows.map(|rows| RowStream::ready(Arc::clone(read.schema()), rows)))
    }

    /// Parameters and columns of a query for one row by key.
    fn describe_point(
        &self,
        tree: &Tree,
        (count, known): (usize, &[Declared]),
    ) -> Option<(Vec<FieldRef>, SchemaRef)> {
        let ast::Statement::Query(query) = &**tree else { return None };
        let view = self.view();
        let read = PointRead::of(query, &view, &self.settings.default_schema())?;
        let inferred: HashMap<usize, FieldRef> = read.parameters().collect();
        let parameter = |at: usize| {
            let declared = known.get(at).cloned().flatten().map(|(_, field)| field);
            let own = inferred.get(&at)?;
            match declared {
                // What else may stand beside the column is for the planner to say.
                Some(field) if field.data_type() != own.data_type() => None,
                Some(field) => Some(field),
                None => Some(Arc::clone(own)),
            }
        };
        let parameters: Option<Vec<FieldRef>> = (0..count).map(parameter).collect();
        Some((parameters?, Arc::clone(read.schema())))
    }

    /// Runs a prepared query by the plan that is kept with it, which is made first when it is due;
    /// `None` when there is none that suits.
    async fn run_kept(
        &self,
        tree: &Arc<Tree>,
        slot: &PlanSlot,
        parameters: &[ScalarValue],
    ) -> Result<Option<RowStream>> {
        let view = self.view();
        let kept = match slot.query.find(&view, &self.settings) {
            Found::None => return Ok(None),
            // It would hold on to what the transaction wrote.
            Found::Due if self.has_written() => return Ok(None),
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
                slot.query.keep(plan.clone());
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
        let timeout = passed(self.settings.statement_timeout());
        tokio::select! {
            result = work => result,
            () = token.cancelled() => Err(EngineError::cancelled()),
            () = timeout => Err(timed_out()),
        }
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
        let view = self.view();
        let id = target(&view, &self.settings.default_schema(), name)?.id;
        let store = Arc::clone(&self.engine.store);
        let checking = self.engine.executor.spawn_blocking(move || Ok(store.check_table(id)?));
        self.interruptible(checking).await?;
        Ok(done("CHECK TABLE"))
    }

    async fn define(&mut self, statement: &ast::Statement) -> Result<Outcome> {
        let view = self.view();
        let change = define(&view, &self.settings.default_schema(), statement)?;
        let Some(change) = change else {
            let text = statement.to_string();
            let words: Vec<&str> = text.split_whitespace().take(2).collect();
            return Err(EngineError::unsupported(words.join(" ")));
        };
        self.check_writable(change.tag)?;
        let (planner, defines) = (self.planner(), change.defines.clone());
        let task = self.engine.executor.spawn(async move {
            for define in &defines {
                check_definition(&planner, define).await?;
            }
            Ok(())
        });
        self.interruptible(task).await?;
        for define in change.defines {
            if self.define_in_transaction(&define)? {
                continue;
            }
            let proposed = self.engine.store.commit_log().propose(Command::Define(define));
            let applied = proposed.await?;
            if let storage::Effect::Defined(catalog::Defined::Index(id)) = applied.effect {
                self.build_index(id).await?;
            }
        }
        let notice = change.notice.map(Notice::information);
        Ok(Outcome::Done { tag: change.tag.to_owned(), notice })
    }

    /// Waits until a new index covers the rows that were there when it was made; takes it back when
    /// the statement is cancelled.
    async fn build_index(&self, id: types::IndexId) -> Result<()> {
        let store = &self.engine.store;
        let view = store.read_view();
        let Some(index) = view.catalog().index_by_id(id) else { return Ok(()) };
        if let Err(error) = self.wait_for_index(index).await {
            let drop = catalog::Define::DropIndex { id };
            store.commit_log().propose(Command::Define(drop)).await?;
            return Err(error);
        }
        Ok(())
    }

    /// Waits until an index covers the rows that are there, unless the statement is cancelled.
    async fn wait_for_index(&self, index: &catalog::Index) -> Result<()> {
        let store = &self.engine.store;
        let rows = store.read_view().table(index.table).map(|table| table.rows());
        let before = rows.as_ref().map_or(types::RowId(0), |rows| rows.next_row());
        let covered = store.wait_indexed(index.table, index.id, before);
        self.interruptible(async { Ok(covered.await?) }).await?;
        // The graph is worth more than the log that made it: keep it.
        if rows.is_some_and(|rows| !rows.is_empty())
            && let Err(error) = self.engine.checkpoint().await
        {
            tracing::warn!(%error, "could not write a checkpoint after CREATE INDEX");
        }
        Ok(())
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
        self.check_not_failed(Some(&statement))?;
        let count = statement.parameters.max(declared.len());
        let known = declared_types(declared)?;
        let Statement::Sql(sql) = &statement.statement else {
            let columns = match &statement.statement {
                Statement::Fetch(fetch) => self.cursor_columns(fetch),
                _ => None,
            };
            return Ok((statement, Described { parameters: Vec::new(), columns }));
        };
        if let Some((parameters, columns)) = self.describe_point(sql, (count, &known)) {
            statement.plan = Some(Arc::default());
            statement.described = Some(Arc::clone(&columns));
            return Ok((statement, Described { parameters, columns: Some(columns) }));
        }
        let _rest = self.scope.until_rest();
        let (planner, mut sql, casts) = (self.planner(), Arc::clone(sql), known.clone());
        let task = self.engine.executor.spawn(async move {
            let is_values = matches!(&**sql, ast::Statement::Insert(insert)
                if insert.source.as_ref().is_some_and(|s| InsertRows::of(s).is_some()));
            if casts.iter().any(Option::is_some) {
                let mut copy = sql.copy();
                match &mut *copy {
                    // Values are read as what their columns are.
                    ast::Statement::Insert(insert) if is_values => {
                        cast_parameters(&mut insert.on, &casts);
                        cast_parameters(&mut insert.returning, &casts);
                    }
                    other => cast_parameters(other, &casts),
                }
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
        let columns = match columns.or_else(|| self.prepared_columns(&statement)) {
            Some(columns) => Some(columns),
            None => self.session_columns(&statement)?,
        };
        statement.described.clone_from(&columns);
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

/// Waits for a time to pass; for ever without one.
pub async fn passed(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// The error of a statement that ran out of time.
#[must_use]
pub fn timed_out() -> EngineError {
    EngineError::new(SqlState::QUERY_CANCELED, "canceling statement due to statement timeout")
}

fn done(tag: &str) -> Outcome {
    Outcome::done(tag.to_owned())
}
