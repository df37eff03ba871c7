//! Values as text, as PostgreSQL prints them: on the wire, in casts and in concatenations.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int16Type,
    Int32Type, Int64Type, IntervalMonthDayNanoType, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use types::limits::{NUMERIC_PRECISION_MAX, NUMERIC_SCALE_DEFAULT};

use crate::error::Result;
use crate::values::{timestamp_text, uuid_text};

const NUMERIC_SCALE: i8 = NUMERIC_SCALE_DEFAULT.cast_signed();
const DAY_MICROS: i64 = 86_400_000_000;

/// Values in the Arrow type that [`write_value`] and the binary forms know, where theirs is another one
/// for the same.
///
/// # Errors
/// When a value has no place in that type.
pub fn plain_values(array: &ArrayRef) -> Result<ArrayRef> {
    let target = match array.data_type() {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(TimeUnit::Nanosecond) => {
            DataType::Time64(TimeUnit::Microsecond)
        }
        DataType::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        DataType::Duration(unit) if *unit != TimeUnit::Microsecond => {
            DataType::Duration(TimeUnit::Microsecond)
        }
        DataType::Dictionary(_, value) => DataType::clone(value),
        _ => return Ok(Arc::clone(array)),
    };
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(array, &target, &options)?)
}

/// Months, days and microseconds of an interval or a duration; `None` of other types.
#[must_use]
pub fn interval_parts(array: &dyn Array, row: usize) -> Option<(i32, i32, i64)> {
    if let Some(intervals) = array.as_primitive_opt::<IntervalMonthDayNanoType>() {
        let interval = intervals.value(row);
        return Some((interval.months, interval.days, interval.nanoseconds / 1_000));
    }
    let micros = array.as_primitive_opt::<DurationMicrosecondType>()?.value(row);
    let days = i32::try_from(micros / DAY_MICROS).ok()?;
    Some((0, days, micros % DAY_MICROS))
}

