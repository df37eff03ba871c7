//! Values next to text: casts both ways, and text in comparisons.
//!
//! The planner below takes text next to bytes for bytes; here it becomes what stands beside it, or the
//! comparison is refused.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, ListArray};
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use catalog::{Column, ColumnType};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result as DataFusionResult, ScalarValue};
use datafusion::functions::expr_fn::greatest;
use datafusion::logical_expr::expr::{Between, BinaryExpr, Cast, InList, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable as _, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, cast, lit,
};
use types::SqlState;
use udfs::CheckedFunction;

use crate::error::EngineError;
use crate::value_text::texts;
use crate::values::{assign, pg_name, plain_column_type, scalar_from_text};

const UUID: DataType = DataType::FixedSizeBinary(16);
const TIME: DataType = DataType::Time64(TimeUnit::Microsecond);

/// The types that text is read as when it stands next to one.
fn read_from_text(data_type: &DataType) -> bool {
    let timestamp = matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _));
    let array = matches!(data_type, DataType::List(_));
    let plain = matches!(
        data_type,
        DataType::Boolean | DataType::Date32 | DataType::Interval(IntervalUnit::MonthDayNano)
    );
    timestamp || array || plain || *data_type == UUID || *data_type == TIME
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
}

/// Types whose text is not the one that the planner below would make.
fn printed(data_type: &DataType) -> bool {
    *data_type == UUID
        || matches!(
            data_type,
            DataType::Float32
                | DataType::Float64
                | DataType::Timestamp(..)
                | DataType::Time64(_)
                | DataType::Interval(_)
                | DataType::Duration(_)
                | DataType::Decimal128(..)
                | DataType::Binary
                | DataType::List(_)
        )
}

/// A cast from or to text that the planner below does not know.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TextCast {
    /// The type that is cast to: one of ours, or text.
    to: DataType,
    signature: Signature,
}

fn text_cast(expr: Expr, to: DataType) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::from(TextCast { to, signature }).call(vec![expr])
}

impl ScalarUDFImpl for TextCast {
    fn name(&self) -> &'static str {
        match &self.to {
            to if *to == UUID => "uuid",
            to if *to == TIME => "time",
            DataType::Timestamp(..) => "timestamp",
            DataType::List(_) => "array",
            DataType::Boolean => "bool",
            DataType::Date32 => "date",
            DataType::Interval(_) => "interval",
            _ => "text",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [array] = arrays.as_slice() else {
            return Err(EngineError::bug("a cast of nothing").into_datafusion());
        };
        let cast: ArrayRef = if is_text(&self.to) {
            Arc::new(texts(array).map_err(EngineError::into_datafusion)?)
        } else {
            let to = match &self.to {
                DataType::List(_) => return self.arrays(array, scalar),
                DataType::Boolean => ColumnType::Boolean,
                DataType::Date32 => ColumnType::Date,
                DataType::Interval(_) => ColumnType::Interval,
                DataType::Timestamp(_, None) => ColumnType::Timestamp,
                DataType::Timestamp(_, Some(_)) => ColumnType::TimestampTz,
                to if *to == UUID => ColumnType::Uuid,
                _ => ColumnType::Time,
            };
            assign(array, &Column::new("", to, true)).map_err(EngineError::into_datafusion)?
        };
        if scalar && cast.len() == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&cast, 0)?));
        }
        Ok(ColumnarValue::Array(cast))
    }
}

impl TextCast {
    /// Arrays of other items, or texts of arrays.
    fn arrays(&self, texts: &ArrayRef, scalar: bool) -> DataFusionResult<ColumnarValue> {
        if let DataType::List(item) = &self.to
            && let Some(lists) = texts.as_list_opt::<i32>()
        {
            let items = cast_items(lists.values(), item.data_type())?;
            let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
            let cast: ArrayRef =
                Arc::new(ListArray::try_new(Arc::clone(item), offsets, items, nulls)?);
            return Ok(match scalar && cast.len() == 1 {
                true => ColumnarValue::Scalar(ScalarValue::try_from_array(&cast, 0)?),
                false => ColumnarValue::Array(cast),
            });
        }
        let texts = arrow::compute::cast(texts, &DataType::Utf8)?;
        let array = |text: Option<&str>| match text {
            Some(text) => scalar_from_text(&self.to, text).map_err(EngineError::into_datafusion),
            None => ScalarValue::try_new_null(&self.to),
        };
        let arrays: Vec<ScalarValue> =
            texts.as_string::<i32>().iter().map(array).collect::<DataFusionResult<_>>()?;
        if scalar && arrays.len() == 1 {
            return Ok(ColumnarValue::Scalar(arrays[0].clone()));
        }
        if arrays.is_empty() {
            return Ok(ColumnarValue::Array(arrow::array::new_empty_array(&self.to)));
        }
        Ok(ColumnarValue::Array(ScalarValue::iter_to_array(arrays)?))
    }
}

