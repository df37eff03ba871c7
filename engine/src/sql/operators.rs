//! pgvector's operators and casts in terms of functions, while a plan is made.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DataFusionError, Result as DataFusionResult, ScalarValue};
use datafusion::functions_nested::expr_fn::{array_has_all, array_has_any};
use datafusion::logical_expr::expr::{Cast, InList, Placeholder, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable as _, ScalarUDF, cast, lit, when};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use storage::memtable::vector_field;
use types::{Dim, SqlState, VectorKind};
use udfs::{
    Arithmetic, CheckedFunction, DistanceFunction, VectorBuilder, VectorError, check_dimension,
    parse_vector, vector_shape,
};

use super::types::DIMENSION_KEY;
use super::vector_cast::{can_cast, known_length, vector_cast, vector_text};
use crate::error::EngineError;
use crate::values::{pg_name, scalar_from_text};

/// Plans `<->`, `<#>`, `<=>`, `<+>`, `<~>` and `<%>` where a side is a vector.
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

fn external(error: VectorError) -> DataFusionError {
    EngineError::from(error).into_datafusion()
}

/// Gives an operand its type: text becomes a vector, a bare parameter learns what it must be, and a
/// `vector` beside a `halfvec` becomes one.
fn as_vector(
    expr: Expr,
    (kind, dim): (VectorKind, usize),
    schema: &DFSchema,
) -> DataFusionResult<Expr> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => {
            Ok(Expr::Literal(VectorBuilder::literal(kind, 0, &text)?, None))
        }
        Expr::Placeholder(placeholder) if placeholder.field.is_none() => {
            let dim = Dim(u32::try_from(dim).unwrap_or(0));
            let field = Arc::new(vector_field("", kind, dim));
            Ok(Expr::Placeholder(Placeholder::new_with_field(placeholder.id, Some(field))))
        }
        other => match shape(&other, schema) {
            Some((from, dim)) if from != VectorKind::Bit && rank(from) < rank(kind) => {
                Ok(vector_cast(other, (kind, dim)))
            }
            _ => Ok(other),
        },
    }
}

fn shape(expr: &Expr, schema: &DFSchema) -> Option<(VectorKind, usize)> {
    vector_shape(&expr.get_type(schema).ok()?)
}

/// Kinds of numbers by what becomes what: a `vector` next to a `halfvec` becomes one, both next to a
/// `sparsevec`. Bits become nothing.
fn rank(kind: VectorKind) -> u8 {
    match kind {
        VectorKind::Bit => 0,
        VectorKind::Vector => 1,
        VectorKind::Halfvec => 2,
        VectorKind::Sparsevec => 3,
    }
}

/// The kind and the dimension that both operands are to have.
fn common(
    left: Option<(VectorKind, usize)>,
    right: Option<(VectorKind, usize)>,
) -> Option<(VectorKind, usize)> {
    match (left, right) {
        (Some((a, _)), Some((b, _))) if rank(a) < rank(b) => right,
        _ => left.or(right),
    }
}

fn function_of_kind(operator: Option<&str>, kind: VectorKind) -> bool {
    operator.and_then(DistanceFunction::of_operator).is_some_and(|function| function.is_of(kind))
}

fn is_comparison(operator: &BinaryOperator) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

/// Text next to a boolean is one.
fn as_truth(expr: Expr) -> DataFusionResult<Expr> {
    match &expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => {
            let truth = scalar_from_text(&DataType::Boolean, text);
            Ok(Expr::Literal(truth.map_err(EngineError::into_datafusion)?, None))
        }
        _ => Ok(expr),
    }
}

