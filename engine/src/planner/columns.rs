//! The columns and constraints of `CREATE TABLE`.

use std::ops::ControlFlow;

use catalog::{Check, Column, ColumnDefault, ColumnType, Numbered, SequenceOptions};
use datafusion::sql::sqlparser::ast::{
    self, ColumnOption, CreateTable, Expr, GeneratedAs, Ident, IndexColumn, TableConstraint,
    Visit as _, VisitMut, Visitor, VisitorMut,
};
use types::SqlState;
use types::limits::{COLUMNS_MAX, IDENTIFIER_BYTES_MAX};

use super::sequences::sequence_options;
use super::sorted_index::{Wanted, check_key_type, check_sortable, refuse_options};
use super::write::default_word;
use crate::error::{EngineError, Result};
use crate::provider::ROW_ID;
use crate::sql::stored::write_expression;
use crate::sql::types::{column_type_required, fold, last_part};

/// What a table is made of.
#[derive(Debug, Default)]
pub(crate) struct TableParts {
    pub(crate) columns: Vec<Column>,
    pub(crate) primary_key: Vec<usize>,
    /// Name that the primary key was given.
    pub(crate) key_name: Option<String>,
    pub(crate) checks: Vec<Check>,
    /// `UNIQUE`, by position of the columns, in the order of the statement.
    pub(crate) uniques: Vec<Wanted>,
    /// Of the columns that have a sequence, in their order.
    pub(crate) sequences: Vec<SequenceOptions>,
}

/// Conditions before all of them have names.
type Conditions<'a> = Vec<(Option<String>, &'a Expr)>;

impl TableParts {
    pub(crate) fn of(create: &CreateTable) -> Result<Self> {
        let table = last_part(&create.name);
        let (mut parts, mut conditions) = (Self::default(), Conditions::new());
        let mut key: Option<Vec<usize>> = None;
        for definition in &create.columns {
            let is_key = parts.column(definition, &mut conditions)?;
            if is_key && key.replace(vec![parts.columns.len() - 1]).is_some() {
                return Err(two_keys(&table));
            }
        }
        for constraint in &create.constraints {
            match constraint {
                TableConstraint::PrimaryKey(primary) => {
                    parts.key_name = primary.name.as_ref().map(fold);
                    let columns = key_columns(primary, &parts.columns, &table)?;
                    if key.replace(columns).is_some() {
                        return Err(two_keys(&table));
                    }
                }
                TableConstraint::Check(check) => {
                    refuse_unenforced(check.enforced)?;
                    conditions.push((check.name.as_ref().map(fold), &check.expr));
                }
                TableConstraint::Unique(unique) => {
                    refuse_options(unique)?;
                    let columns = &parts.columns;
                    let position = |ident: &Ident| named_in_key(ident, columns);
                    let wanted =
                        Wanted::constraint(unique.name.as_ref(), &unique.columns, position)?;
                    parts.uniques.push(wanted);
                }
                TableConstraint::ForeignKey(_) => {
                    return Err(EngineError::unsupported("FOREIGN KEY"));
                }
                other => return Err(EngineError::unsupported(format!("{other}"))),
            }
        }
        parts.check_width()?;
        parts.primary_key = key.unwrap_or_default();
        for at in &parts.primary_key {
            parts.columns[*at].nullable = false;
            check_key_type(&parts.columns[*at])?;
        }
        for wanted in &parts.uniques {
            check_sortable(&parts.columns, wanted)?;
        }
        parts.one_of_each();
        for (name, condition) in conditions {
            let check = parts.check(&table, name, condition)?;
            parts.checks.push(check);
        }
        Ok(parts)
    }

    /// Leaves out constraints that say what another one does, as PostgreSQL does.
    fn one_of_each(&mut self) {
        let columns = |wanted: &Wanted| wanted.columns.iter().map(|c| c.column).collect();
        let mut seen: Vec<Vec<usize>> = vec![self.primary_key.clone()];
        self.uniques.retain(|wanted| {
            let columns = columns(wanted);
            let new = !seen.contains(&columns) || wanted.name.is_some();
            seen.push(columns);
            new
        });
    }

    pub(crate) fn check_width(&self) -> Result<()> {
        if self.columns.is_empty() || self.columns.len() > COLUMNS_MAX {
            let message = format!("a table has 1 to {COLUMNS_MAX} columns");
            return Err(EngineError::new(SqlState::INVALID_TABLE_DEFINITION, message));
        }
        Ok(())
    }

