//! Transactions of several statements: BEGIN, COMMIT, ROLLBACK and savepoints, and the one way from
//! what statements wrote to the log.
//!
//! All statements of a transaction read at the instant of the first one, with what the transaction
//! did itself (`storage::Transaction`); other commits are met when it commits, and the first one wins.
//! After an error nothing is left of it, and all it can do is end, or go back to a savepoint.

use arrow::array::RecordBatch;
use chrono::{DateTime, Utc};
use datafusion::sql::sqlparser::ast::{
    self, TransactionAccessMode, TransactionIsolationLevel, TransactionMode,
};
use storage::{Applied, Command, ReadView, Rejection, StorageError, TableWrite, Transaction};
use types::limits::SAVEPOINTS_MAX;
use types::{Coded as _, CommitTs, SqlState};

use super::{Notice, Outcome, Session, done};
use crate::error::{EngineError, ErrorObject, Result};
use crate::planner::{error_object, key_detail};
use crate::settings::{Settings, serializable};
use crate::sql::rewrite::names_instant;
use crate::sql::types::fold;
use crate::sql::{ParsedStatement, Statement};

/// Where a session stands between two statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// Every statement is a transaction.
    Idle,
    /// Inside of a transaction.
    Open,
    /// Inside of one that failed and waits for its end.
    Failed,
}

/// A transaction that has begun.
#[derive(Debug)]
pub(super) struct Open {
    /// What it did; absent before the first statement that reads or writes, and after an error.
    work: Option<Transaction>,
    savepoints: Vec<Savepoint>,
    failed: bool,
    /// Whether it is that of one message with several statements, and ends with it.
    implicit: bool,
    /// What `now()` is.
    began: DateTime<Utc>,
    /// The settings after a rollback, and after a commit: without what `SET LOCAL` changed.
    before: Settings,
    pub(super) after: Settings,
}

#[derive(Debug)]
struct Savepoint {
    name: String,
    work: Transaction,
    settings: Settings,
    after: Settings,
}

impl Open {
    /// What the transaction sees, once it has looked, and its `now()`.
    pub(super) fn view(&self) -> Option<(ReadView, DateTime<Utc>)> {
        self.work.as_ref().map(|work| (work.view().clone(), self.began))
    }
}

/// Whether a statement may follow an error: it ends the transaction, or goes back in it.
fn is_exit(statement: &ast::Statement) -> bool {
    matches!(statement, ast::Statement::Commit { .. } | ast::Statement::Rollback { .. })
}

/// Done, with a warning that there is no transaction.
fn no_transaction(tag: &str) -> Outcome {
    let message = "there is no transaction in progress";
    warned(tag, &EngineError::new(SqlState::NO_ACTIVE_SQL_TRANSACTION, message))
}

/// The error of what has a meaning in transactions alone.
pub(super) fn only_inside(what: &str) -> EngineError {
    let message = format!("{what} can only be used in transaction blocks");
    EngineError::new(SqlState::NO_ACTIVE_SQL_TRANSACTION, message)
}

/// Done, with a warning of what PostgreSQL does not take for an error.
pub(super) fn warned(tag: &str, error: &EngineError) -> Outcome {
    let (state, message) = (error.sql_state(), error.to_string());
    let notice = Some(Notice { severity: "WARNING", state, message });
    Outcome::Done { tag: tag.to_owned(), notice }
}

impl Session {
    /// Where the session stands.
    #[must_use]
    pub fn transaction_status(&self) -> TransactionStatus {
        match &self.transaction {
            None => TransactionStatus::Idle,
            Some(open) if open.failed => TransactionStatus::Failed,
            Some(_) => TransactionStatus::Open,
        }
    }

    /// Begins a transaction that is there for the statements of one message, unless one is open.
    pub fn begin_implicit(&mut self) {
        if self.transaction.is_none() {
            self.begin();
            if let Some(open) = &mut self.transaction {
                open.implicit = true;
            }
        }
    }