/// A comparison in which text next to a vector is one.
fn compared(expr: RawBinaryExpr, schema: &DFSchema) -> DataFusionResult<RawBinaryExpr> {
    let open = |e: &Expr| is_text(e) || matches!(e, Expr::Placeholder(p) if p.field.is_none());
    if !open(&expr.left) && !open(&expr.right) {
        return Ok(expr);
    }
    let Some(wanted) = common(shape(&expr.left, schema), shape(&expr.right, schema)) else {
        let truth = |e: &Expr| e.get_type(schema).is_ok_and(|of| of == DataType::Boolean);
        let RawBinaryExpr { left, right, op } = expr;
        return Ok(match (truth(&left), truth(&right)) {
            (true, false) => RawBinaryExpr { right: as_truth(right)?, left, op },
            (false, true) => RawBinaryExpr { left: as_truth(left)?, right, op },
            _ => RawBinaryExpr { left, right, op },
        });
    };
    let (left, right) =
        (as_vector(expr.left, wanted, schema)?, as_vector(expr.right, wanted, schema)?);
    Ok(RawBinaryExpr { left, right, ..expr })
}

/// A date next to an interval, which may be less than a day, is a timestamp.
fn with_time(expr: RawBinaryExpr, schema: &DFSchema) -> RawBinaryExpr {
    let of = |expr: &Expr| expr.get_type(schema).ok();
    let interval = |expr: &Expr| matches!(of(expr), Some(DataType::Interval(_)));
    let stamped = |expr: Expr| match of(&expr) {
        Some(DataType::Date32) => cast(expr, DataType::Timestamp(TimeUnit::Microsecond, None)),
        _ => expr,
    };
    match expr.op {
        BinaryOperator::Plus | BinaryOperator::Minus if interval(&expr.right) => {
            RawBinaryExpr { left: stamped(expr.left), ..expr }
        }
        BinaryOperator::Plus if interval(&expr.left) => {
            RawBinaryExpr { right: stamped(expr.right), ..expr }
        }
        _ => expr,
    }
}

fn arithmetic(operator: &BinaryOperator) -> Option<Arithmetic> {
    use BinaryOperator::{Minus, Multiply, Plus, StringConcat};
    let text = match operator {
        Plus => "+",
        Minus => "-",
        Multiply => "*",
        StringConcat => "||",
        _ => return None,
    };
    Arithmetic::of_operator(text)
}

/// `+ - * ||` of vectors, where a side is one.
fn computed(
    function: Arithmetic,
    expr: RawBinaryExpr,
    schema: &DFSchema,
) -> DataFusionResult<PlannerResult<RawBinaryExpr>> {
    let (left, right) = (shape(&expr.left, schema), shape(&expr.right, schema));
    let Some(wanted) = common(left, right) else { return Ok(PlannerResult::Original(expr)) };
    let open = |e: &Expr, shape: Option<_>| {
        shape.is_some()
            || is_text(e)
            || matches!(e, Expr::Placeholder(p) if p.field.is_none())
            || matches!(e, Expr::Literal(value, _) if value.is_null())
    };
    let of_numbers = !matches!(wanted.0, VectorKind::Bit | VectorKind::Sparsevec);
    if !of_numbers || !open(&expr.left, left) || !open(&expr.right, right) {
        let name =
            |e: &Expr| e.get_type(schema).map_or_else(|_| "unknown".to_owned(), |t| pg_name(&t));
        let (left, right) = (name(&expr.left), name(&expr.right));
        let message = format!("operator does not exist: {left} {} {right}", expr.op);
        return Err(EngineError::new(SqlState::UNDEFINED_FUNCTION, message).into_datafusion());
    }
    let left = as_vector(expr.left, wanted, schema)?;
    let right = as_vector(expr.right, wanted, schema)?;
    let dims = [&left, &right].map(|e| shape(e, schema).map_or(0, |(_, dim)| dim));
    if function != Arithmetic::Concat && dims[0] > 0 && dims[1] > 0 && dims[0] != dims[1] {
        return Err(external(VectorError::Different(wanted.0, dims[0], dims[1])));
    }
    Ok(PlannerResult::Planned(function.udf().call(vec![left, right])))
}

/// Whether text beside a value of the type, with the operator, is one of the type.
fn reads_text(operator: &BinaryOperator, data_type: &DataType) -> bool {
    use BinaryOperator::{ArrowAt, AtArrow, Minus, PGOverlap, Plus, StringConcat};
    match data_type {
        DataType::FixedSizeBinary(16) => is_comparison(operator),
        DataType::Interval(_) => is_comparison(operator) || matches!(operator, Plus | Minus),
        DataType::List(_) => {
            is_comparison(operator)
                || matches!(operator, AtArrow | ArrowAt | PGOverlap | StringConcat)
        }
        _ => false,
    }
}

