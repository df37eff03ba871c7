//! Checkpoints: the whole state at one log position in one file, so that the log before it can go
//! and a start reads it instead of the log.
//!
//! A checkpoint is written beside the running store, from a read view: row versions are immutable
//! but for their ends, and ends younger than the view are left out. It gets its name
//! `checkpoint-<index, 20 digits>` by rename after a sync, so a file under that name is whole or
//! damaged. The newest [`KEPT`] stay; the log is kept from the older one on, so that one damaged
//! checkpoint costs a longer replay and no data.
//!
//! Layout (little-endian): header of 64 bytes: magic `AZCKPT`, zero byte, format version 1, store id
//! (16), term `u64`, index `u64`, commit timestamp `i64`, zeros, CRC-32C of the 60 bytes before.
//! Then sections: kind `u32`, object id `u32`, bytes `u64`, CRC-32C of the content `u32`, CRC-32C of
//! the 20 bytes before, content. The last section has kind 0 and holds the XXH3-128 of everything
//! before that section.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::Catalog;
use twox_hash::xxhash3_128::Hasher;
use types::{CommitTs, IndexId, Lsn, TableId, Term};
use vector::hnsw::Graph;

use crate::command::{decode_batch, encode_batch};
use crate::error::StorageError;
use crate::fs::{File, FileSystem, read_all};
use crate::memtable::{Chunk, Table, VectorIndex};
use crate::store::ReadView;
use crate::wal::{Cursor, LogPosition, StoreId};

/// Checkpoints kept.
pub(crate) const KEPT: usize = 2;

const PREFIX: &str = "checkpoint-";
const TEMPORARY: &str = ".tmp";
const DAMAGED: &str = ".damaged";
const MAGIC: [u8; 8] = *b"AZCKPT\0\x01";
const HEADER_BYTES: usize = 64;
const SECTION_BYTES: usize = 24;

const END: u32 = 0;
const CATALOG: u32 = 1;
const ROWS: u32 = 2;
const GRAPH: u32 = 3;

/// A checkpoint file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointFile {
    /// Where it stands in the log.
    pub index: Lsn,
    /// The file.
    pub path: PathBuf,
}

/// The state read from a checkpoint.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) store: StoreId,
    pub(crate) position: LogPosition,
    pub(crate) catalog: Catalog,
    pub(crate) tables: Vec<Arc<Table>>,
}

/// The checkpoints of a data directory, newest first. Half-made files are removed.
pub(crate) fn list(
    fs: &dyn FileSystem,
    directory: &Path,
) -> Result<Vec<CheckpointFile>, StorageError> {
    let names = fs.list(directory).map_err(|e| StorageError::io("list", directory, e))?;
    let mut files = Vec::new();
    for name in names {
        let path = directory.join(&name);
        let Some(digits) = name.strip_prefix(PREFIX) else { continue };
        if name.ends_with(DAMAGED) {
            continue;
        }
        if name.ends_with(TEMPORARY) {
            fs.remove(&path).map_err(|e| StorageError::io("remove", &path, e))?;
            continue;
        }
        match digits.parse() {
            Ok(index) if digits.len() == 20 => {
                files.push(CheckpointFile { index: Lsn(index), path });
            }
            Ok(_) | Err(_) => return Err(StorageError::corrupt(&path, 0, "not a checkpoint")),
        }
    }
    files.sort_by_key(|file| std::cmp::Reverse(file.index));
    Ok(files)
}

