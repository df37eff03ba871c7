//! What a table says about its rows: values for columns that a statement leaves out, and conditions.
//!
//! Both are expressions that the catalog keeps as text. They are planned with the statement that needs
//! them, over rows in memory, so that they may call anything a query may.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use catalog::{Check, Collection, Column, ColumnDefault, ColumnType, Define, Numbered};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{self, Expr, Ident, Query, SelectItem, SetExpr, Value};
use storage::ReadView;
use storage::memtable::schema_of_columns;
use types::SqlState;
use udfs::{VectorBuilder, vector_shape};

use super::changes::{joined, query_of, table_factor, table_name};
use super::returning::check_row_by_row;
use super::write::{WriteBuilder, constant_column, default_word};
use crate::error::{EngineError, ErrorObject, Result};
use crate::pg_types::name_of_column;
use crate::provider::MEMORY_CATALOG;
use crate::query::Planner;
use crate::sql::rewrite::call;
use crate::sql::stored::read_expression;
use crate::sql::types::{cast, named_type};
use crate::value_text::texts;
use crate::values::scalar_from_text;

/// Names of rows among the tables in memory: those that lack values, and those that are checked.
const LACKING: &str = "lacking";
const CHECKED: &str = "checked";

/// The expression that stands for `DEFAULT`.
pub(crate) fn default_expression(column: &Column) -> Result<Expr> {
    match &column.default {
        None => Ok(Expr::value(Value::Null)),
        Some(ColumnDefault::Expression(text)) => Ok(Expr::Nested(Box::new(read_expression(text)?))),
        Some(ColumnDefault::Sequence { id, .. }) => {
            let id = Expr::value(Value::Number(id.to_string(), false));
            Ok(call("nextval", vec![id]))
        }
    }
}

/// The columns and rows of an INSERT's `VALUES`, without `DEFAULT`: a column that is nothing else is
/// left out, another `DEFAULT` becomes what it stands for.
pub(crate) fn without_defaults<'a>(
    collection: &Collection,
    positions: Vec<usize>,
    source: &'a Query,
) -> Result<(Vec<usize>, Cow<'a, Query>)> {
    let SetExpr::Values(values) = &*source.body else {
        for position in &positions {
            refuse_always(&collection.columns[*position])?;
        }
        return Ok((positions, Cow::Borrowed(source)));
    };
    let rows = &values.rows;
    let is_default =
        |at: usize, row: &ast::Parens<Vec<Expr>>| row.content.get(at).is_some_and(default_word);
    let mut left_out = vec![false; positions.len()];
    for (at, position) in positions.iter().enumerate() {
        left_out[at] = rows.iter().all(|row| is_default(at, row));
        if !left_out[at] {
            refuse_always(&collection.columns[*position])?;
        }
    }
    let any = (0..positions.len()).any(|at| rows.iter().any(|row| is_default(at, row)));
    let typed: Vec<usize> = typed_columns(collection, &positions, rows);
    if !any && typed.is_empty() {
        return Ok((positions, Cow::Borrowed(source)));
    }
    let mut source = source.clone();
    let SetExpr::Values(values) = &mut *source.body else {
        return Err(EngineError::bug("VALUES are no more"));
    };
    for row in &mut values.rows {
        for (at, cell) in row.content.iter_mut().enumerate() {
            if default_word(cell)
                && let Some(position) = positions.get(at)
            {
                *cell = default_expression(&collection.columns[*position])?;
            }
            if typed.contains(&at) && is_text(cell) {
                let column_type = collection.columns[positions[at]].column_type;
                let name = match column_type {
                    ColumnType::Array(item) => format!("{}[]", name_of_column(item.column_type())),
                    other => name_of_column(other).to_owned(),
                };
                *cell = cast(cell.clone(), named_type(&name, Vec::new()));
            }
        }
        let mut at = 0..;
        row.content
            .retain(|_| at.next().is_none_or(|at| !left_out.get(at).is_some_and(|out| *out)));
    }
    let kept = positions.into_iter().zip(left_out).filter(|(_, out)| !out);
    Ok((kept.map(|(position, _)| position).collect(), Cow::Owned(source)))
}

