//! `range` makes all of its numbers at once: not more than so many.

use std::sync::Arc;

use arrow::array::AsArray as _;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use types::SqlState;
use types::limits::SERIES_MAX;

use crate::error::EngineError;

/// The planner's function, with a limit.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct LimitedRange(Arc<ScalarUDF>);

impl LimitedRange {
    pub(crate) fn of(range: Arc<ScalarUDF>) -> ScalarUDF {
        ScalarUDF::from(Self(range))
    }
}

/// Numbers from `first` on, before `end`.
fn count(first: i64, end: i64, step: i64) -> u128 {
    let span = i128::from(end) - i128::from(first);
    match step {
        0 => 0,
        step if (span > 0) == (step > 0) => span.unsigned_abs() / u128::from(step.unsigned_abs()),
        _ => 0,
    }
}

impl ScalarUDFImpl for LimitedRange {
    fn name(&self) -> &'static str {
        "range"
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> DataFusionResult<DataType> {
        self.0.return_type(arguments)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        self.0.coerce_types(arguments)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let numbers = |value: &ColumnarValue| {
            let array = value.to_array(args.number_rows).ok()?;
            array.as_primitive_opt::<Int64Type>().cloned()
        };
        let columns: Option<Vec<_>> = args.args.iter().map(numbers).collect();
        if let Some([first, end, step @ ..]) = columns.as_deref() {
            let of = |row: usize| {
                let step = step.first().map_or(1, |step| step.value(row));
                count(first.value(row), end.value(row), step)
            };
            let total: u128 = (0..args.number_rows).map(of).sum();
            if total > SERIES_MAX {
                let message = format!("a series in a select list has at most {SERIES_MAX} numbers");
                return Err(EngineError::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message)
                    .with_hint("Write: FROM generate_series(first, last).")
                    .into_datafusion());
            }
        }
        self.0.invoke_with_args(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted_without_being_made() {
        assert_eq!(count(1, 4, 1), 3);
        assert_eq!(count(5, 0, -2), 2);
        assert_eq!(count(1, 4, -1), 0);
        assert_eq!(count(1, 4, 0), 0);
        assert_eq!(count(i64::MIN, i64::MAX, 1), u128::from(u64::MAX));
    }
}
