//! Manifests: the whole state at one log position as a list of immutable files, so that the log
//! before it can go and a start reads it instead of the log.
//!
//! A manifest is written when all its files are durable, to a temporary name, synced, and renamed to
//! `manifest-<index, 20 digits>`; so a file under that name is whole or damaged. The newest [`KEPT`]
//! stay and the log is kept from the oldest of them on: a damaged manifest, or a damaged file that
//! the one before it does not name, costs a longer replay and no data.
//!
//! Data files belong to a namespace and lie in its directory, `namespaces/<id>/<number>.<kind>`.
//! What no kept manifest names is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use catalog::{Catalog, SequencePosition, StoredColumn};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;
use types::{CommitTs, IndexId, Lsn, RowId, SchemaId, SequenceId, TableId, Term};

use crate::error::{StorageError, format_micros};
use crate::fs::{FileSystem, read_all};
use crate::wal::{Cursor, LogPosition, StoreId};

/// Manifests kept.
pub(crate) const KEPT: usize = 3;

const CHUNK_BITS_MAX: u32 = 20;
const PREFIX: &str = "manifest-";
/// Suffix of files that are being made.
pub(crate) const TEMPORARY: &str = ".tmp";
const DAMAGED: &str = ".damaged";
const MAGIC: [u8; 8] = *b"AZMANI\0\x04";
/// The first version lacks history, horizons and row ids: ids were ordinals.
const VERSIONS: std::ops::RangeInclusive<u8> = 1..=4;
const HEADER_BYTES: usize = 64;
const HASH_BYTES: usize = 16;
const NAMESPACES: &str = "namespaces";

/// A manifest on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointFile {
    /// Where it stands in the log.
    pub index: Lsn,
    /// The file.
    pub path: PathBuf,
}

/// XXH3-128 of a file, or of its header and footer where those hold the checksums of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hash(pub(crate) u128);

impl Hash {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(XxHash3_128::oneshot(bytes))
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A data file, as whoever opens it must find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DataFile {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    pub(crate) hash: Hash,
}

/// What a data file is, and its suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Segment,
    Ends,
    Graph,
}

impl FileKind {
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Ends => "ends",
            Self::Graph => "graph",
        }
    }
}

/// Rows in a segment, and when they ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentFiles {
    /// Id of the first row.
    pub(crate) base: u64,
    pub(crate) rows: u32,
    pub(crate) file: DataFile,
    /// Absent while no row has ended.
    pub(crate) ends: Option<DataFile>,
    /// The columns of the rows; absent for those of the table before it first changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) columns: Option<Vec<StoredColumn>>,
}

/// A graph, and how many ordinals it covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GraphFile {
    pub(crate) index: IndexId,
    pub(crate) covered: u32,
    pub(crate) file: DataFile,
}

/// All files of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableFiles {
    pub(crate) table: TableId,
    /// All rows but those of history and tail, by ordinal.
    pub(crate) segments: Vec<SegmentFiles>,
    /// Rows that ended and were taken out of the way of the others.
    #[serde(default)]
    pub(crate) history: Vec<SegmentFiles>,
    /// The rows behind them, fewer than a chunk.
    pub(crate) tail: Option<SegmentFiles>,
    pub(crate) graphs: Vec<GraphFile>,
    /// The id of the next row; in the first version the one after the last.
    #[serde(default)]
    pub(crate) next_row: Option<u64>,
    /// The earliest instant that can be read.
    #[serde(default)]
    pub(crate) horizon: Option<CommitTs>,
}

impl TableFiles {
    /// The files of all rows.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &SegmentFiles> {
        self.segments.iter().chain(&self.history).chain(&self.tail)
    }

    /// The id of the next row.
    pub(crate) fn next_row(&self) -> RowId {
        let last = self.segments.iter().chain(&self.tail).last();
        let after = |files: &SegmentFiles| files.base + u64::from(files.rows);
        RowId(self.next_row.unwrap_or_else(|| last.map_or(0, after)))
    }
}

/// What a manifest says besides its position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Rows of a full chunk are two to the power of this.
    pub(crate) chunk_bits: u32,
    /// Larger than the number of any file.
    pub(crate) next_file: u64,
    pub(crate) catalog: Catalog,
    pub(crate) tables: Vec<TableFiles>,
    /// How far sequences have come, perhaps further than at the manifest's position: what the log says
    /// then is said again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) sequences: BTreeMap<SequenceId, SequencePosition>,
}

/// A manifest that was read.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) store: StoreId,
    pub(crate) position: LogPosition,
    pub(crate) manifest: Manifest,
}

