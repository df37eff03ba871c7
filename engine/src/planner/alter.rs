//! `ALTER TABLE`: each of its operations to a change of the catalog, checked against the rows that are
//! there.

use std::ops::ControlFlow;

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use catalog::{
    Alteration, Check, Collection, Column, ColumnDefault, ColumnType, Define, Numbered,
    SequenceOptions,
};
use datafusion::sql::sqlparser::ast::{
    self, AlterColumnOperation, AlterTable, AlterTableOperation, Expr, Ident, RenameTableNameKind,
    SelectItem, TableConstraint, Value, VisitMut as _, VisitorMut,
};
use storage::memtable::{Table, missing_as, missing_to_text};
use types::{Coded as _, CommitTs, RowId, SqlState};

use super::changes::{joined, query_of, table_factor, table_name};
use super::columns::{TableParts, check_default, columns_of};
use super::define::target;
use super::retention::retention;
use super::rules::{check_column_default, computed, default_value};
use super::sorted_index::Wanted;
use crate::error::{EngineError, Result};
use crate::provider::DATABASE;
use crate::query::Planner;
use crate::sql::rewrite::call;
use crate::sql::stored::parse_expression;
use crate::sql::stored::{read_expression, write_expression};
use crate::sql::types::{column_type_required, fold, last_part};

/// What an operation comes to.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) define: Option<Define>,
    /// The UPDATE that gives the rows values of a new column.
    pub(crate) fill: Option<ast::Statement>,
    /// Operations that come next.
    pub(crate) then: Vec<AlterTableOperation>,
    /// What the client is told.
    pub(crate) notice: Option<String>,
}

impl Step {
    pub(super) fn nothing(notice: String) -> Self {
        Self { notice: Some(notice), ..Self::default() }
    }
}

/// A table as the statement finds it.
pub(super) struct Altered<'a> {
    pub(super) planner: &'a Planner,
    pub(super) collection: &'a Collection,
    pub(super) schema: &'a str,
    table: &'a Table,
    pub(super) at: CommitTs,
}

/// Refuses what no operation of the statement may have; whether there is no table to alter, with what
/// is to be said then.
pub(crate) fn altered_table(planner: &Planner, alter: &AlterTable) -> Result<Option<String>> {
    EngineError::refuse_present(&[
        (alter.only, "ALTER TABLE ONLY"),
        (alter.location.is_some() || alter.on_cluster.is_some(), "this clause of ALTER TABLE"),
        (alter.table_type.is_some(), "this kind of table"),
    ])?;
    planner.begin(None);
    let view = planner.scope.view();
    match target(&view, &planner.settings.default_schema(), &alter.name) {
        Err(error) if alter.if_exists && error.sql_state() == SqlState::UNDEFINED_TABLE => {
            let name = last_part(&alter.name);
            Ok(Some(format!("relation \"{name}\" does not exist, skipping")))
        }
        Err(error) => Err(error),
        Ok(_) => Ok(None),
    }
}

/// One change of a table.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    /// Of `ALTER TABLE`.
    Alter(Box<AlterTableOperation>),
    /// `CREATE INDEX` of a sorted index.
    Index(Box<ast::CreateIndex>),
}

