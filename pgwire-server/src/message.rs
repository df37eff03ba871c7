//! Messages of the protocol: bytes to values and back.
//!
//! Reading trusts nothing: a length is checked before anything is allocated, every field before it
//! is read, strings must be UTF-8, and a message must end where its length says. Why this is our
//! own: `docs/adr/0001-wire-protocol.md`.

use bytes::{BufMut as _, Bytes, BytesMut};
use engine::TransactionStatus;

use crate::error::ConnectionError;

type Result<T> = std::result::Result<T, ConnectionError>;

/// A message from a client that has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frontend {
    Query(String),
    Parse {
        name: String,
        sql: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target),
    Execute {
        portal: String,
        max_rows: usize,
    },
    Close(Target),
    Flush,
    Sync,
    Terminate,
    CopyData(Bytes),
    CopyDone,
    CopyFail(String),
    /// A password nobody asked for.
    Password,
    /// A function call, which has been obsolete since 2003.
    FunctionCall,
}

/// Parameter values for a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) portal: String,
    pub(crate) statement: String,
    pub(crate) formats: Vec<Format>,
    pub(crate) values: Vec<Option<Bytes>>,
    pub(crate) results: Vec<Format>,
}

/// A statement or a portal, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Statement(String),
    Portal(String),
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Binary,
}

/// Reads the fields of one message.
struct Fields {
    rest: Bytes,
    kind: char,
}

impl Fields {
    fn malformed(&self) -> ConnectionError {
        ConnectionError::protocol(format!("malformed message of type '{}'", self.kind))
    }

