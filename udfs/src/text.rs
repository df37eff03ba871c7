//! The text form of a vector: `[1,2.5,-3e-2]`, white space allowed around numbers.

use std::fmt::Write as _;

use types::limits::DIM_MAX;

use crate::VectorError;

/// Longest piece of a bad value that an error repeats.
const SHOWN_MAX: usize = 60;

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Reads a vector.
///
/// # Errors
/// When the text has another form, holds a number that is not finite, or has no or too many
/// numbers.
pub fn parse_vector(text: &str) -> Result<Vec<f32>, VectorError> {
    let syntax = || VectorError::Syntax(shown(text));
    let inner = text.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let inner = inner.ok_or_else(syntax)?;
    if inner.trim().is_empty() {
        return Err(VectorError::Empty);
    }
    let mut values = Vec::with_capacity(inner.len() / 8);
    for piece in inner.split(',') {
        let piece = piece.trim();
        // Rust reads "inf", "infinity" and "nan"; a number begins otherwise.
        let value: f32 = piece.parse().map_err(|_| syntax())?;
        if value.is_nan() {
            return Err(VectorError::NotFinite("NaN"));
        }
        if value.is_infinite() {
            let spelled = piece.trim_start_matches(['-', '+']).starts_with(['i', 'I']);
            let error = VectorError::NotFinite("infinite value");
            return Err(if spelled { error } else { VectorError::OutOfRange(shown(piece)) });
        }
        values.push(value);
        if values.len() > DIM_MAX as usize {
            return Err(VectorError::TooLong { max: DIM_MAX });
        }
    }
    Ok(values)
}

/// Writes a vector.
pub fn write_vector(out: &mut String, values: &[f32]) {
    out.push('[');
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        // Writing to a string cannot fail.
        let _ = types::write_float4(out, *value);
    }
    let _ = out.write_char(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_as_by_pgvector() {
        assert_eq!(parse_vector(" [ 1, -2.5 ,3e-1] ").unwrap(), [1.0, -2.5, 0.3]);
        let cases = [
            ("1,2", VectorError::Syntax("1,2".to_owned())),
            ("[1,]", VectorError::Syntax("[1,]".to_owned())),
            ("[1,x]", VectorError::Syntax("[1,x]".to_owned())),
            ("[[1]]", VectorError::Syntax("[[1]]".to_owned())),
            ("[]", VectorError::Empty),
            ("[nan]", VectorError::NotFinite("NaN")),
            ("[-Infinity]", VectorError::NotFinite("infinite value")),
            ("[1e39]", VectorError::OutOfRange("1e39".to_owned())),
        ];
        for (text, error) in cases {
            assert_eq!(parse_vector(text).unwrap_err(), error, "{text}");
        }
        let long = format!("[{}1]", "1,".repeat(DIM_MAX as usize));
        assert_eq!(parse_vector(&long).unwrap_err(), VectorError::TooLong { max: DIM_MAX });
    }

    #[test]
    fn what_is_written_reads_back() {
        let values = [0.1, -0.0, 1e-20, 123_456.79, 3.402_823_5e38];
        let mut text = String::new();
        write_vector(&mut text, &values);
        assert_eq!(parse_vector(&text).unwrap(), values);
        assert_eq!(text, "[0.1,-0,1e-20,123456.79,3.4028235e+38]");
    }
}
