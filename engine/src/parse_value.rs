//! Values of PostgreSQL's scalar types from their text, or an error that repeats the text.

use arrow::compute::kernels::cast_utils::Parser as _;
use arrow::datatypes::{Date32Type, TimestampMicrosecondType};
use types::SqlState;
use types::limits::NUMERIC_PRECISION_MAX;

use crate::error::{EngineError, Result};

pub(crate) fn invalid(type_name: &str, text: &str) -> EngineError {
    EngineError::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type {type_name}: \"{text}\""),
    )
}

fn out_of_range(type_name: &str, text: &str) -> EngineError {
    EngineError::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("value \"{text}\" is out of range for type {type_name}"),
    )
}

pub(crate) fn parse_integer<T: TryFrom<i64>>(type_name: &str, text: &str) -> Result<T> {
    let trimmed = text.trim();
    let wide: i64 = match trimmed.parse() {
        Ok(wide) => wide,
        Err(_) if trimmed.parse::<i128>().is_ok() => return Err(out_of_range(type_name, text)),
        Err(_) => return Err(invalid(type_name, text)),
    };
    T::try_from(wide).map_err(|_| out_of_range(type_name, text))
}

/// A number that its type cannot hold must not become infinite or zero.
pub(crate) fn check_float(value: f64, type_name: &str, text: &str) -> Result<()> {
    let digits = text.trim().trim_start_matches(['-', '+']);
    let mantissa = digits.split(['e', 'E']).next().unwrap_or_default();
    let overflow =
        value.is_infinite() && digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let underflow = value == 0.0 && mantissa.contains(|c: char| ('1'..='9').contains(&c));
    if !overflow && !underflow {
        return Ok(());
    }
    let message = format!("\"{text}\" is out of range for type {type_name}");
    Err(EngineError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message))
}

pub(crate) fn without_zero(text: &str) -> Result<&str> {
    if text.contains('\0') {
        let message = "text cannot contain a zero byte";
        return Err(EngineError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, message));
    }
    Ok(text)
}

pub(crate) fn parse_boolean(text: &str) -> Option<bool> {
    let lower = text.trim().to_lowercase();
    let is = |word: &str, least: usize| lower.len() >= least && word.starts_with(&lower);
    if lower == "1" || is("true", 1) || is("yes", 1) || lower == "on" {
        return Some(true);
    }
    (lower == "0" || is("false", 1) || is("no", 1) || is("off", 2)).then_some(false)
}

/// `2026-01-02[ 03:04[:05[.678]]][+02[:30]]`, also with `T` and `Z`; microseconds since 1970, UTC.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    let trimmed = text.trim();
    // The names of zones are known elsewhere.
    parse_instant(trimmed).or_else(|| TimestampMicrosecondType::parse(trimmed))
}

fn parse_instant(trimmed: &str) -> Option<i64> {
    // A date has no sign inside and no colon; what follows it is the time of day.
    let end = trimmed.find([' ', 'T', 't']).unwrap_or(trimmed.len());
    let (date, rest) = trimmed.split_at(end);
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if parts.next().is_some() || ![year, month, day].into_iter().all(digits) || year.len() < 4 {
        return None;
    }
    let date = chrono::NaiveDate::from_ymd_opt(
        year.parse().ok()?,
        month.parse().ok()?,
        day.parse().ok()?,
    )?;
    let rest = rest.trim_start_matches([' ', 'T', 't']);
    let (time, zone) = match rest.find(['+', '-', 'Z', 'z', ' ']) {
        Some(at) => (&rest[..at], rest[at..].trim()),
        None => (rest, ""),
    };
    let micros = if time.is_empty() { 0 } else { parse_time_of_day(time)? };
    let offset = parse_offset(zone)?;
    let midnight = date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros();
    midnight.checked_add(micros)?.checked_sub(offset)
}

/// Microseconds since midnight; 24:00 is the end of the day.
pub(crate) fn parse_time_of_day(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.split(':');
    let mut next = |most: i64| -> Option<i64> {
        let part = parts.next()?;
        let number: i64 = part.parse().ok().filter(|_| part.len() <= 2)?;
        (0..=most).contains(&number).then_some(number)
    };
    let (hours, minutes) = (next(24)?, next(59)?);
    let seconds = next(59).or_else(|| (whole.matches(':').count() == 1).then_some(0))?;
    let valid = fraction.bytes().all(|b| b.is_ascii_digit()) && whole.matches(':').count() < 3;
    let digits: String = fraction.chars().chain("0000000".chars()).take(7).collect();
    // Of more than six digits the seventh rounds.
    let fraction = (digits.parse::<i64>().ok()? + 5) / 10;
    let micros = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction;
    (valid && micros <= 86_400_000_000).then_some(micros)
}