    /// Commits what [`Session::begin_implicit`] began, unless a statement made it one that stays.
    ///
    /// # Errors
    /// When it cannot be committed; nothing has changed then.
    pub async fn end_implicit(&mut self) -> Result<()> {
        if self.transaction.as_ref().is_some_and(|open| open.implicit) {
            self.commit_open().await?;
        }
        Ok(())
    }

    /// Notes that an error was reported: nothing is left of what the transaction did.
    pub fn fail(&mut self) {
        let Some(open) = &mut self.transaction else { return };
        if open.implicit {
            self.roll_back();
        } else {
            open.failed = true;
            open.work = None;
        }
    }

    /// Refuses a statement that a failed transaction cannot take; an empty one it can.
    ///
    /// # Errors
    /// When the transaction has failed and the statement does not end it.
    pub fn check_not_failed(&self, statement: Option<&ParsedStatement>) -> Result<()> {
        let exits = |statement: &ParsedStatement| match &statement.statement {
            Statement::Sql(tree) => is_exit(tree),
            Statement::Checkpoint
            | Statement::CheckTable(_)
            | Statement::Vacuum(_)
            | Statement::Reindex(_)
            | Statement::Fetch(_) => false,
        };
        if self.transaction_status() != TransactionStatus::Failed || statement.is_none_or(exits) {
            return Ok(());
        }
        let message =
            "current transaction is aborted, commands ignored until end of transaction block";
        Err(EngineError::new(SqlState::IN_FAILED_SQL_TRANSACTION, message))
    }

    /// Refuses what cannot be taken back.
    pub(super) fn check_outside(&self, what: &str) -> Result<()> {
        if self.transaction.is_none() {
            return Ok(());
        }
        let message = format!("{what} cannot run inside a transaction block");
        Err(EngineError::new(SqlState::ACTIVE_SQL_TRANSACTION, message))
    }

    /// Refuses what only a transaction of several statements can have; the number of its savepoints.
    pub(super) fn check_block(&self, what: &str) -> Result<usize> {
        let open = self.transaction.as_ref();
        open.map(|open| open.savepoints.len()).ok_or_else(|| only_inside(what))
    }

    /// Refuses a write where only reading is allowed.
    pub(super) fn check_writable(&self, what: &str) -> Result<()> {
        let setting = match self.transaction {
            Some(_) => "transaction_read_only",
            None => "default_transaction_read_only",
        };
        if !self.settings.is_on(setting) {
            return Ok(());
        }
        let message = format!("cannot execute {what} in a read-only transaction");
        Err(EngineError::new(SqlState::READ_ONLY_SQL_TRANSACTION, message))
    }

    /// The state that the next statement reads.
    pub(super) fn view(&self) -> ReadView {
        let seen = self.transaction.as_deref().and_then(Open::view);
        seen.map_or_else(|| self.engine.store.read_view(), |(view, _)| view)
    }

    /// Makes sure that an open transaction has its instant, and that it is not before its `now()`
    /// where the first statement asks for the past.
    pub(super) async fn look(&mut self, statement: Option<&ast::Statement>) -> Result<()> {
        let store = &self.engine.store;
        let Some(open) = &mut self.transaction else { return Ok(()) };
        if open.work.is_none() && !open.failed {
            if statement.is_some_and(names_instant) {
                store.close_instant(CommitTs(open.began.timestamp_micros())).await?;
            }
            open.work = Some(store.begin());
        }
        Ok(())
    }

    /// Whether a transaction is open that wrote something.
    pub(super) fn has_written(&self) -> bool {
        let work = self.transaction.as_ref().and_then(|open| open.work.as_ref());
        work.is_some_and(|work| !work.is_empty())
    }