    /// The name of a column that no other has.
    pub(crate) fn new_name(&self, ident: &Ident) -> Result<String> {
        let name = fold(ident);
        if self.columns.iter().any(|column| column.name == name) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(EngineError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        if name == ROW_ID || name.len() > IDENTIFIER_BYTES_MAX || name.is_empty() {
            let message =
                format!("column name \"{name}\" is reserved, empty or longer than 63 bytes");
            return Err(EngineError::new(SqlState::INVALID_TABLE_DEFINITION, message));
        }
        Ok(name)
    }

    /// Adds a column; whether it is the primary key.
    pub(crate) fn column<'a>(
        &mut self,
        definition: &'a ast::ColumnDef,
        conditions: &mut Conditions<'a>,
    ) -> Result<bool> {
        let name = self.new_name(&definition.name)?;
        let serial = serial_type(&definition.data_type);
        let column_type = match serial {
            Some(column_type) => column_type,
            None => column_type_required(&definition.data_type)?,
        };
        let mut numbered =
            serial.map(|column_type| (Numbered::Serial, SequenceOptions::counting(column_type)));
        let (mut nullable, mut is_key, mut said_null) = (numbered.is_none(), false, false);
        let mut default = None;
        let twice = || {
            let message = format!("multiple default values specified for column \"{name}\"");
            EngineError::syntax(message)
        };
        for option in &definition.options {
            let named = option.name.as_ref();
            match &option.option {
                ColumnOption::Check(check) => {
                    refuse_unenforced(check.enforced)?;
                    let own = named.or(check.name.as_ref()).map(fold);
                    conditions.push((own, &check.expr));
                }
                ColumnOption::Null => said_null = true,
                ColumnOption::NotNull => nullable = false,
                ColumnOption::PrimaryKey(key) if key.characteristics.is_none() => {
                    is_key = true;
                    self.key_name = named.map(fold);
                }
                ColumnOption::PrimaryKey(_) => {
                    return Err(EngineError::unsupported("an option of a primary key"));
                }
                ColumnOption::Default(expr) => {
                    check_default(expr)?;
                    let text = write_expression(expr)?;
                    let before = default.replace(ColumnDefault::Expression(text));
                    if before.is_some() || numbered.is_some() {
                        return Err(twice());
                    }
                }
                ColumnOption::Generated { generation_expr: None, .. } => {
                    let identity = identity(&option.option, column_type)?;
                    if numbered.replace(identity).is_some() || default.is_some() {
                        return Err(twice());
                    }
                    nullable = false;
                }
                ColumnOption::Generated { .. } => {
                    return Err(EngineError::unsupported("a generated column"));
                }
                ColumnOption::Unique(unique) => {
                    self.uniques.push(Wanted::of_column(self.columns.len(), named, unique)?);
                }
                ColumnOption::ForeignKey(_) => return Err(EngineError::unsupported("REFERENCES")),
                other => return Err(EngineError::unsupported(other)),
            }
        }
        if said_null && (!nullable || is_key) {
            let message = format!("conflicting NULL/NOT NULL declarations for column \"{name}\"");
            return Err(EngineError::syntax(message));
        }
        if let Some((numbered, options)) = numbered {
            // The sequence has its id when the table has.
            default = Some(ColumnDefault::Sequence { id: types::SequenceId(0), numbered });
            self.sequences.push(options);
        }
        self.columns.push(Column { name, column_type, nullable, default });
        Ok(is_key)
    }