    fn take(&mut self, bytes: usize) -> Result<Bytes> {
        if self.rest.len() < bytes {
            return Err(self.malformed());
        }
        Ok(self.rest.split_to(bytes))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn int16(&mut self) -> Result<i16> {
        let bytes = self.take(2)?;
        Ok(i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn int32(&mut self) -> Result<i32> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A count; PostgreSQL reads it without a sign.
    fn count(&mut self) -> Result<usize> {
        let bytes = self.take(2)?;
        Ok(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    }

    fn string(&mut self) -> Result<String> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or_else(|| self.malformed())?;
        let bytes = self.take(end + 1)?;
        match std::str::from_utf8(&bytes[..end]) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(ConnectionError::Fatal(engine::EngineError::new(
                types::SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                "invalid byte sequence for encoding \"UTF8\"",
            ))),
        }
    }

    fn formats(&mut self) -> Result<Vec<Format>> {
        let count = self.count()?;
        (0..count)
            .map(|_| match self.int16()? {
                0 => Ok(Format::Text),
                1 => Ok(Format::Binary),
                _ => Err(self.malformed()),
            })
            .collect()
    }

    fn target(&mut self) -> Result<Target> {
        match self.byte()? {
            b'S' => Ok(Target::Statement(self.string()?)),
            b'P' => Ok(Target::Portal(self.string()?)),
            _ => Err(self.malformed()),
        }
    }

    fn bind(&mut self) -> Result<Bind> {
        let (portal, statement) = (self.string()?, self.string()?);
        let formats = self.formats()?;
        let count = self.count()?;
        let mut values = Vec::with_capacity(count.min(self.rest.len() / 4 + 1));
        for _ in 0..count {
            values.push(match self.int32()? {
                -1 => None,
                length => {
                    let length = usize::try_from(length).map_err(|_| self.malformed())?;
                    Some(self.take(length)?)
                }
            });
        }
        let results = self.formats()?;
        Ok(Bind { portal, statement, formats, values, results })
    }

    fn parse(&mut self) -> Result<Frontend> {
        let (name, sql) = (self.string()?, self.string()?);
        let count = self.count()?;
        let types: Result<Vec<u32>> =
            (0..count).map(|_| Ok(self.int32()?.cast_unsigned())).collect();
        Ok(Frontend::Parse { name, sql, types: types? })
    }
}

/// The kind of the first message in `input` that is neither Close nor Flush, as far as it is there.
pub(crate) fn next_but_close_and_flush(mut input: &[u8]) -> Option<u8> {
    loop {
        let (kind, rest) = input.split_first()?;
        if !matches!(kind, b'C' | b'H') {
            return Some(*kind);
        }
        let length = u32::from_be_bytes(*rest.first_chunk::<4>()?);
        input = rest.get(usize::try_from(length).ok()?..)?;
    }
}

/// Takes one whole message off `buffer`; `None` when more bytes are needed. `bytes_max` bounds the
/// length that a message may announce.
pub(crate) fn read(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Frontend>> {
    let Some(head) = buffer.first_chunk::<5>() else { return Ok(None) };
    let kind = char::from(head[0]);
    if !kind.is_ascii_alphabetic() {
        return Err(ConnectionError::protocol("invalid frontend message type"));
    }
    let length = i32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let length = usize::try_from(length).ok().filter(|length| *length >= 4);
    let length = length.ok_or_else(|| ConnectionError::protocol("invalid message length"))?;
    if length > bytes_max {
        return Err(ConnectionError::Fatal(
            engine::EngineError::new(
                types::SqlState::CONFIGURATION_LIMIT_EXCEEDED,
                format!("a message of {length} bytes is longer than {bytes_max}"),
            )
            .with_hint("Load large data with COPY."),
        ));
    }
    if buffer.len() < 1 + length {
        buffer.reserve(1 + length - buffer.len());
        return Ok(None);
    }
    let mut message = buffer.split_to(1 + length).freeze();
    let mut fields = Fields { rest: message.split_off(5), kind };
    let frontend = match kind {
        'Q' => Frontend::Query(fields.string()?),
        'P' => fields.parse()?,
        'B' => Frontend::Bind(fields.bind()?),
        'D' => Frontend::Describe(fields.target()?),
        'E' => {
            let portal = fields.string()?;
            // Zero or less means all rows.
            let max_rows = usize::try_from(fields.int32()?).unwrap_or(0);
            Frontend::Execute { portal, max_rows }
        }
        'C' => Frontend::Close(fields.target()?),
        'H' => Frontend::Flush,
        'S' => Frontend::Sync,
        'X' => Frontend::Terminate,
        'd' => Frontend::CopyData(std::mem::take(&mut fields.rest)),
        'c' => Frontend::CopyDone,
        'f' => Frontend::CopyFail(fields.string()?),
        'p' => {
            fields.rest.clear();
            Frontend::Password
        }
        'F' => {
            fields.rest.clear();
            Frontend::FunctionCall
        }
        _ => return Err(ConnectionError::protocol(format!("unknown message type '{kind}'"))),
    };
    if !fields.rest.is_empty() {
        return Err(fields.malformed());
    }
    Ok(Some(frontend))
}

/// Writes messages to a client.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub(crate) buffer: BytesMut,
}

/// A column of a row description.
#[derive(Debug, Clone)]
pub(crate) struct ColumnDescription {
    pub(crate) name: String,
    pub(crate) oid: u32,
    pub(crate) len: i16,
    pub(crate) typmod: i32,
    pub(crate) format: Format,
}

impl Out {
    /// Writes a message: its type, its length, and what `body` writes.
    pub(crate) fn message(&mut self, kind: u8, body: impl FnOnce(&mut BytesMut)) {
        self.buffer.put_u8(kind);
        let at = self.buffer.len();
        self.buffer.put_i32(0);
        body(&mut self.buffer);
        let length = i32::try_from(self.buffer.len() - at).unwrap_or(i32::MAX);
        self.buffer[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }

    pub(crate) fn authentication_ok(&mut self) {
        self.message(b'R', |out| out.put_i32(0));
    }

    pub(crate) fn parameter_status(&mut self, name: &str, value: &str) {
        self.message(b'S', |out| {
            put_string(out, name);
            put_string(out, value);
        });
    }

    pub(crate) fn backend_key(&mut self, process: i32, secret: i32) {
        self.message(b'K', |out| {
            out.put_i32(process);
            out.put_i32(secret);
        });
    }

    pub(crate) fn negotiate_version(&mut self, options: &[String]) {
        self.message(b'v', |out| {
            out.put_i32(0);
            out.put_i32(i32::try_from(options.len()).unwrap_or(i32::MAX));
            options.iter().for_each(|option| put_string(out, option));
        });
    }

    /// Ready for the next query.
    pub(crate) fn ready(&mut self, status: TransactionStatus) {
        let status = match status {
            TransactionStatus::Idle => b'I',
            TransactionStatus::Open => b'T',
            TransactionStatus::Failed => b'E',
        };
        self.message(b'Z', |out| out.put_u8(status));
    }

    pub(crate) fn row_description(&mut self, columns: &[ColumnDescription]) {
        self.message(b'T', |out| {
            out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
            for column in columns {
                put_string(out, &column.name);
                out.put_u32(0);
                out.put_i16(0);
                out.put_u32(column.oid);
                out.put_i16(column.len);
                out.put_i32(column.typmod);
                out.put_i16(column.format.code());
            }
        });
    }

    pub(crate) fn parameter_description(&mut self, oids: &[u32]) {
        self.message(b't', |out| {
            out.put_u16(u16::try_from(oids.len()).unwrap_or(u16::MAX));
            oids.iter().for_each(|oid| out.put_u32(*oid));
        });
    }

    pub(crate) fn copy_in(&mut self, columns: usize, binary: bool) {
        self.copy(b'G', columns, binary);
    }

    pub(crate) fn copy_out(&mut self, columns: usize, binary: bool) {
        self.copy(b'H', columns, binary);
    }

    fn copy(&mut self, kind: u8, columns: usize, binary: bool) {
        self.message(kind, |out| {
            out.put_u8(u8::from(binary));
            let columns = u16::try_from(columns).unwrap_or(u16::MAX);
            out.put_u16(columns);
            (0..columns).for_each(|_| out.put_i16(i16::from(binary)));
        });
    }

    pub(crate) fn command_complete(&mut self, tag: &str) {
        self.message(b'C', |out| put_string(out, tag));
    }

    /// An error or, with kind `N`, a notice.
    pub(crate) fn report(&mut self, kind: u8, fields: &[(u8, String)]) {
        self.message(kind, |out| {
            for (code, value) in fields {
                out.put_u8(*code);
                put_string(out, value);
            }
            out.put_u8(0);
        });
    }

    /// A message without a body.
    pub(crate) fn bare(&mut self, kind: u8) {
        self.message(kind, |_| {});
    }
}

impl Format {
    fn code(self) -> i16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }
}

/// Writes a string; a zero byte, which would end it early, is left out.
pub(crate) fn put_string(out: &mut BytesMut, text: &str) {
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::SplitMix64;

    fn message(kind: u8, body: &[u8]) -> BytesMut {
        let mut out = Out::default();
        out.message(kind, |buffer| buffer.put_slice(body));
        out.buffer
    }

    #[test]
    fn whole_messages_are_read_and_pieces_wait() {
        let mut whole = message(b'Q', b"SELECT 1\0");
        whole.extend(message(b'S', b""));
        for cut in 0..whole.len() {
            let mut buffer = BytesMut::from(&whole[..cut]);
            let mut read_ahead = Vec::new();
            while let Some(frontend) = read(&mut buffer, 1_000).unwrap() {
                read_ahead.push(frontend);
            }
            assert_eq!(read_ahead.len(), usize::from(cut >= 14), "cut at {cut}");
        }
        let bind = b"p\0s\0\0\x01\0\x01\0\x02\xff\xff\xff\xff\0\0\0\x02hi\0\x01\0\0";
        let read = read(&mut message(b'B', bind), 1_000).unwrap();
        let expected = Bind {
            portal: "p".to_owned(),
            statement: "s".to_owned(),
            formats: vec![Format::Binary],
            values: vec![None, Some(Bytes::from_static(b"hi"))],
            results: vec![Format::Text],
        };
        assert_eq!(read, Some(Frontend::Bind(expected)));
    }

    #[test]
    fn malformed_messages_are_refused() {
        let cases: [(u8, &[u8]); 9] = [
            (b'Q', b"no end"),
            (b'Q', b"one\0two"),
            (b'Q', b"\xff\0"),
            (b'B', b"\0\0\0\x01"),
            (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0"),
            (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
            (b'P', b"a\0b\0\xff\xff"),
            (b'D', b"X\0"),
            (b'S', b"x"),
        ];
        for (kind, body) in cases {
            assert!(
                read(&mut message(kind, body), 1_000).is_err(),
                "{} {body:?}",
                char::from(kind)
            );
        }
        let mut huge = BytesMut::from(&b"Q\x7f\xff\xff\xff"[..]);
        assert!(matches!(read(&mut huge, 1_000), Err(ConnectionError::Fatal(_))));
        let mut short = BytesMut::from(&b"Q\0\0\0\x03"[..]);
        assert!(read(&mut short, 1_000).is_err());
    }

    #[test]
    fn random_bytes_never_panic_and_never_allocate_what_they_announce() {
        let mut rng = SplitMix64::new(5);
        for _ in 0..50_000 {
            let length = usize::try_from(rng.below(60)).unwrap();
            let mut bytes: Vec<u8> =
                (0..length).map(|_| u8::try_from(rng.below(256)).unwrap()).collect();
            if bytes.len() > 5 && rng.below(2) == 0 {
                let kinds = b"QPBDECHSXdcfpF";
                bytes[0] = kinds[usize::try_from(rng.below(14)).unwrap()];
                let body = u8::try_from(bytes.len() - 1).unwrap();
                bytes[1..5].copy_from_slice(&[0, 0, 0, body]);
            }
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = read(&mut buffer, 10_000) {}
            assert!(buffer.capacity() <= 20_100);
        }
    }
}