/// Items as others, as a cast of each makes them.
fn cast_items(items: &ArrayRef, to: &DataType) -> DataFusionResult<ArrayRef> {
    if let Some(column_type) = plain_column_type(to)
        && *to != DataType::Boolean
    {
        let column = Column::new("", column_type, true);
        return assign(items, &column).map_err(EngineError::into_datafusion);
    }
    Ok(arrow::compute::cast(items, to)?)
}

/// Runs on every expression before types are coerced.
#[derive(Debug)]
pub(crate) struct ScalarCasts;

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// What `expr` is next to a value of type `beside`.
fn next_to(expr: Expr, beside: &DataType, schema: &DFSchema) -> DataFusionResult<Expr> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => {
            let value = scalar_from_text(beside, &text).map_err(EngineError::into_datafusion)?;
            Ok(Expr::Literal(value, None))
        }
        other => {
            let of = other.get_type(schema)?;
            if *beside == UUID && !matches!(of, UUID | DataType::Null) && !is_placeholder(&other) {
                let message = format!("operator does not exist: uuid = {}", pg_name(&of));
                return Err(EngineError::new(SqlState::UNDEFINED_FUNCTION, message)
                    .with_hint("Cast one side: ...::uuid.")
                    .into_datafusion());
            }
            Ok(other)
        }
    }
}

fn is_placeholder(expr: &Expr) -> bool {
    matches!(expr, Expr::Placeholder(_))
}

/// The type, when it is one that text is read as.
fn special(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    expr.get_type(schema).ok().filter(read_from_text)
}

impl FunctionRewrite for ScalarCasts {
    fn name(&self) -> &'static str {
        "scalar_casts"
    }

    fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        _config: &ConfigOptions,
    ) -> DataFusionResult<Transformed<Expr>> {
        match expr {
            Expr::Cast(cast) => cast_expr(cast, schema),
            Expr::BinaryExpr(binary) if binary.op == Operator::StringConcat => {
                concatenated(binary, schema)
            }
            Expr::BinaryExpr(binary) if compares(binary.op) => {
                compared(with_decimals(binary, schema), schema)
            }
            Expr::BinaryExpr(binary) if computes(binary.op) => {
                widened(with_decimals(binary, schema), schema)
            }
            Expr::ScalarFunction(call) => postgres_function(call, schema),
            Expr::InList(InList { expr, list, negated }) => {
                if expr.get_type(schema).is_ok_and(|of| of.is_decimal()) {
                    let list = list.into_iter().map(as_decimal).collect();
                    return Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })));
                }
                let Some(beside) = special(&expr, schema) else {
                    return Ok(Transformed::no(Expr::InList(InList { expr, list, negated })));
                };
                let list = list.into_iter().map(|item| next_to(item, &beside, schema));
                let list = list.collect::<DataFusionResult<_>>()?;
                Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })))
            }
            Expr::Between(between) => {
                if between.expr.get_type(schema).is_ok_and(|of| of.is_decimal()) {
                    let low = Box::new(as_decimal(*between.low));
                    let high = Box::new(as_decimal(*between.high));
                    return Ok(Transformed::yes(Expr::Between(Between { low, high, ..between })));
                }
                let Some(beside) = special(&between.expr, schema) else {
                    return Ok(Transformed::no(Expr::Between(between)));
                };
                let low = Box::new(next_to(*between.low, &beside, schema)?);
                let high = Box::new(next_to(*between.high, &beside, schema)?);
                Ok(Transformed::yes(Expr::Between(Between { low, high, ..between })))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

fn cast_expr(cast: Cast, schema: &DFSchema) -> DataFusionResult<Transformed<Expr>> {
    let Cast { expr, field } = cast;
    let (from, to) = (expr.get_type(schema)?, field.data_type());
    if is_text(&from) && read_from_text(to) {
        return Ok(Transformed::yes(text_cast(*expr, to.clone())));
    }
    if let (DataType::List(a), DataType::List(b)) = (&from, to)
        && of_other_items(a.data_type(), b.data_type())
    {
        return Ok(Transformed::yes(text_cast(*expr, to.clone())));
    }
    if printed(&from) && is_text(to) {
        return Ok(Transformed::yes(text_cast(*expr, DataType::Utf8)));
    }
    let is_open = matches!(from, DataType::Null) || is_placeholder(&expr);
    if (*to == UUID) != (from == UUID) && !is_open {
        let message = format!("cannot cast type {} to {}", pg_name(&from), pg_name(to));
        return Err(EngineError::new(SqlState::CANNOT_COERCE, message).into_datafusion());
    }
    Ok(Transformed::no(Expr::Cast(Cast { expr, field })))
}

/// Whether items are cast otherwise than the planner below does.
fn of_other_items(from: &DataType, to: &DataType) -> bool {
    let rounds = to.is_integer() && from.is_numeric() && from != to;
    let of_text = is_text(from) && !is_text(to) || is_text(to) && printed(from);
    rounds || of_text
}

/// `||` puts texts together, or bytes.
fn concatenated(binary: BinaryExpr, schema: &DFSchema) -> DataFusionResult<Transformed<Expr>> {
    let (left, right) = (binary.left.get_type(schema)?, binary.right.get_type(schema)?);
    if left == DataType::Binary && right == DataType::Binary {
        return Ok(Transformed::no(Expr::BinaryExpr(binary)));
    }
    let text = |expr: Box<Expr>, of: &DataType| {
        let as_text = printed(of) && !matches!(of, DataType::List(_));
        if as_text { Box::new(text_cast(*expr, DataType::Utf8)) } else { expr }
    };
    let (left, right) = (text(binary.left, &left), text(binary.right, &right));
    Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, right, ..binary })))
}

