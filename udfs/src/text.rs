//! The text form of a vector: `[1,2.5,-3e-2]`, white space allowed around numbers; `0110` of bits;
//! `{1:1.5,3:2}/5` of sparse vectors.

use std::fmt::Write as _;

use half::f16;
use types::VectorKind;
use types::limits::{BIT_LENGTH_MAX, DIM_MAX, SPARSE_DIM_MAX, SPARSE_ENTRIES_MAX};
use vector::{Query, Row};

use crate::VectorError;

/// Longest piece of a bad value that an error repeats.
const SHOWN_MAX: usize = 60;

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Reads a vector of a kind; a `halfvec` comes as numbers that `f16` holds, bits as zeros and ones.
///
/// # Errors
/// When the text has another form, holds a number that is not finite, or has no or too many
/// numbers.
pub fn parse_vector(kind: VectorKind, text: &str) -> Result<Query, VectorError> {
    match kind {
        VectorKind::Vector | VectorKind::Halfvec => parse_numbers(kind, text).map(Query::Dense),
        VectorKind::Bit => parse_bits(text).map(Query::Dense),
        VectorKind::Sparsevec => parse_sparse(text),
    }
}

/// Reads a sparse vector, `{1:1.5,3:2}/5`; positions begin with one and come in any order, zeros are
/// left out.
///
/// # Errors
/// When the text has another form, a number is not finite, or a position is out of bounds or there
/// twice.
fn parse_sparse(text: &str) -> Result<Query, VectorError> {
    let kind = VectorKind::Sparsevec;
    let syntax = || VectorError::Syntax(kind, shown(text));
    let (entries, dim) =
        text.trim().strip_prefix('{').and_then(|t| t.split_once('}')).ok_or_else(syntax)?;
    let dim = dim.trim().strip_prefix('/').ok_or_else(syntax)?.trim();
    let dim: i64 = dim.parse().map_err(|_| syntax())?;
    if dim < 1 {
        return Err(VectorError::Empty(kind));
    }
    if dim > i64::from(SPARSE_DIM_MAX) {
        return Err(VectorError::TooLong { kind, max: SPARSE_DIM_MAX });
    }
    let mut kept: Vec<(i64, f32)> = Vec::new();
    let mut count = 0;
    for piece in entries.split(',').filter(|_| !entries.trim().is_empty()) {
        count += 1;
        if count > SPARSE_ENTRIES_MAX {
            return Err(VectorError::TooMany { max: SPARSE_ENTRIES_MAX });
        }
        let (index, value) = piece.split_once(':').ok_or_else(syntax)?;
        let digits = index.trim().trim_start_matches(['-', '+']);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(syntax());
        }
        let value = parse_number(kind, value.trim(), &syntax)?;
        // A position that no integer holds is out of bounds, too.
        let index = index.trim().parse().unwrap_or(0);
        if !(1..=dim).contains(&index) {
            return Err(VectorError::Index);
        }
        if value != 0.0 {
            kept.push((index - 1, value));
        }
    }
    kept.sort_unstable_by_key(|(index, _)| *index);
    if kept.array_windows().any(|[(a, _), (b, _)]| a == b) {
        return Err(VectorError::Duplicate);
    }
    let entries =
        kept.into_iter().map(|(index, value)| (i32::try_from(index).unwrap_or(i32::MAX), value));
    Ok(Query::sparse(usize::try_from(dim).unwrap_or(0), entries))
}

/// A finite number that the kind holds.
fn parse_number(
    kind: VectorKind,
    piece: &str,
    syntax: &impl Fn() -> VectorError,
) -> Result<f32, VectorError> {
    // Rust reads "inf", "infinity" and "nan"; a number begins otherwise.
    let value: f32 = piece.parse().map_err(|_| syntax())?;
    if value.is_nan() {
        return Err(VectorError::NotFinite(kind, "NaN"));
    }
    let kept = match kind {
        VectorKind::Halfvec => f16::from_f32(value).to_f32(),
        VectorKind::Vector | VectorKind::Bit | VectorKind::Sparsevec => value,
    };
    if kept.is_infinite() {
        let spelled = piece.trim_start_matches(['-', '+']).starts_with(['i', 'I']);
        let error = VectorError::NotFinite(kind, "infinite value");
        return Err(if spelled { error } else { VectorError::OutOfRange(kind, shown(piece)) });
    }
    Ok(kept)
}

fn parse_numbers(kind: VectorKind, text: &str) -> Result<Vec<f32>, VectorError> {
    let syntax = || VectorError::Syntax(kind, shown(text));
    let inner = text.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let inner = inner.ok_or_else(syntax)?;
    if inner.trim().is_empty() {
        return Err(VectorError::Empty(kind));
    }
    let mut values = Vec::with_capacity(inner.len() / 8);
    for piece in inner.split(',') {
        values.push(parse_number(kind, piece.trim(), &syntax)?);
        if values.len() > DIM_MAX as usize {
            return Err(VectorError::TooLong { kind, max: DIM_MAX });
        }
    }
    Ok(values)
}