/// Microseconds that a zone is ahead of UTC.
fn parse_offset(zone: &str) -> Option<i64> {
    let (sign, rest) = match zone.as_bytes() {
        [] => return Some(0),
        [b'+', ..] => (1, &zone[1..]),
        [b'-', ..] => (-1, &zone[1..]),
        _ if ["z", "utc", "gmt"].contains(&zone.to_lowercase().as_str()) => return Some(0),
        _ => return None,
    };
    let digits: String = rest.chars().filter(|c| *c != ':').collect();
    if digits.is_empty() || digits.len() > 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) =
        digits.split_at(if digits.len() > 2 { digits.len() - 2 } else { digits.len() });
    let hours: i64 = hours.parse().ok()?;
    let minutes: i64 = if minutes.is_empty() { 0 } else { minutes.parse().ok()? };
    (hours < 16 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000_000)
}

/// A text that is not longer than `most` characters; spaces beyond are cut off.
pub(crate) fn of_length(text: &str, most: Option<u32>) -> Result<&str> {
    let end = most.and_then(|most| text.char_indices().nth(most as usize));
    let Some((end, _)) = end else { return Ok(text) };
    if text[end..].bytes().all(|byte| byte == b' ') {
        return Ok(&text[..end]);
    }
    let message =
        format!("value too long for type character varying({})", most.unwrap_or_default());
    Err(EngineError::new(SqlState::STRING_DATA_RIGHT_TRUNCATION, message))
}

pub(crate) fn parse_uuid(text: &str) -> Result<uuid::Uuid> {
    // PostgreSQL takes hyphens after any group of four digits, and braces around all.
    let inner = text.trim();
    let inner = inner.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(inner);
    let digits: String = inner.chars().filter(|c| *c != '-').collect();
    let grouped = inner.split('-').all(|group| !group.is_empty() && group.len().is_multiple_of(4));
    let parsed = if grouped { uuid::Uuid::try_parse(&digits).ok() } else { None };
    parsed.filter(|_| digits.len() == 32).ok_or_else(|| invalid("uuid", text))
}

/// A decimal number, rounded to an integer, half away from zero.
pub(crate) fn rounded(text: &str) -> Result<String> {
    parse_numeric(text, NUMERIC_PRECISION_MAX, 0).map(|value| value.to_string())
}

/// A decimal number, rounded to `scale` digits after the point, half away from zero; times ten to the
/// power of `scale`.
pub(crate) fn parse_numeric(text: &str, precision: u8, scale: u8) -> Result<i128> {
    let overflow = || {
        EngineError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow")
            .with_detail(format!(
                "A field with precision {precision}, scale {scale} must round to an absolute value \
                 less than 10^{}.",
                precision - scale
            ))
    };
    let trimmed = text.trim();
    let (negative, unsigned) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            (mantissa, exponent.parse::<i32>().map_err(|_| invalid("numeric", text))?)
        }
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = whole.bytes().chain(fraction.bytes());
    if whole.len() + fraction.len() == 0 || !digits.clone().all(|digit| digit.is_ascii_digit()) {
        return Err(invalid("numeric", text));
    }
    // Digits that are kept: those before the point, moved by the exponent, and `scale` more.
    let kept = i64::try_from(whole.len()).unwrap_or(i64::MAX) + i64::from(exponent);
    let kept = kept.saturating_add(i64::from(scale));
    let (mut value, mut rounds_up) = (0_i128, false);
    let mut count = 0_i64;
    for digit in digits {
        if count == kept {
            rounds_up = digit >= b'5';
        }
        if count < kept {
            let next = value.checked_mul(10).and_then(|v| v.checked_add(i128::from(digit - b'0')));
            value = next.ok_or_else(overflow)?;
        }
        count += 1;
    }
    while count < kept && value != 0 {
        value = value.checked_mul(10).ok_or_else(overflow)?;
        count += 1;
    }
    value += i128::from(rounds_up);
    if value >= 10_i128.pow(u32::from(precision)) {
        return Err(overflow());
    }
    Ok(if negative { -value } else { value })
}

/// A date; the time and the zone behind it do not count.
pub(crate) fn parse_date(text: &str) -> Option<i32> {
    let trimmed = text.trim();
    Date32Type::parse(trimmed).or_else(|| {
        parse_timestamp(trimmed)?;
        Date32Type::parse(trimmed.split([' ', 'T']).next()?)
    })
}
