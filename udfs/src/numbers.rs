//! What PostgreSQL's operators and casts check, and Arrow's do not: integers that overflow, division
//! of floating-point numbers by zero, rounding to an integer, and the text form of `bytea`.
//!
//! The planner puts these functions where an operator or a cast stands; none has a name a user
//! could call.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, AsArray as _, BinaryArray, Int32Array, PrimitiveArray,
    StringArray, new_null_array,
};
use arrow::compute::kernels::numeric::{add, mul, sub};
use arrow::compute::{cast, try_binary};
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use arrow::error::ArrowError;
use datafusion_common::{DataFusionError, Result, ScalarValue};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use num_traits::{Float, Zero as _};

use crate::ValueError;
use crate::bytea::{parse_bytea, write_bytea};
use crate::intervals::{scaled, seconds, span};

/// A checked operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckedFunction {
    /// Sum of two integers of one type.
    Add,
    /// Difference of two integers of one type.
    Subtract,
    /// Product of two integers of one type.
    Multiply,
    /// Sum of two floating-point numbers of one type.
    AddFloat,
    /// Difference of two floating-point numbers of one type.
    SubtractFloat,
    /// Product of two floating-point numbers of one type.
    MultiplyFloat,
    /// Quotient of two floating-point numbers of one type.
    DivideFloat,
    /// Its argument, a floating-point number, with one zero and one NaN: comparisons go by bits.
    Canonical,
    /// Its argument, a floating-point number that is not zero.
    Divisor,
    /// The nearest integer, ties to even: `double precision` to integer.
    RoundTiesEven,
    /// The nearest integer, ties away from zero: `numeric` to integer.
    RoundTiesAway,
    /// `bytea` of its text form.
    ByteaIn,
    /// The text form of a `bytea`.
    ByteaOut,
    /// Bytes of a `bytea`.
    ByteaLength,
    /// How long an interval is, in nanoseconds: a month has 30 days, a day 24 hours.
    IntervalSpan,
    /// All of an interval in seconds, as `extract(epoch from ...)` counts it.
    IntervalEpoch,
    /// Seconds of an interval behind its minutes.
    IntervalSeconds,
    /// An interval times a `double precision`.
    IntervalTimes,
    /// An interval by a `double precision` that is not zero.
    IntervalDivide,
}

impl CheckedFunction {
    /// The function as the planner calls it.
    #[must_use]
    pub fn udf(self) -> ScalarUDF {
        let arity = match self {
            Self::Add
            | Self::Subtract
            | Self::Multiply
            | Self::AddFloat
            | Self::SubtractFloat
            | Self::MultiplyFloat
            | Self::DivideFloat
            | Self::IntervalTimes
            | Self::IntervalDivide => 2,
            Self::Canonical
            | Self::Divisor
            | Self::RoundTiesEven
            | Self::RoundTiesAway
            | Self::ByteaIn
            | Self::ByteaOut
            | Self::ByteaLength
            | Self::IntervalSpan
            | Self::IntervalEpoch
            | Self::IntervalSeconds => 1,
        };
        let signature = Signature::any(arity, Volatility::Immutable);
        ScalarUDF::from(CheckedUdf { function: self, signature })
    }

    /// The function a call refers to, when it is one of these.
    #[must_use]
    pub fn of(udf: &ScalarUDF) -> Option<Self> {
        udf.inner().downcast_ref::<CheckedUdf>().map(|checked| checked.function)
    }

    /// Whether the result is an integer.
    #[must_use]
    pub fn is_integer(self) -> bool {
        matches!(self, Self::Add | Self::Subtract | Self::Multiply)
    }

    /// Whether it is an operator of two numbers of one type.
    #[must_use]
    pub fn is_arithmetic(self) -> bool {
        let of_floats = matches!(
            self,
            Self::AddFloat | Self::SubtractFloat | Self::MultiplyFloat | Self::DivideFloat
        );
        of_floats || self.is_integer()
    }

