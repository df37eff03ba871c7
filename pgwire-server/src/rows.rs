//! Rows of a query on their way to the client: one batch at a time, some rows at a time.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::{BufMut as _, BytesMut};
use engine::{CopyFormat, CopyOptions, EngineError, RowStream, pg_types};

use crate::encode::Column;
use crate::message::{ColumnDescription, Format, Out};

/// Columns as the client is told of them.
pub(crate) fn describe(schema: &SchemaRef, formats: &Formats) -> Vec<ColumnDescription> {
    let describe = |(at, field): (usize, &arrow::datatypes::FieldRef)| {
        let (oid, typmod) = pg_types::oid_of_field(field);
        ColumnDescription {
            name: field.name().clone(),
            oid,
            len: pg_types::by_oid(oid).map_or(-1, |t| t.len),
            typmod,
            format: formats.of(at),
        }
    };
    schema.fields().iter().enumerate().map(describe).collect()
}

/// The formats a client asked for: none for text, one for all columns, or one for each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Formats(pub(crate) Vec<Format>);

impl Formats {
    /// The format of a column.
    pub(crate) fn of(&self, column: usize) -> Format {
        match self.0.as_slice() {
            [] => Format::Text,
            [all] => *all,
            each => each.get(column).copied().unwrap_or(Format::Text),
        }
    }
}

/// A result, read as far as the client asked.
#[derive(Debug)]
pub(crate) struct Rows {
    stream: RowStream,
    formats: Formats,
    batch: Option<Prepared>,
    /// The format of a COPY.
    copy: Option<CopyOptions>,
    /// What has to come before the next row, in one message with it.
    head: Vec<u8>,
    pub(crate) sent: u64,
}

/// The batch being sent.
#[derive(Debug)]
struct Prepared {
    columns: Vec<Column>,
    rows: usize,
    /// The first row that was not sent.
    next: usize,
}

impl Rows {
    pub(crate) fn new(stream: RowStream, formats: Formats) -> Self {
        Self { stream, formats, batch: None, copy: None, head: Vec::new(), sent: 0 }
    }

    /// Rows in a format of COPY.
    pub(crate) fn of_copy(stream: RowStream, options: CopyOptions) -> Self {
        let format = match options.format() {
            CopyFormat::Text | CopyFormat::Csv => Format::Text,
            CopyFormat::Binary => Format::Binary,
        };
        let names: Vec<&str> =
            stream.schema().fields().iter().map(|field| field.name().as_str()).collect();
        let head = options.head(&names);
        Self { copy: Some(options), head, ..Self::new(stream, Formats(vec![format])) }
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        self.stream.schema()
    }

    /// Whether the statement is done, and its rows are all there.
    pub(crate) fn is_done(&self) -> bool {
        self.stream.is_done()
    }

    /// The command tag.
    pub(crate) fn tag(&self) -> String {
        self.stream.tag(self.sent)
    }

    /// Writes up to `most` rows of the next batch; how many, or `None` after the last row.
    pub(crate) async fn write_some(
        &mut self,
        most: usize,
        out: &mut Out,
    ) -> Result<Option<usize>, EngineError> {
        let mut batch = loop {
            if let Some(batch) = self.batch.take()
                && batch.next < batch.rows
            {
                break batch;
            }
            match self.stream.next().await {
                Some(batch) => self.batch = Some(self.prepare(&batch?)?),
                None => return Ok(None),
            }
        };
        let to = batch.rows.min(batch.next.saturating_add(most));
        let columns = &batch.columns;
        let count = u16::try_from(columns.len()).unwrap_or(u16::MAX);
        for row in batch.next..to {
            let mut failed = None;
            let start = out.buffer.len();
            let text = self.copy.as_ref().filter(|copy| copy.format() != CopyFormat::Binary);
            let kind = if self.copy.is_some() { b'd' } else { b'D' };
            if text.is_some() && !self.head.is_empty() {
                // A line of its own; what comes before binary rows is no message of its own.
                out.message(kind, |buffer| buffer.put_slice(&std::mem::take(&mut self.head)));
            }
            out.message(kind, |buffer| {
                buffer.put_slice(&std::mem::take(&mut self.head));
                let written = match text {
                    Some(copy) => copy_line(columns, row, copy, buffer),
                    None => {
                        buffer.put_u16(count);
                        columns.iter().try_for_each(|column| column.write(row, buffer))
                    }
                };
                failed = written.err();
            });
            if let Some(error) = failed {
                // Half a row must not reach the client.
                out.buffer.truncate(start);
                return Err(error);
            }
        }
        let written = to - batch.next;
        batch.next = to;
        self.batch = Some(batch);
        self.sent += written as u64;
        Ok(Some(written))
    }

    /// Tells the client that a COPY is at its end.
    pub(crate) fn end_copy(&mut self, out: &mut Out) {
        let binary = self.copy.as_ref().is_some_and(|copy| copy.format() == CopyFormat::Binary);
        let head = std::mem::take(&mut self.head);
        if binary || !head.is_empty() {
            out.message(b'd', |buffer| {
                buffer.put_slice(&head);
                if binary {
                    buffer.put_i16(-1);
                }
            });
        }
        out.bare(b'c');
    }

    fn prepare(&self, batch: &RecordBatch) -> Result<Prepared, EngineError> {
        let schema = self.stream.schema();
        let column = |(at, array)| {
            let (oid, _) = pg_types::oid_of_field(schema.field(at));
            Column::new(array, oid, self.formats.of(at))
        };
        let columns: Result<Vec<Column>, _> =
            batch.columns().iter().enumerate().map(column).collect();
        Ok(Prepared { columns: columns?, rows: batch.num_rows(), next: 0 })
    }
}

/// A row as a line of text or csv.
fn copy_line(
    columns: &[Column],
    row: usize,
    copy: &CopyOptions,
    out: &mut BytesMut,
) -> Result<(), EngineError> {
    let (mut value, mut line) = (BytesMut::new(), Vec::new());
    for (at, column) in columns.iter().enumerate() {
        value.clear();
        column.write(row, &mut value)?;
        // A length comes first, which is below zero for NULL.
        let known = value.first().is_some_and(|byte| *byte < 0x80);
        copy.put(at, value.get(4..).filter(|_| known), columns.len(), &mut line);
    }
    line.push(b'\n');
    out.put_slice(&line);
    Ok(())
}
