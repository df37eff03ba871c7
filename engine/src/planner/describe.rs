//! Types of a statement's parameters, declared and inferred.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, SchemaRef};
use datafusion::logical_expr::Expr as LogicalExpr;
use datafusion::sql::sqlparser::ast::{self, Expr, Query, SetExpr, Value, visit_expressions_mut};
use storage::memtable::arrow_type;

use super::{
    InsertRows, delete_query, delete_target, insert_columns, target, update_query, update_target,
};
use crate::error::{EngineError, Result};
use crate::explain::Explain;
use crate::pg_types;
use crate::query::{Planned, Planner, named_schema};
use crate::session::require_select;

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
    name.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
}

/// Writes declared types into a statement: `$1` becomes `$1::type`.
pub(crate) fn cast_parameters(statement: &mut ast::Statement, declared: &[Declared]) {
    let _ = visit_expressions_mut(statement, |expr| {
        if let Some((name, _)) = placeholder(expr).and_then(|at| declared.get(at)?.as_ref()) {
            *expr = Expr::Cast {
                kind: ast::CastKind::DoubleColon,
                expr: Box::new(expr.clone()),
                data_type: ast::DataType::Custom(
                    ast::ObjectName::from(vec![ast::Ident::new(*name)]),
                    Vec::new(),
                ),
                array: false,
                format: None,
            };
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
            let columns = named_schema(query, planned.plan.schema().as_arrow());
            Ok((parameter_types(&planned)?, Some(columns)))
        }
        ast::Statement::Explain { .. } => match Explain::of(statement)? {
            Some(explain) => {
                let planned = planner.plan(&explain.query, None).await?;
                Ok((parameter_types(&planned)?, None))
            }
            None => Ok((Inferred::new(), None)),
        },
        ast::Statement::Insert(_) | ast::Statement::Update(_) | ast::Statement::Delete(_) => {
            Ok((describe_write(planner, statement).await?, None))
        }
        _ => Ok((Inferred::new(), None)),
    }
}

async fn describe_write(planner: &Planner, statement: &ast::Statement) -> Result<Inferred> {
    planner.begin(None);
    let view = planner.scope.view();
    let schema = planner.settings.default_schema();
    let query = match statement {
        ast::Statement::Insert(insert) => {
            let ast::TableObject::TableName(name) = &insert.table else {
                return Err(EngineError::unsupported("INSERT into anything but a table"));
            };
            let collection = target(&view, &schema, name)?;
            let positions = insert_columns(collection, insert)?;
            let Some(source) = insert.source.as_deref() else { return Ok(Inferred::new()) };
            if InsertRows::of(source).is_some() {
                return Ok(values_types(source, collection, &positions));
            }
            source.clone()
        }
        ast::Statement::Update(update) => {
            let collection = target(&view, &schema, update_target(update)?)?;
            let namespace = view.catalog().namespace_by_id(collection.schema);
            update_query(update, collection, namespace.map_or("public", |n| &n.name))?
        }
        ast::Statement::Delete(delete) => {
            let collection = target(&view, &schema, delete_target(delete)?)?;
            let namespace = view.catalog().namespace_by_id(collection.schema);
            delete_query(delete, collection, namespace.map_or("public", |n| &n.name))?
        }
        _ => return Ok(Inferred::new()),
    };
    parameter_types(&planner.plan(&query, None).await?)
}

/// A parameter of `VALUES` has the type of the column it goes to.
fn values_types(source: &Query, collection: &catalog::Collection, positions: &[usize]) -> Inferred {
    let mut inferred = Inferred::new();
    if let SetExpr::Values(values) = &*source.body {
        for row in &values.rows {
            for (cell, position) in row.content.iter().zip(positions) {
                if let Some(at) = placeholder(cell) {
                    let column = &collection.columns[*position];
                    let field = match column.column_type {
                        catalog::ColumnType::Vector(dim) => {
                            storage::memtable::vector_field("", dim)
                        }
                        other => Field::new("", arrow_type(other), true),
                    };
                    inferred.insert(at, Arc::new(field));
                }
            }
        }
    }
    inferred
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
                    && let Some(at) = placeholder.id.strip_prefix('$')
                    && let Ok(number) = at.parse::<usize>()
                    && number > 0
                {
                    inferred.entry(number - 1).or_insert_with(|| Arc::clone(field));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(inferred)
}
