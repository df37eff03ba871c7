//! Floating point numbers as PostgreSQL prints them (`extra_float_digits` = 1, its default): the
//! shortest digits that read back the same, in scientific form when the decimal exponent is below
//! -4 or has reached 6 (`real`) or 15 (`double precision`).

use std::fmt::{self, Write};

/// Writes a `real`.
///
/// # Errors
/// When `out` refuses.
pub fn write_float4(out: &mut impl Write, value: f32) -> fmt::Result {
    write_digits(out, f64::from(value), &format!("{value:e}"), 6)
}

/// Writes a `double precision`.
///
/// # Errors
/// When `out` refuses.
pub fn write_float8(out: &mut impl Write, value: f64) -> fmt::Result {
    write_digits(out, value, &format!("{value:e}"), 15)
}

/// `scientific` is Rust's shortest form, `d.ddde-n`.
fn write_digits(
    out: &mut impl Write,
    value: f64,
    scientific: &str,
    exponent_max: i32,
) -> fmt::Result {
    if value.is_nan() {
        return out.write_str("NaN");
    }
    if value.is_infinite() {
        return out.write_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= exponent_max {
        let sign = if exponent < 0 { '-' } else { '+' };
        return write!(out, "{mantissa}e{sign}{:02}", exponent.abs());
    }
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |m| ("-", m));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    out.write_str(sign)?;
    let point = exponent + 1;
    if point <= 0 {
        out.write_str("0.")?;
        (point..0).try_for_each(|_| out.write_char('0'))?;
        return out.write_str(&digits);
    }
    let point = usize::try_from(point).unwrap_or(0);
    if digits.len() <= point {
        out.write_str(&digits)?;
        return (digits.len()..point).try_for_each(|_| out.write_char('0'));
    }
    write!(out, "{}.{}", &digits[..point], &digits[point..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_as_in_postgresql() {
        let cases4 = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (100_000.0, "100000"),
            (1_000_000.0, "1e+06"),
            (123_456.7, "123456.7"),
            (0.000_1, "0.0001"),
            (0.000_01, "1e-05"),
            (3.402_823_5e38, "3.4028235e+38"),
            (f32::NAN, "NaN"),
            (f32::NEG_INFINITY, "-Infinity"),
        ];
        for (value, expected) in cases4 {
            let mut text = String::new();
            write_float4(&mut text, value).unwrap();
            assert_eq!(text, expected);
        }
        for (value, expected) in
            [(1e14, "100000000000000"), (1e15, "1e+15"), (0.3, "0.3"), (12.5, "12.5")]
        {
            let mut text = String::new();
            write_float8(&mut text, value).unwrap();
            assert_eq!(text, expected);
        }
    }
}