/// Text next to an interval or an array is one; next to a time that something is added to, an interval.
fn with_values(expr: RawBinaryExpr, schema: &DFSchema) -> DataFusionResult<RawBinaryExpr> {
    let beside = |side: &Expr| {
        let of = side.get_type(schema).ok()?;
        let adds = matches!(expr.op, BinaryOperator::Plus | BinaryOperator::Minus);
        match of {
            of if reads_text(&expr.op, &of) => Some(of),
            DataType::Timestamp(..) if adds => Some(DataType::Interval(IntervalUnit::MonthDayNano)),
            _ => None,
        }
    };
    let joins = expr.op == BinaryOperator::StringConcat;
    let read = |text: Expr, of: Option<DataType>| match (&text, of) {
        // `array || NULL` is of two arrays.
        (Expr::Literal(value, _), Some(of @ DataType::List(_)))
            if value.data_type().is_null() && joins =>
        {
            Ok(Expr::Literal(ScalarValue::try_new_null(&of)?, None))
        }
        (Expr::Literal(ScalarValue::Utf8(Some(value)), _), Some(of)) => {
            let value = scalar_from_text(&of, value).map_err(EngineError::into_datafusion)?;
            Ok::<_, DataFusionError>(Expr::Literal(value, None))
        }
        _ => Ok(text),
    };
    let (of_left, of_right) = (beside(&expr.left), beside(&expr.right));
    // Of two times one is subtracted from the other.
    let of_left = of_left.filter(|of| {
        !matches!(of, DataType::Interval(_))
            || !matches!(expr.left.get_type(schema), Ok(DataType::Timestamp(..)))
            || expr.op == BinaryOperator::Plus
    });
    let (left, right) = (read(expr.left, of_right)?, read(expr.right, of_left)?);
    Ok(RawBinaryExpr { left, right, op: expr.op })
}

/// `@>`, `<@` and `&&` of arrays, which are NULL where a side is.
fn of_arrays(expr: &RawBinaryExpr, schema: &DFSchema) -> Option<Expr> {
    let is_array =
        |side: &Expr| matches!(side.get_type(schema), Ok(DataType::List(_) | DataType::Null));
    if !is_array(&expr.left) || !is_array(&expr.right) {
        return None;
    }
    let (left, right) = (expr.left.clone(), expr.right.clone());
    let answer = match expr.op {
        BinaryOperator::AtArrow => array_has_all(left.clone(), right.clone()),
        BinaryOperator::ArrowAt => array_has_all(right.clone(), left.clone()),
        BinaryOperator::PGOverlap => array_has_any(left.clone(), right.clone()),
        _ => return None,
    };
    when(left.is_null().or(right.is_null()), lit(ScalarValue::Boolean(None))).otherwise(answer).ok()
}

/// An interval times or by a number.
fn scaled(
    expr: RawBinaryExpr,
    schema: &DFSchema,
) -> DataFusionResult<PlannerResult<RawBinaryExpr>> {
    let of = |side: &Expr| side.get_type(schema).ok();
    let is_span = |side: &Expr| matches!(of(side), Some(DataType::Interval(_)));
    let is_number = |side: &Expr| of(side).is_some_and(|of| of.is_numeric() || of.is_null());
    let (left, right) = (is_span(&expr.left), is_span(&expr.right));
    let (function, interval, number) = match expr.op {
        BinaryOperator::Multiply if left && is_number(&expr.right) => {
            (CheckedFunction::IntervalTimes, expr.left, expr.right)
        }
        BinaryOperator::Multiply if right && is_number(&expr.left) => {
            (CheckedFunction::IntervalTimes, expr.right, expr.left)
        }
        BinaryOperator::Divide if left && is_number(&expr.right) => {
            let divisor = cast(expr.right, DataType::Float64);
            let divisor = CheckedFunction::Divisor.udf().call(vec![divisor]);
            (CheckedFunction::IntervalDivide, expr.left, divisor)
        }
        _ => return Ok(PlannerResult::Original(expr)),
    };
    let number = cast(number, DataType::Float64);
    Ok(PlannerResult::Planned(function.udf().call(vec![interval, number])))
}