    /// Applies the function to columns of one length.
    ///
    /// # Errors
    /// When a value is out of range, zero or malformed, as the function says.
    pub fn compute(self, arguments: &[ArrayRef]) -> Result<ArrayRef> {
        Ok(match (self, arguments) {
            (Self::Add, [left, right]) => in_range(add(left, right), left)?,
            (Self::Subtract, [left, right]) => in_range(sub(left, right), left)?,
            (Self::Multiply, [left, right]) => in_range(mul(left, right), left)?,
            (
                Self::AddFloat | Self::SubtractFloat | Self::MultiplyFloat | Self::DivideFloat,
                [left, right],
            ) => match left.data_type() {
                // The optimizer asks what becomes of NULL without a type.
                _ if [left, right].iter().any(|side| side.data_type().is_null()) => {
                    new_null_array(&DataType::Float64, left.len())
                }
                DataType::Float32 => self.of_floats::<Float32Type>(left, right)?,
                _ => self.of_floats::<Float64Type>(left, right)?,
            },
            (Self::Canonical, [number]) => match number.data_type() {
                DataType::Float32 => {
                    let plain = |number: f32| if number.is_nan() { f32::NAN } else { number + 0.0 };
                    Arc::new(number.as_primitive::<Float32Type>().unary::<_, Float32Type>(plain))
                }
                DataType::Float64 => {
                    let plain = |number: f64| if number.is_nan() { f64::NAN } else { number + 0.0 };
                    Arc::new(number.as_primitive::<Float64Type>().unary::<_, Float64Type>(plain))
                }
                _ => Arc::clone(number),
            },
            (Self::Divisor, [divisor]) => {
                let wide = cast(divisor, &DataType::Float64)?;
                if wide.as_primitive::<Float64Type>().iter().flatten().any(|value| value == 0.0) {
                    return Err(ValueError::DivisionByZero.into());
                }
                Arc::clone(divisor)
            }
            (Self::RoundTiesEven, [number]) => rounded(number, f64::round_ties_even)?,
            (Self::RoundTiesAway, [number]) => rounded(number, f64::round)?,
            (Self::ByteaIn, [text]) => {
                let text = cast(text, &DataType::Utf8)?;
                let bytes = text.as_string::<i32>().iter().map(|text| text.map(parse_bytea));
                let bytes: Vec<Option<Vec<u8>>> =
                    bytes.map(Option::transpose).collect::<Result<_, ValueError>>()?;
                Arc::new(bytes.into_iter().collect::<BinaryArray>())
            }
            (Self::ByteaLength, [bytes]) => {
                let bytes = cast(bytes, &DataType::Binary)?;
                let length = |bytes: &[u8]| i32::try_from(bytes.len()).unwrap_or(i32::MAX);
                let lengths = bytes.as_binary::<i32>().iter().map(|bytes| bytes.map(length));
                Arc::new(lengths.collect::<Int32Array>())
            }
            (Self::IntervalSpan, [interval]) => span(interval)?,
            (Self::IntervalEpoch, [interval]) => seconds(interval, true)?,
            (Self::IntervalSeconds, [interval]) => seconds(interval, false)?,
            (Self::IntervalTimes, [interval, factor]) => {
                scaled(interval, factor, <f64 as std::ops::Mul>::mul)?
            }
            (Self::IntervalDivide, [interval, divisor]) => {
                scaled(interval, divisor, <f64 as std::ops::Div>::div)?
            }
            (Self::ByteaOut, [bytes]) => {
                let bytes = cast(bytes, &DataType::Binary)?;
                let text = |bytes: &[u8]| {
                    let mut text = String::new();
                    write_bytea(&mut text, bytes);
                    text
                };
                let texts = bytes.as_binary::<i32>().iter().map(|bytes| bytes.map(text));
                Arc::new(texts.collect::<StringArray>())
            }
            _ => return Err(DataFusionError::Internal("wrong number of arguments".to_owned())),
        })
    }
}

impl CheckedFunction {
    /// PostgreSQL's `float8pl` and its kin: what becomes infinite or zero by itself is an error.
    fn of_floats<T>(self, left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef>
    where
        T: ArrowPrimitiveType,
        T::Native: Float,
    {
        let (left, right) = (left.as_primitive::<T>(), right.as_primitive::<T>());
        let zero = T::Native::zero();
        let compute = |a: T::Native, b: T::Native| {
            let number = match self {
                Self::AddFloat => a + b,
                Self::SubtractFloat => a - b,
                Self::MultiplyFloat => a * b,
                _ if b == zero && !a.is_nan() => return Err(divided()),
                _ => a / b,
            };
            if number.is_infinite() && !a.is_infinite() && !b.is_infinite() {
                return Err(computed(ValueError::Overflow));
            }
            let shrinks = match self {
                Self::MultiplyFloat => a != zero && b != zero,
                Self::DivideFloat => a != zero && !b.is_infinite(),
                _ => false,
            };
            if number == zero && shrinks {
                return Err(computed(ValueError::Underflow));
            }
            Ok(if number.is_nan() { T::Native::nan() } else { number + zero })
        };
        let result: PrimitiveArray<T> = try_binary(left, right, compute)?;
        Ok(Arc::new(result))
    }
}

fn divided() -> ArrowError {
    computed(ValueError::DivisionByZero)
}

fn computed(error: ValueError) -> ArrowError {
    ArrowError::ExternalError(Box::new(error))
}

/// Names the type that an integer was too large for.
fn in_range(result: Result<ArrayRef, ArrowError>, operand: &ArrayRef) -> Result<ArrayRef> {
    match result {
        Err(ArrowError::ArithmeticOverflow(_)) => {
            Err(ValueError::OutOfRange(integer_name(operand.data_type())).into())
        }
        other => Ok(other?),
    }
}

fn integer_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Int8 | DataType::Int16 => "smallint",
        DataType::Int32 => "integer",
        _ => "bigint",
    }
}

