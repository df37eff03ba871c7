//! Statements that write, and COPY both ways.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, AlterTable, AlterTableOperation, RenameTableNameKind};
use types::{Coded as _, SqlState};

use super::{Notice, Outcome, Session, done};
use crate::error::{EngineError, Result};
use crate::pg_types;
use crate::planner::{
    CopyIn, CopyOptions, CopyTarget, CreateAs, Operation, PlannedWrite, altered_table,
    plan_alteration, plan_copy, plan_create_as, plan_create_view, plan_write, read_columns, remade,
    rows_at_once, target, truncations,
};
use crate::prepared::{Found, KeptWrite, PlanSlot};
use crate::query::{RowStream, require_select};
use crate::sql::rewrite::check_relation;
use crate::sql::{Reindex, Tree};

/// Times a statement is planned again after a concurrent commit got in its way. Nothing of a failed
/// try is visible, so trying again is safe; giving up leaves the retry to the client.
const CONFLICT_RETRIES: usize = 10;

impl Session {
    pub(super) async fn write(
        &mut self,
        statement: &Arc<Tree>,
        parameters: &[ScalarValue],
        (slot, described): (Option<&PlanSlot>, Option<&SchemaRef>),
    ) -> Result<Outcome> {
        self.check_writable(match &***statement {
            ast::Statement::Insert(_) => "INSERT",
            ast::Statement::Update(_) => "UPDATE",
            _ => "DELETE",
        })?;
        for _ in 0..CONFLICT_RETRIES {
            let schema = self.settings.default_schema();
            let planned = match rows_at_once(&self.view(), &schema, statement, parameters)? {
                Some(planned) => planned,
                None => match self.write_kept(statement, slot, parameters).await? {
                    Some(planned) => planned,
                    None => self.plan_write(statement, parameters).await?,
                },
            };
            let PlannedWrite { builder, tag, returned, may_conflict } = planned;
            if let (Some((schema, _)), true) = (&returned, described.is_some()) {
                // Told before anything is committed.
                pg_types::check_described(described, schema)?;
            }
            let outcome = match returned {
                Some((schema, rows)) => Outcome::Rows(RowStream::of_write(schema, rows, tag)),
                None => Outcome::done(tag),
            };
            let Some(write) = builder.finish()? else { return Ok(outcome) };
            let error = match self.commit_or_keep(write).await {
                Ok(()) => return Ok(outcome),
                Err(error) => error,
            };
            let again = error.sql_state() == SqlState::SERIALIZATION_FAILURE
                || may_conflict && error.sql_state() == SqlState::UNIQUE_VIOLATION;
            if !again {
                return Err(error);
            }
            // A transaction would meet the same again.
            if self.transaction.is_some() {
                break;
            }
        }
        let message = "could not serialize access due to concurrent update";
        Err(EngineError::new(SqlState::SERIALIZATION_FAILURE, message)
            .with_hint("Run the statement again."))
    }

    /// What a prepared statement writes by the plan that is kept with it, which is made first when it is
    /// due; `None` when there is none that suits.
    async fn write_kept(
        &self,
        statement: &Arc<Tree>,
        slot: Option<&PlanSlot>,
        parameters: &[ScalarValue],
    ) -> Result<Option<PlannedWrite>> {
        let Some(slot) = slot else { return Ok(None) };
        let view = self.view();
        let kept = match slot.write.find(&view, &self.settings) {
            Found::None => return Ok(None),
            Found::Plan(kept) => kept,
            Found::Due => {
                let (planner, tree) = (self.planner(), Arc::clone(statement));
                let values = parameters.to_vec();
                let task = self
                    .engine
                    .executor
                    .spawn(async move { KeptWrite::plan(&planner, &tree, &values).await });
                // What is wrong is told when it is planned with its values.
                let plan = self.interruptible(task).await.unwrap_or_default().map(Arc::new);
                slot.write.keep(plan.clone());
                let Some(kept) = plan else { return Ok(None) };
                kept
            }
        };
        kept.run(&view, statement, parameters)
    }

    async fn plan_write(
        &self,
        statement: &Arc<Tree>,
        parameters: &[ScalarValue],
    ) -> Result<PlannedWrite> {
        let (planner, statement) = (self.planner(), Arc::clone(statement));
        let parameters = parameters.to_vec();
        let task = self
            .engine
            .executor
            .spawn(async move { plan_write(&planner, &statement, &parameters).await });
        self.interruptible(task).await
    }

