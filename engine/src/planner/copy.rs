//! `COPY table FROM STDIN`: text and csv, or values, row by row into columns, one transaction.
//!
//! Formats: PostgreSQL 15 manual, COPY, "File Formats".

use std::borrow::Cow;

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;
use catalog::Collection;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::Ident;
use types::limits::{ENTRY_BYTES_MAX, MESSAGE_BYTES_MAX};
use types::{Coded as _, SqlState};

use super::copy_options::{CopyFormat, CopyOptions};
use super::write::column_positions;
use crate::error::{EngineError, Result};
use crate::sql::types::{field_of, fold};
use crate::values::ColumnBuilder;

/// Table and columns of a COPY.
#[derive(Debug)]
pub(crate) struct CopyTarget {
    pub(crate) collection: Collection,
    pub(crate) positions: Vec<usize>,
}

impl CopyTarget {
    pub(crate) fn new(collection: &Collection, columns: &[Ident]) -> Result<Self> {
        let positions = column_positions(collection, columns.iter().map(fold))?;
        Ok(Self { collection: collection.clone(), positions })
    }
}

/// A COPY in progress: takes bytes as they come.
pub struct CopyIn {
    target: CopyTarget,
    options: CopyOptions,
    builders: Vec<ColumnBuilder>,
    /// Bytes of the record that is not complete yet.
    pending: Vec<u8>,
    /// How much of `pending` was searched for the record's end, and whether inside quotes.
    searched: usize,
    quoted: bool,
    line: u64,
    rows: usize,
    ended: bool,
}

impl std::fmt::Debug for CopyIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyIn").field("target", &self.target).finish_non_exhaustive()
    }
}

impl CopyIn {
    pub(crate) fn new(target: CopyTarget, options: CopyOptions) -> Self {
        let columns = &target.collection.columns;
        let builder = |at: &usize| ColumnBuilder::new(columns[*at].column_type);
        Self {
            builders: target.positions.iter().map(builder).collect(),
            target,
            options,
            pending: Vec::new(),
            searched: 0,
            quoted: false,
            line: 0,
            rows: 0,
            ended: false,
        }
    }