impl Manifest {
    /// What it says, for people.
    pub(crate) fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for table in &self.tables {
            let name = self.catalog.collection_by_id(table.table);
            let name = name.map_or("?", |collection| collection.name.as_str());
            let horizon = table.horizon.map_or("none".to_owned(), format_micros);
            let next_row = table.next_row();
            lines.push(format!(
                "table {} {name}: next row {next_row}, horizon {horizon}",
                table.table
            ));
            let file = |file: &DataFile, kind: FileKind| {
                let (number, bytes, hash) = (file.number, file.bytes, file.hash.0);
                format!("{number:020}.{}, {bytes} bytes, {hash:032x}", kind.suffix())
            };
            let kinds = [
                ("segment", &table.segments[..]),
                ("history", &table.history[..]),
                ("tail", table.tail.as_slice()),
            ];
            for (kind, files) in kinds {
                for part in files {
                    let SegmentFiles { base, rows, .. } = part;
                    let segment = file(&part.file, FileKind::Segment);
                    lines.push(format!("  {kind}: {rows} rows from {base} on, {segment}"));
                    let ends = part.ends.as_ref().map(|ends| file(ends, FileKind::Ends));
                    lines.extend(ends.map(|ends| format!("    ends: {ends}")));
                }
            }
            for graph in &table.graphs {
                let (index, covered) = (graph.index, graph.covered);
                let graph = file(&graph.file, FileKind::Graph);
                lines.push(format!("  graph of index {index} over {covered} ordinals, {graph}"));
            }
        }
        lines
    }

    /// Numbers of all files.
    pub(crate) fn files(&self) -> impl Iterator<Item = u64> + '_ {
        self.tables.iter().flat_map(|table| {
            let rows = table.parts().flat_map(|segment| {
                std::iter::once(segment.file.number).chain(segment.ends.map(|ends| ends.number))
            });
            rows.chain(table.graphs.iter().map(|graph| graph.file.number))
        })
    }

    /// Namespaces that have or had tables.
    fn namespaces(&self) -> BTreeSet<SchemaId> {
        self.catalog.collections_ever().map(|collection| collection.schema).collect()
    }
}

/// The directory of a namespace's files.
pub(crate) fn namespace_directory(directory: &Path, namespace: SchemaId) -> PathBuf {
    directory.join(NAMESPACES).join(namespace.0.to_string())
}

/// The path of a data file.
pub(crate) fn path_of(
    directory: &Path,
    namespace: SchemaId,
    number: u64,
    kind: FileKind,
) -> PathBuf {
    let name = format!("{number:020}.{}", kind.suffix());
    namespace_directory(directory, namespace).join(name)
}

/// The manifests of a data directory, newest first.
pub(crate) fn list(
    fs: &dyn FileSystem,
    directory: &Path,
) -> Result<Vec<CheckpointFile>, StorageError> {
    let names = fs.list(directory).map_err(|e| StorageError::io("list", directory, e))?;
    let mut files = Vec::new();
    for name in names {
        let path = directory.join(&name);
        let Some(digits) = name.strip_prefix(PREFIX) else { continue };
        if name.ends_with(DAMAGED) || name.ends_with(TEMPORARY) {
            continue;
        }
        match digits.parse() {
            Ok(index) if digits.len() == 20 => {
                files.push(CheckpointFile { index: Lsn(index), path });
            }
            Ok(_) | Err(_) => return Err(StorageError::corrupt(&path, 0, "not a manifest")),
        }
    }
    files.sort_by_key(|file| std::cmp::Reverse(file.index));
    Ok(files)
}

/// Removes files that a crash left half made.
pub(crate) fn remove_half_made(fs: &dyn FileSystem, directory: &Path) -> Result<(), StorageError> {
    let names = fs.list(directory).map_err(|e| StorageError::io("list", directory, e))?;
    for name in names.iter().filter(|n| n.starts_with(PREFIX) && n.ends_with(TEMPORARY)) {
        let path = directory.join(name);
        fs.remove(&path).map_err(|e| StorageError::io("remove", &path, e))?;
    }
    Ok(())
}

/// Writes a manifest; its files are durable already.
pub(crate) fn write(
    fs: &dyn FileSystem,
    directory: &Path,
    store: StoreId,
    position: LogPosition,
    manifest: &Manifest,
) -> Result<CheckpointFile, StorageError> {
    let path = directory.join(format!("{PREFIX}{:020}", position.index.0));
    let temporary = directory.join(format!("{PREFIX}{:020}{TEMPORARY}", position.index.0));
    let content = serde_json::to_vec(manifest).map_err(std::io::Error::other);
    let content = content.map_err(|e| StorageError::io("encode", &path, e))?;
    let mut bytes = header(store, position, content.len()).to_vec();
    bytes.extend_from_slice(&content);
    let hash = Hash::of(&bytes);
    bytes.extend_from_slice(&hash.0.to_le_bytes());
    let _ = fs.remove(&temporary);
    write_file(fs, &temporary, &bytes)?;
    fs.rename(&temporary, &path).map_err(|e| StorageError::io("rename", &temporary, e))?;
    fs.sync_dir(directory).map_err(|e| StorageError::io("sync", directory, e))?;
    Ok(CheckpointFile { index: position.index, path })
}

fn header(store: StoreId, position: LogPosition, content: usize) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[0..8].copy_from_slice(&MAGIC);
    out[8..24].copy_from_slice(&store.0);
    out[24..32].copy_from_slice(&position.term.0.to_le_bytes());
    out[32..40].copy_from_slice(&position.index.0.to_le_bytes());
    out[40..48].copy_from_slice(&position.commit_ts.0.to_le_bytes());
    out[48..56].copy_from_slice(&(content as u64).to_le_bytes());
    out
}