fn is_text(cell: &Expr) -> bool {
    match cell {
        Expr::Nested(inner) => is_text(inner),
        Expr::Value(value) => matches!(value.value, Value::SingleQuotedString(_)),
        _ => false,
    }
}

/// Columns of intervals and arrays of which some rows give text and others an expression: a plan wants
/// one type of all.
fn typed_columns(
    collection: &Collection,
    positions: &[usize],
    rows: &[ast::Parens<Vec<Expr>>],
) -> Vec<usize> {
    let is_typed = |at: &usize| {
        let column_type = collection.columns[positions[*at]].column_type;
        let of_type = matches!(column_type, ColumnType::Interval | ColumnType::Array(_));
        of_type && rows.iter().any(|row| row.content.get(*at).is_some_and(|cell| !is_text(cell)))
    };
    (0..positions.len()).filter(is_typed).collect()
}

/// Refuses a value for a column that takes those of its sequence alone.
pub(crate) fn refuse_always(column: &Column) -> Result<()> {
    match column.sequence() {
        Some((_, Numbered::Always)) => {
            let name = &column.name;
            let message = format!("cannot insert a non-DEFAULT value into column \"{name}\"");
            let detail =
                format!("Column \"{name}\" is an identity column defined as GENERATED ALWAYS.");
            Err(EngineError::new(SqlState::GENERATED_ALWAYS, message).with_detail(detail))
        }
        _ => Ok(()),
    }
}

/// Adds `rows` rows to `builder`, whose columns stand at `positions` of the table; the others have
/// their defaults.
pub(crate) async fn begin_rows(
    planner: &Planner,
    state: &SessionState,
    collection: &Collection,
    (builder, positions): (&mut WriteBuilder, &[usize]),
    (mut columns, rows): (Vec<ArrayRef>, usize),
) -> Result<()> {
    let lacking: Vec<usize> = (0..collection.columns.len())
        .filter(|at| collection.columns[*at].default.is_some() && !positions.contains(at))
        .collect();
    if lacking.is_empty() || rows == 0 {
        return builder.begin(&columns, positions, rows);
    }
    let (mut positions, mut expressions) = (positions.to_vec(), Vec::new());
    for at in lacking {
        let column = &collection.columns[at];
        match &column.default {
            None => {}
            Some(ColumnDefault::Sequence { id, .. }) => {
                let view = planner.scope.view();
                let sequence = view.catalog().sequence_by_id(*id);
                let sequence =
                    sequence.ok_or_else(|| EngineError::bug("a column without its sequence"))?;
                let values = planner.scope.next_values(&view, sequence, rows)?;
                columns.push(Arc::new(Int64Array::from(values)));
                positions.push(at);
            }
            Some(ColumnDefault::Expression(text)) => {
                let expr = read_expression(text)?;
                match constant_column(&expr, column, rows) {
                    Some(constant) => {
                        columns.push(constant?);
                        positions.push(at);
                    }
                    None => expressions.push((at, expr)),
                }
            }
        }
    }
    if !expressions.is_empty() {
        let row: ArrayRef = Arc::new(Int64Array::from_value(0, rows));
        let schema = Schema::new(vec![Field::new("row", DataType::Int64, false)]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![row])?;
        planner.keep(state, LACKING, batch)?;
        let (places, items): (Vec<usize>, Vec<Expr>) = expressions.into_iter().unzip();
        let query = over_memory(LACKING, Ident::new(LACKING), items);
        let computed = computed(planner, state, &query).await?;
        columns.extend_from_slice(computed.columns());
        positions.extend(places);
    }
    builder.begin(&columns, &positions, rows)
}