/// Appends to a file and keeps the running hash.
struct Output<'a> {
    file: &'a dyn File,
    path: &'a Path,
    offset: u64,
    hash: Hasher,
}

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let written = self.file.write_at(self.offset, bytes);
        written.map_err(|error| match error.kind() {
            std::io::ErrorKind::StorageFull => StorageError::DiskFull,
            _ => StorageError::io("write", self.path, error),
        })?;
        self.hash.write(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn section(&mut self, kind: u32, id: u32, content: &[u8]) -> Result<(), StorageError> {
        let mut head = [0; SECTION_BYTES];
        head[0..4].copy_from_slice(&kind.to_le_bytes());
        head[4..8].copy_from_slice(&id.to_le_bytes());
        head[8..16].copy_from_slice(&(content.len() as u64).to_le_bytes());
        head[16..20].copy_from_slice(&crc32c::crc32c(content).to_le_bytes());
        let crc = crc32c::crc32c(&head[..20]);
        head[20..24].copy_from_slice(&crc.to_le_bytes());
        self.put(&head)?;
        self.put(content)
    }
}

/// Writes a checkpoint of `view`; returns its file and size.
pub(crate) fn write(
    fs: &dyn FileSystem,
    directory: &Path,
    store: StoreId,
    view: &ReadView,
) -> Result<(CheckpointFile, u64), StorageError> {
    let position = view.position();
    let path = directory.join(format!("{PREFIX}{:020}", position.index.0));
    let temporary = directory.join(format!("{PREFIX}{:020}{TEMPORARY}", position.index.0));
    let _ = fs.remove(&temporary);
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |e| StorageError::io(action, &path, e)
    };
    let file = fs.create(&temporary).map_err(io("create", &temporary))?;
    let mut output = Output { file: &*file, path: &temporary, offset: 0, hash: Hasher::new() };
    output.put(&header(store, position))?;
    let catalog = serde_json::to_vec(view.catalog()).map_err(std::io::Error::other);
    output.section(CATALOG, 0, &catalog.map_err(io("encode", &path))?)?;
    for table in view.tables() {
        write_table(&mut output, table, view)?;
    }
    let hash = output.hash.finish_128();
    output.section(END, 0, &hash.to_le_bytes())?;
    let bytes = output.offset;
    file.sync_data().map_err(io("sync", &temporary))?;
    fs.rename(&temporary, &path).map_err(io("rename", &temporary))?;
    fs.sync_dir(directory).map_err(io("sync", directory))?;
    Ok((CheckpointFile { index: position.index, path }, bytes))
}

fn header(store: StoreId, position: LogPosition) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[0..8].copy_from_slice(&MAGIC);
    out[8..24].copy_from_slice(&store.0);
    out[24..32].copy_from_slice(&position.term.0.to_le_bytes());
    out[32..40].copy_from_slice(&position.index.0.to_le_bytes());
    out[40..48].copy_from_slice(&position.commit_ts.0.to_le_bytes());
    let crc = crc32c::crc32c(&out[..HEADER_BYTES - 4]);
    out[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    out
}

fn write_table(
    output: &mut Output<'_>,
    table: &Table,
    view: &ReadView,
) -> Result<(), StorageError> {
    let (id, at) = (table.collection().id.0, view.at());
    let rows = table.rows();
    let mut written = 0;
    for chunk in rows.chunks() {
        // Rows younger than the view stand behind all others.
        let count = chunk.begins().partition_point(|begin| *begin <= at.0);
        if count == 0 {
            break;
        }
        let mut content = Vec::new();
        content.extend_from_slice(&(count as u64).to_le_bytes());
        for begin in &chunk.begins()[..count] {
            content.extend_from_slice(&begin.to_le_bytes());
        }
        for end in &chunk.ends_at(at)[..count] {
            content.extend_from_slice(&end.to_le_bytes());
        }
        encode_batch(&mut content, &chunk.batch().slice(0, count))
            .map_err(|e| StorageError::io("encode", output.path, std::io::Error::other(e)))?;
        output.section(ROWS, id, &content)?;
        written += u32::try_from(count).unwrap_or(u32::MAX);
    }
    // An index made after the view is not in the view's catalog.
    let known =
        |index: &Arc<VectorIndex>| view.catalog().index_by_id(index.definition().id).is_some();
    for index in table.indexes().into_iter().filter(known) {
        output.section(GRAPH, index.definition().id.0, &index.to_bytes(written))?;
    }
    Ok(())
}

