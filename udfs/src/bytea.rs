//! The text forms of `bytea`: hexadecimal, which is written, and PostgreSQL's older escapes, which
//! are read as well.

use std::fmt::Write as _;

use crate::ValueError;

/// Bytes of `\x6869`, or of PostgreSQL's older escape form.
///
/// # Errors
/// When the text is of neither form.
pub fn parse_bytea(text: &str) -> Result<Vec<u8>, ValueError> {
    let error = || ValueError::Bytea(text.to_owned());
    if let Some(hex) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = hex
            .bytes()
            .map(|byte| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok()))
            .collect::<Option<_>>()
            .ok_or_else(error)?;
        let (pairs, rest) = digits.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(error());
        }
        return Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next().ok_or_else(error)? {
            b'\\' => out.push(b'\\'),
            first @ b'0'..=b'3' => {
                let mut octal =
                    || bytes.next().filter(|byte| (b'0'..=b'7').contains(byte)).ok_or_else(error);
                let (second, third) = (octal()?, octal()?);
                out.push((first - b'0') << 6 | (second - b'0') << 3 | (third - b'0'));
            }
            _ => return Err(error()),
        }
    }
    Ok(out)
}

/// Appends `\x6869`.
pub fn write_bytea(out: &mut String, bytes: &[u8]) {
    out.push_str("\\x");
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_the_first_is_written() {
        for (text, bytes) in [
            ("\\x00fF", b"\x00\xff".as_slice()),
            ("a\\\\b\\001", b"a\\b\x01"),
            ("\\377", b"\xff"),
            ("", b""),
        ] {
            assert_eq!(parse_bytea(text).unwrap(), bytes);
            let mut written = String::new();
            write_bytea(&mut written, bytes);
            assert_eq!(parse_bytea(&written).unwrap(), bytes);
        }
        for text in ["\\x0", "\\xgg", "\\400", "\\08", "\\9", "\\", "\\188"] {
            assert_eq!(parse_bytea(text), Err(ValueError::Bytea(text.to_owned())), "{text}");
        }
    }
}
