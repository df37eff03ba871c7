//! `PREPARE`, and `EXECUTE` of what it named.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast;
use types::SqlState;

use super::{Described, Outcome, Session, done};
use crate::error::{EngineError, Result};
use crate::pg_types;
use crate::planner::constants;
use crate::sql::types::{column_type_required, fold, last_part};
use crate::sql::{ParsedStatement, Statement, Tree, highest_placeholder};

/// Statements of one session that have a name.
const NAMES_MAX: usize = 1_000;

/// A statement that has a name.
#[derive(Debug)]
pub(super) struct Named {
    statement: ParsedStatement,
    described: Described,
}

fn missing(name: &str) -> EngineError {
    let message = format!("prepared statement \"{name}\" does not exist");
    EngineError::new(SqlState::INVALID_SQL_STATEMENT_NAME, message)
}

fn type_id(data_type: &ast::DataType) -> Result<u32> {
    let named = match data_type {
        ast::DataType::Custom(name, modifiers) if modifiers.is_empty() => {
            pg_types::by_name(&last_part(name)).map(|known| known.oid)
        }
        _ => None,
    };
    match named {
        Some(oid) => Ok(oid),
        None => Ok(pg_types::oid_of_column(column_type_required(data_type)?)),
    }
}

impl Session {
    pub(super) async fn prepare(&mut self, tree: &Arc<Tree>) -> Result<Outcome> {
        let ast::Statement::Prepare { name, data_types, statement } = &***tree else {
            return Err(EngineError::bug("not PREPARE"));
        };
        let name = fold(name);
        if self.prepared.contains_key(&name) {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(EngineError::new(SqlState::DUPLICATE_PREPARED_STATEMENT, message));
        }
        if self.prepared.len() >= NAMES_MAX {
            let message = format!("a session has at most {NAMES_MAX} prepared statements");
            return Err(EngineError::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message));
        }
        if !matches!(
            **statement,
            ast::Statement::Query(_)
                | ast::Statement::Insert(_)
                | ast::Statement::Update(_)
                | ast::Statement::Delete(_)
        ) {
            return Err(EngineError::syntax("only a query or a write can be prepared"));
        }
        let declared: Vec<u32> = data_types.iter().map(type_id).collect::<Result<_>>()?;
        let parameters = highest_placeholder(statement);
        let inner = Tree::new(statement.clone(), tree.is_deep());
        let inner = ParsedStatement::of_tree(inner, parameters);
        let (statement, described) = self.describe(inner, &declared).await?;
        self.prepared.insert(name, Named { statement, described });
        Ok(done("PREPARE"))
    }

    pub(super) async fn execute_prepared(&mut self, tree: &Arc<Tree>) -> Result<Outcome> {
        let ast::Statement::Execute { name: Some(name), parameters, immediate: false, .. } =
            &***tree
        else {
            return Err(EngineError::unsupported("this form of EXECUTE"));
        };
        let name = last_part(name);
        let named = self.prepared.get(&name).ok_or_else(|| missing(&name))?;
        let wanted = named.described.parameters.clone();
        if wanted.len() != parameters.len() {
            let message = format!("wrong number of parameters for prepared statement \"{name}\"");
            let detail =
                format!("Expected {} parameters but got {}.", wanted.len(), parameters.len());
            return Err(EngineError::syntax(message).with_detail(detail));
        }
        let statement = named.statement.clone();
        let values: Vec<ScalarValue> = if wanted.is_empty() {
            Vec::new()
        } else {
            let (planner, given) = (self.planner(), parameters.clone());
            let task = self
                .engine
                .executor
                .spawn(async move { constants(&planner, given, &wanted).await });
            self.interruptible(task).await?
        };
        self.run(&statement, values).await
    }

    /// The columns of what an `EXECUTE` executes.
    pub(super) fn prepared_columns(&self, statement: &ParsedStatement) -> Option<SchemaRef> {
        let Statement::Sql(tree) = &statement.statement else { return None };
        let ast::Statement::Execute { name: Some(name), .. } = &***tree else { return None };
        self.prepared.get(&last_part(name))?.described.columns.clone()
    }
}