/// `SELECT items FROM name AS alias`, of rows in memory; the columns are named by number.
fn over_memory(name: &str, alias: Ident, items: Vec<Expr>) -> Query {
    let item = |(at, expr)| SelectItem::ExprWithAlias {
        expr,
        alias: Ident::with_quote('"', format!("{at}")),
    };
    let items = items.into_iter().enumerate().map(item).collect();
    let from = table_factor(table_name(MEMORY_CATALOG, MEMORY_CATALOG, name), alias);
    query_of(items, joined(from, &[]), None)
}

pub(super) async fn computed(
    planner: &Planner,
    state: &SessionState,
    query: &Query,
) -> Result<RecordBatch> {
    let planned = planner.plan_here(state.clone(), query, &[]).await?;
    let physical = planned.physical().await?;
    Ok(concat_batches(&physical.schema(), &planned.collect().await?)?)
}

/// Values of expressions without columns, as the types of `fields`.
pub(crate) async fn constants(
    planner: &Planner,
    expressions: Vec<Expr>,
    fields: &[FieldRef],
) -> Result<Vec<ScalarValue>> {
    let item = |(at, expr)| SelectItem::ExprWithAlias {
        expr,
        alias: Ident::with_quote('"', format!("{at}")),
    };
    let items = expressions.into_iter().enumerate().map(item).collect();
    let state = planner.begin(None);
    let computed = computed(planner, &state, &query_of(items, Vec::new(), None)).await?;
    let value = |(column, field): (&ArrayRef, &FieldRef)| {
        let to = field.data_type();
        match ScalarValue::try_from_array(column, 0)? {
            value if value.data_type() == *to => Ok(value),
            ScalarValue::Utf8(Some(text)) => match vector_shape(to) {
                Some((kind, dim)) => Ok(VectorBuilder::literal(kind, dim, &text)?),
                None => scalar_from_text(to, &text),
            },
            value => Ok(value.cast_to(to)?),
        }
    };
    computed.columns().iter().zip(fields).map(value).collect()
}

/// The query whose columns are the conditions of a table, over rows in memory.
fn checking(checks: &[Check], table: &str) -> Result<Query> {
    let conditions = checks.iter().map(|check| read_expression(&check.expression));
    let conditions = conditions.collect::<Result<_>>()?;
    Ok(over_memory(CHECKED, Ident::with_quote('"', table), conditions))
}

/// Refuses rows that a condition is false for.
pub(crate) async fn check_rows(
    planner: &Planner,
    state: &SessionState,
    collection: &Collection,
    rows: &RecordBatch,
) -> Result<()> {
    if collection.checks.is_empty() || rows.num_rows() == 0 {
        return Ok(());
    }
    planner.keep(state, CHECKED, rows.clone())?;
    let query = checking(&collection.checks, &collection.name)?;
    let answers = computed(planner, state, &query).await?;
    let mut failed: Option<(usize, &Check)> = None;
    for (check, answer) in collection.checks.iter().zip(answers.columns()) {
        if *answer.data_type() == DataType::Null {
            continue;
        }
        let truth = answer.as_boolean_opt();
        let truth =
            truth.ok_or_else(|| EngineError::bug("a condition that is not true or false"))?;
        let is_false = |row: &usize| !truth.is_null(*row) && !truth.value(*row);
        let before = failed.map_or(truth.len(), |(row, _)| row);
        if let Some(row) = (0..before).find(is_false) {
            failed = Some((row, check));
        }
    }
    let Some((row, check)) = failed else { return Ok(()) };
    let message = format!(
        "new row for relation \"{}\" violates check constraint \"{}\"",
        collection.name, check.name
    );
    let constraint = Some(check.name.clone());
    Err(EngineError::new(SqlState::CHECK_VIOLATION, message)
        .with_detail(row_detail(rows, row))
        .about(ErrorObject { constraint, ..error_object(&planner.scope.view(), collection) }))
}

/// A value as PostgreSQL prints it.
pub(crate) fn shown(value: &ScalarValue) -> String {
    let text = value.to_array().map_err(EngineError::from).and_then(|array| texts(&array));
    text.map_or_else(|_| value.to_string(), |text| text.value(0).to_owned())
}