    /// Refuses to let a transaction write that was to read only, once it has read.
    pub(super) fn check_stays_read_only(&self, was: bool) -> Result<()> {
        let looked = self.transaction.as_ref().is_some_and(|open| open.work.is_some());
        if was && looked && !self.settings.is_on("transaction_read_only") {
            let message = "transaction read-write mode must be set before any query";
            return Err(EngineError::new(SqlState::ACTIVE_SQL_TRANSACTION, message));
        }
        Ok(())
    }

    fn begin(&mut self) {
        let before = self.settings.clone();
        // A value that was checked when it became the default.
        let _ = self.set_read_only(before.is_on("default_transaction_read_only"));
        let micros = self.engine.tuner.now_micros();
        self.transaction = Some(Box::new(Open {
            work: None,
            savepoints: Vec::new(),
            failed: false,
            implicit: false,
            began: DateTime::from_timestamp_micros(micros).unwrap_or_default(),
            after: before.clone(),
            before,
        }));
    }

    /// Statements that begin, end and divide transactions; `None` for others.
    pub(super) async fn transaction_statement(
        &mut self,
        statement: &ast::Statement,
    ) -> Result<Option<Outcome>> {
        Ok(Some(match statement {
            ast::Statement::StartTransaction { modes, modifier, statements, exception, .. } => {
                EngineError::refuse_present(&[
                    (modifier.is_some(), "a kind of BEGIN"),
                    (!statements.is_empty() || exception.is_some(), "a block of statements"),
                ])?;
                self.start(modes)?
            }
            ast::Statement::Commit { chain, modifier, .. } => {
                EngineError::refuse_present(&[(modifier.is_some(), "a kind of COMMIT")])?;
                self.end(*chain, true).await?
            }
            ast::Statement::Rollback { chain, savepoint: None } => self.end(*chain, false).await?,
            ast::Statement::Rollback { savepoint: Some(name), .. } => {
                self.roll_back_to(&fold(name))?
            }
            ast::Statement::Savepoint { name } => {
                self.look(None).await?;
                self.savepoint(fold(name))?
            }
            ast::Statement::ReleaseSavepoint { name } => {
                let (open, place) = self.find_savepoint("RELEASE SAVEPOINT", &fold(name))?;
                open.savepoints.truncate(place);
                for cursor in self.cursors.values_mut() {
                    cursor.savepoints = cursor.savepoints.min(place);
                }
                done("RELEASE")
            }
            _ => return Ok(None),
        }))
    }

    fn start(&mut self, modes: &[TransactionMode]) -> Result<Outcome> {
        let mut begun = done("BEGIN");
        match &mut self.transaction {
            Some(open) if open.implicit => open.implicit = false,
            Some(_) => {
                let message = "there is already a transaction in progress";
                let state = SqlState::ACTIVE_SQL_TRANSACTION;
                begun = warned("BEGIN", &EngineError::new(state, message));
            }
            None => {
                check_modes(modes)?;
                self.begin();
            }
        }
        self.set_modes(modes)?;
        Ok(begun)
    }

    /// `SET TRANSACTION`
    pub(super) fn set_modes(&mut self, modes: &[TransactionMode]) -> Result<()> {
        check_modes(modes)?;
        for mode in modes {
            let TransactionMode::AccessMode(access) = mode else { continue };
            let was = self.settings.is_on("transaction_read_only");
            self.set_read_only(*access == TransactionAccessMode::ReadOnly)?;
            self.check_stays_read_only(was)?;
        }
        Ok(())
    }

    /// Plans are kept for settings that are the same: what is off is not said.
    fn set_read_only(&mut self, read_only: bool) -> Result<()> {
        if read_only {
            self.settings.set("transaction_read_only", "on")?;
        } else {
            self.settings.reset("transaction_read_only")?;
        }
        Ok(())
    }