fn rounded(number: &ArrayRef, round: fn(f64) -> f64) -> Result<ArrayRef> {
    let wide = cast(number, &DataType::Float64)?;
    Ok(Arc::new(wide.as_primitive::<Float64Type>().unary::<_, Float64Type>(round)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedUdf {
    function: CheckedFunction,
    signature: Signature,
}

impl ScalarUDFImpl for CheckedUdf {
    fn name(&self) -> &'static str {
        match self.function {
            CheckedFunction::Add => "checked_add",
            CheckedFunction::Subtract => "checked_subtract",
            CheckedFunction::Multiply => "checked_multiply",
            CheckedFunction::AddFloat => "add",
            CheckedFunction::SubtractFloat => "subtract",
            CheckedFunction::MultiplyFloat => "multiply",
            CheckedFunction::DivideFloat => "divide",
            CheckedFunction::Canonical => "canonical",
            CheckedFunction::Divisor => "checked_divisor",
            CheckedFunction::RoundTiesEven => "round_ties_even",
            CheckedFunction::RoundTiesAway => "round_ties_away",
            CheckedFunction::ByteaIn => "bytea_in",
            CheckedFunction::ByteaOut => "bytea_out",
            CheckedFunction::ByteaLength => "length",
            CheckedFunction::IntervalSpan => "interval_span",
            CheckedFunction::IntervalEpoch | CheckedFunction::IntervalSeconds => "date_part",
            CheckedFunction::IntervalTimes => "interval_times",
            CheckedFunction::IntervalDivide => "interval_divide",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match (self.function, arguments) {
            (
                CheckedFunction::RoundTiesEven
                | CheckedFunction::RoundTiesAway
                | CheckedFunction::IntervalEpoch
                | CheckedFunction::IntervalSeconds,
                _,
            ) => DataType::Float64,
            (CheckedFunction::ByteaIn, _) => DataType::Binary,
            (CheckedFunction::ByteaOut, _) => DataType::Utf8,
            (CheckedFunction::ByteaLength, _) => DataType::Int32,
            (CheckedFunction::IntervalSpan, _) => DataType::Decimal128(38, 0),
            (_, [first, ..]) => first.clone(),
            (_, []) => DataType::Null,
        })
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> =
            arguments.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = arguments.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let arrays: Vec<ArrayRef> =
            args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<_>>()?;
        let result = self.function.compute(&arrays)?;
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int32Array};

    fn integers(values: &[Option<i32>]) -> ArrayRef {
        Arc::new(values.iter().copied().collect::<Int32Array>())
    }

    #[test]
    fn integers_overflow_with_the_name_of_their_type() {
        let left = integers(&[Some(i32::MAX), None]);
        let sum = CheckedFunction::Add.compute(&[Arc::clone(&left), integers(&[Some(0), Some(1)])]);
        assert_eq!(&sum.unwrap(), &left);
        for (function, right) in [
            (CheckedFunction::Add, 1),
            (CheckedFunction::Subtract, -1),
            (CheckedFunction::Multiply, 2),
        ] {
            let error = function.compute(&[Arc::clone(&left), integers(&[Some(right), None])]);
            let error = error.unwrap_err().to_string();
            assert!(error.contains("integer out of range"), "{error}");
        }
    }

    #[test]
    fn numbers_round_as_their_type_does() {
        let halves: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 1.5, -2.5, 2.4]));
        let even = CheckedFunction::RoundTiesEven.compute(&[Arc::clone(&halves)]).unwrap();
        let away = CheckedFunction::RoundTiesAway.compute(&[Arc::clone(&halves)]).unwrap();
        assert_eq!(even.as_primitive::<Float64Type>().values(), &[0.0, 2.0, -2.0, 2.0]);
        assert_eq!(away.as_primitive::<Float64Type>().values(), &[1.0, 2.0, -3.0, 2.0]);
        assert!(CheckedFunction::Divisor.compute(&[halves]).is_ok());
        let zero: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None, Some(-0.0)]));
        assert!(CheckedFunction::Divisor.compute(&[zero]).is_err());
    }
}
