//! Gives operators and casts PostgreSQL's meaning, after types are coerced: integers that overflow
//! and floating-point numbers divided by zero are errors, casts to integers round, `sum(bigint)`
//! does not wrap, and `bytea` has its text form.
//!
//! Names and types of columns stay what they are.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::expr::{
    AggregateFunction, Between, BinaryExpr, Cast, InList, ScalarFunction,
};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable as _, LogicalPlan, LogicalPlanBuilder, Operator, cast, lit,
};
use datafusion::optimizer::AnalyzerRule;
use udfs::CheckedFunction;

/// Holds the sum of any number of `bigint` that a table can have.
const SUM_TYPE: DataType = DataType::Decimal128(38, 0);

/// The rule.
#[derive(Debug)]
pub(crate) struct CheckedNumbers;

impl AnalyzerRule for CheckedNumbers {
    fn name(&self) -> &'static str {
        "checked_numbers"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(check_plan)?.data)
    }
}

fn check_plan(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    let checked = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let checked = expr.transform_up(|expr| check_expr(expr, &schema))?;
        Ok(checked.update_data(|expr| name.restore(expr)))
    })?;
    checked.transform_data(|plan| match plan {
        LogicalPlan::Aggregate(aggregate) => widen_sums(aggregate),
        LogicalPlan::Sort(mut sort) => {
            for key in &mut sort.expr {
                if is_span(&key.expr, sort.input.schema()) {
                    key.expr = call(CheckedFunction::IntervalSpan, vec![key.expr.clone()]);
                }
            }
            Ok(Transformed::yes(LogicalPlan::Sort(sort)))
        }
        other => Ok(Transformed::no(other.recompute_schema()?)),
    })
}

fn call(function: CheckedFunction, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(function.udf().into(), args))
}

fn check_expr(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(binary) if compares(binary.op) && is_span(&binary.left, schema) => {
            let side = |side: Box<Expr>| Box::new(call(CheckedFunction::IntervalSpan, vec![*side]));
            let (left, right) = (side(binary.left), side(binary.right));
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, right, ..binary })))
        }
        Expr::BinaryExpr(binary) => check_operator(binary, schema),
        Expr::Between(between) if is_span(&between.expr, schema) => {
            let part = |part: Box<Expr>| Box::new(call(CheckedFunction::IntervalSpan, vec![*part]));
            Ok(Transformed::yes(Expr::Between(Between {
                expr: part(between.expr),
                negated: between.negated,
                low: part(between.low),
                high: part(between.high),
            })))
        }
        Expr::InList(InList { expr, list, negated }) if is_span(&expr, schema) => {
            let part = |part: Expr| call(CheckedFunction::IntervalSpan, vec![part]);
            let list = list.into_iter().map(part).collect();
            let expr = Box::new(part(*expr));
            Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })))
        }
        Expr::Cast(Cast { expr, field }) => {
            let from = expr.get_type(schema)?;
            let to = field.data_type();
            let function = if to.is_integer() && from.is_floating() {
                // A constant with a fraction is a `numeric`, whose ties round away from zero.
                match constant(&expr) {
                    true => CheckedFunction::RoundTiesAway,
                    false => CheckedFunction::RoundTiesEven,
                }
            } else if to.is_integer() && from.is_decimal() {
                CheckedFunction::RoundTiesAway
            } else if to.is_floating() && (from.is_string() || from.is_floating()) {
                let cast = Expr::Cast(Cast { expr, field });
                return Ok(Transformed::yes(call(CheckedFunction::Canonical, vec![cast])));
            } else if is_bytea(to) && from.is_string() {
                CheckedFunction::ByteaIn
            } else if to.is_string() && is_bytea(&from) {
                CheckedFunction::ByteaOut
            } else {
                return Ok(Transformed::no(Expr::Cast(Cast { expr, field })));
            };
            let expr = Box::new(call(function, vec![*expr]));
            Ok(Transformed::yes(Expr::Cast(Cast { expr, field })))
        }
        Expr::Negative(inner) if inner.get_type(schema)?.is_floating() => {
            let negative = Expr::Negative(inner);
            Ok(Transformed::yes(call(CheckedFunction::Canonical, vec![negative])))
        }
        // The smallest one has no opposite.
        Expr::Negative(inner) if inner.get_type(schema).is_ok_and(|of| of.is_signed_integer()) => {
            let zero = ScalarValue::new_zero(&inner.get_type(schema)?)?;
            Ok(Transformed::yes(call(CheckedFunction::Subtract, vec![lit(zero), *inner])))
        }
        Expr::Literal(ScalarValue::Float64(Some(number)), metadata)
            if number == 0.0 && number.is_sign_negative() =>
        {
            Ok(Transformed::yes(Expr::Literal(ScalarValue::Float64(Some(0.0)), metadata)))
        }
        Expr::Literal(ScalarValue::Float32(Some(number)), metadata)
            if number == 0.0 && number.is_sign_negative() =>
        {
            Ok(Transformed::yes(Expr::Literal(ScalarValue::Float32(Some(0.0)), metadata)))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Whether an expression is an interval: Arrow compares months, then days, then the rest. What a scan
/// filters by, once it does, is not among its own columns, and was asked before.
fn is_span(expr: &Expr, schema: &DFSchema) -> bool {
    let of = expr.get_type(schema);
    of.is_ok_and(|of| matches!(of, DataType::Interval(_) | DataType::Duration(_)))
}

fn compares(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn constant(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(..) => true,
        Expr::Negative(inner) => constant(inner),
        _ => false,
    }
}

fn is_bytea(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

fn check_operator(binary: BinaryExpr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let function = match binary.op {
        Operator::Plus => CheckedFunction::Add,
        Operator::Minus => CheckedFunction::Subtract,
        Operator::Multiply => CheckedFunction::Multiply,
        Operator::Divide | Operator::Modulo => CheckedFunction::Divisor,
        _ => return Ok(Transformed::no(Expr::BinaryExpr(binary))),
    };
    let types = (operand_type(&binary.left, schema)?, operand_type(&binary.right, schema)?);
    if types.0 == types.1 && matches!(types.0, DataType::Float32 | DataType::Float64) {
        let function = match binary.op {
            Operator::Plus => CheckedFunction::AddFloat,
            Operator::Minus => CheckedFunction::SubtractFloat,
            Operator::Multiply => CheckedFunction::MultiplyFloat,
            Operator::Divide => CheckedFunction::DivideFloat,
            _ => CheckedFunction::Divisor,
        };
        if function != CheckedFunction::Divisor {
            return Ok(Transformed::yes(call(function, vec![*binary.left, *binary.right])));
        }
    }
    if function == CheckedFunction::Divisor {
        if !binary.right.get_type(schema)?.is_floating() || not_zero(&binary.right) {
            return Ok(Transformed::no(Expr::BinaryExpr(binary)));
        }
        let right = Box::new(call(function, vec![*binary.right]));
        return Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { right, ..binary })));
    }
    // Two integers have one type by now.
    if is_integer(&binary.right, schema)? && is_integer(&binary.left, schema)? {
        return Ok(Transformed::yes(call(function, vec![*binary.left, *binary.right])));
    }
    Ok(Transformed::no(Expr::BinaryExpr(binary)))
}