/// Writes a value of [`plain_values`] that is not NULL.
///
/// # Errors
/// When Arrow cannot print a value of a type that PostgreSQL does not have.
pub fn write_value(text: &mut String, array: &ArrayRef, row: usize) -> Result<()> {
    if let Some(vector) = udfs::vector_row(&**array, row) {
        udfs::write_vector(text, vector);
        return Ok(());
    }
    if let Some((months, days, micros)) = interval_parts(array, row) {
        write_interval(text, months, days, micros);
        return Ok(());
    }
    // Writing to a string cannot fail.
    let _ = match array.data_type() {
        DataType::Utf8 => text.write_str(array.as_string::<i32>().value(row)),
        DataType::Boolean => text.write_str(if array.as_boolean().value(row) { "t" } else { "f" }),
        DataType::Int16 => write!(text, "{}", array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => write!(text, "{}", array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => write!(text, "{}", array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => {
            types::write_float4(text, array.as_primitive::<Float32Type>().value(row))
        }
        DataType::Float64 => {
            types::write_float8(text, array.as_primitive::<Float64Type>().value(row))
        }
        DataType::Binary => {
            udfs::write_bytea(text, array.as_binary::<i32>().value(row));
            Ok(())
        }
        DataType::Timestamp(_, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            write_trimmed(text, &timestamp_text(micros));
            text.write_str(if zone.is_some() { "+00" } else { "" })
        }
        DataType::Time64(_) => {
            let micros = array.as_primitive::<Time64MicrosecondType>().value(row);
            write_time(text, micros);
            Ok(())
        }
        // A `numeric` that does not say how many digits it has shows those that count.
        DataType::Decimal128(NUMERIC_PRECISION_MAX, NUMERIC_SCALE) => {
            write_trimmed(text, &array.as_primitive::<Decimal128Type>().value_as_string(row));
            Ok(())
        }
        DataType::FixedSizeBinary(16) => {
            text.write_str(&uuid_text(array.as_fixed_size_binary().value(row)))
        }
        DataType::List(_) => return write_list(text, &array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => return write_list(text, &array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => {
            return write_list(text, &array.as_fixed_size_list().value(row));
        }
        _ => {
            let options = FormatOptions::default();
            write!(text, "{}", ArrayFormatter::try_new(array.as_ref(), &options)?.value(row))
        }
    };
    Ok(())
}

/// All values as text.
///
/// # Errors
/// As of [`write_value`].
pub(crate) fn texts(array: &ArrayRef) -> Result<StringArray> {
    let array = plain_values(array)?;
    let text = |row| {
        if array.data_type().is_null() || array.is_null(row) {
            return Ok(None);
        }
        let mut text = String::new();
        write_value(&mut text, &array, row)?;
        Ok(Some(text))
    };
    (0..array.len()).map(text).collect()
}

/// A fraction without the zeros at its end.
fn write_trimmed(text: &mut String, shown: &str) {
    let (whole, fraction) = shown.split_once('.').unwrap_or((shown, ""));
    text.push_str(whole);
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        text.push('.');
        text.push_str(fraction);
    }
}

/// `03:04:05.5`, of more hours than a day has, too.
fn write_time(text: &mut String, micros: i64) {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    write_trimmed(text, &format!("{hours:02}:{minutes:02}:{seconds:02}.{fraction:06}"));
}

/// `1 year 2 mons -3 days +04:05:06.5`: what follows something negative says that it is not.
fn write_interval(text: &mut String, months: i32, days: i32, micros: i64) {
    let start = text.len();
    let mut negative = false;
    let fields = [(months / 12, "year"), (months % 12, "mon"), (days, "day")].into_iter();
    for (count, unit) in fields.filter(|(count, _)| *count != 0) {
        let space = if text.len() > start { " " } else { "" };
        let sign = if negative && count > 0 { "+" } else { "" };
        let plural = if count == 1 { "" } else { "s" };
        let _ = write!(text, "{space}{sign}{count} {unit}{plural}");
        negative = count < 0;
    }
    if micros != 0 || text.len() == start {
        if text.len() > start {
            text.push(' ');
        }
        match micros {
            ..0 => text.push('-'),
            _ if negative => text.push('+'),
            _ => {}
        }
        write_time(text, i64::try_from(micros.unsigned_abs()).unwrap_or(i64::MAX));
    }
}

/// `{a,"b c",NULL}`
fn write_list(text: &mut String, items: &ArrayRef) -> Result<()> {
    let items = plain_values(items)?;
    let nested = udfs::vector_shape(items.data_type()).is_none()
        && matches!(
            items.data_type(),
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)
        );
    text.push('{');
    for at in 0..items.len() {
        if at > 0 {
            text.push(',');
        }
        if items.data_type().is_null() || items.is_null(at) {
            text.push_str("NULL");
            continue;
        }
        let mut value = String::new();
        write_value(&mut value, &items, at)?;
        let plain = !value.is_empty()
            && !value.eq_ignore_ascii_case("null")
            && !value.bytes().any(|byte| b"{},\"\\".contains(&byte) || byte.is_ascii_whitespace());
        if nested || plain {
            text.push_str(&value);
            continue;
        }
        text.push('"');
        for c in value.chars() {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('"');
    }
    text.push('}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_look_as_from_postgresql() {
        let cases = [
            ((0, 0, 0), "00:00:00"),
            ((14, 3, 14_706_500_000), "1 year 2 mons 3 days 04:05:06.5"),
            ((0, -1, 7_200_000_000), "-1 days +02:00:00"),
            ((0, 1, -7_200_000_000), "1 day -02:00:00"),
            ((-13, 1, 0), "-1 years -1 mons +1 day"),
            ((0, 0, -1), "-00:00:00.000001"),
            ((0, 0, 360_000_000_000), "100:00:00"),
        ];
        for ((months, days, micros), expected) in cases {
            let mut text = String::new();
            write_interval(&mut text, months, days, micros);
            assert_eq!(text, expected);
        }
    }
}
