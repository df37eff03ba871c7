//! Intervals from text: PostgreSQL's own form, the SQL standard's and ISO 8601's (PostgreSQL manual,
//! section 8.5.4).

use arrow::datatypes::IntervalMonthDayNano;
use types::SqlState;

use crate::error::{EngineError, Result};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
const DAYS_OF_MONTH: f64 = 30.0;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Unit {
    /// So many microseconds.
    Micros(i64),
    /// So many days.
    Days(i64),
    Month,
    /// So many years.
    Years(i64),
}

impl Unit {
    fn of(word: &str) -> Option<Self> {
        Some(match word.to_lowercase().as_str() {
            "us" | "usec" | "usecs" | "useconds" | "microsecond" | "microseconds" => {
                Self::Micros(1)
            }
            "ms" | "msec" | "msecs" | "mseconds" | "millisecond" | "milliseconds" => {
                Self::Micros(1_000)
            }
            "s" | "sec" | "secs" | "second" | "seconds" => Self::Micros(SECOND),
            "m" | "min" | "mins" | "minute" | "minutes" => Self::Micros(60 * SECOND),
            "h" | "hr" | "hrs" | "hour" | "hours" => Self::Micros(3_600 * SECOND),
            "d" | "day" | "days" => Self::Days(1),
            "w" | "week" | "weeks" => Self::Days(7),
            "mon" | "mons" | "month" | "months" => Self::Month,
            "y" | "yr" | "yrs" | "year" | "years" => Self::Years(1),
            "dec" | "decs" | "decade" | "decades" => Self::Years(10),
            "c" | "cent" | "century" | "centuries" => Self::Years(100),
            "mil" | "mils" | "millennium" | "millennia" => Self::Years(1_000),
            _ => return None,
        })
    }

    /// The unit of a letter in an ISO 8601 duration.
    fn of_iso(letter: char, in_time: bool) -> Option<Self> {
        Some(match (letter, in_time) {
            ('Y', false) => Self::Years(1),
            ('M', false) => Self::Month,
            ('W', false) => Self::Days(7),
            ('D', false) => Self::Days(1),
            ('H', true) => Self::Micros(3_600 * SECOND),
            ('M', true) => Self::Micros(60 * SECOND),
            ('S', true) => Self::Micros(SECOND),
            _ => return None,
        })
    }
}

/// Why a text is no interval.
#[derive(Debug, PartialEq)]
enum Wrong {
    Syntax,
    Range,
}

/// A number: its whole part and its fraction, both with its sign.
fn number(text: &str) -> std::result::Result<(i64, f64), Wrong> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return Err(Wrong::Syntax);
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| Wrong::Range)? };
    let fraction: f64 = format!("0.{fraction}0").parse().map_err(|_| Wrong::Syntax)?;
    Ok(if negative { (-whole, -fraction) } else { (whole, fraction) })
}

/// Months, days and microseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Sum {
    months: i64,
    days: i64,
    micros: i64,
}

impl Sum {
    #[expect(clippy::cast_possible_truncation, reason = "fractions of a unit, which fit")]
    fn add(&mut self, (whole, fraction): (i64, f64), unit: Unit) -> std::result::Result<(), Wrong> {
        let plus = |to: i64, count: i64, each: i64| {
            count.checked_mul(each).and_then(|more| to.checked_add(more)).ok_or(Wrong::Range)
        };
        // A part of so many days.
        let part = |sum: &mut Self, days: f64| -> std::result::Result<(), Wrong> {
            sum.days = plus(sum.days, days.trunc() as i64, 1)?;
            let rest = days.fract() * DAY as f64;
            sum.micros = plus(sum.micros, rest.round() as i64, 1)?;
            Ok(())
        };
        match unit {
            Unit::Micros(each) => {
                self.micros = plus(self.micros, whole, each)?;
                self.micros = plus(self.micros, (fraction * each as f64).round() as i64, 1)?;
            }
            Unit::Days(each) => {
                self.days = plus(self.days, whole, each)?;
                part(self, fraction * each as f64)?;
            }
            Unit::Month => {
                self.months = plus(self.months, whole, 1)?;
                part(self, fraction * DAYS_OF_MONTH)?;
            }
            Unit::Years(each) => {
                self.months = plus(self.months, whole, 12 * each)?;
                let months = (fraction * (12 * each) as f64).round() as i64;
                self.months = plus(self.months, months, 1)?;
            }
        }
        Ok(())
    }

