//! Makes and reads the files of a manifest: full chunks become segments and are read from there
//! afterwards, the rows behind them and the ends of rows are written anew where they changed.
//!
//! Nothing here holds up writing: everything is made from a read view, and rows younger than the
//! view, and ends younger than it, are left to the log.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::compute::concat_batches;
use catalog::{Catalog, Collection};
use types::{CommitTs, RowOrdinal};
use vector::hnsw::Graph;

use crate::compaction::{self, Group};
use crate::error::StorageError;
use crate::fs::FileSystem;
use crate::manifest::{
    DataFile, FileKind, GraphFile, Hash, Manifest, SegmentFiles, TableFiles, namespace_directory,
    path_of, read_file, write_file,
};
use crate::memtable::{Chunk, Rows, Table, VectorIndex};
use crate::segment::{self, ChunkRows, Identity, Segment, Written};
use crate::store::ReadView;
use crate::wal::{Cursor, StoreId};

const ENDS_MAGIC: [u8; 8] = *b"AZENDS\0\x01";
/// A graph is written again when more points than this, and more than an eighth of those written,
/// would have to be inserted again after a start.
const GRAPH_POINTS_UNWRITTEN: u32 = 4_096;

/// Where files are and who they belong to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) fs: &'a dyn FileSystem,
    pub(crate) directory: &'a Path,
    pub(crate) store: StoreId,
    pub(crate) chunk_bits: u32,
}

/// A table whose full chunks are in other segments than before.
type Moved = (Arc<Table>, Vec<Arc<Segment>>);

/// Writes the files of a manifest.
pub(crate) struct Flush<'a> {
    place: Place<'a>,
    view: &'a ReadView,
    next_file: &'a mut u64,
    /// Directories with new names, and the new files.
    touched: BTreeSet<PathBuf>,
    made: Vec<PathBuf>,
    moved: Vec<Moved>,
}

impl<'a> Flush<'a> {
    /// Writes whatever of the view's state the `previous` manifest does not name. The files are
    /// durable afterwards; the caller writes the manifest, then moves the tables.
    pub(crate) fn run(
        place: Place<'a>,
        view: &'a ReadView,
        previous: Option<&Manifest>,
        next_file: &'a mut u64,
    ) -> Result<(Manifest, Vec<Moved>), StorageError> {
        let (touched, made, moved) = (BTreeSet::new(), Vec::new(), Vec::new());
        let mut flush = Self { place, view, next_file, touched, made, moved };
        let tables = match flush.tables(previous) {
            Ok(tables) => tables,
            Err(error) => {
                // No manifest names them, and they take room that may be what is missing.
                for path in &flush.made {
                    let _ = place.fs.remove(path);
                }
                return Err(error);
            }
        };
        let manifest = Manifest {
            chunk_bits: place.chunk_bits,
            next_file: *flush.next_file,
            catalog: view.catalog().clone(),
            tables,
        };
        Ok((manifest, flush.moved))
    }

    fn tables(&mut self, previous: Option<&Manifest>) -> Result<Vec<TableFiles>, StorageError> {
        let mut tables = Vec::new();
        for table in self.view.tables() {
            let id = table.collection().id;
            let before = previous.and_then(|m| m.tables.iter().find(|files| files.table == id));
            tables.push(self.table(table, before)?);
        }
        for directory in &self.touched {
            let synced = self.place.fs.sync_dir(directory);
            synced.map_err(|e| StorageError::io("sync", directory, e))?;
        }
        Ok(tables)
    }

    /// Segments of the first `full` chunks, and open ones of the same rows.
    fn segments(
        &mut self,
        table: &Table,
        rows: &Rows,
        groups: Vec<Group>,
        old: &[SegmentFiles],
    ) -> Result<(Vec<SegmentFiles>, Vec<Arc<Segment>>), StorageError> {
        let open = table.segments();
        let (mut segments, mut readers) = (Vec::new(), Vec::new());
        for group in groups {
            let chunks = &rows.full()[group.chunks.clone()];
            let (files, reader) = match group.unchanged {
                Some(at) => (old[at].clone(), Arc::clone(&open[at])),
                None => self.segment(table, chunks)?,
            };
            let ends = self.ends(table, chunks, files.ends)?;
            segments.push(SegmentFiles { ends, ..files });
            readers.push(reader);
        }
        Ok((segments, readers))
    }