/// Binary digits, or hexadecimal digits behind an `x`.
fn parse_bits(text: &str) -> Result<Vec<f32>, VectorError> {
    let too_long = VectorError::TooLong { kind: VectorKind::Bit, max: BIT_LENGTH_MAX };
    let (hexadecimal, most) = (text.starts_with(['x', 'X']), BIT_LENGTH_MAX as usize);
    if text.len() > if hexadecimal { 1 + most / 4 } else { 1 + most } {
        return Err(too_long);
    }
    let mut bits = Vec::with_capacity(text.len());
    if let Some(digits) = text.strip_prefix(['x', 'X']) {
        for digit in digits.chars() {
            let value = digit.to_digit(16).ok_or(VectorError::HexDigit(digit))?;
            bits.extend([8, 4, 2, 1].map(|bit| if value & bit == 0 { 0.0 } else { 1.0 }));
        }
    } else {
        for digit in text.strip_prefix(['b', 'B']).unwrap_or(text).chars() {
            bits.push(match digit {
                '0' => 0.0,
                '1' => 1.0,
                other => return Err(VectorError::Digit(other)),
            });
        }
    }
    if bits.len() > most {
        return Err(too_long);
    }
    Ok(bits)
}

/// Writes a vector.
pub fn write_vector(out: &mut String, row: Row<'_>) {
    let numbers = match row {
        Row::Bits(bits) => {
            out.extend((0..bits.len()).map(|at| if bits.is_set(at) { '1' } else { '0' }));
            return;
        }
        Row::Sparse(sparse) => {
            out.push('{');
            for (at, (index, value)) in sparse.entries().enumerate() {
                let comma = if at > 0 { "," } else { "" };
                // Writing to a string cannot fail.
                let _ = write!(out, "{comma}{}:", i64::from(index) + 1);
                let _ = types::write_float4(out, value);
            }
            let _ = write!(out, "}}/{}", sparse.dim());
            return;
        }
        Row::Full(_) | Row::Half(_) => row.to_f32(),
    };
    out.push('[');
    for (at, value) in numbers.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        // Writing to a string cannot fail.
        let _ = types::write_float4(out, *value);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use VectorKind::{Bit, Halfvec, Vector};

    #[test]
    fn text_is_read_as_by_pgvector() {
        assert_eq!(
            parse_vector(Vector, " [ 1, -2.5 ,3e-1] ").unwrap(),
            Query::Dense(vec![1.0, -2.5, 0.3])
        );
        let cases = [
            (Vector, "1,2", VectorError::Syntax(Vector, "1,2".to_owned())),
            (Vector, "[1,]", VectorError::Syntax(Vector, "[1,]".to_owned())),
            (Vector, "[1,x]", VectorError::Syntax(Vector, "[1,x]".to_owned())),
            (Vector, "[[1]]", VectorError::Syntax(Vector, "[[1]]".to_owned())),
            (Vector, "[]", VectorError::Empty(Vector)),
            (Vector, "[nan]", VectorError::NotFinite(Vector, "NaN")),
            (Vector, "[-Infinity]", VectorError::NotFinite(Vector, "infinite value")),
            (Vector, "[1e39]", VectorError::OutOfRange(Vector, "1e39".to_owned())),
            (Halfvec, "1", VectorError::Syntax(Halfvec, "1".to_owned())),
            (Halfvec, "[65520]", VectorError::OutOfRange(Halfvec, "65520".to_owned())),
            (Halfvec, "[inf]", VectorError::NotFinite(Halfvec, "infinite value")),
            (Bit, "012", VectorError::Digit('2')),
            (Bit, "x1g", VectorError::HexDigit('g')),
            (Bit, "[1]", VectorError::Digit('[')),
        ];
        for (kind, text, error) in cases {
            assert_eq!(parse_vector(kind, text).unwrap_err(), error, "{text}");
        }
        let long = format!("[{}1]", "1,".repeat(DIM_MAX as usize));
        assert_eq!(
            parse_vector(Vector, &long).unwrap_err(),
            VectorError::TooLong { kind: Vector, max: DIM_MAX }
        );
    }

    #[test]
    fn sparse_text_is_read_as_by_pgvector() {
        let read = parse_sparse(" { 3 : 2 , 1:1.5,2:0 } / 5 ").unwrap();
        let expected = Query::sparse(5, [(0, 1.5), (2, 2.0)].into_iter());
        assert_eq!(read, expected);
        let mut text = String::new();
        write_vector(&mut text, read.row());
        assert_eq!(text, "{1:1.5,3:2}/5");
        assert_eq!(parse_sparse("{}/5").unwrap().row().len(), 5);
        let kind = VectorKind::Sparsevec;
        let syntax = |text: &str| VectorError::Syntax(kind, text.to_owned());
        let cases = [
            ("{1:1}", syntax("{1:1}")),
            ("{1:}/5", syntax("{1:}/5")),
            ("{:1}/5", syntax("{:1}/5")),
            ("{1:1,}/5", syntax("{1:1,}/5")),
            ("[1]", syntax("[1]")),
            ("{0:1}/5", VectorError::Index),
            ("{6:1}/5", VectorError::Index),
            ("{99999999999999999999:1}/5", VectorError::Index),
            ("{1:1,1:2}/5", VectorError::Duplicate),
            ("{}/0", VectorError::Empty(kind)),
            ("{}/1000000001", VectorError::TooLong { kind, max: SPARSE_DIM_MAX }),
            ("{1:nan}/5", VectorError::NotFinite(kind, "NaN")),
            ("{1:1e39}/5", VectorError::OutOfRange(kind, "1e39".to_owned())),
        ];
        for (text, error) in cases {
            assert_eq!(parse_sparse(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let values = [0.1, -0.0, 1e-20, 123_456.79, 3.402_823_5e38];
        let mut text = String::new();
        write_vector(&mut text, Row::Full(&values));
        assert_eq!(parse_vector(Vector, &text).unwrap(), Query::Dense(values.to_vec()));
        assert_eq!(text, "[0.1,-0,1e-20,123456.79,3.4028235e+38]");
    }
}