/// Takes a damaged checkpoint out of the row, so that it does not count as one to fall back to; the
/// bytes are kept for whoever wants to look.
pub(crate) fn set_aside(
    fs: &dyn FileSystem,
    directory: &Path,
    path: &Path,
) -> Result<(), StorageError> {
    let mut name = path.as_os_str().to_owned();
    name.push(DAMAGED);
    let aside = PathBuf::from(name);
    fs.rename(path, &aside).map_err(|e| StorageError::io("rename", path, e))?;
    fs.sync_dir(directory).map_err(|e| StorageError::io("sync", directory, e))
}

/// Removes all but the newest [`KEPT`]; returns the position of the oldest kept.
pub(crate) fn remove_old(
    fs: &dyn FileSystem,
    directory: &Path,
) -> Result<Option<Lsn>, StorageError> {
    let files = list(fs, directory)?;
    for file in files.iter().skip(KEPT) {
        fs.remove(&file.path).map_err(|e| StorageError::io("remove", &file.path, e))?;
    }
    if files.len() > KEPT {
        fs.sync_dir(directory).map_err(|e| StorageError::io("sync", directory, e))?;
    }
    Ok(files.get(KEPT - 1).map(|file| file.index))
}

/// Reads a checkpoint.
pub(crate) fn read(fs: &dyn FileSystem, path: &Path) -> Result<Restored, StorageError> {
    let file = fs.open(path).map_err(|e| StorageError::io("open", path, e))?;
    let bytes = read_all(&*file).map_err(|e| StorageError::io("read", path, e))?;
    let mut input = Input { path, bytes: &bytes, offset: 0 };
    let (store, position) = input.header()?;
    let Some(Section { kind: CATALOG, content, .. }) = input.section()? else {
        return Err(input.corrupt("the catalog is missing"));
    };
    let catalog: Catalog =
        serde_json::from_slice(content).map_err(|e| input.corrupt(&format!("catalog: {e}")))?;
    let mut tables = Vec::new();
    for collection in catalog.collections_ever() {
        let table = Table::new(collection.clone());
        tables.push(Arc::new(table.map_err(|e| input.corrupt(&format!("table: {e}")))?));
    }
    let mut restored = Restored { store, position, catalog, tables };
    while let Some(section) = input.section()? {
        restored
            .take(&section)
            .map_err(|what| StorageError::corrupt(path, section.offset, what))?;
    }
    restored.add_missing_indexes();
    Ok(restored)
}

struct Input<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    offset: usize,
}

struct Section<'a> {
    kind: u32,
    id: u32,
    content: &'a [u8],
    offset: usize,
}

impl<'a> Input<'a> {
    fn corrupt(&self, what: &str) -> StorageError {
        StorageError::corrupt(self.path, self.offset, what)
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], StorageError> {
        let end = self.offset.checked_add(bytes);
        let slice = end.and_then(|end| self.bytes.get(self.offset..end));
        let slice = slice.ok_or_else(|| self.corrupt("the file is cut off"))?;
        self.offset += bytes;
        Ok(slice)
    }

    fn header(&mut self) -> Result<(StoreId, LogPosition), StorageError> {
        let head = self.take(HEADER_BYTES)?;
        let (body, crc) = head.split_at(HEADER_BYTES - 4);
        if crc != crc32c::crc32c(body).to_le_bytes() {
            return Err(self.corrupt("the checksum of the header is wrong"));
        }
        let mut cursor = Cursor(body);
        if cursor.take(8) != Some(&MAGIC) {
            return Err(self.corrupt("not a checkpoint of a version this server knows"));
        }
        let mut read = || {
            let store = StoreId(cursor.take(16)?.try_into().ok()?);
            let (term, index) = (Term(cursor.u64()?), Lsn(cursor.u64()?));
            Some((store, LogPosition { term, index, commit_ts: CommitTs(cursor.i64()?) }))
        };
        read().ok_or_else(|| self.corrupt("the header is cut off"))
    }