    async fn end(&mut self, chain: bool, commit: bool) -> Result<Outcome> {
        let mut status = self.transaction_status();
        let implicit = self.transaction.as_ref().is_some_and(|open| open.implicit);
        if implicit && !chain {
            if commit {
                self.commit_open().await?;
            } else {
                self.roll_back();
            }
        }
        if implicit {
            status = TransactionStatus::Idle;
        }
        let read_only = self.settings.is_on("transaction_read_only");
        let (tag, ended) = match (status, commit) {
            (TransactionStatus::Idle, _) if chain => {
                let what = if commit { "COMMIT AND CHAIN" } else { "ROLLBACK AND CHAIN" };
                return Err(only_inside(what));
            }
            (TransactionStatus::Idle, true) => return Ok(no_transaction("COMMIT")),
            (TransactionStatus::Idle, false) => return Ok(no_transaction("ROLLBACK")),
            (TransactionStatus::Open, true) => ("COMMIT", self.commit_open().await),
            (TransactionStatus::Open, false) | (TransactionStatus::Failed, _) => {
                self.roll_back();
                ("ROLLBACK", Ok(()))
            }
        };
        ended?;
        if chain {
            self.begin();
            self.set_read_only(read_only)?;
        }
        Ok(done(tag))
    }

    /// Ends the transaction without a commit; what it was.
    fn roll_back(&mut self) -> Option<Box<Open>> {
        self.cursors.clear();
        let open = self.transaction.take()?;
        self.settings = open.before.clone();
        self.scope.leave();
        Some(open)
    }

    async fn commit_open(&mut self) -> Result<()> {
        let Some(open) = self.roll_back() else { return Ok(()) };
        if let Some(work) = open.work.filter(|work| !work.is_empty()) {
            let gather = self.engine.executor.spawn_blocking(move || Ok(work.command()?));
            if let Some(command) = gather.await? {
                let applied = self.propose(command).await?;
                self.wait_for_indexes(applied.commit_ts).await;
            }
        }
        self.settings = open.after;
        self.settings.end_transaction();
        Ok(())
    }

    /// Waits until the indexes that came at `at` cover the rows that came with them, or the client
    /// cancels the wait: they are there in any case.
    async fn wait_for_indexes(&self, at: CommitTs) {
        let view = self.engine.store.read_view();
        for index in view.catalog().indexes(view.at()).filter(|index| index.life.created == at) {
            if let Err(error) = self.wait_for_index(index).await {
                tracing::info!(%error, index = index.name, "did not wait for an index");
                return;
            }
        }
    }