    fn table(
        &mut self,
        table: &Arc<Table>,
        before: Option<&TableFiles>,
    ) -> Result<TableFiles, StorageError> {
        let (rows, at) = (table.rows(), self.view.at());
        let full = rows.full().iter().take_while(|chunk| chunk.begun_at(at) == chunk.len()).count();
        let old = before.map_or(&[][..], |files| &files.segments);
        let open = table.segments();
        let sizes: Vec<usize> = open.iter().map(|s| s.rows() / rows.chunk_rows()).collect();
        let most = compaction::segment_chunks(rows.chunk_rows());
        let merged = self.segments(table, &rows, compaction::plan(&sizes, full, most), old);
        let (segments, readers) = match merged {
            // A segment that cannot be read stays as it is; the other tables do not wait for it.
            Err(error @ StorageError::Corrupt { .. }) => {
                tracing::error!(%error, "segments are not merged");
                let apart = compaction::plan_apart(&sizes, full, most);
                self.segments(table, &rows, apart, old)?
            }
            made => made?,
        };
        let same = |(new, old): (&Arc<Segment>, &Arc<Segment>)| Arc::ptr_eq(new, old);
        if readers.len() != open.len() || !readers.iter().zip(open.iter()).all(same) {
            self.moved.push((Arc::clone(table), readers));
        }
        let from = full * rows.chunk_rows();
        let behind: Vec<&Arc<Chunk>> =
            rows.chunks().filter(|chunk| chunk.base() as usize >= from).collect();
        let tail = self.tail(table, &behind, before.and_then(|files| files.tail.as_ref()))?;
        let written = from + tail.as_ref().map_or(0, |tail| tail.rows as usize);
        let graphs = self.graphs(table, written, before.map_or(&[][..], |files| &files.graphs))?;
        Ok(TableFiles { table: table.collection().id, segments, tail, graphs })
    }

    fn new_path(
        &mut self,
        collection: &Collection,
        kind: FileKind,
    ) -> Result<(u64, PathBuf), StorageError> {
        let directory = namespace_directory(self.place.directory, collection.schema);
        if self.touched.insert(directory.clone()) {
            let made = self.place.fs.create_dir_all(&directory);
            made.map_err(|e| StorageError::io("create", &directory, e))?;
        }
        let number = *self.next_file;
        *self.next_file += 1;
        let path = self.place.path(collection, number, kind);
        // A flush that did not get as far as its manifest may have left a file of the number.
        let _ = self.place.fs.remove(&path);
        self.made.push(path.clone());
        Ok((number, path))
    }

    fn write(
        &mut self,
        table: &Table,
        base: u32,
        chunks: impl Iterator<Item = Result<ChunkRows, StorageError>>,
    ) -> Result<(SegmentFiles, Identity, Written, PathBuf), StorageError> {
        let collection = table.collection();
        let (number, path) = self.new_path(collection, FileKind::Segment)?;
        let identity = self.place.identity(collection, number, base);
        let written = segment::write(self.place.fs, &path, identity, chunks)?;
        let file = DataFile { number, bytes: written.bytes, hash: Hash(written.root) };
        let files = SegmentFiles { base, rows: written.rows, file, ends: None };
        Ok((files, identity, written, path))
    }

    fn segment(
        &mut self,
        table: &Table,
        chunks: &[Arc<Chunk>],
    ) -> Result<(SegmentFiles, Arc<Segment>), StorageError> {
        let base = chunks.first().map_or(0, |chunk| chunk.base());
        let rows = chunks.iter().map(|chunk| {
            let batch = chunk.batch()?.clone();
            let hashes = table.hashes_of(&batch)?;
            Ok(ChunkRows { batch, begins: chunk.begins().to_vec(), hashes })
        });
        let (files, identity, written, path) = self.write(table, base, rows)?;
        let reader = Segment::open(self.place.fs, &path, identity, written)?;
        Ok((files, Arc::new(reader)))
    }

