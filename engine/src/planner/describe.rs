//! Types of a statement's parameters, declared and inferred.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::logical_expr::Expr as LogicalExpr;
use datafusion::sql::sqlparser::ast::{
    self, Expr, Query, SetExpr, Value, VisitMut, visit_expressions_mut,
};

use types::limits::{NUMERIC_PRECISION_MAX, NUMERIC_SCALE_DEFAULT};

use super::plan_write::{Verb, Write};
use super::returning::check_row_by_row;
use super::write::InsertRows;
use crate::error::{EngineError, Result};
use crate::explain::Explain;
use crate::pg_types;
use crate::query::{Planned, Planner, named_schema, require_select};
use crate::sql::types::{cast, field_of, named_type, parameter_number};

/// Name of a declared type in SQL and its field; none when left open.
pub(crate) type Declared = Option<(&'static str, FieldRef)>;

/// Types of the ids that a client declared.
pub(crate) fn declared_types(declared: &[u32]) -> Result<Vec<Declared>> {
    let known = |oid: &u32| match oid {
        // 705 is PostgreSQL's "unknown", which drivers send for text whose type is left open.
        0 | 705 => Ok(None),
        oid => pg_types::parameter(*oid).map(Some).ok_or_else(|| {
            EngineError::unsupported(format!("a parameter of the type with oid {oid}"))
        }),
    };
    declared.iter().map(known).collect()
}

/// Number of a placeholder, from zero.
fn placeholder(expr: &Expr) -> Option<usize> {
    let Expr::Value(value) = expr else { return None };
    let Value::Placeholder(name) = &value.value else { return None };
    parameter_number(name)?.checked_sub(1)
}

/// Writes declared types into a statement: `$1` becomes `$1::type`.
pub(crate) fn cast_parameters(statement: &mut impl VisitMut, declared: &[Declared]) {
    let _ = visit_expressions_mut(statement, |expr| {
        if let Some((name, _)) = placeholder(expr).and_then(|at| declared.get(at)?.as_ref()) {
            *expr = cast(expr.clone(), named_type(name, Vec::new()));
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
}

/// Types of parameters by number, from zero.
pub(crate) type Inferred = HashMap<usize, FieldRef>;

/// Parameter types and result columns of a statement that is planned.
pub(crate) async fn describe_plan(
    planner: &Planner,
    statement: &ast::Statement,
) -> Result<(Inferred, Option<SchemaRef>)> {
    match statement {
        ast::Statement::Query(query) => {
            require_select(query)?;
            let planned = planner.plan(query, None).await?;
            let columns = named_schema(query, &planned.analysed_schema());
            Ok((parameter_types(&planned)?, Some(columns)))
        }
        ast::Statement::Explain { .. } => match Explain::of(statement)? {
            Some(explain) => {
                let planned = planner.plan(&explain.query, None).await?;
                Ok((parameter_types(&planned)?, None))
            }
            None => Ok((Inferred::new(), None)),
        },
        ast::Statement::CreateTable(ast::CreateTable { query: Some(query), .. }) => {
            require_select(query)?;
            let planned = planner.plan(query, None).await?;
            Ok((parameter_types(&planned)?, None))
        }
        ast::Statement::Insert(_) | ast::Statement::Update(_) | ast::Statement::Delete(_) => {
            describe_write(planner, statement).await
        }
        ast::Statement::Declare { stmts } => match stmts.as_slice() {
            [ast::Declare { for_query: Some(query), .. }] => {
                require_select(query)?;
                let planned = planner.plan(query, None).await?;
                Ok((parameter_types(&planned)?, None))
            }
            _ => Ok((Inferred::new(), None)),
        },
        _ => Ok((Inferred::new(), None)),
    }
}

async fn describe_write(
    planner: &Planner,
    statement: &ast::Statement,
) -> Result<(Inferred, Option<SchemaRef>)> {
    planner.begin(None);
    let view = planner.scope.view();
    let write = Write::resolve(&view, &planner.settings.default_schema(), statement)?;
    let Some(write) = write else { return Ok((Inferred::new(), None)) };
    let mut inferred = if write.verb == Verb::Insert && InsertRows::of(&write.query).is_some() {
        values_types(&write.query, write.collection, &write.positions)
    } else {
        parameter_types(&planner.plan(&write.query, None).await?)?
    };
    let table = view.table(write.collection.id);
    let table = table.ok_or_else(|| EngineError::no_table(&write.collection.name))?;
    let (mut columns, state) = (None, planner.begin(None));
    for query in write.other_queries(planner, &state, view.definition(table).schema())? {
        let planned = planner.describe_here(state.clone(), query).await?;
        let mut here = parameter_types(&planned)?;
        here.extend(inferred);
        inferred = here;
        if write.returning.as_ref() == Some(query) {
            check_row_by_row(&planned.plan, "RETURNING")?;
            columns = Some(named_schema(query, &planned.analysed_schema()));
        }
    }
    Ok((inferred, columns))
}

/// A parameter of `VALUES` has the type of the column it goes to.
fn values_types(source: &Query, collection: &catalog::Collection, positions: &[usize]) -> Inferred {
    let mut inferred = Inferred::new();
    if let SetExpr::Values(values) = &*source.body {
        for row in &values.rows {
            for (cell, position) in row.content.iter().zip(positions) {
                if let Some(at) = placeholder(cell) {
                    inferred.insert(at, field_of(collection.columns[*position].column_type));
                }
            }
        }
    }
    inferred
}

/// A number next to one of few digits may have more.
fn roomy(field: &FieldRef) -> FieldRef {
    match field.data_type() {
        DataType::Decimal128(_, scale) => {
            let scale = u8::try_from(*scale).unwrap_or(0).max(NUMERIC_SCALE_DEFAULT);
            let precision = NUMERIC_PRECISION_MAX;
            field_of(catalog::ColumnType::Numeric { precision, scale })
        }
        _ => Arc::clone(field),
    }
}

/// Types of the placeholders of a plan; the first occurrence that has one decides.
fn parameter_types(planned: &Planned) -> Result<Inferred> {
    use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
    let mut inferred = Inferred::new();
    planned.plan.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expr| {
            expr.apply(|expr| {
                // `$1::type` says the type, too.
                let (placeholder, field) = match expr {
                    LogicalExpr::Placeholder(placeholder) => {
                        (placeholder, placeholder.field.as_ref())
                    }
                    LogicalExpr::Cast(cast) => match &*cast.expr {
                        LogicalExpr::Placeholder(placeholder) => (placeholder, Some(&cast.field)),
                        _ => return Ok(TreeNodeRecursion::Continue),
                    },
                    _ => return Ok(TreeNodeRecursion::Continue),
                };
                if let Some(field) = field
                    && let Some(number) = parameter_number(&placeholder.id)
                {
                    inferred.entry(number - 1).or_insert_with(|| roomy(field));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(inferred)
}
