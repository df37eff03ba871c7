//! Statements about the session itself: SET, RESET, SHOW, DEALLOCATE, DISCARD.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{self, Expr, Value};

use super::{Outcome, Session, done};
use crate::error::{EngineError, Result};
use crate::explain;
use crate::query::RowStream;
use crate::sql::types::fold;
use crate::sql::{ParsedStatement, Statement};

impl Session {
    /// Statements about the session itself; `None` for others.
    pub(super) fn session_statement(
        &mut self,
        statement: &ast::Statement,
    ) -> Result<Option<Outcome>> {
        Ok(Some(match statement {
            ast::Statement::Set(set) => {
                self.set(set)?;
                done("SET")
            }
            ast::Statement::Reset(reset) => {
                match &reset.reset {
                    ast::Reset::ALL => self.settings.reset_all(),
                    ast::Reset::ConfigurationParameter(name) => {
                        self.settings.reset(&name.to_string())?;
                    }
                }
                done("RESET")
            }
            ast::Statement::ShowVariable { variable } => self.show(variable)?,
            ast::Statement::Deallocate { name, .. } => {
                let name = fold(name);
                Outcome::Deallocate((name != "all").then_some(name))
            }
            ast::Statement::Discard { object_type: ast::DiscardObject::ALL } => {
                self.settings.reset_all();
                Outcome::DiscardAll
            }
            ast::Statement::StartTransaction { .. }
            | ast::Statement::Commit { .. }
            | ast::Statement::Rollback { .. }
            | ast::Statement::Savepoint { .. }
            | ast::Statement::ReleaseSavepoint { .. } => {
                return Err(EngineError::unsupported("a transaction of several statements")
                    .with_hint(
                        "Every statement commits by itself; set your client to autocommit.",
                    ));
            }
            _ => return Ok(None),
        }))
    }

    fn set(&mut self, set: &ast::Set) -> Result<()> {
        match set {
            ast::Set::SingleAssignment { scope, variable, values, .. } => {
                if matches!(scope, Some(ast::ContextModifier::Local | ast::ContextModifier::Global))
                {
                    return Err(EngineError::unsupported("SET LOCAL or SET GLOBAL"));
                }
                let name = variable.to_string();
                let words: Result<Vec<String>> = values.iter().map(setting_text).collect();
                let value = words?.join(", ");
                if values.len() == 1 && value.eq_ignore_ascii_case("default") {
                    self.settings.reset(&name)?;
                } else {
                    self.settings.set(&name, &value)?;
                }
            }
            ast::Set::SetTimeZone { value, .. } => {
                let value = setting_text(value)?;
                if value.eq_ignore_ascii_case("default") || value.eq_ignore_ascii_case("local") {
                    self.settings.reset("TimeZone")?;
                } else {
                    self.settings.set("TimeZone", &value)?;
                }
            }
            ast::Set::SetNames { charset_name, .. } => {
                self.settings.set("client_encoding", &charset_name.value)?;
            }
            other => return Err(EngineError::unsupported(format!("SET {other:.40}"))),
        }
        Ok(())
    }

    fn show(&self, variable: &[ast::Ident]) -> Result<Outcome> {
        let words: Vec<String> = variable.iter().map(fold).collect();
        let (names, columns): (Vec<&str>, Vec<Vec<&str>>) = match words.as_slice() {
            [all] if all == "all" => {
                let (names, values) = self.settings.all().unzip();
                (vec!["name", "setting"], vec![names, values])
            }
            words => {
                let name = match words.join(" ").as_str() {
                    "transaction isolation level" => "transaction_isolation".to_owned(),
                    "time zone" => "TimeZone".to_owned(),
                    _ => words.join("."),
                };
                let value = self.settings.get(&name)?;
                let spelled = self.settings.all().map(|(known, _)| known);
                let spelled = spelled.into_iter().find(|known| known.eq_ignore_ascii_case(&name));
                (vec![spelled.unwrap_or("setting")], vec![vec![value]])
            }
        };
        let fields: Vec<Field> =
            names.iter().map(|name| Field::new(*name, DataType::Utf8, false)).collect();
        let schema = Arc::new(Schema::new(fields));
        let text = |values: Vec<&str>| Arc::new(StringArray::from(values)) as ArrayRef;
        let arrays: Vec<ArrayRef> = columns.into_iter().map(text).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
        Ok(Outcome::Rows(RowStream::ready(schema, batch)))
    }

    /// Columns of statements that are not planned.
    pub(super) fn session_columns(&self, statement: &ParsedStatement) -> Result<Option<SchemaRef>> {
        let Statement::Sql(sql) = &statement.statement else { return Ok(None) };
        match &***sql {
            ast::Statement::ShowVariable { variable } => match self.show(variable)? {
                Outcome::Rows(rows) => Ok(Some(Arc::clone(rows.schema()))),
                _ => Ok(None),
            },
            ast::Statement::Explain { .. } => Ok(Some(explain::schema())),
            _ => Ok(None),
        }
    }
}

fn setting_text(expr: &Expr) -> Result<String> {
    match expr {
        Expr::Identifier(ident) => Ok(ident.value.clone()),
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) | Value::SingleQuotedString(text) => Ok(text.clone()),
            Value::Boolean(value) => Ok(value.to_string()),
            other => Err(EngineError::syntax(format!("{other} is not a setting's value"))),
        },
        Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => {
            Ok(format!("-{}", setting_text(expr)?))
        }
        other => Err(EngineError::syntax(format!("{other} is not a setting's value"))),
    }
}
