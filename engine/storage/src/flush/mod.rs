//! Makes and reads the files of a manifest: full chunks become segments and are read from there
//! afterwards, the rows behind them and the ends of rows are written anew where they changed.
//!
//! Nothing here holds up writing: everything is made from a read view, and rows younger than the
//! view, and ends younger than it, are left to the log.

mod plan;
mod restore;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::error::ArrowError;
use catalog::Collection;
use types::{CommitTs, RowId, RowOrdinal};

use self::plan::Plan;
pub(crate) use self::plan::vacuum_due;

use crate::error::StorageError;
use crate::fs::FileSystem;
use crate::manifest::{
    DataFile, FileKind, GraphFile, Hash, Manifest, SegmentFiles, TableFiles, namespace_directory,
    path_of, write_file,
};
use crate::memtable::{
    Chunk, Contents, Definition, Layout, Origin, Part, Rows, Table, VectorIndex, batch_bytes, fit,
};
use crate::mvcc::ReadView;
use crate::progress::{Pace, Phase, Progress};
use crate::segment::{self, ChunkRows, Identity, Segment, Written};
use crate::wal::StoreId;

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

/// What a flush may drop.
pub(crate) trait Horizons {
    /// The instant up to which versions that ended can be dropped from a table.
    fn candidate(&self, table: &Table) -> CommitTs;

    /// Refuses reads before that instant from now on.
    fn raise(&self, table: &Table) -> CommitTs;

    /// Whether every ended version is taken out, however few there are.
    fn thorough(&self, table: &Table) -> bool;
}

/// A table that is to read its rows from other segments than before.
#[derive(Debug)]
pub(crate) struct Moved {
    table: Arc<Table>,
    /// `None` when nothing of it is left.
    layout: Option<Layout>,
    /// The indexes that know the new ordinals, where those are not the old ones.
    indexes: Option<Vec<Arc<VectorIndex>>>,
}

impl Moved {
    /// To be called when the manifest is durable.
    pub(crate) fn finish(self) {
        match self.layout {
            Some(layout) => self.table.relocate(layout, self.indexes),
            None => self.table.clear(),
        }
    }
}

/// The segments of a table, written.
struct Laid {
    segments: Vec<SegmentFiles>,
    history: Vec<SegmentFiles>,
    layout: Layout,
    /// See [`Moved::indexes`].
    indexes: Option<Vec<Arc<VectorIndex>>>,
}