impl ExprPlanner for VectorOperators {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> DataFusionResult<PlannerResult<RawBinaryExpr>> {
        let expr = with_values(expr, schema)?;
        if matches!(expr.op, BinaryOperator::Multiply | BinaryOperator::Divide) {
            match scaled(expr, schema)? {
                PlannerResult::Original(other) => return self.plan_others(other, schema),
                planned @ PlannerResult::Planned(_) => return Ok(planned),
            }
        }
        if let Some(planned) = of_arrays(&expr, schema) {
            return Ok(PlannerResult::Planned(planned));
        }
        self.plan_others(expr, schema)
    }
}

impl VectorOperators {
    fn plan_others(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> DataFusionResult<PlannerResult<RawBinaryExpr>> {
        if is_comparison(&expr.op) {
            return compared(expr, schema).map(PlannerResult::Original);
        }
        let expr = with_time(expr, schema);
        if let Some(function) = arithmetic(&expr.op) {
            return computed(function, expr, schema);
        }
        let function = operator_text(&expr.op).and_then(DistanceFunction::of_operator);
        let Some(function) = function.and_then(|function| self.functions.get(&function)) else {
            return Ok(PlannerResult::Original(expr));
        };
        let (left, right) = (shape(&expr.left, schema), shape(&expr.right, schema));
        // `'[1]' <-> '[2]'` has no vector yet; with <=> that means IS NOT DISTINCT FROM to no one
        // who has a vector database before them, so text is read as a vector here too.
        let Some(wanted) = common(left, right) else {
            return Err(EngineError::new(
                SqlState::UNDEFINED_FUNCTION,
                format!("operator {} needs a vector on at least one side", expr.op),
            )
            .with_hint("Cast one side: '[1,2,3]'::vector.")
            .into_datafusion());
        };
        let of_kind = |kind| function_of_kind(operator_text(&expr.op), kind);
        if [left, right].into_iter().flatten().any(|(kind, _)| !of_kind(kind)) {
            let side = |shape: Option<(VectorKind, usize)>| shape.unwrap_or(wanted).0.name();
            let (left, right) = (side(left), side(right));
            let message = format!("operator does not exist: {left} {} {right}", expr.op);
            return Err(EngineError::new(SqlState::UNDEFINED_FUNCTION, message).into_datafusion());
        }
        let left_expr = as_vector(expr.left, wanted, schema)?;
        let right_expr = as_vector(expr.right, wanted, schema)?;
        let known = |e: &Expr| shape(e, schema).filter(|(_, dim)| *dim > 0);
        if let (Some((kind, a)), Some((other, b))) = (known(&left_expr), known(&right_expr))
            && kind == other
            && a != b
        {
            return Err(external(VectorError::Different(kind, a, b)));
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
            Expr::InList(InList { expr, list, negated }) if list.iter().any(is_text) => {
                let Some(wanted) = shape(&expr, schema) else {
                    return Ok(Transformed::no(Expr::InList(InList { expr, list, negated })));
                };
                let list = list.into_iter().map(|item| as_vector(item, wanted, schema));
                let list = list.collect::<DataFusionResult<_>>()?;
                Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })))
            }
            Expr::Cast(Cast { expr, field })
                if field.data_type() == &DataType::Utf8 && shape(&expr, schema).is_some() =>
            {
                Ok(Transformed::yes(vector_text(*expr)))
            }
            Expr::Cast(Cast { expr, field }) => {
                let Some((kind, dim)) = vector_shape(field.data_type()) else {
                    return Ok(Transformed::no(Expr::Cast(Cast { expr, field })));
                };
                let given = field.metadata().get(DIMENSION_KEY).and_then(|dim| dim.parse().ok());
                let to = (kind, given.unwrap_or(dim));
                rewrite_cast(*expr, to, &field, schema)
            }
            Expr::ScalarFunction(ScalarFunction { func, args })
                if udfs::distance_function(&func).is_some() || of_two_vectors(&func) =>
            {
                let shapes: Vec<_> = args.iter().map(|arg| shape(arg, schema)).collect();
                let mut kinds = shapes.iter().flatten().map(|shape| shape.0);
                let first = kinds.next();
                let mixed = kinds.any(|kind| Some(kind) != first);
                if !mixed && !args.iter().any(is_text) {
                    return Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction {
                        func,
                        args,
                    })));
                }
                let of_bits =
                    udfs::distance_function(&func).is_some_and(|f| f.is_of(VectorKind::Bit));
                let unknown = if of_bits { VectorKind::Bit } else { VectorKind::Vector };
                let kind = shapes.into_iter().reduce(common).flatten().map_or(unknown, |s| s.0);
                let args = args.into_iter().map(|arg| as_vector(arg, (kind, 0), schema));
                let call = ScalarFunction::new_udf(func, args.collect::<DataFusionResult<_>>()?);
                Ok(Transformed::yes(Expr::ScalarFunction(call)))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

