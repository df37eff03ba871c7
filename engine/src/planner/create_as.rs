//! `CREATE TABLE ... AS query`: the table that the query's columns make, and the INSERT that fills it.

use arrow::datatypes::{DataType, Field};
use catalog::{ColumnType, Define, ItemType};
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{self, ColumnDef, CreateTable, Expr, Ident, Insert, Query};
use types::{Dim, SqlState};
use udfs::vector_shape;

use super::define::define;
use crate::error::{EngineError, Result};
use crate::query::{Planner, named_schema, require_select};
use crate::sql::create_tokens::UNTYPED;
use crate::sql::stored::parse_expression;
use crate::sql::types::{DIMENSION_KEY, fold, last_part};
use crate::values::pg_name;

/// What the statement does.
#[derive(Debug)]
pub(crate) struct CreateAs {
    /// Nothing when the table is there already, and may be.
    pub(crate) define: Option<Define>,
    pub(crate) insert: ast::Statement,
    pub(crate) notice: Option<String>,
}

/// Plans the statement at the planner's read view.
pub(crate) async fn plan_create_as(planner: &Planner, create: &CreateTable) -> Result<CreateAs> {
    let Some(query) = create.query.as_deref() else {
        return Err(EngineError::bug("a table of no query"));
    };
    require_select(query)?;
    let state = planner.begin(None);
    let planned = planner.describe_here(state, query).await?;
    let schema = named_schema(query, &planned.analysed_schema());
    let names: Vec<Ident> = create.columns.iter().map(|column| column.name.clone()).collect();
    if let Some(typed) = create.columns.iter().find(|column| !is_untyped(&column.data_type)) {
        return Err(EngineError::syntax(format!("a type of column {} beside AS", typed.name)));
    }
    if names.len() > schema.fields().len() {
        return Err(EngineError::syntax("too many column names were specified"));
    }
    let mut columns: Vec<ColumnDef> = Vec::with_capacity(schema.fields().len());
    for (at, field) in schema.fields().iter().enumerate() {
        let own = || Ident::with_quote('"', field.name());
        let name = names.get(at).cloned().unwrap_or_else(own);
        if columns.iter().any(|known| fold(&known.name) == fold(&name)) {
            let message = format!("column \"{}\" specified more than once", fold(&name));
            return Err(EngineError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        columns.push(ColumnDef { name, data_type: written_type(field)?, options: Vec::new() });
    }
    let table = CreateTable { query: None, columns, ..create.clone() };
    let view = planner.scope.view();
    let table = ast::Statement::CreateTable(table);
    let change = define(&view, &planner.settings.default_schema(), &table)?;
    let change = change.ok_or_else(|| EngineError::bug("a table that is not defined"))?;
    let insert = ast::Statement::Insert(insert(create.name.clone(), query.clone()));
    Ok(CreateAs { define: change.defines.into_iter().next(), insert, notice: change.notice })
}

fn is_untyped(data_type: &ast::DataType) -> bool {
    matches!(data_type, ast::DataType::Custom(name, _) if last_part(name) == UNTYPED)
}

/// The type that a table's column of the values of a result's would have.
pub(super) fn column_type_required(field: &Field) -> Result<ColumnType> {
    column_type_of(field).ok_or_else(|| {
        let (name, of) = (field.name(), pg_name(field.data_type()));
        EngineError::unsupported(format!("a column \"{name}\" of type {of}"))
            .with_hint("Cast it to a type that a table can have.")
    })
}

/// The same as a statement would give it.
fn written_type(field: &Field) -> Result<ast::DataType> {
    let column_type = column_type_required(field)?;
    match parse_expression(&format!("NULL::{}", column_type.sql_name()))? {
        Expr::Cast { data_type, .. } => Ok(data_type),
        _ => Err(EngineError::bug("a type that is not read again")),
    }
}

fn column_type_of(field: &Field) -> Option<ColumnType> {
    if let Some((kind, dim)) = vector_shape(field.data_type()) {
        let told = field.metadata().get(DIMENSION_KEY).and_then(|dim| dim.parse().ok());
        let dim = told.unwrap_or(u32::try_from(dim).ok()?);
        return (dim > 0).then(|| ColumnType::of_vector(kind, Dim(dim)));
    }
    Some(match field.data_type() {
        DataType::Boolean => ColumnType::Boolean,
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => ColumnType::Int2,
        DataType::UInt16 | DataType::Int32 => ColumnType::Int4,
        DataType::UInt32 | DataType::Int64 => ColumnType::Int8,
        DataType::Float16 | DataType::Float32 => ColumnType::Float4,
        DataType::Float64 => ColumnType::Float8,
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            ColumnType::Text
        }
        DataType::Decimal128(precision, scale) => {
            ColumnType::Numeric { precision: *precision, scale: u8::try_from(*scale).ok()? }
        }
        DataType::FixedSizeBinary(16) => ColumnType::Uuid,
        DataType::Time32(_) | DataType::Time64(_) => ColumnType::Time,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => ColumnType::Bytea,
        DataType::Date32 | DataType::Date64 => ColumnType::Date,
        DataType::Timestamp(_, None) => ColumnType::Timestamp,
        DataType::Timestamp(_, Some(_)) => ColumnType::TimestampTz,
        DataType::Interval(_) | DataType::Duration(_) => ColumnType::Interval,
        DataType::List(item) | DataType::LargeList(item) => {
            ColumnType::Array(ItemType::of(column_type_of(item)?)?)
        }
        _ => return None,
    })
}

/// `INSERT INTO name query`
fn insert(name: ast::ObjectName, query: Query) -> Insert {
    Insert {
        insert_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        or: None,
        ignore: false,
        into: true,
        table: ast::TableObject::TableName(name),
        table_alias: None,
        columns: Vec::new(),
        overwrite: false,
        source: Some(Box::new(query)),
        assignments: Vec::new(),
        partitioned: None,
        after_columns: Vec::new(),
        has_table_keyword: false,
        on: None,
        returning: None,
        output: None,
        replace_into: false,
        priority: None,
        insert_alias: None,
        settings: None,
        format_clause: None,
        multi_table_insert_type: None,
        multi_table_into_clauses: Vec::new(),
        multi_table_when_clauses: Vec::new(),
        multi_table_else_clause: None,
    }
}