/// Writes the files of a manifest.
pub(crate) struct Flush<'a> {
    place: Place<'a>,
    view: &'a ReadView,
    horizons: &'a dyn Horizons,
    progress: &'a Progress,
    pace: &'a Pace<'a>,
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
        (horizons, progress, pace): (&'a dyn Horizons, &'a Progress, &'a Pace<'a>),
        previous: Option<&Manifest>,
        next_file: &'a mut u64,
    ) -> Result<(Manifest, Vec<Moved>), StorageError> {
        let mut flush = Self {
            place,
            view,
            horizons,
            progress,
            pace,
            next_file,
            touched: BTreeSet::new(),
            made: Vec::new(),
            moved: Vec::new(),
        };
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
            sequences: view.sequences().positions(),
        };
        Ok((manifest, flush.moved))
    }

    /// The definition of a table in the view, which is what the manifest says.
    fn definition(&self, table: &Table) -> Arc<Definition> {
        let newest = table.definition();
        match self.view.catalog().collection_by_id(newest.id) {
            Some(seen) if seen.version != newest.version => Arc::new(Definition::new(seen.clone())),
            Some(seen) if seen.life != newest.life => Arc::new(Definition::new(seen.clone())),
            _ => newest,
        }
    }

    fn tables(&mut self, previous: Option<&Manifest>) -> Result<Vec<TableFiles>, StorageError> {
        let mut tables = Vec::new();
        for table in self.view.tables() {
            let id = table.definition().id;
            let before = previous.and_then(|m| m.tables.iter().find(|files| files.table == id));
            tables.push(self.table(table, before)?);
        }
        for directory in &self.touched {
            let synced = self.place.fs.sync_dir(directory);
            synced.map_err(|e| StorageError::io("sync", directory, e))?;
        }
        Ok(tables)
    }

    /// Writes the segments that are not there yet.
    fn parts(
        &mut self,
        table: &Table,
        rows: &Rows,
        origins: Vec<Origin>,
        (chunks, open, old): (&[Arc<Chunk>], &[Arc<Segment>], &[SegmentFiles]),
    ) -> Result<(Vec<SegmentFiles>, Vec<Part>), StorageError> {
        let (mut files, mut parts) = (Vec::new(), Vec::new());
        for origin in origins {
            let ((made, segment), ends) = match &origin {
                Origin::Same(range) => {
                    let mut first = 0;
                    let at = open.iter().position(|segment| {
                        first += segment.chunks();
                        first > range.start
                    });
                    let at = at.unwrap_or(0);
                    let made = (old[at].clone(), Arc::clone(&open[at]));
                    (made, ends_of(&chunks[range.clone()]))
                }
                Origin::Chunks(range) => {
                    let chunks = &chunks[range.clone()];
                    (self.segment(table, chunks)?, ends_of(chunks))
                }
                Origin::Rows(ordinals) => {
                    let located = ordinals.iter().filter_map(|o| rows.locate(RowOrdinal(*o)));
                    let ends = located.map(|(chunk, slot)| chunk.life(slot).1).collect();
                    (self.picked(table, rows, ordinals)?, ends)
                }
            };
            let ends = self.ends(table, &ends, made.ends)?;
            files.push(SegmentFiles { ends, ..made });
            parts.push(Part { segment, origin });
        }
        Ok((files, parts))
    }

    fn table(
        &mut self,
        table: &Arc<Table>,
        before: Option<&TableFiles>,
    ) -> Result<TableFiles, StorageError> {
        let Contents { rows, .. } = &table.contents();
        let at = self.view.at();
        let definition = self.definition(table);
        let id = definition.id;
        self.progress.enter(Some(id), Phase::Planning, 0);
        let dropped = definition.life.dropped;
        let over = |dropped| {
            // Whether it is over is settled when reads before the drop are refused, and not earlier.
            dropped <= self.horizons.candidate(table) && dropped <= self.horizons.raise(table)
        };
        if dropped.is_some_and(over) {
            return Ok(self.cleared(table, rows));
        }
        let full = rows.full().iter().take_while(|chunk| chunk.begun_at(at) == chunk.len()).count();
        let plan = Plan::new(table, rows, full, at, self.horizons);
        let written = self.layout(table, rows, plan, before);
        let Laid { segments, history, layout, indexes } = match written {
            // A segment that cannot be read stays as it is; the other tables do not wait for it.
            Err(error @ StorageError::Corrupt { .. }) if !self.horizons.thorough(table) => {
                tracing::error!(%error, "segments are not merged");
                self.layout(table, rows, Plan::apart(rows, full), before)?
            }
            made => made?,
        };
        let behind: Vec<&Arc<Chunk>> = rows.behind(full).collect();
        let tail = self.tail(table, &behind, before.and_then(|files| files.tail.as_ref()))?;
        let next_row = match &tail {
            Some(tail) => tail.base + u64::from(tail.rows),
            None => behind.first().map_or(rows.next_row(), |chunk| chunk.row_id(0)).0,
        };
        let from = layout.chunks() << rows.chunk_bits();
        let written = from + tail.as_ref().map_or(0, |tail| tail.rows as usize);
        let old = before.filter(|_| indexes.is_none());
        let current = match &indexes {
            Some(indexes) => indexes.clone(),
            None => table.contents().indexes().map(Arc::clone).collect(),
        };
        let graphs =
            self.graphs(table, &current, written, old.map_or(&[][..], |files| &files.graphs))?;
        if !layout.is_same(rows) {
            let (table, layout) = (Arc::clone(table), Some(layout));
            self.moved.push(Moved { table, layout, indexes });
        }
        Ok(TableFiles {
            table: id,
            segments,
            history,
            tail,
            graphs,
            next_row: Some(next_row),
            horizon: horizon_of(table),
        })
    }

    fn cleared(&mut self, table: &Arc<Table>, rows: &Rows) -> TableFiles {
        if !rows.is_empty() {
            self.moved.push(Moved { table: Arc::clone(table), layout: None, indexes: None });
        }
        TableFiles {
            table: table.definition().id,
            segments: Vec::new(),
            history: Vec::new(),
            tail: None,
            graphs: Vec::new(),
            next_row: Some(rows.next_row().0),
            horizon: horizon_of(table),
        }
    }

    fn layout(
        &mut self,
        table: &Table,
        rows: &Rows,
        plan: Plan,
        before: Option<&TableFiles>,
    ) -> Result<Laid, StorageError> {
        let total = plan.chunks_to_write(rows);
        self.progress.enter(Some(table.definition().id), Phase::Segments, total);
        let files = rows.files();
        let old = before.map_or((&[][..], &[][..]), |files| (&files.segments, &files.history));
        let young = (rows.full(), files.segments.as_slice(), old.0);
        let (segments, young) = self.parts(table, rows, plan.young, young)?;
        let past = (rows.history(), files.history.as_slice(), old.1);
        let (past, history) = self.parts(table, rows, plan.history, past)?;
        let layout = Layout { young, history, covered: plan.covered };
        let indexes = self.relocate_indexes(table, rows, &layout)?;
        Ok(Laid { segments, history: past, layout, indexes })
    }

    /// The indexes under the ordinals that `layout` gives; `None` when those are the old ones.
    fn relocate_indexes(
        &self,
        table: &Table,
        rows: &Rows,
        layout: &Layout,
    ) -> Result<Option<Vec<Arc<VectorIndex>>>, StorageError> {
        let Some(relocation) = layout.relocation(rows) else { return Ok(None) };
        let contents = table.contents();
        let now = &contents.rows;
        let relocated = contents.indexes().map(|index| Arc::new(index.relocated(now, &relocation)));
        let relocated = relocated.collect();
        rows.check_damage()?;
        Ok(Some(relocated))
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
        first_row: RowId,
        chunks: impl Iterator<Item = Result<ChunkRows, StorageError>>,
    ) -> Result<(SegmentFiles, Identity, Written, PathBuf), StorageError> {
        let collection = table.definition();
        let (number, path) = self.new_path(&collection, FileKind::Segment)?;
        let identity = self.place.identity(&collection, number, first_row);
        let paced = chunks.inspect(|chunk| {
            if let Ok(chunk) = chunk {
                self.pace.keep(batch_bytes(&chunk.batch));
                self.progress.advance();
            }
        });
        let written = segment::write(self.place.fs, &path, identity, paced)?;
        let file = DataFile { number, bytes: written.bytes, hash: Hash(written.root) };
        let columns =
            self.definition(table).has_ids().then(|| self.definition(table).stored_columns());
        let files =
            SegmentFiles { base: first_row.0, rows: written.rows, file, ends: None, columns };
        Ok((files, identity, written, path))
    }

    fn segment(
        &mut self,
        table: &Table,
        chunks: &[Arc<Chunk>],
    ) -> Result<(SegmentFiles, Arc<Segment>), StorageError> {
        let definition = self.definition(table);
        let first = chunks.first().map_or(RowId(0), |chunk| chunk.row_id(0));
        let rows = chunks.iter().map(|chunk| {
            let batch = fit(chunk.batch()?, definition.stored()).map_err(StorageError::apply)?;
            let hashes = table.hashes_of(&batch)?;
            let (begins, ids) = (chunk.begins().to_vec(), chunk.row_ids().values().to_vec());
            Ok(ChunkRows { batch, begins, ids, hashes })
        });
        let (files, identity, written, path) = self.write(table, first, rows)?;
        let schema = Arc::clone(definition.stored());
        let reader = Segment::open(self.place.fs, &path, (identity, written), schema)?;
        Ok((files, Arc::new(reader)))
    }

    /// A segment of single rows.
    fn picked(
        &mut self,
        table: &Table,
        rows: &Rows,
        ordinals: &[u32],
    ) -> Result<(SegmentFiles, Arc<Segment>), StorageError> {
        let first = ordinals.first().and_then(|first| rows.locate(RowOrdinal(*first)));
        let first = first.map_or(RowId(0), |(chunk, slot)| chunk.row_id(slot));
        let definition = self.definition(table);
        let chunks = ordinals.chunks(rows.chunk_rows()).map(|ordinals| {
            let located: Option<Vec<(&Arc<Chunk>, usize)>> =
                ordinals.iter().map(|ordinal| rows.locate(RowOrdinal(*ordinal))).collect();
            let missing =
                || StorageError::apply(ArrowError::ComputeError("no such row".to_owned()));
            let located = located.ok_or_else(missing)?;
            let mut sources: Vec<&Arc<Chunk>> = Vec::new();
            let mut places = Vec::with_capacity(located.len());
            for (chunk, slot) in &located {
                // Rows of a few chunks may take turns; those of the last ones are looked for first.
                let known = sources.iter().rposition(|source| Arc::ptr_eq(source, chunk));
                let source = known.unwrap_or_else(|| {
                    sources.push(chunk);
                    sources.len() - 1
                });
                places.push((source, *slot));
            }
            let fitted = |chunk: &&Arc<Chunk>| {
                fit(chunk.batch()?, definition.stored()).map_err(StorageError::apply)
            };
            let batches: Vec<RecordBatch> = sources.iter().map(fitted).collect::<Result<_, _>>()?;
            let batches: Vec<&RecordBatch> = batches.iter().collect();
            let batch = interleave_record_batch(&batches, &places).map_err(StorageError::apply)?;
            let hashes = table.hashes_of(&batch)?;
            Ok(ChunkRows {
                batch,
                begins: located.iter().map(|(chunk, slot)| chunk.begins()[*slot]).collect(),
                ids: located.iter().map(|(chunk, slot)| chunk.row_id(*slot).0).collect(),
                hashes,
            })
        });
        let (files, identity, written, path) = self.write(table, first, chunks)?;
        let schema = Arc::clone(definition.stored());
        let reader = Segment::open(self.place.fs, &path, (identity, written), schema)?;
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
        let Some(first) = behind.first().map(|chunk| chunk.row_id(0)) else { return Ok(None) };
        let count = behind.iter().map(|chunk| chunk.begun_at(at)).sum::<usize>();
        if count == 0 {
            return Ok(None);
        }
        let files = match before.filter(|b| b.base == first.0 && b.rows as usize == count) {
            Some(before) => before.clone(),
            None => {
                let definition = self.definition(table);
                let (mut batches, mut begins) = (Vec::new(), Vec::new());
                for chunk in behind {
                    let begun = chunk.begun_at(at);
                    let rows = chunk.batch()?.slice(0, begun);
                    batches.push(fit(&rows, definition.stored()).map_err(StorageError::apply)?);
                    begins.extend_from_slice(&chunk.begins()[..begun]);
                }
                let batch =
                    concat_batches(definition.stored(), &batches).map_err(StorageError::apply)?;
                let ids = (first.0..).take(count).collect();
                let rows = ChunkRows { batch, begins, ids, hashes: None };
                self.write(table, first, std::iter::once(Ok(rows)))?.0
            }
        };
        let chunks: Vec<Arc<Chunk>> = behind.iter().map(|chunk| Arc::clone(chunk)).collect();
        let ends = self.ends(table, &ends_of(&chunks), files.ends)?;
        Ok(Some(SegmentFiles { ends, ..files }))
    }

    /// The file of ends of a segment's rows; the one before, when nothing has changed.
    fn ends(
        &mut self,
        table: &Table,
        ends: &[CommitTs],
        before: Option<DataFile>,
    ) -> Result<Option<DataFile>, StorageError> {
        let at = self.view.at();
        let mut bytes = ENDS_MAGIC.to_vec();
        for (row, end) in (0_u32..).zip(ends).filter(|(_, end)| **end <= at) {
            bytes.extend_from_slice(&row.to_le_bytes());
            bytes.extend_from_slice(&end.0.to_le_bytes());
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
        let (number, path) = self.new_path(&table.definition(), kind)?;
        write_file(self.place.fs, &path, bytes)?;
        Ok(DataFile { number, bytes: length, hash })
    }

    fn graphs(
        &mut self,
        table: &Table,
        indexes: &[Arc<VectorIndex>],
        written: usize,
        before: &[GraphFile],
    ) -> Result<Vec<GraphFile>, StorageError> {
        let rows = u32::try_from(written).unwrap_or(u32::MAX);
        let mut graphs = Vec::new();
        for index in indexes.iter().filter(|index| index.has_graph()) {
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

fn horizon_of(table: &Table) -> Option<CommitTs> {
    Some(table.horizon()).filter(|horizon| *horizon > CommitTs(i64::MIN))
}

/// When each row of the chunks ended.
fn ends_of(chunks: &[Arc<Chunk>]) -> Vec<CommitTs> {
    chunks.iter().flat_map(|chunk| (0..chunk.len()).map(|slot| chunk.life(slot).1)).collect()
}

impl Place<'_> {
    fn path(&self, collection: &Collection, number: u64, kind: FileKind) -> PathBuf {
        path_of(self.directory, collection.schema, number, kind)
    }

    fn identity(&self, collection: &Collection, number: u64, first_row: RowId) -> Identity {
        Identity {
            store: self.store,
            number,
            table: collection.id,
            first_row,
            chunk_rows: 1 << self.chunk_bits,
        }
    }
}