    /// A condition under the name it was given, or PostgreSQL's choice: table, column when there is
    /// only one, `check`, and a number when that is taken.
    pub(crate) fn check(
        &self,
        table: &str,
        name: Option<String>,
        condition: &Expr,
    ) -> Result<Check> {
        let found = References::of(condition)?;
        if found.subquery {
            let message = "cannot use subquery in check constraint";
            return Err(EngineError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
        }
        let mut columns = Vec::new();
        for column in found.columns {
            if !self.columns.iter().any(|known| known.name == column) {
                return Err(EngineError::no_column(&column, table));
            }
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        let base = match columns.as_slice() {
            [column] => format!("{table}_{column}_check"),
            _ => format!("{table}_check"),
        };
        let taken = |name: &String| self.checks.iter().any(|check| check.name == *name);
        let name = match name {
            Some(name) if taken(&name) => {
                let message =
                    format!("constraint \"{name}\" for relation \"{table}\" already exists");
                return Err(EngineError::new(SqlState::DUPLICATE_OBJECT, message));
            }
            Some(name) => name,
            None => {
                let numbered = (1_u32..).map(|number| format!("{base}{number}"));
                let free = std::iter::once(base.clone()).chain(numbered).find(|n| !taken(n));
                free.unwrap_or(base)
            }
        };
        // The table may get another name.
        let mut condition = condition.clone();
        let _ = VisitMut::visit(&mut condition, &mut Unqualified { table: table.to_owned() });
        Ok(Check { oid: 0, name, expression: write_expression(&condition)? })
    }
}

/// Takes the name of a table away from its columns.
struct Unqualified {
    table: String,
}

impl VisitorMut for Unqualified {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(parts) = expr
            && let [table, column] = parts.as_slice()
            && fold(table) == self.table
        {
            *expr = Expr::Identifier(column.clone());
        }
        ControlFlow::Continue(())
    }
}

fn two_keys(table: &str) -> EngineError {
    let message = format!("multiple primary keys for table \"{table}\" are not allowed");
    EngineError::new(SqlState::INVALID_TABLE_DEFINITION, message)
}

fn refuse_unenforced(enforced: Option<bool>) -> Result<()> {
    EngineError::refuse_present(&[(enforced.is_some(), "ENFORCED")])
}

/// How `GENERATED ... AS IDENTITY` numbers a column.
fn identity(option: &ColumnOption, column_type: ColumnType) -> Result<(Numbered, SequenceOptions)> {
    let ColumnOption::Generated { generated_as, sequence_options: given, .. } = option else {
        return Err(EngineError::bug("not an identity column"));
    };
    let how = match generated_as {
        GeneratedAs::Always => Numbered::Always,
        GeneratedAs::ByDefault => Numbered::ByDefault,
        GeneratedAs::ExpStored => return Err(EngineError::unsupported("a generated column")),
    };
    if SequenceOptions::bounds(column_type).is_none() {
        let message = "identity column type must be smallint, integer, or bigint";
        return Err(EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    Ok((how, sequence_options(column_type, given.as_deref().unwrap_or_default())?))
}

/// The type of a column that counts by itself.
fn serial_type(data_type: &ast::DataType) -> Option<ColumnType> {
    let ast::DataType::Custom(name, modifiers) = data_type else { return None };
    match last_part(name).as_str() {
        _ if !modifiers.is_empty() => None,
        "smallserial" | "serial2" => Some(ColumnType::Int2),
        "serial" | "serial4" => Some(ColumnType::Int4),
        "bigserial" | "serial8" => Some(ColumnType::Int8),
        _ => None,
    }
}

/// Columns and subqueries of an expression.
#[derive(Default)]
struct References {
    columns: Vec<String>,
    subquery: bool,
}

impl References {
    fn of(expr: &Expr) -> Result<Self> {
        let mut found = Self::default();
        match expr.visit(&mut found) {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) => Ok(found),
        }
    }
}

/// Names of the columns in an expression.
pub(crate) fn columns_of(expr: &Expr) -> Result<Vec<String>> {
    Ok(References::of(expr)?.columns)
}

impl Visitor for References {
    type Break = EngineError;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<EngineError> {
        match expr {
            Expr::Identifier(name) => self.columns.push(fold(name)),
            Expr::CompoundIdentifier(parts) => self.columns.extend(parts.last().map(fold)),
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
                self.subquery = true;
            }
            Expr::Value(value) => {
                if let ast::Value::Placeholder(name) = &value.value {
                    let message = format!("there is no parameter {name}");
                    let error = EngineError::new(SqlState::UNDEFINED_PARAMETER, message);
                    return ControlFlow::Break(error);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// A default is an expression of its own.
pub(crate) fn check_default(expr: &Expr) -> Result<()> {
    let found = References::of(expr)?;
    let what = if default_word(expr) {
        return Err(EngineError::syntax("DEFAULT is not allowed in this context"));
    } else if found.subquery {
        "subquery"
    } else if found.columns.is_empty() {
        return Ok(());
    } else {
        "column reference"
    };
    let message = format!("cannot use {what} in DEFAULT expression");
    Err(EngineError::new(SqlState::FEATURE_NOT_SUPPORTED, message))
}

fn key_columns(
    primary: &ast::PrimaryKeyConstraint,
    columns: &[Column],
    table: &str,
) -> Result<Vec<usize>> {
    let plain = |part: &IndexColumn| {
        part.column.options.asc.is_none() && part.column.options.nulls_first.is_none()
    };
    if primary.characteristics.is_some() || !primary.columns.iter().all(plain) {
        return Err(EngineError::unsupported("an option of a primary key"));
    }
    let mut positions = Vec::new();
    for part in &primary.columns {
        let Expr::Identifier(ident) = &part.column.expr else {
            return Err(EngineError::unsupported("an expression in a primary key"));
        };
        let position = position_of(ident, columns, table)?;
        if positions.contains(&position) {
            let name = fold(ident);
            let message = format!("column \"{name}\" appears twice in primary key constraint");
            return Err(EngineError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        positions.push(position);
    }
    Ok(positions)
}

fn named_in_key(ident: &Ident, columns: &[Column]) -> Result<usize> {
    let name = fold(ident);
    let position = columns.iter().position(|column| column.name == name);
    position.ok_or_else(|| {
        let message = format!("column \"{name}\" named in key does not exist");
        EngineError::new(SqlState::UNDEFINED_COLUMN, message)
    })
}

fn position_of(ident: &Ident, columns: &[Column], table: &str) -> Result<usize> {
    let name = fold(ident);
    let position = columns.iter().position(|column| column.name == name);
    position.ok_or_else(|| EngineError::no_column(&name, table))
}