    /// Number of columns of a row.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.builders.len()
    }

    /// Names and types of the columns of a row.
    #[must_use]
    pub fn fields(&self) -> Vec<FieldRef> {
        let columns = &self.target.collection.columns;
        self.target.positions.iter().map(|at| field_of(columns[*at].column_type)).collect()
    }

    /// Whether the data is in the binary format, and comes by [`CopyIn::push_row`].
    #[must_use]
    pub fn is_binary(&self) -> bool {
        self.options.format == CopyFormat::Binary
    }

    /// Takes a row as values of the types of [`CopyIn::fields`].
    ///
    /// # Errors
    /// When a value cannot be stored.
    pub fn push_row(&mut self, values: &[ScalarValue]) -> Result<()> {
        self.line += 1;
        let mut columns = self.builders.iter_mut().zip(values);
        if let Err(error) = columns.try_for_each(|(builder, value)| builder.push_value(value)) {
            return Err(self.located(error));
        }
        self.rows += 1;
        self.check_size()
    }

    /// Takes a piece of the data, cut anywhere.
    ///
    /// # Errors
    /// On a malformed row; the detail names line and column.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.pending.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(end) = self.find_end() {
            // Lent to the record, so that rows are read where they lie.
            let pending = std::mem::take(&mut self.pending);
            let read = self.record(&pending[start..end]);
            self.pending = pending;
            read?;
            start = end + 1;
        }
        self.pending.drain(..start);
        self.searched -= start;
        if self.pending.len() > MESSAGE_BYTES_MAX {
            let message = format!("a row of COPY data is longer than {MESSAGE_BYTES_MAX} bytes");
            return Err(
                self.located(EngineError::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message))
            );
        }
        self.check_size()
    }

    fn check_size(&self) -> Result<()> {
        if self.builders.iter().map(ColumnBuilder::bytes).sum::<usize>() > ENTRY_BYTES_MAX {
            let message = format!("COPY holds more than {ENTRY_BYTES_MAX} bytes");
            return Err(EngineError::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message)
                .with_hint("Load the data in several COPY commands."));
        }
        Ok(())
    }

    /// Position of the line feed that ends the next record.
    fn find_end(&mut self) -> Option<usize> {
        let mut at = self.searched;
        while at < self.pending.len() {
            let byte = self.pending[at];
            if self.options.is_csv() && byte == self.options.escape && self.quoted {
                // An escaped quote does not end the quotes. Where escape and quote are the same,
                // two of them toggle twice, which comes to the same.
                if self.options.escape != self.options.quote {
                    if at + 1 == self.pending.len() {
                        // What is escaped comes with the next piece.
                        self.searched = at;
                        return None;
                    }
                    at += 2;
                    continue;
                }
            }
            if self.options.is_csv() && byte == self.options.quote {
                self.quoted = !self.quoted;
            }
            if byte == b'\n' && !self.quoted {
                self.searched = at + 1;
                return Some(at);
            }
            at += 1;
        }
        self.searched = at.min(self.pending.len());
        None
    }

    /// Ends the data; the columns and the number of rows.
    ///
    /// # Errors
    /// When the last row is cut off.
    pub(crate) fn finish(mut self) -> Result<(CopyTarget, Vec<ArrayRef>, usize)> {
        if self.quoted {
            self.line += 1;
            let message = "unterminated CSV quoted field";
            return Err(self.located(EngineError::new(SqlState::BAD_COPY_FILE_FORMAT, message)));
        }
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            self.record(&rest)?;
        }
        let columns: Result<Vec<ArrayRef>> =
            self.builders.into_iter().map(ColumnBuilder::finish).collect();
        Ok((self.target, columns?, self.rows))
    }

    /// An error with the place where the data is wrong.
    #[must_use]
    pub fn located(&self, error: EngineError) -> EngineError {
        let detail = format!("COPY {}, line {}.", self.target.collection.name, self.line);
        error.with_detail(detail)
    }

    fn record(&mut self, record: &[u8]) -> Result<()> {
        self.line += 1;
        let record = record.strip_suffix(b"\r").unwrap_or(record);
        if self.ended || (self.line == 1 && self.options.header) {
            return Ok(());
        }
        if record == b"\\." {
            self.ended = true;
            return Ok(());
        }
        let Ok(text) = std::str::from_utf8(record) else {
            let message = "invalid byte sequence for encoding \"UTF8\"";
            let state = SqlState::CHARACTER_NOT_IN_REPERTOIRE;
            return Err(self.located(EngineError::new(state, message)));
        };
        let fields =
            if self.options.is_csv() { self.csv_fields(text) } else { self.text_fields(text) };
        let fields = fields.map_err(|error| self.located(error))?;
        if fields.len() > self.builders.len() {
            let message = "extra data after last expected column";
            return Err(self.located(EngineError::new(SqlState::BAD_COPY_FILE_FORMAT, message)));
        }
        for at in 0..self.builders.len() {
            let target = &self.target.collection.columns[self.target.positions[at]];
            let column = &target.name;
            let Some(field) = fields.get(at) else {
                let message = format!("missing data for column \"{column}\"");
                return Err(self.located(EngineError::new(SqlState::BAD_COPY_FILE_FORMAT, message)));
            };
            if field.is_none() && !target.nullable {
                return Err(self.located(EngineError::null_value(column)));
            }
            if let Err(error) = self.builders[at].push(field.as_deref()) {
                let table = &self.target.collection.name;
                let detail = format!("COPY {table}, line {}, column {column}.", self.line);
                let located = EngineError::new(error.sql_state(), error.to_string());
                return Err(located.with_detail(detail));
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn text_fields<'t>(&self, text: &'t str) -> Result<Vec<Option<Cow<'t, str>>>> {
        let delimiter = char::from(self.options.delimiter);
        let mut fields = Vec::with_capacity(self.builders.len());
        let mut rest = text;
        loop {
            let end = field_end(rest, delimiter);
            let raw = &rest[..end];
            if raw == self.options.null {
                fields.push(None);
            } else if raw.contains('\\') {
                fields.push(Some(Cow::Owned(unescape(raw)?)));
            } else {
                fields.push(Some(Cow::Borrowed(raw)));
            }
            if end == rest.len() {
                return Ok(fields);
            }
            rest = &rest[end + delimiter.len_utf8()..];
        }
    }

    fn csv_fields<'t>(&self, text: &'t str) -> Result<Vec<Option<Cow<'t, str>>>> {
        let (delimiter, quote, escape) = (
            char::from(self.options.delimiter),
            char::from(self.options.quote),
            char::from(self.options.escape),
        );
        let mut fields = Vec::with_capacity(self.builders.len());
        let (mut field, mut was_quoted, mut quoted) = (String::new(), false, false);
        let mut characters = text.chars().peekable();
        loop {
            let next = characters.next();
            match next {
                Some(c)
                    if quoted
                        && c == escape
                        && characters.peek().is_some_and(|c| *c == quote || *c == escape) =>
                {
                    field.extend(characters.next());
                }
                Some(c) if c == quote => {
                    quoted = !quoted;
                    was_quoted = true;
                }
                Some(c) if quoted || c != delimiter => field.push(c),
                Some(_) | None => {
                    let value = std::mem::take(&mut field);
                    let is_null = !was_quoted && value == self.options.null;
                    fields.push((!is_null).then_some(Cow::Owned(value)));
                    was_quoted = false;
                    if next.is_none() {
                        break;
                    }
                }
            }
        }
        Ok(fields)
    }
}

