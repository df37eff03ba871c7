//! pgvector's operators and casts in terms of functions, while a plan is made.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::expr::{Cast, Placeholder, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable as _, ScalarUDF};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use storage::memtable::vector_field;
use types::Dim;
use udfs::{
    DistanceFunction, VectorError, check_dimension, parse_vector, vector_dimension, vector_scalar,
};

use crate::error::EngineError;

/// Plans `<->`, `<#>`, `<=>` and `<+>` where a side is a vector.
#[derive(Debug)]
pub(crate) struct VectorOperators {
    functions: HashMap<DistanceFunction, Arc<ScalarUDF>>,
}

impl VectorOperators {
    pub(crate) fn new() -> Self {
        let functions = udfs::registry()
            .into_iter()
            .filter_map(|udf| udfs::distance_function(&udf).map(|function| (function, udf)))
            .collect();
        Self { functions }
    }
}

/// The operator's text, when it is one that could be ours.
fn operator_text(operator: &BinaryOperator) -> Option<&str> {
    match operator {
        BinaryOperator::LtDashGt => Some("<->"),
        BinaryOperator::Spaceship => Some("<=>"),
        BinaryOperator::Custom(text) => Some(text),
        BinaryOperator::PGCustomBinaryOperator(parts) => parts.last().map(String::as_str),
        _ => None,
    }
}

fn external(error: VectorError) -> datafusion::common::DataFusionError {
    EngineError::from(error).into_datafusion()
}

/// Gives an operand its type: text becomes a vector, a bare parameter learns what it must be.
fn as_vector(expr: Expr, dim: usize) -> DataFusionResult<Expr> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => {
            Ok(Expr::Literal(vector_scalar(parse_vector(&text).map_err(external)?), None))
        }
        Expr::Placeholder(placeholder) if placeholder.field.is_none() => {
            let dim = Dim(u32::try_from(dim).unwrap_or(0));
            let field = Arc::new(vector_field("", dim));
            Ok(Expr::Placeholder(Placeholder::new_with_field(placeholder.id, Some(field))))
        }
        other => Ok(other),
    }
}

impl ExprPlanner for VectorOperators {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> DataFusionResult<PlannerResult<RawBinaryExpr>> {
        let function = operator_text(&expr.op).and_then(DistanceFunction::of_operator);
        let Some(function) = function.and_then(|function| self.functions.get(&function)) else {
            return Ok(PlannerResult::Original(expr));
        };
        let side = |side: &Expr| side.get_type(schema).ok().as_ref().and_then(vector_dimension);
        let (left, right) = (side(&expr.left), side(&expr.right));
        // `'[1]' <-> '[2]'` has no vector yet; with <=> that means IS NOT DISTINCT FROM to no one
        // who has a vector database before them, so text is read as a vector here too.
        let Some(dim) = left.or(right) else {
            return Err(EngineError::new(
                types::SqlState::UNDEFINED_FUNCTION,
                format!("operator {} needs a vector on at least one side", expr.op),
            )
            .with_hint("Cast one side: '[1,2,3]'::vector.")
            .into_datafusion());
        };
        let left_expr = as_vector(expr.left, dim)?;
        let right_expr = as_vector(expr.right, dim)?;
        let known = |e: &Expr| match e.get_type(schema).ok().as_ref().and_then(vector_dimension) {
            Some(0) | None => None,
            Some(dim) => Some(dim),
        };
        if let (Some(a), Some(b)) = (known(&left_expr), known(&right_expr))
            && a != b
        {
            return Err(external(VectorError::Different(a, b)));
        }
        Ok(PlannerResult::Planned(function.call(vec![left_expr, right_expr])))
    }
}

/// Casts to vector, and text given to vector functions. Runs on every expression before types are
/// coerced, again when parameters have been put in.
#[derive(Debug)]
pub(crate) struct VectorCasts;

impl FunctionRewrite for VectorCasts {
    fn name(&self) -> &'static str {
        "vector_casts"
    }

    fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        _config: &ConfigOptions,
    ) -> DataFusionResult<Transformed<Expr>> {
        match expr {
            Expr::Cast(Cast { expr, field }) => {
                let Some(dim) = vector_dimension(field.data_type()) else {
                    return Ok(Transformed::no(Expr::Cast(Cast { expr, field })));
                };
                rewrite_cast(*expr, dim, &field, schema)
            }
            Expr::ScalarFunction(ScalarFunction { func, args })
                if udfs::distance_function(&func).is_some() && args.iter().any(is_text) =>
            {
                let args: DataFusionResult<Vec<Expr>> =
                    args.into_iter().map(|arg| as_vector(arg, 0)).collect();
                let call = ScalarFunction::new_udf(func, args?);
                Ok(Transformed::yes(Expr::ScalarFunction(call)))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Utf8(Some(_)), _))
}

fn rewrite_cast(
    expr: Expr,
    dim: usize,
    field: &Arc<Field>,
    schema: &DFSchema,
) -> DataFusionResult<Transformed<Expr>> {
    if is_text(&expr) {
        let literal = as_vector(expr, dim)?;
        let got = vector_dimension(&literal.get_type(schema)?).unwrap_or(0);
        check_dimension(dim, got).map_err(external)?;
        return Ok(Transformed::yes(literal));
    }
    match vector_dimension(&expr.get_type(schema)?) {
        Some(got) => {
            check_dimension(dim, got).map_err(external)?;
            Ok(Transformed::yes(expr))
        }
        None if matches!(expr, Expr::Placeholder(_) | Expr::Literal(..)) => {
            Ok(Transformed::no(Expr::Cast(Cast { expr: Box::new(expr), field: Arc::clone(field) })))
        }
        None => Err(EngineError::unsupported("a cast of anything but a constant to vector")
            .into_datafusion()),
    }
}