/// Plans one change, at the planner's read view.
pub(crate) async fn plan_alteration(
    planner: &Planner,
    name: &ast::ObjectName,
    operation: &Operation,
) -> Result<Step> {
    planner.begin(None);
    let view = planner.scope.view();
    let collection = target(&view, &planner.settings.default_schema(), name)?;
    let schema = view.catalog().namespace_by_id(collection.schema);
    let (Some(schema), Some(table)) = (schema, view.table(collection.id)) else {
        return Err(EngineError::no_table(&collection.name));
    };
    let (schema, at) = (schema.name.as_str(), view.at());
    let altered = Altered { planner, collection, schema, table, at };
    let operation = match operation {
        Operation::Alter(operation) => &**operation,
        Operation::Index(create) => return altered.create_index(create).await,
    };
    match operation {
        AlterTableOperation::SetOptionsParens { options } => {
            let retention = retention(options)?;
            let define = Define::SetRetention { id: collection.id, retention };
            Ok(Step { define: Some(define), ..Step::default() })
        }
        AlterTableOperation::AddColumn {
            column_def, if_not_exists, column_position: None, ..
        } => altered.add_column(column_def, *if_not_exists).await,
        AlterTableOperation::DropColumn { column_names, if_exists, .. } => {
            altered.drop_columns(column_names, *if_exists)
        }
        AlterTableOperation::RenameColumn { old_column_name, new_column_name } => {
            altered.rename_column(old_column_name, new_column_name)
        }
        AlterTableOperation::RenameTable {
            table_name: RenameTableNameKind::To(name) | RenameTableNameKind::As(name),
        } => {
            if name.0.len() != 1 {
                return Err(EngineError::syntax("a table keeps its schema"));
            }
            Ok(altered.one(Alteration::Rename { name: last_part(name) }, None))
        }
        AlterTableOperation::AlterColumn { column_name, op } => {
            altered.alter_column(column_name, op).await
        }
        AlterTableOperation::AddConstraint {
            constraint: TableConstraint::Check(check),
            not_valid: false,
        } if check.enforced.is_none() => {
            altered.add_check(check.name.as_ref().map(fold), &check.expr).await
        }
        AlterTableOperation::AddConstraint {
            constraint: TableConstraint::Unique(unique),
            not_valid: false,
        } => altered.add_unique(unique).await,
        AlterTableOperation::RenameConstraint { old_name, new_name } => {
            altered.rename_constraint(&fold(old_name), fold(new_name))
        }
        AlterTableOperation::DropConstraint { if_exists, name, .. } => {
            altered.drop_constraint(&fold(name), *if_exists)
        }
        other => {
            let words: Vec<String> =
                other.to_string().split_whitespace().take(3).map(str::to_owned).collect();
            Err(EngineError::unsupported(format!("ALTER TABLE ... {}", words.join(" "))))
        }
    }
}

