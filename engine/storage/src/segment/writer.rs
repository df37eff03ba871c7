//! Writes a segment file, one chunk at a time.

use std::path::Path;

use arrow::array::RecordBatch;
use types::{RowId, TableId};

use super::format::{ALIGNMENT, Block, HEADER_BYTES, Header, Kind, tail};
use super::{keys, zones};
use crate::command::encode_body;
use crate::error::StorageError;
use crate::fs::{File, FileSystem};
use crate::wal::StoreId;

/// What a segment is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The data directory.
    pub(crate) store: StoreId,
    /// Number of the file, never used twice.
    pub(crate) number: u64,
    pub(crate) table: TableId,
    /// The first row.
    pub(crate) first_row: RowId,
    /// Rows of every chunk but the last.
    pub(crate) chunk_rows: usize,
}

/// The rows of one chunk.
#[derive(Debug)]
pub(crate) struct ChunkRows {
    pub(crate) batch: RecordBatch,
    /// When each began.
    pub(crate) begins: Vec<i64>,
    /// Their ids.
    pub(crate) ids: Vec<u64>,
    /// Hashes of their primary keys; none for a table without one.
    pub(crate) hashes: Option<Vec<u64>>,
}

/// A segment that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    /// Hash of header and footer, by which the file is known to be the right one.
    pub(crate) root: u128,
    pub(crate) rows: u32,
}

struct Output<'a> {
    file: &'a dyn File,
    path: &'a Path,
    offset: usize,
    blocks: Vec<Block>,
}

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file
            .write_at(self.offset as u64, bytes)
            .map_err(|e| StorageError::write(self.path, e))?;
        self.offset += bytes.len();
        Ok(())
    }

    fn block(&mut self, kind: Kind, body: &[u8], message: &[u8]) -> Result<(), StorageError> {
        let mut bytes =
            Vec::with_capacity((body.len() + message.len()).next_multiple_of(ALIGNMENT));
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(message);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        self.blocks.push(Block {
            kind: kind.code(),
            crc: crc32c::crc32c(&bytes),
            offset: self.offset,
            length: bytes.len(),
            body: body.len(),
            message: message.len(),
        });
        self.put(&bytes)
    }
}

/// Writes and syncs a segment; its name is not durable yet. `chunks` are asked for one by one.
pub(crate) fn write(
    fs: &dyn FileSystem,
    path: &Path,
    identity: Identity,
    chunks: impl Iterator<Item = Result<ChunkRows, StorageError>>,
) -> Result<Written, StorageError> {
    let file = fs.create(path).map_err(|e| StorageError::write(path, e))?;
    let mut output = Output { file: &*file, path, offset: HEADER_BYTES, blocks: Vec::new() };
    let (mut begins, mut ids): (Vec<i64>, Vec<u64>) = (Vec::new(), Vec::new());
    let mut hashes: Option<Vec<u64>> = None;
    let mut zones = Vec::new();
    let encode = |batch: &RecordBatch| {
        encode_body(batch).map_err(|e| StorageError::io("encode", path, std::io::Error::other(e)))
    };
    for chunk in chunks {
        let chunk = chunk?;
        let (message, body) = encode(&chunk.batch)?;
        output.block(Kind::Chunk, &body, &message)?;
        zones.extend(zones::zones_of(&chunk.batch).map_err(StorageError::apply)?);
        begins.extend(chunk.begins);
        ids.extend(chunk.ids);
        if let Some(more) = chunk.hashes {
            hashes.get_or_insert_default().extend(more);
        }
    }
    let instants: Vec<u8> = begins.iter().flat_map(|begin| begin.to_le_bytes()).collect();
    output.block(Kind::Begins, &instants, &[])?;
    if !ids.iter().zip(identity.first_row.0..).all(|(id, next)| *id == next) {
        let ids: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        output.block(Kind::RowIds, &ids, &[])?;
    }
    if let Some(zones) = zones::join(&zones).map_err(StorageError::apply)? {
        let (message, body) = encode(&zones)?;
        output.block(Kind::Zones, &body, &message)?;
    }
    if let Some(hashes) = hashes {
        output.block(Kind::Keys, &keys::build(&hashes), &[])?;
    }
    let rows = u32::try_from(begins.len()).unwrap_or(u32::MAX);
    let header = Header {
        store: identity.store,
        number: identity.number,
        table: identity.table.0,
        first_row: identity.first_row.0,
        rows,
        chunk_rows: u32::try_from(identity.chunk_rows).unwrap_or(u32::MAX),
    };
    let header = header.to_bytes();
    let (footer, root) = tail(&header, &output.blocks, output.offset);
    output.put(&footer)?;
    file.write_at(0, &header).map_err(|e| StorageError::write(path, e))?;
    file.sync_data().map_err(|e| StorageError::io("sync", path, e))?;
    Ok(Written { bytes: output.offset as u64, root, rows })
}
