//! Rows of a COPY in binary format: PostgreSQL 15 manual, COPY, "Binary Format".
//!
//! A head of 19 bytes or more, then for each row a count of fields and for each field its length and
//! its bytes, and -1 in the place of a count at the end.

use arrow::datatypes::FieldRef;
use bytes::{Buf as _, Bytes, BytesMut};
use engine::{CopyIn, EngineError, ScalarValue};
use types::SqlState;
use types::limits::MESSAGE_BYTES_MAX;

use crate::message::Format;
use crate::parameter;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags and the length of the extension.
const HEAD_BYTES: usize = 19;
/// What is left of the data in front of a row's end is read anew up to this length.
const RETRIED_BYTES: usize = 64 << 10;
/// Flags that a reader has to know; none is known.
const CRITICAL_FLAGS: u32 = 0xffff_0000;

/// Takes data apart as it comes.
#[derive(Debug)]
pub(crate) struct BinaryRows {
    fields: Vec<FieldRef>,
    /// Bytes of what is not complete yet.
    pending: BytesMut,
    begun: bool,
    ended: bool,
    /// With fewer bytes than this there is no row to be found.
    enough: usize,
}

fn malformed(what: impl Into<String>) -> EngineError {
    EngineError::new(SqlState::BAD_COPY_FILE_FORMAT, what)
}

impl BinaryRows {
    pub(crate) fn new(copy: &CopyIn) -> Self {
        Self {
            fields: copy.fields(),
            pending: BytesMut::new(),
            begun: false,
            ended: false,
            enough: 0,
        }
    }

    /// Takes a piece of the data, cut anywhere; whole rows go to `copy`.
    ///
    /// # Errors
    /// When the data is not of the format, or a value not of its column's type.
    pub(crate) fn push(&mut self, data: &[u8], copy: &mut CopyIn) -> Result<(), EngineError> {
        if self.ended && !data.is_empty() {
            return Err(malformed("received copy data after EOF marker"));
        }
        self.pending.extend_from_slice(data);
        if !self.begun && !self.head()? {
            return Ok(());
        }
        if self.pending.len() >= self.enough { self.rows(copy) } else { Ok(()) }
    }

    fn rows(&mut self, copy: &mut CopyIn) -> Result<(), EngineError> {
        let mut left = self.pending.split().freeze();
        while !self.ended {
            let Some(bytes) = self.row(&left, copy)? else { break };
            left.advance(bytes);
        }
        if self.ended && left.has_remaining() {
            return Err(malformed("received copy data after EOF marker"));
        }
        if left.len() > MESSAGE_BYTES_MAX {
            let message = format!("a row of COPY data is longer than {MESSAGE_BYTES_MAX} bytes");
            let error = EngineError::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message);
            return Err(copy.located(error));
        }
        // A long row is looked for again when there is twice as much of it.
        self.enough = if left.len() > RETRIED_BYTES { 2 * left.len() } else { 0 };
        self.pending.extend_from_slice(&left);
        Ok(())
    }

    /// Makes sure that nothing is cut off at the end of the data.
    ///
    /// # Errors
    /// When a row is, or the head.
    pub(crate) fn finish(&mut self, copy: &mut CopyIn) -> Result<(), EngineError> {
        if self.begun {
            self.rows(copy)?;
        }
        if self.begun && self.pending.is_empty() {
            return Ok(());
        }
        Err(malformed("unexpected EOF in COPY data"))
    }

    /// Reads the head; false when it is not there as a whole.
    fn head(&mut self) -> Result<bool, EngineError> {
        let known = self.pending.len().min(SIGNATURE.len());
        if self.pending[..known] != SIGNATURE[..known] {
            return Err(malformed("COPY file signature not recognized"));
        }
        let Some(mut rest) = self.pending.get(SIGNATURE.len()..HEAD_BYTES) else {
            return Ok(false);
        };
        if rest.get_u32() & CRITICAL_FLAGS != 0 {
            return Err(malformed("unrecognized critical flags in COPY file header"));
        }
        let extension = usize::try_from(rest.get_i32());
        let extension = extension.ok().filter(|bytes| *bytes <= MESSAGE_BYTES_MAX);
        let extension = extension.ok_or_else(|| malformed("invalid COPY file header"))?;
        if self.pending.len() < HEAD_BYTES + extension {
            return Ok(false);
        }
        self.pending.advance(HEAD_BYTES + extension);
        self.begun = true;
        Ok(true)
    }

    /// Reads a row; its bytes, or `None` when it is not there as a whole.
    fn row(&mut self, data: &Bytes, copy: &mut CopyIn) -> Result<Option<usize>, EngineError> {
        let mut rest = data.clone();
        let Ok(count) = rest.try_get_i16() else { return Ok(None) };
        if count == -1 {
            self.ended = true;
            return Ok(Some(2));
        }
        if usize::try_from(count) != Ok(self.fields.len()) {
            let expected = self.fields.len();
            return Err(
                copy.located(malformed(format!("row field count is {count}, expected {expected}")))
            );
        }
        let mut values: Vec<ScalarValue> = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            let Ok(length) = rest.try_get_i32() else { return Ok(None) };
            let value = match usize::try_from(length) {
                Err(_) if length == -1 => None,
                Ok(length) if length <= MESSAGE_BYTES_MAX => {
                    if rest.len() < length {
                        return Ok(None);
                    }
                    Some(rest.split_to(length))
                }
                Ok(_) | Err(_) => return Err(copy.located(malformed("invalid field size"))),
            };
            let value = parameter::read(field, Format::Binary, value.as_ref());
            values.push(value.map_err(|error| copy.located(error))?);
        }
        copy.push_row(&values)?;
        Ok(Some(data.len() - rest.len()))
    }
}
