//! Statements about the session itself: SET, RESET, SHOW, DEALLOCATE, DISCARD.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{self, Expr, Value};

use super::transaction::{check_modes, only_inside, warned};
use super::{Outcome, Session, done};
use crate::error::{EngineError, Result};
use crate::explain;
use crate::query::RowStream;
use crate::settings::Settings;
use crate::sql::types::fold;
use crate::sql::{ParsedStatement, Statement};

impl Session {
    /// Statements about the session itself; `None` for others.
    pub(super) fn session_statement(
        &mut self,
        statement: &ast::Statement,
    ) -> Result<Option<Outcome>> {
        Ok(Some(match statement {
            ast::Statement::Set(ast::Set::SetTransaction { modes, snapshot, session }) => {
                EngineError::refuse_present(&[(snapshot.is_some(), "SET TRANSACTION SNAPSHOT")])?;
                return self.set_transaction(modes, *session).map(Some);
            }
            ast::Statement::Set(set) => {
                let local = matches!(
                    set,
                    ast::Set::SingleAssignment { scope: Some(ast::ContextModifier::Local), .. }
                );
                if local && self.transaction.is_none() {
                    return Ok(Some(warned("SET", &only_inside("SET LOCAL"))));
                }
                let kept = self.settings.clone();
                set_one(&mut self.settings, set)?;
                self.stay_read_only(kept)?;
                if let Some(open) = &mut self.transaction
                    && !local
                {
                    set_one(&mut open.after, set)?;
                }
                done("SET")
            }
            ast::Statement::Reset(reset) => {
                let kept = self.settings.clone();
                let after = self.transaction.as_mut().map(|open| &mut open.after);
                for settings in [Some(&mut self.settings), after].into_iter().flatten() {
                    match &reset.reset {
                        ast::Reset::ALL => settings.reset_all(),
                        ast::Reset::ConfigurationParameter(name) => {
                            settings.reset(&name.to_string())?;
                        }
                    }
                }
                if matches!(reset.reset, ast::Reset::ALL) {
                    self.settings.keep_transaction(&kept)?;
                }
                self.stay_read_only(kept)?;
                done("RESET")
            }
            ast::Statement::ShowVariable { variable } => self.show(variable)?,
            // Nothing can be listened to.
            ast::Statement::UNLISTEN { .. } => done("UNLISTEN"),
            ast::Statement::Deallocate { name, .. } => {
                let name = fold(name);
                if name == "all" {
                    self.prepared.clear();
                } else if self.prepared.remove(&name).is_some() {
                    return Ok(Some(done("DEALLOCATE")));
                }
                Outcome::Deallocate((name != "all").then_some(name))
            }
            ast::Statement::Discard { object_type: ast::DiscardObject::ALL } => {
                self.check_outside("DISCARD ALL")?;
                self.settings.reset_all();
                self.scope.forget_values();
                self.prepared.clear();
                Outcome::DiscardAll
            }
            _ => return Ok(None),
        }))
    }

    /// Changes settings that `set_config` asked for in an earlier statement.
    pub(super) fn set_what_was_asked(&mut self) -> Result<()> {
        for (name, value, local) in self.scope.asked() {
            if local && self.transaction.is_none() {
                continue;
            }
            self.settings.set(&name, &value)?;
            if let Some(open) = &mut self.transaction
                && !local
            {
                open.after.set(&name, &value)?;
            }
        }
        Ok(())
    }

    /// Takes a change back that would let a transaction write which was to read only.
    fn stay_read_only(&mut self, kept: Settings) -> Result<()> {
        let checked = self.check_stays_read_only(kept.is_on("transaction_read_only"));
        if checked.is_err() {
            self.settings = kept;
        }
        checked
    }

    /// `SET TRANSACTION`, and with `session` what transactions begin with.
    fn set_transaction(
        &mut self,
        modes: &[ast::TransactionMode],
        session: bool,
    ) -> Result<Outcome> {
        if !session && self.transaction.is_none() {
            return Ok(warned("SET", &only_inside("SET TRANSACTION")));
        }
        if !session {
            self.set_modes(modes)?;
            return Ok(done("SET"));
        }
        check_modes(modes)?;
        let mut settings = self.settings.clone();
        for mode in modes {
            let ast::TransactionMode::AccessMode(access) = mode else { continue };
            let value = match access {
                ast::TransactionAccessMode::ReadOnly => "on",
                ast::TransactionAccessMode::ReadWrite => "off",
            };
            settings.set("default_transaction_read_only", value)?;
            if let Some(open) = &mut self.transaction {
                open.after.set("default_transaction_read_only", value)?;
            }
        }
        self.settings = settings;
        Ok(done("SET"))
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

fn set_one(settings: &mut Settings, set: &ast::Set) -> Result<()> {
    match set {
        ast::Set::SingleAssignment { scope, variable, values, .. } => {
            if *scope == Some(ast::ContextModifier::Global) {
                return Err(EngineError::unsupported("SET GLOBAL"));
            }
            let name = variable.to_string();
            let words: Result<Vec<String>> = values.iter().map(setting_text).collect();
            let value = words?.join(", ");
            if values.len() == 1 && value.eq_ignore_ascii_case("default") {
                settings.reset(&name)?;
            } else {
                settings.set(&name, &value)?;
            }
        }
        ast::Set::SetTimeZone { value, .. } => {
            let value = setting_text(value)?;
            if value.eq_ignore_ascii_case("default") || value.eq_ignore_ascii_case("local") {
                settings.reset("TimeZone")?;
            } else {
                settings.set("TimeZone", &value)?;
            }
        }
        ast::Set::SetNames { charset_name, .. } => {
            settings.set("client_encoding", &charset_name.value)?;
        }
        other => return Err(EngineError::unsupported(format!("SET {other:.40}"))),
    }
    Ok(())
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
