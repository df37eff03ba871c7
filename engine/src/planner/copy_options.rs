//! Options of COPY, and how a row is written in each format.
//!
//! Formats: PostgreSQL 15 manual, COPY, "File Formats".

use datafusion::sql::sqlparser::ast::{CopyLegacyCsvOption, CopyLegacyOption, CopyOption};
use types::SqlState;

use crate::error::{EngineError, Result};

/// What the binary format begins with: its signature, no flags, no extension.
const BINARY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// A format of COPY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    /// One line a row, special characters escaped with backslashes.
    Text,
    /// Comma separated values.
    Csv,
    /// Lengths and values as in binary results.
    Binary,
}

/// The format of the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOptions {
    pub(crate) format: CopyFormat,
    pub(crate) delimiter: u8,
    pub(crate) null: String,
    pub(crate) header: bool,
    pub(crate) quote: u8,
    pub(crate) escape: u8,
}

fn single_byte(option: &str, value: char) -> Result<u8> {
    u8::try_from(value).ok().filter(|byte| byte.is_ascii() && !b"\r\n".contains(byte)).ok_or_else(
        || {
            let message = format!("COPY {option} must be a single one-byte character");
            EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message)
        },
    )
}

impl CopyOptions {
    /// Reads the options of a COPY, in the newer or the older spelling.
    pub(crate) fn parse(options: &[CopyOption], legacy: &[CopyLegacyOption]) -> Result<Self> {
        let mut format = "text".to_owned();
        let (mut delimiter, mut null, mut quote, mut escape) = (None, None, None, None);
        let mut header = false;
        for option in options {
            match option {
                CopyOption::Format(name) => format = name.value.to_lowercase(),
                CopyOption::Delimiter(c) => delimiter = Some(single_byte("delimiter", *c)?),
                CopyOption::Null(text) => null = Some(text.clone()),
                CopyOption::Header(on) => header = *on,
                CopyOption::Quote(c) => quote = Some(single_byte("quote", *c)?),
                CopyOption::Escape(c) => escape = Some(single_byte("escape", *c)?),
                CopyOption::Encoding(name) if name.to_lowercase().replace('-', "") == "utf8" => {}
                other => return Err(EngineError::unsupported(format!("COPY option {other}"))),
            }
        }
        for option in legacy {
            match option {
                CopyLegacyOption::Delimiter(c) => delimiter = Some(single_byte("delimiter", *c)?),
                CopyLegacyOption::Null(text) => null = Some(text.clone()),
                CopyLegacyOption::Header => header = true,
                CopyLegacyOption::Binary => "binary".clone_into(&mut format),
                CopyLegacyOption::Csv(parts) => {
                    "csv".clone_into(&mut format);
                    for part in parts {
                        match part {
                            CopyLegacyCsvOption::Header => header = true,
                            CopyLegacyCsvOption::Quote(c) => {
                                quote = Some(single_byte("quote", *c)?);
                            }
                            CopyLegacyCsvOption::Escape(c) => {
                                escape = Some(single_byte("escape", *c)?);
                            }
                            other => {
                                return Err(EngineError::unsupported(format!("COPY {other}")));
                            }
                        }
                    }
                }
                other => return Err(EngineError::unsupported(format!("COPY option {other}"))),
            }
        }
        let format = match format.as_str() {
            "text" => CopyFormat::Text,
            "csv" => CopyFormat::Csv,
            "binary" => CopyFormat::Binary,
            other => {
                let message = format!("COPY format \"{other}\" not recognized");
                return Err(EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message));
            }
        };
        if format == CopyFormat::Binary && (delimiter.is_some() || null.is_some() || header) {
            let message = "cannot specify DELIMITER, NULL or HEADER in BINARY mode";
            return Err(EngineError::syntax(message));
        }
        let csv = format == CopyFormat::Csv;
        if !csv && (quote.is_some() || escape.is_some()) {
            let message = "COPY quote and escape are available only in CSV mode";
            return Err(EngineError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
        }
        let quote = quote.unwrap_or(b'"');
        let options = Self {
            format,
            delimiter: delimiter.unwrap_or(if csv { b',' } else { b'\t' }),
            null: null.unwrap_or_else(|| if csv { String::new() } else { "\\N".to_owned() }),
            header,
            quote,
            escape: escape.unwrap_or(quote),
        };
        options.check()?;
        Ok(options)
    }

    /// Refuses options by which rows could not be read back.
    fn check(&self) -> Result<()> {
        let invalid = |message: &str| {
            Err(EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message.to_owned()))
        };
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.';
        if self.format == CopyFormat::Text && (plain(self.delimiter) || self.delimiter == b'\\') {
            return invalid(&format!(
                "COPY delimiter cannot be \"{}\"",
                char::from(self.delimiter)
            ));
        }
        if self.null.contains(['\r', '\n']) {
            return invalid("COPY null representation cannot use newline or carriage return");
        }
        if self.null.contains(char::from(self.delimiter)) {
            return invalid("COPY delimiter must not appear in the NULL specification");
        }
        if self.is_csv() && self.delimiter == self.quote {
            return invalid("COPY delimiter and quote must be different");
        }
        Ok(())
    }

    pub(crate) fn is_csv(&self) -> bool {
        self.format == CopyFormat::Csv
    }

    /// The format.
    #[must_use]
    pub fn format(&self) -> CopyFormat {
        self.format
    }

    /// What comes before the first row: nothing, names in a line, or the head of the binary format.
    #[must_use]
    pub fn head(&self, names: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        if self.format == CopyFormat::Binary {
            out.extend_from_slice(BINARY_HEADER);
        } else if self.header {
            for (at, name) in names.iter().enumerate() {
                self.put(at, Some(name.as_bytes()), names.len(), &mut out);
            }
            out.push(b'\n');
        }
        out
    }

    /// Appends value `at` of the `count` values of a row in text form; `None` is NULL.
    pub fn put(&self, at: usize, value: Option<&[u8]>, count: usize, out: &mut Vec<u8>) {
        if at > 0 {
            out.push(self.delimiter);
        }
        match (value, self.format) {
            (None, _) => out.extend_from_slice(self.null.as_bytes()),
            (Some(value), CopyFormat::Csv) => self.put_csv(value, count == 1, out),
            (Some(value), CopyFormat::Text | CopyFormat::Binary) => self.put_text(value, out),
        }
    }

    fn put_text(&self, value: &[u8], out: &mut Vec<u8>) {
        for byte in value {
            let escaped = match byte {
                b'\\' => b'\\',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x08 => b'b',
                0x0b => b'v',
                0x0c => b'f',
                other if *other == self.delimiter => *other,
                other => {
                    out.push(*other);
                    continue;
                }
            };
            out.push(b'\\');
            out.push(escaped);
        }
    }

    fn put_csv(&self, value: &[u8], alone: bool, out: &mut Vec<u8>) {
        let special = |byte: &u8| {
            *byte == self.delimiter || *byte == self.quote || matches!(byte, b'\n' | b'\r')
        };
        // An end-of-data mark that stands alone would be one.
        let quoted =
            value == self.null.as_bytes() || value.iter().any(special) || alone && value == b"\\.";
        if !quoted {
            out.extend_from_slice(value);
            return;
        }
        out.push(self.quote);
        for byte in value {
            if *byte == self.quote || *byte == self.escape {
                out.push(self.escape);
            }
            out.push(*byte);
        }
        out.push(self.quote);
    }
}