    /// `[-]hh:mm[:ss[.f]]`, or `mm:ss.f`.
    fn add_time(&mut self, text: &str) -> std::result::Result<(), Wrong> {
        let negative = text.starts_with('-');
        let digits = text.trim_start_matches(['-', '+']);
        let mut parts: Vec<&str> = digits.split(':').collect();
        if parts.len() == 2 && parts[1].contains('.') {
            parts.insert(0, "0");
        }
        let (hours, minutes, seconds) = match parts.as_slice() {
            [hours, minutes] => (*hours, *minutes, "0"),
            [hours, minutes, seconds] => (*hours, *minutes, *seconds),
            _ => return Err(Wrong::Syntax),
        };
        let (hours, minutes, seconds) = (number(hours)?, number(minutes)?, number(seconds)?);
        if hours.1 != 0.0 || minutes.1 != 0.0 {
            return Err(Wrong::Syntax);
        }
        if minutes.0 > 59 || seconds.0 > 59 {
            return Err(Wrong::Range);
        }
        let sign = |(whole, fraction): (i64, f64)| match negative {
            true => (-whole, -fraction),
            false => (whole, fraction),
        };
        self.add(sign(hours), Unit::Micros(3_600 * SECOND))?;
        self.add(sign(minutes), Unit::Micros(60 * SECOND))?;
        self.add(sign(seconds), Unit::Micros(SECOND))
    }

    /// `[-]years-months`
    fn add_months(&mut self, text: &str) -> std::result::Result<(), Wrong> {
        let negative = text.starts_with('-');
        let (years, months) =
            text.trim_start_matches(['-', '+']).split_once('-').ok_or(Wrong::Syntax)?;
        let (years, months) = (number(years)?, number(months)?);
        if years.1 != 0.0 || months.1 != 0.0 {
            return Err(Wrong::Syntax);
        }
        if months.0 > 11 {
            return Err(Wrong::Range);
        }
        let sign = if negative { -1 } else { 1 };
        self.add((sign * years.0, 0.0), Unit::Years(1))?;
        self.add((sign * months.0, 0.0), Unit::Month)
    }
}

/// The words and numbers of a text.
fn words(text: &str) -> std::result::Result<Vec<&str>, Wrong> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(|c: char| c.is_whitespace() || c == '@');
    while let Some(first) = rest.chars().next() {
        let is_part: fn(char) -> bool = match first {
            c if c.is_alphabetic() => char::is_alphabetic,
            '0'..='9' | '+' | '-' | '.' | ':' => {
                |c| c.is_ascii_digit() || matches!(c, '.' | ':' | '-')
            }
            _ => return Err(Wrong::Syntax),
        };
        let end = rest.char_indices().skip(1).find(|(_, c)| !is_part(*c));
        let (word, behind) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
        words.push(word);
        rest = behind.trim_start_matches(|c: char| c.is_whitespace() || c == '@');
    }
    if words.is_empty() { Err(Wrong::Syntax) } else { Ok(words) }
}

/// `P1Y2M3DT4H5M6S`
fn iso(text: &str) -> std::result::Result<Sum, Wrong> {
    let (mut sum, mut in_time, mut start, mut any) = (Sum::default(), false, 0, false);
    for (at, c) in text.char_indices() {
        match c {
            'T' if !in_time && start == at => {
                in_time = true;
                start = at + 1;
            }
            '0'..='9' | '.' | '-' | '+' => {}
            letter => {
                let unit = Unit::of_iso(letter, in_time).ok_or(Wrong::Syntax)?;
                sum.add(number(&text[start..at])?, unit)?;
                start = at + 1;
                any = true;
            }
        }
    }
    if any && start == text.len() { Ok(sum) } else { Err(Wrong::Syntax) }
}