    /// Empties tables, all of them or none.
    pub(super) async fn truncate(&mut self, truncate: &ast::Truncate) -> Result<Outcome> {
        self.check_writable("TRUNCATE TABLE")?;
        let own = self.transaction.is_none();
        self.begin_implicit();
        self.look(None).await?;
        for delete in truncations(truncate)? {
            self.write(&Tree::new(Box::new(delete), false), &[], (None, None)).await?;
        }
        if own {
            self.end_implicit().await?;
        }
        Ok(done("TRUNCATE TABLE"))
    }

    /// Makes a view.
    pub(super) async fn create_view(&mut self, create: &ast::CreateView) -> Result<Outcome> {
        self.check_writable("CREATE VIEW")?;
        let own = self.transaction.is_none();
        self.begin_implicit();
        self.look(None).await?;
        let (planner, create) = (self.planner(), create.clone());
        let planning = async move { plan_create_view(&planner, &create).await };
        let defines = self.interruptible(self.engine.executor.spawn(planning)).await?;
        for define in &defines {
            self.define_in_transaction(define)?;
        }
        if own {
            self.end_implicit().await?;
        }
        Ok(done("CREATE VIEW"))
    }

    /// Makes a table of the rows of a query.
    pub(super) async fn create_table_as(
        &mut self,
        statement: &Arc<Tree>,
        parameters: &[ScalarValue],
    ) -> Result<Outcome> {
        self.check_writable("CREATE TABLE AS")?;
        let own = self.transaction.is_none();
        self.begin_implicit();
        self.look(None).await?;
        let (planner, tree) = (self.planner(), Arc::clone(statement));
        let task = self.engine.executor.spawn(async move {
            let ast::Statement::CreateTable(create) = &**tree else {
                return Err(EngineError::bug("not CREATE TABLE"));
            };
            plan_create_as(&planner, create).await
        });
        let CreateAs { define, insert, notice } = self.interruptible(task).await?;
        let mut tag = "CREATE TABLE AS".to_owned();
        if let Some(define) = define {
            self.define_in_transaction(&define)?;
            let insert = Tree::new(Box::new(insert), statement.is_deep());
            if let Outcome::Done { tag: inserted, .. } =
                self.write(&insert, parameters, (None, None)).await?
            {
                tag = inserted.replace("INSERT 0", "SELECT");
            }
        }
        if own {
            self.end_implicit().await?;
        }
        let notice = notice.map(Notice::information);
        Ok(Outcome::Done { tag, notice })
    }

    /// Changes a table: all operations of the statement, or none.
    pub(super) async fn alter_table(&mut self, alter: &AlterTable) -> Result<Outcome> {
        let operations =
            alter.operations.iter().cloned().map(Box::new).map(Operation::Alter).collect();
        self.change_table("ALTER TABLE", alter, operations).await
    }

    /// Makes a sorted index.
    pub(super) async fn create_sorted_index(
        &mut self,
        create: &ast::CreateIndex,
    ) -> Result<Outcome> {
        let index = Operation::Index(Box::new(create.clone()));
        let alter = table_only(&create.table_name);
        self.change_table("CREATE INDEX", &alter, vec![index]).await
    }

    /// Makes the indexes of a table, or one of them, again.
    pub(super) async fn reindex(&mut self, reindex: &Reindex) -> Result<Outcome> {
        self.check_writable("REINDEX")?;
        if reindex.concurrently {
            self.check_outside("REINDEX CONCURRENTLY")?;
        }
        let own = self.transaction.is_none();
        self.begin_implicit();
        self.look(None).await?;
        for define in remade(&self.view(), &self.settings.default_schema(), reindex)? {
            self.define_in_transaction(&define)?;
        }
        if own {
            self.end_implicit().await?;
        }
        Ok(done("REINDEX"))
    }

    async fn change_table(
        &mut self,
        tag: &'static str,
        alter: &AlterTable,
        operations: Vec<Operation>,
    ) -> Result<Outcome> {
        self.check_writable(tag)?;
        let own = self.transaction.is_none();
        for _ in 0..CONFLICT_RETRIES {
            self.begin_implicit();
            let altered = self.alter_once(alter, operations.clone()).await;
            let ended = match altered {
                Ok(notice) if own => self.end_implicit().await.map(|()| notice),
                other => other,
            };
            match ended {
                Ok(message) => {
                    let notice = message.map(Notice::information);
                    return Ok(Outcome::Done { tag: tag.to_owned(), notice });
                }
                Err(error) if own && error.sql_state() == SqlState::SERIALIZATION_FAILURE => {
                    self.fail();
                }
                Err(error) => return Err(error),
            }
        }
        let message = "could not serialize access due to concurrent update";
        Err(EngineError::new(SqlState::SERIALIZATION_FAILURE, message)
            .with_hint("Run the statement again."))
    }

