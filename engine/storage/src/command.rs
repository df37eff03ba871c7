//! What the log carries: resolved, logical changes.
//!
//! A command names rows by id and carries whole row images; it holds no predicate, no `now()` and
//! nothing else that could come out differently when it is applied again.
//!
//! Encoding, version 1 (little-endian): version `u8`, kind `u8`, then
//!
//! * kind 1, write: number of tables `u32`; per table: id `u32`, read timestamp `i64`, number of
//!   row ids `u32` and the ids `u64` each, then 0 `u32` or the length of an Arrow IPC record batch
//!   message `u32`, length of its body `u64`, message, body. The schema is the table's own and is
//!   not repeated.
//! * kind 2, define: JSON of [`catalog::Define`].
//! * kind 3, tick: nothing. It only moves the commit timestamp.
//! * kind 4, transaction: next id `u32`, number of catalog changes `u32`; per change length `u32` and
//!   JSON as in kind 2; then the writes as in kind 1.
//! * kinds 5 and 6: as 1 and 4 where a table is not in its first version: the version `u32` stands
//!   behind the id of each table.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow_ipc::writer::{
    DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext, IpcWriteOptions,
};
use catalog::Define;
use types::{CommitTs, RowId, TableId};

use crate::memtable::Definition;
use crate::wal::Cursor;

const VERSION: u8 = 1;
const KIND_WRITE: u8 = 1;
const KIND_DEFINE: u8 = 2;
const KIND_TICK: u8 = 3;
const KIND_TRANSACTION: u8 = 4;
const KIND_VERSIONED_WRITE: u8 = 5;
const KIND_VERSIONED_TRANSACTION: u8 = 6;

/// A change, the unit of atomicity: all of it becomes visible at one commit timestamp or nothing.
#[derive(Debug, Clone)]
pub enum Command {
    /// Rows end and begin, in one or more tables.
    Write(Vec<TableWrite>),
    /// The catalog changes.
    Define(Define),
    /// The catalog changes, and then rows do.
    Transaction(Transacted),
    /// Nothing changes: closes all instants up to its commit timestamp.
    Tick,
}

/// What a transaction did that changed the catalog.
#[derive(Debug, Clone)]
pub struct Transacted {
    /// The id that the catalog gave next when the transaction began. The transaction knew its new
    /// objects by ids from this one on; when others came first, all of them move up.
    pub next_id: u32,
    /// The changes, in order.
    pub defines: Vec<Define>,
    /// What it wrote, each table once.
    pub writes: Vec<TableWrite>,
}

/// The part of a write that concerns one table.
#[derive(Debug, Clone)]
pub struct TableWrite {
    /// The table.
    pub table: TableId,
    /// The version of the table's definition that the write is made for.
    pub version: u32,
    /// The read view in which `ended` was found. A row that ended after it is a conflict.
    pub read_ts: CommitTs,
    /// Row versions that end.
    pub ended: Vec<RowId>,
    /// Row versions that begin, in the table's schema.
    pub begun: Option<RecordBatch>,
}