fn sum_of(text: &str, bare: Unit) -> std::result::Result<Sum, Wrong> {
    if let Some(duration) = text.trim().strip_prefix('P') {
        return iso(duration);
    }
    let mut words = words(text)?;
    let ago = words.last().is_some_and(|word| word.eq_ignore_ascii_case("ago"));
    if ago {
        words.pop();
    }
    let mut sum = Sum::default();
    let mut words = words.into_iter().peekable();
    let mut any = false;
    while let Some(word) = words.next() {
        any = true;
        if word.contains(':') {
            sum.add_time(word)?;
        } else if word.get(1..).is_some_and(|rest| rest.contains('-')) {
            sum.add_months(word)?;
        } else {
            let number = number(word)?;
            let unit = match words.peek() {
                Some(next) if next.contains(':') => Unit::Days(1),
                Some(next) if next.starts_with(char::is_alphabetic) => {
                    let unit = Unit::of(next).ok_or(Wrong::Syntax)?;
                    words.next();
                    unit
                }
                Some(_) => return Err(Wrong::Syntax),
                None => bare,
            };
            sum.add(number, unit)?;
        }
    }
    if !any {
        return Err(Wrong::Syntax);
    }
    if ago {
        sum = Sum { months: -sum.months, days: -sum.days, micros: -sum.micros };
    }
    Ok(sum)
}

/// An interval from its text.
///
/// # Errors
/// 22007 when it is none, 22008 when it is longer than intervals are.
pub(crate) fn parse_interval(text: &str) -> Result<IntervalMonthDayNano> {
    parse_in(text, Unit::Micros(SECOND))
}

/// The text of an interval literal whose number without a unit counts `unit`, such as `YEAR`, in the form
/// that the planner below reads.
pub(crate) fn literal_text(text: &str, unit: Option<&str>) -> Result<String> {
    let bare = unit.and_then(Unit::of).unwrap_or(Unit::Micros(SECOND));
    let interval = parse_in(text, bare)?;
    let (seconds, rest) =
        (interval.nanoseconds / 1_000_000_000, (interval.nanoseconds % 1_000_000_000).abs());
    let sign = if interval.nanoseconds < 0 { "-" } else { "" };
    let (months, days, seconds) = (interval.months, interval.days, seconds.abs());
    Ok(format!("{months} months {days} days {sign}{seconds}.{rest:09} seconds"))
}

fn parse_in(text: &str, bare: Unit) -> Result<IntervalMonthDayNano> {
    let sum = sum_of(text, bare).and_then(|sum| {
        let months = i32::try_from(sum.months).map_err(|_| Wrong::Range)?;
        let days = i32::try_from(sum.days).map_err(|_| Wrong::Range)?;
        let nanos = sum.micros.checked_mul(1_000).ok_or(Wrong::Range)?;
        Ok(IntervalMonthDayNano::new(months, days, nanos))
    });
    sum.map_err(|wrong| match wrong {
        Wrong::Syntax => {
            let message = format!("invalid input syntax for type interval: \"{text}\"");
            EngineError::new(SqlState::INVALID_DATETIME_FORMAT, message)
        }
        Wrong::Range => {
            let message = format!("interval field value out of range: \"{text}\"");
            EngineError::new(SqlState::DATETIME_FIELD_OVERFLOW, message)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_read() {
        let read = |text| {
            let sum = sum_of(text, Unit::Micros(SECOND))?;
            Ok((sum.months, sum.days, sum.micros))
        };
        let cases = [
            ("1 day", Ok((0, 1, 0))),
            ("1 year 2 mons 3 days 04:05:06.7", Ok((14, 3, 14_706_700_000))),
            ("P1Y2M3DT4H5M6S", Ok((14, 3, 14_706_000_000))),
            ("P1W", Ok((0, 7, 0))),
            ("1-2", Ok((14, 0, 0))),
            ("-1-2 +3 -4:05:06", Ok((-14, 3, -14_706_000_000))),
            ("3 4:05", Ok((0, 3, 14_700_000_000))),
            ("90min", Ok((0, 0, 5_400_000_000))),
            ("1.5 mon", Ok((1, 15, 0))),
            ("1.5 years", Ok((18, 0, 0))),
            ("2 days 3 hours ago", Ok((0, -2, -10_800_000_000))),
            ("@ 1 minute", Ok((0, 0, 60_000_000))),
            ("12", Ok((0, 0, 12_000_000))),
            ("-00:00:00.5", Ok((0, 0, -500_000))),
            ("x", Err(Wrong::Syntax)),
            ("", Err(Wrong::Syntax)),
            ("ago", Err(Wrong::Syntax)),
            ("1 2 days", Err(Wrong::Syntax)),
            ("P", Err(Wrong::Syntax)),
            ("1:60", Err(Wrong::Range)),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text}");
        }
        assert!(parse_interval("1000000000 years").is_err());
    }
}
