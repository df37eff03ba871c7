//! `uuid` and `time` next to text: casts both ways, and text in comparisons.
//!
//! The planner below takes text next to bytes for bytes; here it becomes what stands beside it, or the
//! comparison is refused.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, StringArray};
use arrow::datatypes::{DataType, TimeUnit};
use catalog::{Column, ColumnType};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::expr::{Between, BinaryExpr, Cast, InList};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable as _, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use types::SqlState;

use crate::error::EngineError;
use crate::values::{assign, pg_name, scalar_from_text, uuid_text};

const UUID: DataType = DataType::FixedSizeBinary(16);
const TIME: DataType = DataType::Time64(TimeUnit::Microsecond);

/// The types that text is read as when it stands next to one.
fn read_from_text(data_type: &DataType) -> bool {
    *data_type == UUID || *data_type == TIME
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
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
            let uuids = array.as_fixed_size_binary();
            let text = |uuid: Option<&[u8]>| uuid.map(uuid_text);
            Arc::new(uuids.iter().map(text).collect::<StringArray>())
        } else {
            let to = if self.to == UUID { ColumnType::Uuid } else { ColumnType::Time };
            assign(array, &Column::new("", to, true)).map_err(EngineError::into_datafusion)?
        };
        if scalar && cast.len() == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&cast, 0)?));
        }
        Ok(ColumnarValue::Array(cast))
    }
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
            Expr::Cast(Cast { expr, field }) => {
                let (from, to) = (expr.get_type(schema)?, field.data_type());
                let is_known = is_text(&from) && read_from_text(to) || from == UUID && is_text(to);
                if is_known {
                    let to = if is_text(to) { DataType::Utf8 } else { to.clone() };
                    return Ok(Transformed::yes(text_cast(*expr, to)));
                }
                let is_open = matches!(from, DataType::Null) || is_placeholder(&expr);
                if (*to == UUID) != (from == UUID) && !is_open {
                    let to = pg_name(to);
                    let message = format!("cannot cast type {} to {to}", pg_name(&from));
                    return Err(
                        EngineError::new(SqlState::CANNOT_COERCE, message).into_datafusion()
                    );
                }
                Ok(Transformed::no(Expr::Cast(Cast { expr, field })))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (of_left, of_right) = (special(&left, schema), special(&right, schema));
                let (left, right) = match (of_left, of_right) {
                    (Some(beside), None) if compares(op) => {
                        (left, Box::new(next_to(*right, &beside, schema)?))
                    }
                    (None, Some(beside)) if compares(op) => {
                        (Box::new(next_to(*left, &beside, schema)?), right)
                    }
                    _ => {
                        return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr {
                            left,
                            op,
                            right,
                        })));
                    }
                };
                Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
            }
            Expr::InList(InList { expr, list, negated }) => {
                let Some(beside) = special(&expr, schema) else {
                    return Ok(Transformed::no(Expr::InList(InList { expr, list, negated })));
                };
                let list = list.into_iter().map(|item| next_to(item, &beside, schema));
                let list = list.collect::<DataFusionResult<_>>()?;
                Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })))
            }
            Expr::Between(Between { expr, negated, low, high }) => {
                let Some(beside) = special(&expr, schema) else {
                    return Ok(Transformed::no(Expr::Between(Between {
                        expr,
                        negated,
                        low,
                        high,
                    })));
                };
                let low = Box::new(next_to(*low, &beside, schema)?);
                let high = Box::new(next_to(*high, &beside, schema)?);
                Ok(Transformed::yes(Expr::Between(Between { expr, negated, low, high })))
            }
            other => Ok(Transformed::no(other)),
        }
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