/// A number with a fraction beside a `numeric` is one, digit for digit.
fn with_decimals(binary: BinaryExpr, schema: &DFSchema) -> BinaryExpr {
    let is_numeric = |side: &Expr| side.get_type(schema).is_ok_and(|of| of.is_decimal());
    let (left, right) = (is_numeric(&binary.left), is_numeric(&binary.right));
    let BinaryExpr { left: a, op, right: b } = binary;
    match (left, right) {
        (true, false) => BinaryExpr { left: a, op, right: Box::new(as_decimal(*b)) },
        (false, true) => BinaryExpr { left: Box::new(as_decimal(*a)), op, right: b },
        _ => BinaryExpr { left: a, op, right: b },
    }
}

/// A floating-point literal as the decimal number it was written as.
fn as_decimal(expr: Expr) -> Expr {
    let number = match &expr {
        Expr::Literal(ScalarValue::Float64(Some(number)), _) => *number,
        Expr::Negative(inner) => match &**inner {
            Expr::Literal(ScalarValue::Float64(Some(number)), _) => -number,
            _ => return expr,
        },
        _ => return expr,
    };
    let text = number.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits = format!("{whole}{fraction}");
    let scale = i8::try_from(fraction.len()).ok();
    match (digits.parse::<i128>(), scale) {
        (Ok(value), Some(scale)) if digits.len() <= 38 => {
            let precision = u8::try_from(digits.trim_start_matches('-').len()).unwrap_or(38);
            let precision = precision.max(scale.unsigned_abs()).max(1);
            Expr::Literal(ScalarValue::Decimal128(Some(value), precision, scale), None)
        }
        _ => expr,
    }
}

/// A `real` beside an integer is computed with as `double precision`.
fn widened(binary: BinaryExpr, schema: &DFSchema) -> DataFusionResult<Transformed<Expr>> {
    let (left, right) = (binary.left.get_type(schema), binary.right.get_type(schema));
    let mixed = |one: &DataType, other: &DataType| {
        *one == DataType::Float32 && (other.is_integer() || other.is_decimal())
    };
    match (left, right) {
        (Ok(left), Ok(right)) if mixed(&left, &right) || mixed(&right, &left) => {
            let wide = |side: Box<Expr>| Box::new(cast(*side, DataType::Float64));
            let (left, right) = (wide(binary.left), wide(binary.right));
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, right, ..binary })))
        }
        _ => Ok(Transformed::no(Expr::BinaryExpr(binary))),
    }
}

fn computes(operator: Operator) -> bool {
    use Operator::{Divide, Minus, Multiply, Plus};
    matches!(operator, Plus | Minus | Multiply | Divide)
}

fn compared(binary: BinaryExpr, schema: &DFSchema) -> DataFusionResult<Transformed<Expr>> {
    let (left, right) = (special(&binary.left, schema), special(&binary.right, schema));
    let compared = match (left, right) {
        (Some(beside), None) => {
            let right = Box::new(next_to(*binary.right, &beside, schema)?);
            BinaryExpr { right, ..binary }
        }
        (None, Some(beside)) => {
            let left = Box::new(next_to(*binary.left, &beside, schema)?);
            BinaryExpr { left, ..binary }
        }
        _ => return Ok(Transformed::no(Expr::BinaryExpr(binary))),
    };
    Ok(Transformed::yes(Expr::BinaryExpr(compared)))
}