    /// The rows behind the full chunks that the view sees, in a file of their own.
    fn tail(
        &mut self,
        table: &Table,
        behind: &[&Arc<Chunk>],
        before: Option<&SegmentFiles>,
    ) -> Result<Option<SegmentFiles>, StorageError> {
        let at = self.view.at();
        let Some(base) = behind.first().map(|chunk| chunk.base()) else { return Ok(None) };
        let count = behind.iter().map(|chunk| chunk.begun_at(at)).sum::<usize>();
        if count == 0 {
            return Ok(None);
        }
        let files = match before.filter(|b| b.base == base && b.rows as usize == count) {
            Some(before) => before.clone(),
            None => {
                let (mut batches, mut begins) = (Vec::new(), Vec::new());
                for chunk in behind {
                    let begun = chunk.begun_at(at);
                    batches.push(chunk.batch()?.slice(0, begun));
                    begins.extend_from_slice(&chunk.begins()[..begun]);
                }
                let batch =
                    concat_batches(table.schema(), &batches).map_err(StorageError::apply)?;
                let rows = ChunkRows { batch, begins, hashes: None };
                self.write(table, base, std::iter::once(Ok(rows)))?.0
            }
        };
        let chunks: Vec<Arc<Chunk>> = behind.iter().map(|chunk| Arc::clone(chunk)).collect();
        let ends = self.ends(table, &chunks, files.ends)?;
        Ok(Some(SegmentFiles { ends, ..files }))
    }

    /// The file of ends of a segment's rows; the one before, when nothing has changed.
    fn ends(
        &mut self,
        table: &Table,
        chunks: &[Arc<Chunk>],
        before: Option<DataFile>,
    ) -> Result<Option<DataFile>, StorageError> {
        let at = self.view.at();
        let mut bytes = ENDS_MAGIC.to_vec();
        let base = chunks.first().map_or(0, |chunk| chunk.base());
        for chunk in chunks {
            for (slot, end) in chunk.ended().filter(|(_, end)| *end <= at) {
                let row = chunk.base() - base + u32::try_from(slot).unwrap_or(u32::MAX);
                bytes.extend_from_slice(&row.to_le_bytes());
                bytes.extend_from_slice(&end.0.to_le_bytes());
            }
        }
        if bytes.len() == ENDS_MAGIC.len() {
            return Ok(None);
        }
        self.small_file(table, FileKind::Ends, &bytes, before).map(Some)
    }

    /// Writes a file that is hashed as a whole, unless the one before is the same.
    fn small_file(
        &mut self,
        table: &Table,
        kind: FileKind,
        bytes: &[u8],
        before: Option<DataFile>,
    ) -> Result<DataFile, StorageError> {
        let (hash, length) = (Hash::of(bytes), bytes.len() as u64);
        if let Some(before) = before.filter(|file| file.hash == hash && file.bytes == length) {
            return Ok(before);
        }
        let (number, path) = self.new_path(table.collection(), kind)?;
        write_file(self.place.fs, &path, bytes)?;
        Ok(DataFile { number, bytes: length, hash })
    }

    fn graphs(
        &mut self,
        table: &Table,
        written: usize,
        before: &[GraphFile],
    ) -> Result<Vec<GraphFile>, StorageError> {
        let rows = u32::try_from(written).unwrap_or(u32::MAX);
        let mut graphs = Vec::new();
        for index in table.indexes() {
            let id = index.definition().id;
            // An index made after the view is not in the view's catalog.
            if self.view.catalog().index_by_id(id).is_none() {
                continue;
            }
            let old = before.iter().find(|graph| graph.index == id);
            let covered = index.covered().min(rows);
            let have = old.map_or(0, |graph| graph.covered);
            let due = match old {
                None => covered > 0,
                Some(_) => covered - have.min(covered) > GRAPH_POINTS_UNWRITTEN.max(have / 8),
            };
            if !due {
                graphs.extend(old.cloned());
                continue;
            }
            let (bytes, covered) = index.to_bytes(rows);
            if table.rows().check_damage().is_err() {
                continue; // it may lack points whose vectors could not be read
            }
            let file = self.small_file(table, FileKind::Graph, &bytes, None)?;
            graphs.push(GraphFile { index: id, covered, file });
        }
        Ok(graphs)
    }
}