/// Why bytes are not a command.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Cut off, or of a version or kind this server does not know.
    #[error("log entry is malformed: {0}")]
    Malformed(&'static str),
    /// The rows do not fit the table.
    #[error("rows of a log entry are malformed: {0}")]
    Rows(#[from] ArrowError),
    /// The catalog change is not one.
    #[error("catalog change of a log entry is malformed: {0}")]
    Define(#[from] serde_json::Error),
}

impl Command {
    /// The command as bytes.
    ///
    /// # Errors
    /// When rows cannot be encoded, which a batch of a table's own schema always can.
    pub fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        let mut out = vec![VERSION];
        match self {
            Self::Write(writes) => {
                let first = is_first_version(writes);
                out.push(if first { KIND_WRITE } else { KIND_VERSIONED_WRITE });
                encode_writes(&mut out, writes)?;
            }
            Self::Transaction(Transacted { next_id, defines, writes }) => {
                let first = is_first_version(writes);
                out.push(if first { KIND_TRANSACTION } else { KIND_VERSIONED_TRANSACTION });
                out.extend_from_slice(&next_id.to_le_bytes());
                put_u32(&mut out, defines.len());
                for define in defines {
                    let json = serde_json::to_vec(define)?;
                    put_u32(&mut out, json.len());
                    out.extend_from_slice(&json);
                }
                encode_writes(&mut out, writes)?;
            }
            Self::Define(define) => {
                out.push(KIND_DEFINE);
                serde_json::to_writer(&mut out, define)?;
            }
            Self::Tick => out.push(KIND_TICK),
        }
        Ok(out)
    }

    /// Reads a command, and whether rows were passed over that are of a definition that is not there: it
    /// was rejected when it was first applied and will be again.
    ///
    /// # Errors
    /// When the bytes are not a command.
    pub(crate) fn decode(
        bytes: &[u8],
        definitions: &impl Definitions,
    ) -> Result<(Self, bool), DecodeError> {
        let now = |id| definitions.now(id);
        Ok(match bytes {
            [VERSION, kind @ (KIND_WRITE | KIND_VERSIONED_WRITE), rest @ ..] => {
                let (writes, unread) = decode_writes(rest, *kind == KIND_VERSIONED_WRITE, now)?;
                (Self::Write(writes), unread)
            }
            [VERSION, KIND_DEFINE, rest @ ..] => {
                (Self::Define(serde_json::from_slice(rest)?), false)
            }
            [VERSION, kind @ (KIND_TRANSACTION | KIND_VERSIONED_TRANSACTION), rest @ ..] => {
                let versioned = *kind == KIND_VERSIONED_TRANSACTION;
                let (transacted, unread) = decode_transaction(rest, versioned, definitions)?;
                (Self::Transaction(transacted), unread)
            }
            [VERSION, KIND_TICK] => (Self::Tick, false),
            _ => return Err(DecodeError::Malformed("unknown version or kind")),
        })
    }
}

/// The definitions that rows of the log are read with.
pub(crate) trait Definitions {
    /// That of a table before the entry.
    fn now(&self, table: TableId) -> Option<Arc<Definition>>;

    /// Those after changes of the catalog, by the ids that the transaction knew; `None` when the changes
    /// cannot be made.
    fn after(&self, next_id: u32, defines: &[Define]) -> Option<After>;
}

/// Definitions by the ids that a transaction knew.
pub(crate) type After = Box<dyn Fn(TableId) -> Option<Arc<Definition>>>;

impl Command {
    /// What encoded bytes are, for people; rows need a table's schema and are not shown.
    pub(crate) fn describe(bytes: &[u8]) -> String {
        match bytes {
            [VERSION, KIND_WRITE | KIND_VERSIONED_WRITE, rest @ ..] => {
                let tables = Cursor(rest).u32();
                tables.map_or("a malformed write".to_owned(), |n| format!("write to {n} tables"))
            }
            [VERSION, KIND_DEFINE, rest @ ..] => {
                format!("define {}", String::from_utf8_lossy(rest))
            }
            [VERSION, KIND_TRANSACTION | KIND_VERSIONED_TRANSACTION, rest @ ..] => {
                let mut cursor = Cursor(rest);
                let changes = cursor.u32().and_then(|_| cursor.u32());
                changes.map_or("a malformed transaction".to_owned(), |n| {
                    format!("transaction with {n} changes of the catalog")
                })
            }
            [VERSION, KIND_TICK] => "tick".to_owned(),
            _ => "of an unknown kind".to_owned(),
        }
    }
}

fn put_u32(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes());
}

fn is_first_version(writes: &[TableWrite]) -> bool {
    writes.iter().all(|write| write.version == 0)
}

fn encode_writes(out: &mut Vec<u8>, writes: &[TableWrite]) -> Result<(), DecodeError> {
    put_u32(out, writes.len());
    let versioned = !is_first_version(writes);
    writes.iter().try_for_each(|write| encode_write(out, write, versioned))
}

fn encode_write(out: &mut Vec<u8>, write: &TableWrite, versioned: bool) -> Result<(), DecodeError> {
    out.extend_from_slice(&write.table.0.to_le_bytes());
    if versioned {
        out.extend_from_slice(&write.version.to_le_bytes());
    }
    out.extend_from_slice(&write.read_ts.0.to_le_bytes());
    put_u32(out, write.ended.len());
    for row in &write.ended {
        out.extend_from_slice(&row.0.to_le_bytes());
    }
    let Some(batch) = &write.begun else {
        put_u32(out, 0);
        return Ok(());
    };
    encode_batch(out, batch)?;
    Ok(())
}

/// Message and body of a record batch without its schema.
pub(crate) fn encode_body(batch: &RecordBatch) -> Result<(Vec<u8>, Vec<u8>), ArrowError> {
    let (_, encoded): (_, EncodedData) = IpcDataGenerator::default().encode(
        batch,
        &mut DictionaryTracker::new(true),
        &IpcWriteOptions::default(),
        &mut IpcWriteContext::default(),
    )?;
    Ok((encoded.ipc_message, encoded.arrow_data))
}