/// The type of an operand; one that was checked has that of its own right side, which is short.
fn operand_type(mut expr: &Expr, schema: &DFSchema) -> Result<DataType> {
    while let Expr::ScalarFunction(call) = expr
        && CheckedFunction::of(&call.func).is_some_and(CheckedFunction::is_arithmetic)
        && let [_, right] = call.args.as_slice()
    {
        expr = right;
    }
    expr.get_type(schema)
}

/// Asks what was checked already nothing more: a type is found by walking down, and a sum may have
/// thousands of terms.
fn is_integer(expr: &Expr, schema: &DFSchema) -> Result<bool> {
    if let Expr::ScalarFunction(call) = expr
        && CheckedFunction::of(&call.func).is_some_and(CheckedFunction::is_integer)
    {
        return Ok(true);
    }
    Ok(expr.get_type(schema)?.is_integer())
}

fn not_zero(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Float64(Some(value)), _) => *value != 0.0,
        Expr::Literal(ScalarValue::Float32(Some(value)), _) => *value != 0.0,
        _ => false,
    }
}

/// Least and greatest intervals, and `sum(bigint)` in a type that cannot overflow, and back to `bigint` above the aggregate, where
/// what does not fit is an error.
fn widen_sums(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let schema = aggregate.input.schema();
    let mut widened = Vec::with_capacity(aggregate.aggr_expr.len());
    for expr in &aggregate.aggr_expr {
        widened.push(wide_sum(expr, schema)?);
    }
    if widened.iter().all(Option::is_none) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate).recompute_schema()?));
    }
    let groups = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
    let columns: Vec<Column> = aggregate.schema.columns();
    let expressions = aggregate.aggr_expr.iter().zip(widened);
    let (aggregates, outputs): (Vec<Expr>, Vec<Expr>) = expressions
        .zip(&columns[groups..])
        .map(|((expr, wide), column)| match wide {
            Some((wide, narrow)) => {
                let inner = Column::from_name(format!("wide {}", column.name));
                let name = inner.name.clone();
                let inner = Expr::Column(inner);
                let narrow = if narrow { cast(inner, DataType::Int64) } else { inner };
                let named = narrow.alias_qualified(column.relation.clone(), column.name.clone());
                (wide.alias(name), named)
            }
            None => (expr.clone(), Expr::Column(column.clone())),
        })
        .unzip();
    let outputs =
        columns[..groups].iter().cloned().map(Expr::Column).chain(outputs).collect::<Vec<_>>();
    let wide = Aggregate::try_new(aggregate.input, aggregate.group_expr, aggregates)?;
    let plan = LogicalPlanBuilder::from(LogicalPlan::Aggregate(wide)).project(outputs)?.build()?;
    Ok(Transformed::yes(plan))
}

/// The sum over a wide type, when `expr` is a sum of `bigint`, which it becomes again; the first in the
/// order of lengths, when it is the least or greatest of intervals.
fn wide_sum(expr: &Expr, schema: &DFSchema) -> Result<Option<(Expr, bool)>> {
    let Expr::AggregateFunction(AggregateFunction { func, params }) = expr.clone().unalias() else {
        return Ok(None);
    };
    let [argument] = params.args.as_slice() else { return Ok(None) };
    let numbers = udfs::aggregate_of_numbers(&func);
    if let ("min" | "max", true) = (numbers.name(), is_span(argument, schema)) {
        let ascending = numbers.name() == "min";
        let mut params = params.clone();
        let length = call(CheckedFunction::IntervalSpan, vec![argument.clone()]);
        params.order_by = vec![length.sort(ascending, false)];
        let first = AggregateFunction { func: first_value_udaf(), params };
        return Ok(Some((Expr::AggregateFunction(first), false)));
    }
    let is_sum = numbers.inner().downcast_ref::<Sum>().is_some();
    if !is_sum || argument.get_type(schema)? != DataType::Int64 {
        return Ok(None);
    }
    let mut params = params;
    params.args = vec![cast(params.args.remove(0), SUM_TYPE)];
    Ok(Some((Expr::AggregateFunction(AggregateFunction { func, params }), true)))
}