    async fn alter_once(
        &mut self,
        alter: &AlterTable,
        operations: Vec<Operation>,
    ) -> Result<Option<String>> {
        self.look(None).await?;
        if let Some(notice) = altered_table(&self.planner(), alter)? {
            return Ok(Some(notice));
        }
        let mut name = alter.name.clone();
        let mut left = VecDeque::from(operations);
        let mut notices = Vec::new();
        while let Some(operation) = left.pop_front() {
            let (planner, of, planned) = (self.planner(), name.clone(), operation.clone());
            let task = self
                .engine
                .executor
                .spawn(async move { plan_alteration(&planner, &of, &planned).await });
            let step = self.interruptible(task).await?;
            if let Some(define) = &step.define {
                self.define_in_transaction(define)?;
            }
            if let Some(fill) = step.fill {
                self.write(&Tree::new(Box::new(fill), false), &[], (None, None)).await?;
            }
            if let Operation::Alter(operation) = &operation
                && let AlterTableOperation::RenameTable { table_name } = &**operation
            {
                let (RenameTableNameKind::To(to) | RenameTableNameKind::As(to)) = table_name;
                name.0.pop();
                name.0.extend(to.0.last().cloned());
            }
            step.then
                .into_iter()
                .rev()
                .for_each(|next| left.push_front(Operation::Alter(Box::new(next))));
            notices.extend(step.notice);
        }
        Ok((!notices.is_empty()).then(|| notices.join("; ")))
    }

    pub(super) async fn copy(&self, statement: &ast::Statement) -> Result<Outcome> {
        let ast::Statement::Copy { source, to, target: place, options, legacy_options, .. } =
            statement
        else {
            return Err(EngineError::bug("COPY was not read"));
        };
        let options = CopyOptions::parse(options, legacy_options)?;
        let (table_name, columns) = match (source, to, place) {
            (ast::CopySource::Table { table_name, columns }, false, ast::CopyTarget::Stdin) => {
                (table_name, columns)
            }
            (ast::CopySource::Table { table_name, columns }, true, ast::CopyTarget::Stdout) => {
                check_relation(table_name)?;
                let query = read_columns(table_name, columns);
                return self.copy_out(Tree::of_query(&query), options).await;
            }
            (ast::CopySource::Query(query), true, ast::CopyTarget::Stdout) => {
                return self.copy_out(Tree::of_query(query), options).await;
            }
            _ => return Err(EngineError::unsupported("COPY but FROM STDIN and TO STDOUT")),
        };
        self.check_writable("COPY FROM")?;
        let view = self.view();
        let collection = target(&view, &self.settings.default_schema(), table_name)?;
        let target = CopyTarget::new(collection, columns)?;
        Ok(Outcome::CopyIn(Box::new(CopyIn::new(target, options))))
    }

    async fn copy_out(&self, tree: Arc<Tree>, options: CopyOptions) -> Result<Outcome> {
        if let ast::Statement::Query(query) = &**tree {
            require_select(query)?;
        }
        match self.select(tree, None, Vec::new()).await? {
            Outcome::Rows(rows) => Ok(Outcome::CopyOut(Box::new((rows, options)))),
            other => Ok(other),
        }
    }

    /// Commits the rows of a COPY; its command tag.
    ///
    /// # Errors
    /// When the data is cut off or a row cannot be inserted; nothing is inserted then.
    pub async fn copy_done(&mut self, copy: CopyIn) -> Result<String> {
        let _rest = self.scope.until_rest();
        let planner = self.planner();
        let task = self.engine.executor.spawn(async move {
            let (builder, rows) = plan_copy(&planner, copy).await?;
            Ok((builder.finish()?, rows))
        });
        let (write, rows) = self.interruptible(task).await?;
        if let Some(write) = write {
            self.commit_or_keep(write).await?;
        }
        Ok(format!("COPY {rows}"))
    }
}

/// `ALTER TABLE name` without operations.
fn table_only(name: &ast::ObjectName) -> AlterTable {
    AlterTable {
        name: name.clone(),
        if_exists: false,
        only: false,
        operations: Vec::new(),
        location: None,
        on_cluster: None,
        table_type: None,
        end_token: ast::helpers::attached_token::AttachedToken::empty(),
    }
}