fn is_greatest(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.name() == "greatest")
}

/// Functions that have another meaning in PostgreSQL for some arguments.
fn postgres_function(
    call: ScalarFunction,
    schema: &DFSchema,
) -> DataFusionResult<Transformed<Expr>> {
    let of = |at: usize| call.args.get(at).map(|arg| arg.get_type(schema)).transpose();
    let checked = |function: CheckedFunction, args: Vec<Expr>| {
        Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(function.udf().into(), args)))
    };
    match (call.func.name(), call.args.as_slice()) {
        // Ties to even, but of a constant, which is a `numeric`.
        ("round", [number]) if of(0)?.is_some_and(|t| t.is_floating()) => {
            let constant = match number {
                Expr::Literal(..) => true,
                Expr::Negative(inner) => matches!(**inner, Expr::Literal(..)),
                _ => false,
            };
            let function = match constant {
                true => CheckedFunction::RoundTiesAway,
                false => CheckedFunction::RoundTiesEven,
            };
            Ok(checked(function, call.args))
        }
        ("character_length" | "length" | "char_length" | "octet_length", [_])
            if of(0)? == Some(DataType::Binary) =>
        {
            Ok(checked(CheckedFunction::ByteaLength, call.args))
        }
        // A length below zero is none.
        ("lpad" | "rpad", [_, length, ..]) if !is_greatest(length) => {
            let mut args = call.args;
            args[1] = greatest(vec![args[1].clone(), lit(0_i64)]);
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: call.func, args })))
        }
        ("concat" | "concat_ws", _) => {
            let text = |arg: Expr| -> DataFusionResult<Expr> {
                let of = arg.get_type(schema)?;
                let as_text = printed(&of) || of == DataType::Boolean;
                Ok(if as_text { text_cast(arg, DataType::Utf8) } else { arg })
            };
            let args = call.args.into_iter().map(text).collect::<DataFusionResult<_>>()?;
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: call.func, args })))
        }
        ("date_part", [Expr::Literal(ScalarValue::Utf8(Some(field)), _), _])
            if matches!(of(1)?, Some(DataType::Interval(_))) =>
        {
            let function = interval_part(field);
            Ok(function.map_or_else(
                || Transformed::no(Expr::ScalarFunction(call.clone())),
                |f| checked(f, vec![call.args[1].clone()]),
            ))
        }
        ("justify_days" | "justify_hours" | "justify_interval", [text])
            if is_text(&text.get_type(schema)?) =>
        {
            let interval = DataType::Interval(IntervalUnit::MonthDayNano);
            let args =
                call.args.into_iter().map(|text| text_cast(text, interval.clone())).collect();
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: call.func, args })))
        }
        // Seconds with their fraction.
        ("date_part", [Expr::Literal(ScalarValue::Utf8(Some(field)), _), _]) => {
            let unit = match field.to_lowercase().as_str() {
                "second" | "seconds" | "sec" | "secs" => 1e6,
                "millisecond" | "milliseconds" | "msec" | "msecs" => 1e3,
                _ => return Ok(Transformed::no(Expr::ScalarFunction(call))),
            };
            let mut args = call.args;
            args[0] = lit("microsecond");
            let micros = Expr::ScalarFunction(ScalarFunction { func: call.func, args });
            Ok(Transformed::yes(cast(micros, DataType::Float64) / lit(unit)))
        }
        _ => Ok(Transformed::no(Expr::ScalarFunction(call))),
    }
}

/// What takes a field out of an interval, where the planner below does not do it as PostgreSQL does.
fn interval_part(field: &str) -> Option<CheckedFunction> {
    match field.to_lowercase().as_str() {
        "epoch" => Some(CheckedFunction::IntervalEpoch),
        "second" | "seconds" | "sec" | "secs" => Some(CheckedFunction::IntervalSeconds),
        _ => None,
    }
}

/// `gen_random_uuid()`
#[derive(Debug, PartialEq, Eq, Hash)]
struct RandomUuid(Signature);

/// Functions of these types.
pub(crate) fn registry() -> Vec<Arc<ScalarUDF>> {
    let random = RandomUuid(Signature::nullary(Volatility::Volatile));
    vec![Arc::new(ScalarUDF::from(random))]
}

impl ScalarUDFImpl for RandomUuid {
    fn name(&self) -> &'static str {
        "gen_random_uuid"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(UUID)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let mut builder = arrow::array::FixedSizeBinaryBuilder::new(16);
        for _ in 0..args.number_rows {
            builder.append_value(uuid::Uuid::new_v4().as_bytes())?;
        }
        Ok(ColumnarValue::Array(Arc::new(builder.finish())))
    }
}