/// End of the first field: the first delimiter that no backslash precedes.
fn field_end(text: &str, delimiter: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == delimiter {
            return at;
        }
    }
    text.len()
}

fn unescape(raw: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut input = raw.bytes().peekable();
    while let Some(byte) = input.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let Some(escaped) = input.next() else {
            bytes.push(b'\\');
            break;
        };
        let mut digits = |radix: u32, most: usize, first: Option<u32>| {
            let mut value = first;
            for _ in usize::from(first.is_some())..most {
                let digit = input.peek().and_then(|b| char::from(*b).to_digit(radix));
                let Some(digit) = digit else { break };
                value = Some(value.unwrap_or(0) * radix + digit);
                input.next();
            }
            value.map(|value| u8::try_from(value & 0xFF).unwrap_or(0))
        };
        bytes.push(match escaped {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'x' => digits(16, 2, None).unwrap_or(b'x'),
            octal @ b'0'..=b'7' => digits(8, 3, Some(u32::from(octal - b'0'))).unwrap_or_default(),
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| {
        let message = "invalid byte sequence for encoding \"UTF8\"";
        EngineError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array as _, AsArray as _};
    use catalog::{Catalog, Column, ColumnType, Define, Defined};
    use datafusion::sql::sqlparser::ast::CopyOption;
    use types::CommitTs;

    fn copy(options: &[CopyOption]) -> CopyIn {
        let (catalog, _) = Catalog::default().define(&Define::Genesis, CommitTs(1)).unwrap();
        let text = |name: &str| Column::new(name, ColumnType::Text, true);
        let create = Define::CreateCollection {
            schema: catalog.namespace("public", CommitTs(1)).unwrap().id,
            name: "t".to_owned(),
            columns: vec![text("a"), text("b")],
            primary_key: Vec::new(),
            retention: None,
            checks: Vec::new(),
            sorted: Vec::new(),
            key_name: None,
            sequences: Vec::new(),
        };
        let (catalog, made) = catalog.define(&create, CommitTs(2)).unwrap();
        let Defined::Collection(id) = made else { panic!() };
        let collection = catalog.collection_by_id(id).unwrap();
        let target = CopyTarget::new(collection, &[]).unwrap();
        CopyIn::new(target, CopyOptions::parse(options, &[]).unwrap())
    }

    type Row = (Option<String>, Option<String>);

    /// Feeds `data` in pieces of `size` bytes.
    fn rows(options: &[CopyOption], data: &str, size: usize) -> Result<Vec<Row>> {
        let mut copy = copy(options);
        data.as_bytes().chunks(size).try_for_each(|piece| copy.push(piece))?;
        let (_, columns, count) = copy.finish()?;
        let cell = |column: usize, row: usize| {
            let array = columns[column].as_string::<i32>();
            (!array.is_null(row)).then(|| array.value(row).to_owned())
        };
        Ok((0..count).map(|row| (cell(0, row), cell(1, row))).collect())
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn text_is_cut_and_unescaped_wherever_the_pieces_end() {
        let data = "a\tb\n\\N\tx\\ty\\\\\\101\\x42\r\n\t\\.x\nlast\t1";
        let expected = vec![
            (some("a"), some("b")),
            (None, some("x\ty\\AB")),
            (some(""), some(".x")),
            (some("last"), some("1")),
        ];
        for size in [1, 2, 3, 7, 1_000] {
            assert_eq!(rows(&[], data, size).unwrap(), expected, "pieces of {size}");
        }
    }

    #[test]
    fn csv_knows_quotes_nulls_and_headers() {
        let options = [CopyOption::Format(Ident::new("csv")), CopyOption::Header(true)];
        let data = "x,y\n1,\"a \"\"q\"\", b\nc\"\n,\"\"\n\"é\",z\n";
        let expected =
            vec![(some("1"), some("a \"q\", b\nc")), (None, some("")), (some("é"), some("z"))];
        for size in [1, 2, 5, 1_000] {
            assert_eq!(rows(&options, data, size).unwrap(), expected, "pieces of {size}");
        }
    }

    #[test]
    fn malformed_rows_are_refused_with_their_place() {
        let cases = [("a\n", "22P04"), ("a\tb\tc\n", "22P04")];
        for (data, state) in cases {
            let error = rows(&[], data, 100).unwrap_err();
            assert_eq!(error.sql_state().code(), state, "{data}");
            assert_eq!(error.detail(), Some("COPY t, line 1."));
        }
        let csv = [CopyOption::Format(Ident::new("csv"))];
        assert_eq!(rows(&csv, "\"a,b\n", 100).unwrap_err().sql_state().code(), "22P04");
        let mut raw = copy(&[]);
        assert_eq!(raw.push(b"\xff\tb\n").unwrap_err().sql_state().code(), "22021");
    }
}