/// Whether a function makes a vector of two.
fn of_two_vectors(function: &ScalarUDF) -> bool {
    udfs::arithmetic_function(function).is_some_and(|(_, vectors)| vectors == 2)
}

fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Utf8(Some(_)), _))
}

/// A constant or a parameter without the cast to text that says what it was declared as.
fn bare(expr: Expr) -> Expr {
    match expr {
        Expr::Cast(Cast { expr, field })
            if field.data_type() == &DataType::Utf8
                && (is_text(&expr) || matches!(*expr, Expr::Placeholder(_))) =>
        {
            *expr
        }
        other => other,
    }
}

fn rewrite_cast(
    expr: Expr,
    (kind, dim): (VectorKind, usize),
    field: &Arc<Field>,
    schema: &DFSchema,
) -> DataFusionResult<Transformed<Expr>> {
    let expr = bare(expr);
    if let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = &expr {
        let literal = if kind == VectorKind::Bit {
            // A cast of bits, unlike an assignment, cuts off or adds zeros.
            let mut builder = VectorBuilder::new(kind, dim);
            builder.push_cut(parse_vector(kind, text).map_err(external)?.row());
            ScalarValue::try_from_array(&builder.finish()?, 0)?
        } else {
            VectorBuilder::literal(kind, dim, text)?
        };
        return Ok(Transformed::yes(Expr::Literal(literal, None)));
    }
    let from = expr.get_type(schema)?;
    match vector_shape(&from) {
        Some((of, got)) if of == kind && (dim == 0 || dim == got) => {
            return Ok(Transformed::yes(expr));
        }
        Some((VectorKind::Vector | VectorKind::Halfvec, got))
            if kind != VectorKind::Bit && got > 0 =>
        {
            check_dimension(kind, dim, got).map_err(external)?;
        }
        _ => {}
    }
    if matches!(expr, Expr::Placeholder(_) | Expr::Literal(ScalarValue::Null, _)) {
        let cast = Cast { expr: Box::new(expr), field: Arc::clone(field) };
        return Ok(Transformed::no(Expr::Cast(cast)));
    }
    let name = kind.name();
    if !can_cast(&from, kind) {
        let message = format!("cannot cast type {} to {name}", pg_name(&from));
        let error = EngineError::new(SqlState::CANNOT_COERCE, message);
        return Err(error.into_datafusion());
    }
    let dim = Some(dim).filter(|dim| *dim > 0).or_else(|| known_length(&expr));
    let dim = dim.or_else(|| vector_shape(&from).map(|(_, dim)| dim).filter(|dim| *dim > 0));
    let dim = dim.or_else(|| (kind == VectorKind::Sparsevec).then_some(0));
    let Some(dim) = dim else {
        let error = EngineError::unsupported(format!("a cast to {name} without dimensions"))
            .with_hint(format!("Give the number of dimensions, for example {name}(384)."));
        return Err(error.into_datafusion());
    };
    Ok(Transformed::yes(vector_cast(expr, (kind, dim))))
}