/// Appends a record batch without its schema.
fn encode_batch(out: &mut Vec<u8>, batch: &RecordBatch) -> Result<(), ArrowError> {
    let (message, body) = encode_body(batch)?;
    put_u32(out, message.len());
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend_from_slice(&message);
    out.extend_from_slice(&body);
    Ok(())
}

fn decode_transaction(
    bytes: &[u8],
    versioned: bool,
    definitions: &impl Definitions,
) -> Result<(Transacted, bool), DecodeError> {
    let mut cursor = Cursor(bytes);
    let head = cursor.u32().zip(cursor.u32());
    let (next_id, count) = head.ok_or(DecodeError::Malformed("cut off"))?;
    let mut defines = Vec::new();
    for _ in 0..count {
        let json = cursor.u32().and_then(|length| cursor.take(length as usize));
        let json = json.ok_or(DecodeError::Malformed("cut off"))?;
        defines.push(serde_json::from_slice(json)?);
    }
    let after = definitions.after(next_id, &defines);
    let known = |id| after.as_ref().and_then(|after| after(id));
    let (writes, unread) = decode_writes(cursor.0, versioned, known)?;
    Ok((Transacted { next_id, defines, writes }, unread))
}

fn decode_writes(
    bytes: &[u8],
    versioned: bool,
    definition: impl Fn(TableId) -> Option<Arc<Definition>>,
) -> Result<(Vec<TableWrite>, bool), DecodeError> {
    let cut = DecodeError::Malformed("cut off");
    let mut cursor = Cursor(bytes);
    let Some(tables) = cursor.u32() else { return Err(cut) };
    let (mut writes, mut unread) = (Vec::new(), false);
    for _ in 0..tables {
        let mut head = || {
            let table = TableId(cursor.u32()?);
            let version = if versioned { cursor.u32()? } else { 0 };
            Some((table, version, CommitTs(cursor.i64()?), cursor.u32()?))
        };
        let Some((table, version, read_ts, count)) = head() else { return Err(cut) };
        let Some(ids) = cursor.take(count as usize * 8) else { return Err(cut) };
        let mut ids = Cursor(ids);
        let ended = std::iter::from_fn(|| ids.u64().map(RowId)).collect();
        let begun = match definition(table).filter(|known| known.version == version) {
            Some(known) => decode_batch(&mut cursor, known.schema())?,
            None => {
                unread = true;
                skip_batch(&mut cursor).ok_or(DecodeError::Malformed("cut off"))?;
                None
            }
        };
        writes.push(TableWrite { table, version, read_ts, ended, begun });
    }
    if cursor.0.is_empty() { Ok((writes, unread)) } else { Err(DecodeError::Malformed("too long")) }
}

fn skip_batch(cursor: &mut Cursor<'_>) -> Option<()> {
    let message = cursor.u32()? as usize;
    if message > 0 {
        let body = usize::try_from(cursor.u64()?).ok()?;
        cursor.take(message)?;
        cursor.take(body)?;
    }
    Some(())
}

/// Reads what [`encode_batch`] or a zero length wrote.
fn decode_batch(
    cursor: &mut Cursor<'_>,
    schema: &SchemaRef,
) -> Result<Option<RecordBatch>, DecodeError> {
    let cut = DecodeError::Malformed("cut off");
    let Some(message_len) = cursor.u32() else { return Err(cut) };
    if message_len == 0 {
        return Ok(None);
    }
    let mut parts = || {
        let body_len = usize::try_from(cursor.u64()?).ok()?;
        Some((cursor.take(message_len as usize)?, cursor.take(body_len)?))
    };
    let Some((message, body)) = parts() else { return Err(cut) };
    Ok(Some(decode_body(message, &Buffer::from(body), schema)?))
}

/// Reads what [`encode_body`] made, in place where `body` is aligned.
pub(crate) fn decode_body(
    message: &[u8],
    body: &Buffer,
    schema: &SchemaRef,
) -> Result<RecordBatch, DecodeError> {
    let message = arrow_ipc::root_as_message(message)
        .map_err(|_| DecodeError::Malformed("not an Arrow message"))?;
    let header = message.header_as_record_batch();
    let header = header.ok_or(DecodeError::Malformed("not an Arrow record batch"))?;
    Ok(arrow_ipc::reader::read_record_batch(
        body,
        header,
        Arc::clone(schema),
        &HashMap::new(),
        None,
        &message.version(),
    )?)
}
