//! Intervals: how long they are, and parts and multiples of them.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike as _, Timelike as _, Utc};
use datafusion_common::{DataFusionError, Result, ScalarValue};
use datafusion_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use crate::error::ValueError;

const DAY_NANOS: i128 = 86_400_000_000_000;

/// How long intervals are, in nanoseconds.
pub(crate) fn span(intervals: &ArrayRef) -> Result<ArrayRef> {
    let intervals = cast(intervals, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let span = |interval: IntervalMonthDayNano| {
        let days = 30 * i128::from(interval.months) + i128::from(interval.days);
        days * DAY_NANOS + i128::from(interval.nanoseconds)
    };
    let spans = intervals.as_primitive::<IntervalMonthDayNanoType>();
    let spans = spans.unary::<_, Decimal128Type>(span);
    Ok(Arc::new(spans.with_precision_and_scale(38, 0)?))
}

/// PostgreSQL's `interval_mul` and `interval_div`: what is left of a month goes to the days, what is left
/// of a day to the time.
pub(crate) fn scaled(
    intervals: &ArrayRef,
    factors: &ArrayRef,
    scale: impl Fn(f64, f64) -> f64,
) -> Result<ArrayRef> {
    const DAY_SECONDS: f64 = 86_400.0;
    let intervals = cast(intervals, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let factors = cast(factors, &DataType::Float64)?;
    // To the microsecond, which the fractions of days are not told apart by.
    let rounded = |number: f64| (number * 1e6).round_ties_even() / 1e6;
    let whole = |number: f64| -> Result<i32, ValueError> {
        let number = number.trunc();
        let fits = number >= f64::from(i32::MIN) && number <= f64::from(i32::MAX);
        #[expect(clippy::cast_possible_truncation, reason = "checked")]
        if fits { Ok(number as i32) } else { Err(ValueError::OutOfRange("interval")) }
    };
    let one = |interval: IntervalMonthDayNano, factor: f64| -> Result<_, ValueError> {
        let (months, days) =
            (scale(f64::from(interval.months), factor), scale(f64::from(interval.days), factor));
        let (month, mut day) = (whole(months)?, whole(days)?);
        let of_months = rounded((months - f64::from(month)) * 30.0);
        let rest = days - f64::from(day) + of_months - of_months.trunc();
        let mut seconds = rounded(rest * DAY_SECONDS);
        let mut add = |more: f64| -> Result<(), ValueError> {
            day = day.checked_add(whole(more)?).ok_or(ValueError::OutOfRange("interval"))?;
            Ok(())
        };
        if seconds.abs() >= DAY_SECONDS {
            add(seconds / DAY_SECONDS)?;
            seconds -= (seconds / DAY_SECONDS).trunc() * DAY_SECONDS;
        }
        add(of_months)?;
        #[expect(clippy::cast_precision_loss, reason = "as PostgreSQL computes")]
        let micros = scale((interval.nanoseconds / 1_000) as f64, factor);
        let micros = (micros + seconds * 1e6).round_ties_even();
        // What nanoseconds hold.
        if micros.is_nan() || micros.abs() > 9.2e15 {
            return Err(ValueError::OutOfRange("interval"));
        }
        #[expect(clippy::cast_possible_truncation, reason = "checked")]
        let nanos = micros as i64 * 1_000;
        Ok(IntervalMonthDayNano::new(month, day, nanos))
    };
    let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
    let pairs = intervals.iter().zip(factors.as_primitive::<Float64Type>());
    let scaled = pairs.map(|(interval, factor)| interval.zip(factor).map(|(i, f)| one(i, f)));
    let scaled: Vec<Option<IntervalMonthDayNano>> =
        scaled.map(Option::transpose).collect::<Result<_, ValueError>>()?;
    Ok(Arc::new(scaled.into_iter().collect::<PrimitiveArray<IntervalMonthDayNanoType>>()))
}

/// What `extract` takes out of intervals, as numbers: all of it in seconds, with years of 365.25 days, or
/// the seconds behind the minutes.
pub(crate) fn seconds(intervals: &ArrayRef, all: bool) -> Result<ArrayRef> {
    const MINUTE_NANOS: i64 = 60_000_000_000;
    let intervals = cast(intervals, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    #[expect(clippy::cast_precision_loss, reason = "a double precision is what is asked for")]
    let of = |interval: IntervalMonthDayNano| {
        let whole = |nanos: i64| (nanos / 1_000) as f64 / 1e6;
        if !all {
            return whole(interval.nanoseconds % MINUTE_NANOS);
        }
        let (years, months) = (interval.months / 12, interval.months % 12);
        let days = f64::from(years) * 365.25 + f64::from(months * 30) + f64::from(interval.days);
        days * 86_400.0 + whole(interval.nanoseconds)
    };
    let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
    Ok(Arc::new(intervals.unary::<_, Float64Type>(of)))
}

/// A function of intervals, or one that makes an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum IntervalFunction {
    /// `age`: the calendar's years, months and days between two times.
    Age,
    /// `justify_days`: thirty days are a month.
    JustifyDays,
    /// `justify_hours`: 24 hours are a day.
    JustifyHours,
    /// `justify_interval`: both, with one sign.
    JustifyInterval,
}

impl IntervalFunction {
    const ALL: [Self; 4] =
        [Self::Age, Self::JustifyDays, Self::JustifyHours, Self::JustifyInterval];

    fn of(self, interval: IntervalMonthDayNano) -> Result<IntervalMonthDayNano, ValueError> {
        let (mut months, mut days, mut nanos) = (
            i64::from(interval.months),
            i64::from(interval.days),
            i128::from(interval.nanoseconds),
        );
        let whole = |nanos: i128| i64::try_from(nanos).unwrap_or(0);
        if matches!(self, Self::JustifyHours | Self::JustifyInterval) {
            days += whole(nanos / DAY_NANOS);
            nanos %= DAY_NANOS;
        }
        if matches!(self, Self::JustifyDays | Self::JustifyInterval) {
            months += days / 30;
            days %= 30;
        }
        if self == Self::JustifyInterval {
            if months > 0 && (days < 0 || days == 0 && nanos < 0) {
                (months, days) = (months - 1, days + 30);
            } else if months < 0 && (days > 0 || days == 0 && nanos > 0) {
                (months, days) = (months + 1, days - 30);
            }
        }
        if self != Self::JustifyDays {
            if days > 0 && nanos < 0 {
                (days, nanos) = (days - 1, nanos + DAY_NANOS);
            } else if days < 0 && nanos > 0 {
                (days, nanos) = (days + 1, nanos - DAY_NANOS);
            }
        }
        let out_of_range = |_| ValueError::OutOfRange("interval");
        Ok(IntervalMonthDayNano::new(
            i32::try_from(months).map_err(out_of_range)?,
            i32::try_from(days).map_err(out_of_range)?,
            whole(nanos),
        ))
    }
}

/// The years, months and days, as one of months and one of days, and the rest between two instants in
/// microseconds: PostgreSQL's `timestamp_age`, which lends days of the month that the earlier one is in.
fn age(later: i64, earlier: i64) -> Option<IntervalMonthDayNano> {
    let negative = later < earlier;
    let (later, earlier) = if negative { (earlier, later) } else { (later, earlier) };
    let (later, earlier) =
        (DateTime::from_timestamp_micros(later)?, DateTime::from_timestamp_micros(earlier)?);
    let months_of = |at: &DateTime<Utc>| 12 * at.year() + at.month0().cast_signed();
    let of_day = |at: &DateTime<Utc>| {
        let seconds = i64::from(at.num_seconds_from_midnight());
        seconds * 1_000_000_000 + i64::from(at.nanosecond())
    };
    let mut months = months_of(&later) - months_of(&earlier);
    let mut days = later.day().cast_signed() - earlier.day().cast_signed();
    let mut nanos = of_day(&later) - of_day(&earlier);
    if nanos < 0 {
        nanos += i64::try_from(DAY_NANOS).ok()?;
        days -= 1;
    }
    if days < 0 {
        days += i32::from(earlier.num_days_in_month());
        months -= 1;
    }
    let sign = if negative { -1 } else { 1 };
    Some(IntervalMonthDayNano::new(sign * months, sign * days, i64::from(sign) * nanos))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IntervalUdf {
    function: IntervalFunction,
    signature: Signature,
}

/// The functions of intervals.
pub(crate) fn registry() -> impl Iterator<Item = Arc<ScalarUDF>> {
    IntervalFunction::ALL.into_iter().map(|function| {
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        let time = |zone: Option<&str>| {
            let time = DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
            TypeSignature::Exact(vec![time.clone(), time])
        };
        let arguments = match function {
            IntervalFunction::Age => vec![time(None), time(Some("UTC"))],
            _ => vec![TypeSignature::Exact(vec![interval])],
        };
        let signature = Signature::one_of(arguments, Volatility::Immutable);
        Arc::new(ScalarUDF::from(IntervalUdf { function, signature }))
    })
}

impl ScalarUDFImpl for IntervalUdf {
    fn name(&self) -> &'static str {
        match self.function {
            IntervalFunction::Age => "age",
            IntervalFunction::JustifyDays => "justify_days",
            IntervalFunction::JustifyHours => "justify_hours",
            IntervalFunction::JustifyInterval => "justify_interval",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Interval(IntervalUnit::MonthDayNano))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let made: Vec<Option<IntervalMonthDayNano>> = match arrays.as_slice() {
            [later, earlier] => {
                let times =
                    |array: &ArrayRef| array.as_primitive::<TimestampMicrosecondType>().clone();
                let (later, earlier) = (times(later), times(earlier));
                let pairs = later.iter().zip(earlier.iter());
                pairs.map(|(later, earlier)| age(later?, earlier?)).collect()
            }
            [intervals] => {
                let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
                let justified =
                    intervals.iter().map(|i| i.map(|i| self.function.of(i)).transpose());
                justified.collect::<Result<_, ValueError>>()?
            }
            _ => return Err(DataFusionError::Internal("wrong number of arguments".to_owned())),
        };
        let made: ArrayRef =
            Arc::new(made.into_iter().collect::<PrimitiveArray<IntervalMonthDayNanoType>>());
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?));
        }
        Ok(ColumnarValue::Array(made))
    }
}
