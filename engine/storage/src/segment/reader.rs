//! A segment file, open.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use arrow::array::RecordBatch;
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::SchemaRef;

use super::format::{Block, HEADER_BYTES, Header, Kind, read};
use super::keys::KeyTable;
use super::writer::{Identity, Written};
use super::zones::{Zones, zone_schema};
use crate::command::{DecodeError, decode_body};
use crate::error::StorageError;
use crate::fs::FileSystem;
use crate::memtable::{RowIds, column_position};

/// An open segment: cheap to open whatever its size, and read where it is touched.
#[derive(Debug)]
pub(crate) struct Segment {
    path: PathBuf,
    bytes: Buffer,
    identity: Identity,
    schema: SchemaRef,
    begins: ScalarBuffer<i64>,
    /// Ids of the rows, where they do not follow each other.
    ids: Option<ScalarBuffer<u64>>,
    blocks: Vec<Block>,
    chunks: Vec<Block>,
    keys: Option<Block>,
    keys_checked: OnceLock<Result<(), StorageError>>,
    zones: OnceLock<Option<RecordBatch>>,
}

impl Segment {
    /// Opens a file that is known to be `identity` as it was `written`, with columns of `schema`.
    ///
    /// # Errors
    /// When it cannot be mapped, or header, footer or the block of instants are not what was
    /// written.
    pub(crate) fn open(
        fs: &dyn FileSystem,
        path: &Path,
        (identity, written): (Identity, Written),
        schema: SchemaRef,
    ) -> Result<Self, StorageError> {
        let bytes = fs.map(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => StorageError::corrupt(path, 0, "the file is missing"),
            _ => StorageError::io("map", path, e),
        })?;
        if bytes.len() as u64 != written.bytes {
            let what = format!("the file has {} bytes, not {}", bytes.len(), written.bytes);
            return Err(StorageError::corrupt(path, bytes.len(), what));
        }
        let (header, blocks) = read(path, &bytes, written.root)?;
        let expected = Header {
            store: identity.store,
            number: identity.number,
            table: identity.table.0,
            first_row: identity.first_row.0,
            rows: written.rows,
            chunk_rows: u32::try_from(identity.chunk_rows).unwrap_or(u32::MAX),
        };
        if header != expected {
            return Err(StorageError::corrupt(path, 0, "the segment is of other rows"));
        }
        let rows = written.rows as usize;
        let of = |kind: Kind| blocks.iter().copied().filter(move |b| b.kind == kind.code());
        let chunks: Vec<Block> = of(Kind::Chunk).collect();
        let (Some(begins), keys) = (of(Kind::Begins).next(), of(Kind::Keys).next()) else {
            return Err(StorageError::corrupt(path, 0, "a segment without instants"));
        };
        let mut segment = Self {
            path: path.to_owned(),
            bytes,
            identity,
            schema,
            begins: ScalarBuffer::from(Vec::new()),
            ids: None,
            blocks: Vec::new(),
            chunks,
            keys,
            keys_checked: OnceLock::new(),
            zones: OnceLock::new(),
        };
        let content = segment.block(&begins)?;
        if begins.body != rows * 8 || segment.chunks.len() != rows.div_ceil(identity.chunk_rows) {
            return Err(StorageError::corrupt(path, HEADER_BYTES, "blocks of other rows"));
        }
        segment.begins = ScalarBuffer::new(content, 0, rows);
        if let Some(ids) = of(Kind::RowIds).next() {
            let content = segment.block(&ids)?;
            if ids.body != rows * 8 {
                return Err(StorageError::corrupt(path, ids.offset, "ids of other rows"));
            }
            segment.ids = Some(ScalarBuffer::new(content, 0, rows));
        }
        segment.blocks = blocks;
        Ok(segment)
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.begins.len()
    }

    /// When each row began.
    pub(crate) fn begins(&self) -> &ScalarBuffer<i64> {
        &self.begins
    }

    /// Ids of `rows` rows from the segment's row `from` on.
    pub(crate) fn row_ids(&self, from: usize, rows: usize) -> RowIds {
        match &self.ids {
            Some(ids) => RowIds::Listed(ids.slice(from, rows)),
            None => RowIds::From(self.identity.first_row.0 + from as u64),
        }
    }

    /// Name of the file.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// Bytes of the file.
    pub(crate) fn file_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Number of chunks.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// A block's bytes, checked.
    fn block(&self, block: &Block) -> Result<Buffer, StorageError> {
        let content = self.bytes.slice_with_length(block.offset, block.length);
        if crc32c::crc32c(&content) == block.crc {
            return Ok(content);
        }
        let what = "the checksum of a block is wrong";
        Err(StorageError::corrupt(&self.path, block.offset, what))
    }

    /// A record batch in place.
    fn decode(
        &self,
        block: &Block,
        schema: &SchemaRef,
    ) -> Result<Result<RecordBatch, DecodeError>, StorageError> {
        let content = self.block(block)?;
        let (body, message) = (block.body, block.message);
        let message = &content.as_slice()[body..body + message];
        Ok(decode_body(message, &content.slice_with_length(0, body), schema))
    }

    /// The zones of the column that has the id, with a value for each chunk; `None` where there are none,
    /// or none that can be read: a scan looks into every chunk then.
    pub(crate) fn zones(&self, column: usize) -> Option<Zones> {
        let schema = &self.schema;
        let column = column_position(schema, column)?;
        let read = || {
            let block = self.blocks.iter().find(|block| block.kind == Kind::Zones.code())?;
            let zones = self.decode(block, &zone_schema(schema)?).ok()?.ok()?;
            (zones.num_rows() == self.chunks.len()).then_some(zones)
        };
        Zones::of(self.zones.get_or_init(read).as_ref()?, schema, column)
    }

    /// Reads the columns of a chunk in place.
    ///
    /// # Errors
    /// When its block is damaged.
    pub(crate) fn chunk(&self, at: usize) -> Result<RecordBatch, StorageError> {
        let missing = || StorageError::corrupt(&self.path, 0, "a chunk that is not there");
        let block = self.chunks.get(at).ok_or_else(missing)?;
        let decoded = self.decode(block, &self.schema)?;
        let from = at * self.identity.chunk_rows;
        let rows = self.identity.chunk_rows.min(self.rows() - from);
        match decoded {
            Ok(batch) if batch.num_rows() == rows => Ok(batch),
            Ok(_) => Err(StorageError::corrupt(&self.path, block.offset, "rows are missing")),
            Err(error) => Err(StorageError::corrupt(&self.path, block.offset, error.to_string())),
        }
    }

    /// The lookup table of keys; `None` without a primary key.
    fn key_table(&self) -> Result<Option<KeyTable<'_>>, StorageError> {
        let Some(block) = &self.keys else { return Ok(None) };
        self.keys_checked.get_or_init(|| self.block(block).map(drop)).clone()?;
        let content = &self.bytes.as_slice()[block.offset..block.offset + block.body];
        let what = "the lookup table of keys is of other rows";
        let table = KeyTable::read(content, self.rows());
        table.map(Some).ok_or_else(|| StorageError::corrupt(&self.path, block.offset, what))
    }

    /// Makes sure that keys can be looked up.
    ///
    /// # Errors
    /// When the lookup table is damaged.
    pub(crate) fn check_keys(&self) -> Result<(), StorageError> {
        self.key_table().map(drop)
    }

    /// Rows, from the segment's first, whose primary key may have the hash; the youngest first.
    ///
    /// # Errors
    /// When the lookup table is damaged.
    pub(crate) fn rows_of_key(
        &self,
        hash: u64,
    ) -> Result<impl Iterator<Item = u32> + '_, StorageError> {
        let table = self.key_table()?;
        Ok(table.into_iter().flat_map(move |table| table.rows(hash).rev()))
    }

    /// Its blocks, for people.
    pub(crate) fn describe(&self) -> Vec<String> {
        let line = |block: &Block| {
            let kind = Kind::name(block.kind);
            let state = if self.block(block).is_ok() { "whole" } else { "DAMAGED" };
            format!("{kind} at {}, {} bytes: {state}", block.offset, block.length)
        };
        self.blocks.iter().map(line).collect()
    }

    /// Checks every block.
    ///
    /// # Errors
    /// With the first damaged one.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        self.blocks.iter().map(|block| self.block(block)).try_for_each(|block| block.map(drop))
    }
}