/// The table that an error is about.
pub(crate) fn error_object(view: &ReadView, collection: &Collection) -> ErrorObject {
    let schema = view.catalog().namespace_by_id(collection.schema);
    ErrorObject {
        schema: schema.map(|schema| schema.name.clone()).unwrap_or_default(),
        table: collection.name.clone(),
        ..ErrorObject::default()
    }
}

/// Characters of a value in the detail of an error, PostgreSQL's choice.
const SHOWN_MAX: usize = 64;

/// `Failing row contains (1, null, a).`
fn row_detail(rows: &RecordBatch, row: usize) -> String {
    let value = |column: &ArrayRef| match ScalarValue::try_from_array(column, row) {
        Ok(value) if value.is_null() => "null".to_owned(),
        Ok(value) => {
            let text = shown(&value);
            let cut: String = text.chars().take(SHOWN_MAX).collect();
            if cut.len() < text.len() { format!("{cut}...") } else { cut }
        }
        Err(_) => "?".to_owned(),
    };
    let values: Vec<String> = rows.columns().iter().map(value).collect();
    format!("Failing row contains ({}).", values.join(", "))
}

/// Refuses a default that cannot be planned.
pub(crate) async fn check_column_default(planner: &Planner, column: &Column) -> Result<()> {
    let Some(ColumnDefault::Expression(text)) = &column.default else { return Ok(()) };
    let expr = read_expression(text)?;
    if let Some(constant) = constant_column(&expr, column, 1) {
        return constant.map(drop);
    }
    let query = query_of(vec![SelectItem::UnnamedExpr(expr)], Vec::new(), None);
    let planned = planner.describe_here(planner.begin(None), &query).await?;
    check_row_by_row(&planned.plan, "DEFAULT expressions")?;
    let given = planned.plan.schema().field(0).data_type().clone();
    let empty = arrow::array::new_empty_array(&given);
    let assigned = crate::values::assign(&empty, column);
    assigned.map(drop).map_err(|error| {
        let of = column.column_type.sql_name();
        let message = format!(
            "column \"{}\" is of type {of} but default expression is of another type",
            column.name
        );
        error.with_message(message)
    })
}

/// What a default is in every row; `None` when it may be another in each.
pub(crate) async fn default_value(
    planner: &Planner,
    column: &Column,
    text: &str,
) -> Result<Option<ArrayRef>> {
    let expr = read_expression(text)?;
    if let Some(constant) = constant_column(&expr, column, 1) {
        return constant.map(Some);
    }
    let query = query_of(vec![SelectItem::UnnamedExpr(expr)], Vec::new(), None);
    let state = planner.begin(None);
    let planned = planner.describe_here(state.clone(), &query).await?;
    let mut volatile = false;
    planned.plan.apply_expressions(|expr| {
        volatile |= expr.is_volatile();
        Ok(TreeNodeRecursion::Continue)
    })?;
    if volatile {
        return Ok(None);
    }
    let value = computed(planner, &state, &query).await?;
    crate::values::assign(value.column(0), column).map(Some)
}

/// Refuses a table whose defaults and conditions cannot be planned.
pub(crate) async fn check_definition(planner: &Planner, define: &Define) -> Result<()> {
    let Define::CreateCollection { name, columns, checks, .. } = define else { return Ok(()) };
    for column in columns {
        check_column_default(planner, column).await?;
    }
    if checks.is_empty() {
        return Ok(());
    }
    let state = planner.begin(None);
    let schema: SchemaRef = schema_of_columns(columns);
    planner.keep(&state, CHECKED, RecordBatch::new_empty(schema))?;
    let planned = planner.describe_here(state, &checking(checks, name)?).await?;
    check_row_by_row(&planned.plan, "check constraints")?;
    for field in planned.plan.schema().fields() {
        if !matches!(field.data_type(), DataType::Boolean | DataType::Null) {
            let message = "argument of CHECK must be type boolean";
            return Err(EngineError::new(SqlState::DATATYPE_MISMATCH, message));
        }
    }
    Ok(())
}
