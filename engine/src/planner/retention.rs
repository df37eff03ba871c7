//! The storage parameter `retention`: how long ended row versions can be read.

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use datafusion::sql::sqlparser::ast::{Expr, SqlOption, Value};
use types::SqlState;
use types::limits::RETENTION_MAX_MICROS;

use crate::error::{EngineError, Result};
use crate::sql::types::fold;

const DAY_MICROS: i64 = 24 * 3_600 * 1_000_000;

/// Reads `(retention = '7 days')`. `None` stands for the default.
pub(crate) fn retention(options: &[SqlOption]) -> Result<Option<i64>> {
    let mut found = None;
    for option in options {
        let SqlOption::KeyValue { key, value } = option else {
            return Err(EngineError::unsupported(format!("table option {option}")));
        };
        let name = fold(key);
        if name != "retention" {
            let message = format!("unrecognized parameter \"{name}\"");
            return Err(EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message)
                .with_hint("A table has one parameter: retention, an interval."));
        }
        if found.replace(micros(value)?).is_some() {
            let message = "parameter \"retention\" specified more than once";
            return Err(EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
    }
    found.ok_or_else(|| EngineError::syntax("a parameter is missing"))
}

fn micros(value: &Expr) -> Result<Option<i64>> {
    let text = match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.trim().to_ascii_lowercase(),
            Value::Number(number, _) => number.clone(),
            other => other.to_string(),
        },
        Expr::Identifier(ident) => fold(ident),
        other => other.to_string(),
    };
    if text == "default" {
        return Ok(None);
    }
    let wrong = || {
        let message = format!("invalid value for parameter \"retention\": {value}");
        EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message).with_hint(
            "An interval of days and less, from 0 to a hundred years: '7 days', '90 minutes', '0'.",
        )
    };
    if text == "0" {
        return Ok(Some(0));
    }
    // A number without a unit could be anything.
    if !text.contains(|c: char| c.is_ascii_alphabetic() || c == ':') {
        return Err(wrong());
    }
    let interval = parse_interval_month_day_nano(&text).map_err(|_| wrong())?;
    let days = i64::from(interval.days).checked_mul(DAY_MICROS);
    let micros = days.and_then(|days| days.checked_add(interval.nanoseconds / 1_000));
    // A month has no fixed length.
    let micros = micros.filter(|_| interval.months == 0);
    let micros = micros.filter(|micros| (0..=RETENTION_MAX_MICROS).contains(micros));
    micros.map(Some).ok_or_else(wrong)
}