/// Reads a manifest.
pub(crate) fn read(fs: &dyn FileSystem, path: &Path) -> Result<Restored, StorageError> {
    let file = fs.open(path).map_err(|e| StorageError::io("open", path, e))?;
    let bytes = read_all(&*file).map_err(|e| StorageError::io("read", path, e))?;
    let corrupt = |offset: usize, what: &str| StorageError::corrupt(path, offset, what);
    let Some((whole, hash)) = bytes.split_last_chunk::<HASH_BYTES>() else {
        return Err(corrupt(0, "the file is cut off"));
    };
    if Hash::of(whole).0.to_le_bytes() != *hash {
        return Err(corrupt(0, "the hash of the file is wrong"));
    }
    let Some((head, content)) = whole.split_first_chunk::<HEADER_BYTES>() else {
        return Err(corrupt(0, "the header is cut off"));
    };
    if !head.starts_with(&MAGIC[..7]) || !VERSIONS.contains(&head[7]) {
        return Err(StorageError::foreign(path, MAGIC, head));
    }
    let mut cursor = Cursor(&head[8..]);
    let mut read = || {
        let store = StoreId(cursor.take(16)?.try_into().ok()?);
        let (term, index) = (Term(cursor.u64()?), Lsn(cursor.u64()?));
        let position = LogPosition { term, index, commit_ts: CommitTs(cursor.i64()?) };
        (cursor.u64()? == content.len() as u64).then_some((store, position))
    };
    let (store, position) = read().ok_or_else(|| corrupt(0, "the header is damaged"))?;
    let manifest = serde_json::from_slice(content);
    let manifest: Manifest = manifest.map_err(|e| corrupt(HEADER_BYTES, &e.to_string()))?;
    if manifest.chunk_bits > CHUNK_BITS_MAX {
        return Err(corrupt(HEADER_BYTES, "chunks are too large"));
    }
    Ok(Restored { store, position, manifest })
}

/// Makes a file and syncs its bytes; its name is not durable yet.
pub(crate) fn write_file(
    fs: &dyn FileSystem,
    path: &Path,
    bytes: &[u8],
) -> Result<(), StorageError> {
    let file = fs.create(path).map_err(|e| StorageError::write(path, e))?;
    file.write_at(0, bytes).map_err(|e| StorageError::write(path, e))?;
    file.sync_data().map_err(|e| StorageError::io("sync", path, e))
}

/// Reads a data file whose whole content is hashed.
pub(crate) fn read_file(
    fs: &dyn FileSystem,
    path: &Path,
    expected: &DataFile,
) -> Result<Vec<u8>, StorageError> {
    let file = fs.open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => StorageError::corrupt(path, 0, "the file is missing"),
        _ => StorageError::io("open", path, e),
    })?;
    let bytes = read_all(&*file).map_err(|e| StorageError::io("read", path, e))?;
    if bytes.len() as u64 != expected.bytes || Hash::of(&bytes) != expected.hash {
        return Err(StorageError::corrupt(path, 0, "the hash of the file is wrong"));
    }
    Ok(bytes)
}

/// Takes a damaged manifest out of the row, so that it does not count as one to fall back to; the
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

/// Removes all but the newest [`KEPT`] manifests, durably; returns the position of the oldest kept,
/// once there are as many.
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

/// Removes data files that no manifest names. Does nothing while a manifest cannot be read: its
/// files are not known.
pub(crate) fn remove_unnamed(fs: &dyn FileSystem, directory: &Path) -> Result<(), StorageError> {
    let (mut named, mut namespaces) = (BTreeSet::new(), BTreeSet::new());
    for file in list(fs, directory)? {
        match read(fs, &file.path) {
            Ok(restored) => {
                named.extend(restored.manifest.files());
                namespaces.extend(restored.manifest.namespaces());
            }
            Err(StorageError::Corrupt { .. } | StorageError::NewerFormat { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    for namespace in namespaces {
        let directory = namespace_directory(directory, namespace);
        for (number, path) in data_files(fs, &directory)? {
            if !named.contains(&number) {
                fs.remove(&path).map_err(|e| StorageError::io("remove", &path, e))?;
            }
        }
    }
    Ok(())
}

/// Numbers and paths of the data files in a namespace's directory.
pub(crate) fn data_files(
    fs: &dyn FileSystem,
    directory: &Path,
) -> Result<Vec<(u64, PathBuf)>, StorageError> {
    let names = match fs.list(directory) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StorageError::io("list", directory, error)),
    };
    let number = |name: &str| {
        let (digits, suffix) = name.split_once('.')?;
        let known = [FileKind::Segment, FileKind::Ends, FileKind::Graph];
        known.iter().any(|kind| kind.suffix() == suffix).then_some(())?;
        digits.parse().ok()
    };
    let found = |name: String| Some((number(&name)?, directory.join(name)));
    Ok(names.into_iter().filter_map(found).collect())
}