impl Place<'_> {
    fn path(&self, collection: &Collection, number: u64, kind: FileKind) -> PathBuf {
        path_of(self.directory, collection.schema, number, kind)
    }

    fn identity(&self, collection: &Collection, number: u64, base: u32) -> Identity {
        Identity {
            store: self.store,
            number,
            table: collection.id,
            base: RowOrdinal(base),
            chunk_rows: 1 << self.chunk_bits,
        }
    }

    /// Opens a segment as a manifest names it.
    pub(crate) fn open_segment(
        &self,
        collection: &Collection,
        files: &SegmentFiles,
    ) -> Result<Segment, StorageError> {
        let DataFile { number, bytes, hash } = files.file;
        let path = self.path(collection, number, FileKind::Segment);
        let identity = self.identity(collection, number, files.base);
        Segment::open(self.fs, &path, identity, Written { bytes, root: hash.0, rows: files.rows })
    }

    /// Puts back the rows and graphs of a table. A damaged graph is told of, forgotten and made
    /// again; other damage is an error.
    pub(crate) fn restore(
        &self,
        table: &Table,
        files: &mut TableFiles,
        catalog: &Catalog,
        damaged: &mut Vec<(PathBuf, String)>,
    ) -> Result<(), StorageError> {
        let (mut segments, mut chunks) = (Vec::new(), Vec::new());
        let mut next = 0;
        for files in files.segments.iter().chain(&files.tail) {
            if files.base != next {
                let number = files.file.number;
                let path = self.path(table.collection(), number, FileKind::Segment);
                return Err(StorageError::corrupt(&path, 0, "the rows before it are missing"));
            }
            next += files.rows;
        }
        for files in &files.segments {
            let segment = Arc::new(self.open_segment(table.collection(), files)?);
            let first = chunks.len();
            for at in 0..segment.rows().div_ceil(1 << self.chunk_bits) {
                chunks.push(Chunk::in_segment(&segment, at, table.schema()));
            }
            self.restore_ends(table, files, &chunks[first..])?;
            segments.push(segment);
        }
        if let Some(files) = &files.tail {
            let segment = self.open_segment(table.collection(), files)?;
            let batch = segment.chunk(0, table.schema())?;
            chunks.push(Chunk::new(files.base, batch, segment.begins().clone()));
            self.restore_ends(table, files, &chunks[chunks.len() - 1..])?;
        }
        table.restore(segments, chunks)?;
        let mut whole = Vec::new();
        for graph in &files.graphs {
            match self.restore_graph(table, graph, catalog) {
                Ok(()) => whole.push(graph.clone()),
                Err(StorageError::Corrupt { path, what, .. }) => {
                    damaged.push((path, format!("{what}; the index is built again")));
                }
                Err(error) => return Err(error),
            }
        }
        files.graphs = whole;
        Ok(())
    }

    fn restore_ends(
        &self,
        table: &Table,
        files: &SegmentFiles,
        chunks: &[Chunk],
    ) -> Result<(), StorageError> {
        let Some(ends) = &files.ends else { return Ok(()) };
        let path = self.path(table.collection(), ends.number, FileKind::Ends);
        let bytes = read_file(self.fs, &path, ends)?;
        let corrupt = |what: &str| StorageError::corrupt(&path, 0, what);
        let entries = bytes.strip_prefix(&ENDS_MAGIC);
        let foreign = || StorageError::foreign(&path, ENDS_MAGIC, &bytes);
        let mut cursor = Cursor(entries.ok_or_else(foreign)?);
        while !cursor.0.is_empty() {
            let entry = cursor.u32().zip(cursor.i64());
            let (row, end) = entry.ok_or_else(|| corrupt("ends are cut off"))?;
            let (at, slot) = (row >> self.chunk_bits, row & ((1 << self.chunk_bits) - 1));
            let chunk = chunks.get(at as usize).filter(|chunk| (slot as usize) < chunk.len());
            chunk
                .ok_or_else(|| corrupt("a row that is not there"))?
                .end(slot as usize, CommitTs(end));
        }
        Ok(())
    }

    fn restore_graph(
        &self,
        table: &Table,
        file: &GraphFile,
        catalog: &Catalog,
    ) -> Result<(), StorageError> {
        let Some(definition) = catalog.index_by_id(file.index) else { return Ok(()) };
        let path = self.path(table.collection(), file.file.number, FileKind::Graph);
        let bytes = read_file(self.fs, &path, &file.file)?;
        let graph = Graph::from_bytes(&bytes);
        let (graph, covered) = graph.map_err(|e| StorageError::corrupt(&path, 0, e.to_string()))?;
        if covered != file.covered || covered > table.rows().len() {
            return Err(StorageError::corrupt(&path, 0, "the graph covers other rows"));
        }
        let index = VectorIndex::with_graph(definition.clone(), table.collection(), graph, covered);
        table.add_index(Arc::new(index));
        Ok(())
    }
}