    fn savepoint(&mut self, name: String) -> Result<Outcome> {
        let settings = self.settings.clone();
        let open = self.transaction.as_mut().ok_or_else(|| only_inside("SAVEPOINT"))?;
        if open.implicit {
            return Err(only_inside("SAVEPOINT"));
        }
        if open.savepoints.len() >= SAVEPOINTS_MAX {
            let message = format!("a transaction has at most {SAVEPOINTS_MAX} savepoints");
            return Err(EngineError::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message)
                .with_hint("Release those that are not needed."));
        }
        let work = open.work.as_ref().ok_or_else(|| EngineError::bug("nothing to keep"))?;
        let (work, after) = (work.copy()?, open.after.clone());
        open.savepoints.push(Savepoint { name, work, settings, after });
        Ok(done("SAVEPOINT"))
    }

    fn find_savepoint(&mut self, what: &str, name: &str) -> Result<(&mut Open, usize)> {
        let open = self.transaction.as_mut().filter(|open| !open.implicit);
        let open = open.ok_or_else(|| only_inside(what))?;
        let place = open.savepoints.iter().rposition(|savepoint| savepoint.name == name);
        let place = place.ok_or_else(|| {
            let message = format!("savepoint \"{name}\" does not exist");
            EngineError::new(SqlState::INVALID_SAVEPOINT_SPECIFICATION, message)
        })?;
        Ok((open, place))
    }

    fn roll_back_to(&mut self, name: &str) -> Result<Outcome> {
        let (open, place) = self.find_savepoint("ROLLBACK TO SAVEPOINT", name)?;
        open.savepoints.truncate(place + 1);
        let kept = &open.savepoints[place];
        let (work, settings) = (kept.work.copy()?, kept.settings.clone());
        open.after = kept.after.clone();
        (open.work, open.failed) = (Some(work), false);
        self.settings = settings;
        self.cursors.retain(|_, cursor| cursor.savepoints <= place);
        Ok(done("ROLLBACK"))
    }

    /// Writes for the open transaction, or commits.
    pub(super) async fn commit_or_keep(&mut self, write: TableWrite) -> Result<()> {
        let Some(open) = &mut self.transaction else {
            return self.propose(Command::Write(vec![write])).await.map(|_| ());
        };
        let mut work = open.work.take().ok_or_else(|| EngineError::bug("nothing to write to"))?;
        // Until it is back, there is nothing that could be committed.
        open.failed = true;
        let task = self.engine.executor.spawn_blocking(move || {
            let written = work.write(&write);
            Ok((work, write, written))
        });
        let (work, write, written) = task.await?;
        let kept = [(write.table, write.begun)];
        let written = written.map_err(|error| explained(error, work.view(), &kept));
        (open.work, open.failed) = (Some(work), false);
        written
    }

    /// Changes the catalog for the open transaction; false without one.
    pub(super) fn define_in_transaction(&mut self, define: &catalog::Define) -> Result<bool> {
        let Some(open) = &mut self.transaction else { return Ok(false) };
        let work = open.work.as_mut().ok_or_else(|| EngineError::bug("nothing to define in"))?;
        work.define(define)?;
        Ok(true)
    }

    /// Hands a command to the log and waits until it is durable and applied.
    async fn propose(&self, command: Command) -> Result<Applied> {
        let store = &self.engine.store;
        self.engine.admit_write().await?;
        let writes = match &command {
            Command::Write(writes) => writes.as_slice(),
            Command::Transaction(transacted) => &transacted.writes,
            Command::Define(_) | Command::Tick => &[],
        };
        for write in writes {
            store.check_write(write)?;
        }
        let begun: Vec<_> = writes.iter().map(|w| (w.table, w.begun.clone())).collect();
        let applied = store.commit_log().propose(command).await;
        applied.map_err(|error| explained(error, &store.read_view(), &begun))
    }
}

/// The error of a write, which says the key that is taken.
fn explained(
    error: StorageError,
    view: &ReadView,
    begun: &[(types::TableId, Option<RecordBatch>)],
) -> EngineError {
    let StorageError::Rejected(Rejection::DuplicateKey { constraint, row }) = &error else {
        return error.into();
    };
    let found = begun.iter().find_map(|(table, batch)| {
        let collection = view.catalog().collection_by_id(*table)?;
        let batch = batch.as_ref().filter(|batch| *row < batch.num_rows())?;
        let key = collection.keys().find(|key| key.name == *constraint)?;
        let constraint = Some(constraint.clone());
        let object = ErrorObject { constraint, ..error_object(view, collection) };
        Some((key_detail(collection, &key, batch, *row), object))
    });
    let error = EngineError::from(error);
    match found {
        Some((detail, object)) => error.with_detail(detail).about(object),
        None => error,
    }
}

/// Every level up to the one that there is, is that one.
pub(super) fn check_modes(modes: &[TransactionMode]) -> Result<()> {
    let level = |mode: &TransactionMode| match mode {
        TransactionMode::IsolationLevel(level) => Some(*level),
        TransactionMode::AccessMode(_) => None,
    };
    for level in modes.iter().filter_map(level) {
        match level {
            TransactionIsolationLevel::ReadUncommitted
            | TransactionIsolationLevel::ReadCommitted
            | TransactionIsolationLevel::RepeatableRead
            | TransactionIsolationLevel::Snapshot => {}
            TransactionIsolationLevel::Serializable => return Err(serializable()),
        }
    }
    Ok(())
}