impl Altered<'_> {
    /// A step that changes the catalog alone. `rows` are what [`Altered::checked_rows`] gave when all
    /// rows were looked at.
    pub(super) fn one(&self, change: Alteration, rows: Option<RowId>) -> Step {
        let (table, version) = (self.collection.id, self.collection.version);
        let define = Some(Define::Alter { table, version, rows, change });
        Step { define, ..Step::default() }
    }

    /// The rows that a check of all rows looks at.
    pub(super) fn checked_rows(&self) -> Option<RowId> {
        Some(self.table.next_row_at(self.at))
    }

    pub(super) fn position(&self, column: &Ident) -> Result<usize> {
        let name = fold(column);
        let position = self.collection.column_position(&name);
        position.ok_or_else(|| EngineError::no_column(&name, &self.collection.name))
    }

    /// How many rows a condition is true for.
    async fn count(&self, condition: Expr) -> Result<i64> {
        let alias = Ident::with_quote('"', &self.collection.name);
        let name = table_name(DATABASE, self.schema, &self.collection.name);
        let one = Expr::value(Value::Number("1".to_owned(), false));
        let items = vec![SelectItem::UnnamedExpr(call("count", vec![one]))];
        let query = query_of(items, joined(table_factor(name, alias), &[]), Some(condition));
        let state = self.planner.begin(None);
        let counted = computed(self.planner, &state, &query).await?;
        let counts = counted.column(0).as_primitive_opt::<Int64Type>();
        let count = counts.and_then(|counts| counts.iter().next().flatten());
        count.ok_or_else(|| EngineError::bug("a count that is no number"))
    }

    async fn add_column(&self, column: &ast::ColumnDef, if_not_exists: bool) -> Result<Step> {
        let (name, table) = (fold(&column.name), &self.collection.name);
        if self.collection.column_position(&name).is_some() {
            let taken = column_exists(&name, table);
            if if_not_exists {
                return Ok(Step::nothing(format!("{taken}, skipping")));
            }
            return Err(taken);
        }
        let mut parts =
            TableParts { columns: self.collection.columns.clone(), ..TableParts::default() };
        let mut conditions = Vec::new();
        if parts.column(column, &mut conditions)? {
            return Err(EngineError::unsupported("ADD COLUMN ... PRIMARY KEY"));
        }
        parts.check_width()?;
        let uniques = std::mem::take(&mut parts.uniques);
        let checks = conditions.into_iter().map(|(name, expr)| added_check(name, expr));
        let mut then: Vec<AlterTableOperation> = checks.collect();
        then.extend(uniques.into_iter().map(|wanted| added_unique(wanted, &column.name)));
        let (Some(mut column), sequence) = (parts.columns.pop(), parts.sequences.pop()) else {
            return Err(EngineError::bug("a column that was not added"));
        };
        check_column_default(self.planner, &column).await?;
        let is_empty = self.table.rows().count_visible(self.at) == 0;
        let of_type = storage::memtable::arrow_type(column.column_type);
        let value = match &column.default {
            Some(ColumnDefault::Expression(text)) => {
                default_value(self.planner, &column, text).await?
            }
            Some(ColumnDefault::Sequence { .. }) => None,
            None => Some(arrow::array::new_null_array(&of_type, 1)),
        };
        let (mut missing, mut fill, mut looked) = (None, None, !column.nullable);
        match value {
            Some(value) if value.is_null(0) => {
                if !column.nullable && !is_empty {
                    return Err(contains_null(&column.name, table));
                }
            }
            // An index would not find vectors that are not with the rows.
            Some(value) if column.column_type.vector().is_none() => {
                missing = Some(missing_to_text(&value)?);
            }
            _ => {
                looked = true;
                fill = (!is_empty).then(|| self.fill(&column.name));
                if fill.is_some() && !column.nullable {
                    // Not before the rows have values.
                    column.nullable = true;
                    let op = AlterColumnOperation::SetNotNull;
                    let column_name = Ident::with_quote('"', &column.name);
                    then.insert(0, AlterTableOperation::AlterColumn { column_name, op });
                }
            }
        }
        // Rows that came meanwhile would not be filled, nor have been looked at.
        let rows = if looked { self.checked_rows() } else { None };
        let step = self.one(Alteration::AddColumn { column, missing, sequence }, rows);
        Ok(Step { fill, then, ..step })
    }

    /// `UPDATE table SET column = DEFAULT`
    fn fill(&self, column: &str) -> ast::Statement {
        let quoted = |name: &str| Ident::with_quote('"', name);
        let relation = table_factor(
            ast::ObjectName::from(vec![quoted(self.schema), quoted(&self.collection.name)]),
            quoted(&self.collection.name),
        );
        let assignment = ast::Assignment {
            target: ast::AssignmentTarget::ColumnName(ast::ObjectName::from(vec![quoted(column)])),
            value: Expr::Identifier(Ident::new("default")),
        };
        ast::Statement::Update(ast::Update {
            update_token: ast::helpers::attached_token::AttachedToken::empty(),
            optimizer_hints: Vec::new(),
            table: ast::TableWithJoins { relation, joins: Vec::new() },
            assignments: vec![assignment],
            from: None,
            selection: None,
            returning: None,
            output: None,
            or: None,
            order_by: Vec::new(),
            limit: None,
        })
    }

    fn drop_columns(&self, columns: &[Ident], if_exists: bool) -> Result<Step> {
        let [column] = columns else {
            let one = |name: &Ident| AlterTableOperation::DropColumn {
                has_column_keyword: true,
                column_names: vec![name.clone()],
                if_exists,
                drop_behavior: None,
            };
            return Ok(Step { then: columns.iter().map(one).collect(), ..Step::default() });
        };
        let (name, table) = (fold(column), &self.collection.name);
        let Some(position) = self.collection.column_position(&name) else {
            let message = format!("column \"{name}\" of relation \"{table}\" does not exist");
            if if_exists {
                return Ok(Step::nothing(format!("{message}, skipping")));
            }
            return Err(EngineError::new(SqlState::UNDEFINED_COLUMN, message));
        };
        if self.collection.primary_key.contains(&position) {
            return Err(EngineError::unsupported("dropping a column of the primary key"));
        }
        if self.collection.columns.len() == 1 {
            return Err(EngineError::unsupported("a table without columns"));
        }
        let mut checks = Vec::new();
        for check in &self.collection.checks {
            if columns_of(&parse_expression(&check.expression)?)?.contains(&name) {
                checks.push(check.name.clone());
            }
        }
        let column = self.collection.column_id(position);
        Ok(self.one(Alteration::DropColumn { column, checks }, None))
    }

    fn rename_column(&self, from: &Ident, to: &Ident) -> Result<Step> {
        let (position, name) = (self.position(from)?, fold(to));
        let others =
            TableParts { columns: self.collection.columns.clone(), ..TableParts::default() };
        if self.collection.column_position(&name).is_some() {
            return Err(column_exists(&name, &self.collection.name));
        }
        let name = others.new_name(to)?;
        let plain = Expr::Identifier(Ident::new(&name));
        let is_plain = parse_expression(&name).is_ok_and(|parsed| parsed == plain);
        let to = if is_plain { Ident::new(&name) } else { Ident::with_quote('"', &name) };
        let mut renamer = Renamer { from: fold(from), to };
        let mut checks = Vec::with_capacity(self.collection.checks.len());
        for check in &self.collection.checks {
            let mut expr = parse_expression(&check.expression)?;
            let _ = expr.visit(&mut renamer);
            checks.push(Check { expression: write_expression(&expr)?, ..check.clone() });
        }
        let column = self.collection.column_id(position);
        Ok(self.one(Alteration::RenameColumn { column, name, checks }, None))
    }

    async fn alter_column(&self, name: &Ident, operation: &AlterColumnOperation) -> Result<Step> {
        let position = self.position(name)?;
        let (column, id) =
            (&self.collection.columns[position], self.collection.column_id(position));
        let table = &self.collection.name;
        let is_key = self.collection.primary_key.contains(&position);
        match operation {
            AlterColumnOperation::SetNotNull => {
                let own = Expr::Identifier(Ident::with_quote('"', &column.name));
                if self.count(Expr::IsNull(Box::new(own))).await? > 0 {
                    return Err(contains_null(&column.name, table));
                }
                let change = Alteration::SetNullable { column: id, nullable: false };
                Ok(self.one(change, self.checked_rows()))
            }
            AlterColumnOperation::DropNotNull if is_key => {
                let message = format!("column \"{}\" is in a primary key", column.name);
                Err(EngineError::new(SqlState::INVALID_TABLE_DEFINITION, message))
            }
            AlterColumnOperation::DropNotNull | AlterColumnOperation::DropDefault
                if is_identity(column) =>
            {
                Err(numbers_itself(&column.name, table))
            }
            AlterColumnOperation::DropNotNull => {
                Ok(self.one(Alteration::SetNullable { column: id, nullable: true }, None))
            }
            AlterColumnOperation::DropDefault => {
                Ok(self.one(Alteration::SetDefault { column: id, default: None }, None))
            }
            AlterColumnOperation::SetDefault { value } => self.set_default(column, id, value).await,
            AlterColumnOperation::SetDataType { data_type, using: None, .. } => {
                self.set_type((column, id, is_key), column_type_required(data_type)?)
            }
            AlterColumnOperation::SetDataType { .. } => Err(EngineError::unsupported("USING")
                .with_hint("Add a column of the new type, UPDATE it, drop the old one, rename.")),
            AlterColumnOperation::AddGenerated { .. } => {
                Err(EngineError::unsupported("ALTER COLUMN ... ADD GENERATED"))
            }
        }
    }

    async fn set_default(&self, column: &Column, id: usize, value: &Expr) -> Result<Step> {
        if is_identity(column) {
            return Err(numbers_itself(&column.name, &self.collection.name));
        }
        check_default(value)?;
        let text = write_expression(value)?;
        let default = Some(ColumnDefault::Expression(text.clone()));
        check_column_default(self.planner, &Column { default, ..column.clone() }).await?;
        Ok(self.one(Alteration::SetDefault { column: id, default: Some(text) }, None))
    }

    fn set_type(
        &self,
        (column, id, is_key): (&Column, usize, bool),
        to: ColumnType,
    ) -> Result<Step> {
        let from = column.column_type;
        let same_bytes = storage::memtable::arrow_type(from) == storage::memtable::arrow_type(to);
        let mut checked = false;
        for check in &self.collection.checks {
            checked |= columns_of(&parse_expression(&check.expression)?)?.contains(&column.name);
        }
        if checked && !same_bytes {
            let message = format!("another type for column \"{}\" with a check", column.name);
            return Err(EngineError::unsupported(message)
                .with_hint("Drop the constraint, change the type, add the constraint again."));
        }
        if column.sequence().is_some() && SequenceOptions::bounds(to).is_none() {
            let message = "identity column type must be smallint, integer, or bigint";
            return Err(EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
        if !holds(from, to) || (is_key && !same_bytes) {
            let (from, to) = (from.sql_name(), to.sql_name());
            let what = if is_key { " of a key" } else { "" };
            let message = format!("changing a column{what} from {from} to {to}");
            return Err(EngineError::unsupported(message).with_hint(
                "A type may become one that holds all its values. Else add a column, UPDATE it, \
                 drop the old one, rename.",
            ));
        }
        let missing = self.collection.missing(id);
        let missing = missing.map(|text| missing_as(text, from, to)).transpose()?;
        Ok(self.one(Alteration::SetType { column: id, column_type: to, missing }, None))
    }

    async fn add_check(&self, name: Option<String>, condition: &Expr) -> Result<Step> {
        let parts = TableParts {
            columns: self.collection.columns.clone(),
            checks: self.collection.checks.clone(),
            ..TableParts::default()
        };
        let check = parts.check(&self.collection.name, name, condition)?;
        if check.name == self.collection.primary_key_name() {
            let (name, table) = (&check.name, &self.collection.name);
            let message = format!("constraint \"{name}\" for relation \"{table}\" already exists");
            return Err(EngineError::new(SqlState::DUPLICATE_OBJECT, message));
        }
        let expr = read_expression(&check.expression)?;
        let is_false = Expr::IsFalse(Box::new(Expr::Nested(Box::new(expr))));
        if self.count(is_false).await? > 0 {
            let message = format!(
                "check constraint \"{}\" of relation \"{}\" is violated by some row",
                check.name, self.collection.name
            );
            return Err(EngineError::new(SqlState::CHECK_VIOLATION, message));
        }
        Ok(self.one(Alteration::AddCheck { check }, self.checked_rows()))
    }

    fn rename_constraint(&self, from: &str, to: String) -> Result<Step> {
        if self.collection.keys().any(|key| key.constraint && key.name == from) {
            return Ok(self.one(Alteration::RenameKey { from: from.to_owned(), to }, None));
        }
        if self.collection.checks.iter().any(|check| check.name == from) {
            return Err(EngineError::unsupported("renaming a check constraint"));
        }
        Err(self.no_constraint(from))
    }

    fn no_constraint(&self, name: &str) -> EngineError {
        let table = &self.collection.name;
        let message = format!("constraint \"{name}\" of relation \"{table}\" does not exist");
        EngineError::new(SqlState::UNDEFINED_OBJECT, message)
    }

    fn drop_constraint(&self, name: &str, if_exists: bool) -> Result<Step> {
        if self.collection.checks.iter().any(|check| check.name == *name) {
            return Ok(self.one(Alteration::DropCheck { name: name.to_owned() }, None));
        }
        match self.collection.keys().find(|key| key.constraint && key.name == name) {
            Some(key) if key.primary => {
                return Err(EngineError::unsupported("dropping a primary key"));
            }
            Some(_) => {
                return Ok(self.one(Alteration::DropSorted { name: name.to_owned() }, None));
            }
            None => {}
        }
        let none = self.no_constraint(name);
        if if_exists { Ok(Step::nothing(format!("{none}, skipping"))) } else { Err(none) }
    }
}

fn is_identity(column: &Column) -> bool {
    column.sequence().is_some_and(|(_, how)| how != Numbered::Serial)
}

fn column_exists(column: &str, table: &str) -> EngineError {
    let message = format!("column \"{column}\" of relation \"{table}\" already exists");
    EngineError::new(SqlState::DUPLICATE_COLUMN, message)
}

fn numbers_itself(column: &str, table: &str) -> EngineError {
    let message = format!("column \"{column}\" of relation \"{table}\" is an identity column");
    EngineError::syntax(message)
}

fn contains_null(column: &str, table: &str) -> EngineError {
    let message = format!("column \"{column}\" of relation \"{table}\" contains null values");
    EngineError::new(SqlState::NOT_NULL_VIOLATION, message)
}

fn added_check(name: Option<String>, expr: &Expr) -> AlterTableOperation {
    let check = ast::CheckConstraint {
        name: name.map(|name| Ident::with_quote('"', name)),
        expr: Box::new(expr.clone()),
        enforced: None,
    };
    AlterTableOperation::AddConstraint {
        constraint: TableConstraint::Check(check),
        not_valid: false,
    }
}

fn added_unique(wanted: Wanted, column: &Ident) -> AlterTableOperation {
    let unique = ast::UniqueConstraint {
        name: wanted.name.map(|name| Ident::with_quote('"', name)),
        index_name: None,
        index_type_display: ast::KeyOrIndexDisplay::None,
        index_type: None,
        columns: vec![ast::IndexColumn::from(column.clone())],
        index_options: Vec::new(),
        characteristics: None,
        nulls_distinct: ast::NullsDistinctOption::None,
    };
    AlterTableOperation::AddConstraint {
        constraint: TableConstraint::Unique(unique),
        not_valid: false,
    }
}

/// Whether every value of a type is one of another, and stays what it is.
fn holds(from: ColumnType, to: ColumnType) -> bool {
    use ColumnType::{
        Date, Float4, Float8, Int2, Int4, Int8, Numeric, Text, Timestamp, Varchar, VarcharN,
    };
    /// Digits of the largest value of an integer type.
    fn digits(integer: ColumnType) -> Option<u8> {
        match integer {
            Int2 => Some(5),
            Int4 => Some(10),
            Int8 => Some(19),
            _ => None,
        }
    }
    match (from, to) {
        (Int2, Int4 | Int8)
        | (Int4, Int8)
        | (Int2 | Int4 | Float4, Float8)
        | (Varchar | VarcharN(_) | Text, Varchar | Text)
        | (Date, Timestamp) => true,
        (VarcharN(from), VarcharN(to)) => from <= to,
        (Numeric { precision, scale }, Numeric { precision: wider, scale: finer }) => {
            finer >= scale && wider - finer >= precision - scale
        }
        (integer, Numeric { precision, scale }) => {
            digits(integer).is_some_and(|digits| precision - scale >= digits)
        }
        _ => from == to,
    }
}

/// Puts another name in the place of a column's.
struct Renamer {
    from: String,
    to: Ident,
}

impl VisitorMut for Renamer {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let name = match expr {
            Expr::Identifier(name) => Some(name),
            Expr::CompoundIdentifier(parts) => parts.last_mut(),
            _ => None,
        };
        if let Some(name) = name.filter(|name| fold(name) == self.from) {
            *name = self.to.clone();
        }
        ControlFlow::Continue(())
    }
}