    /// The next section; `None` at the end, whose hash is checked.
    fn section(&mut self) -> Result<Option<Section<'a>>, StorageError> {
        let offset = self.offset;
        let head = self.take(SECTION_BYTES)?;
        if head[20..24] != crc32c::crc32c(&head[..20]).to_le_bytes() {
            return Err(StorageError::corrupt(self.path, offset, "a section's head is damaged"));
        }
        let mut cursor = Cursor(head);
        let mut read = || Some((cursor.u32()?, cursor.u32()?, cursor.u64()?, cursor.u32()?));
        let (kind, id, length, crc) = read().ok_or_else(|| self.corrupt("cut off"))?;
        let length = usize::try_from(length).map_err(|_| self.corrupt("a section is too long"))?;
        let content = self.take(length)?;
        if crc32c::crc32c(content) != crc {
            return Err(StorageError::corrupt(self.path, offset, "a section's checksum is wrong"));
        }
        if kind != END {
            return Ok(Some(Section { kind, id, content, offset }));
        }
        let mut hash = Hasher::new();
        hash.write(&self.bytes[..offset]);
        if content != hash.finish_128().to_le_bytes() || self.offset != self.bytes.len() {
            return Err(self.corrupt("the hash of the file is wrong"));
        }
        Ok(None)
    }
}

impl Restored {
    fn table(&self, id: TableId) -> Option<&Arc<Table>> {
        self.tables.iter().find(|table| table.collection().id == id)
    }

    fn take(&mut self, section: &Section<'_>) -> Result<(), String> {
        match section.kind {
            ROWS => self.take_rows(section),
            GRAPH => self.take_graph(section),
            other => Err(format!("unknown section {other}")),
        }
    }

    fn take_rows(&self, section: &Section<'_>) -> Result<(), String> {
        let table = self.table(TableId(section.id)).ok_or("rows of an unknown table")?;
        let mut cursor = Cursor(section.content);
        let count = cursor.u64().and_then(|count| usize::try_from(count).ok());
        let count = count.ok_or("rows are cut off")?;
        let bytes = count.checked_mul(8).ok_or("rows are too many")?;
        let mut instants = || -> Option<Vec<i64>> {
            let mut cursor = Cursor(cursor.take(bytes)?);
            Some(std::iter::from_fn(|| cursor.i64()).collect())
        };
        let begin = instants().ok_or("rows are cut off")?;
        let end = instants().ok_or("rows are cut off")?;
        let batch = decode_batch(&mut cursor, table.schema()).map_err(|e| e.to_string())?;
        let batch = batch.filter(|batch| batch.num_rows() == count);
        let batch = batch.ok_or("rows and their instants differ in number")?;
        let chunk = Chunk::restore(table.rows().len(), batch, begin, &end);
        table.restore(chunk).map_err(|e| e.to_string())
    }

    fn take_graph(&self, section: &Section<'_>) -> Result<(), String> {
        let definition = self.catalog.index_by_id(IndexId(section.id));
        let definition = definition.ok_or("graph of an unknown index")?;
        let table = self.table(definition.table).ok_or("graph of an unknown table")?;
        let (graph, covered) = Graph::from_bytes(section.content).map_err(|e| e.to_string())?;
        if covered > table.rows().len() {
            return Err("graph covers more rows than there are".to_owned());
        }
        let index = VectorIndex::with_graph(definition.clone(), table.collection(), graph, covered);
        table.add_index(Arc::new(index));
        Ok(())
    }

    /// Indexes whose graph the checkpoint does not hold are built again.
    fn add_missing_indexes(&self) {
        for definition in self.catalog.indexes(self.position.commit_ts) {
            if let Some(table) = self.table(definition.table)
                && table.index(definition.id).is_none()
            {
                let index = VectorIndex::new(definition.clone(), table.collection());
                table.add_index(Arc::new(index));
            }
        }
    }
}
