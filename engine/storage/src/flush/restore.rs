//! Opens the files of a manifest.

use std::path::PathBuf;
use std::sync::Arc;

use catalog::Catalog;
use types::{CommitTs, RowId};
use vector::hnsw::Graph;

use super::{ENDS_MAGIC, Place};
use crate::error::StorageError;
use crate::manifest::{DataFile, FileKind, GraphFile, SegmentFiles, TableFiles, read_file};
use crate::memtable::{Chunk, Definition, Files, Table, VectorIndex};
use crate::segment::{Segment, Written};
use crate::wal::Cursor;

/// Open segments and their chunks.
type Read = (Vec<Arc<Segment>>, Vec<Arc<Chunk>>);

impl Place<'_> {
    /// Opens a segment as a manifest names it.
    pub(crate) fn open_segment(
        &self,
        definition: &Definition,
        files: &SegmentFiles,
    ) -> Result<Segment, StorageError> {
        let DataFile { number, bytes, hash } = files.file;
        let path = self.path(definition, number, FileKind::Segment);
        let identity = self.identity(definition, number, RowId(files.base));
        let written = Written { bytes, root: hash.0, rows: files.rows };
        let schema = definition.of_manifest(files.columns.as_deref());
        Segment::open(self.fs, &path, (identity, written), schema)
    }

    /// Checks the files of a table that its open segments do not check.
    pub(crate) fn check_small(
        &self,
        definition: &Definition,
        files: &TableFiles,
    ) -> Result<(), StorageError> {
        if let Some(tail) = &files.tail {
            self.open_segment(definition, tail)?.check()?;
        }
        let ends = files.parts().filter_map(|part| part.ends.as_ref());
        let small = ends.map(|file| (file, FileKind::Ends));
        let graphs = files.graphs.iter().map(|graph| (&graph.file, FileKind::Graph));
        small.chain(graphs).try_for_each(|(file, kind)| {
            let path = self.path(definition, file.number, kind);
            read_file(self.fs, &path, file).map(drop)
        })
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
        if let Some(horizon) = files.horizon {
            table.raise_horizon(horizon);
        }
        let mut next = 0;
        for files in files.segments.iter().chain(&files.tail) {
            if files.base < next {
                let number = files.file.number;
                let path = self.path(&table.definition(), number, FileKind::Segment);
                return Err(StorageError::corrupt(&path, 0, "rows that are in another segment"));
            }
            next = files.base + u64::from(files.rows);
        }
        let (segments, full) = self.restore_segments(table, &files.segments)?;
        let (history, history_chunks) = self.restore_segments(table, &files.history)?;
        let tail = match &files.tail {
            Some(files) => {
                let segment = self.open_segment(&table.definition(), files)?;
                let batch = segment.chunk(0)?;
                let chunk = Chunk::new(RowId(files.base), batch, segment.begins().clone());
                let chunk = Arc::new(chunk);
                self.restore_ends(table, files, std::slice::from_ref(&chunk))?;
                Some(chunk)
            }
            None => None,
        };
        let next_row = files.next_row();
        let in_files = Files { segments, history, history_chunks };
        table.restore(in_files, full, tail, next_row)?;
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

    fn restore_segments(
        &self,
        table: &Table,
        files: &[SegmentFiles],
    ) -> Result<Read, StorageError> {
        let (mut segments, mut chunks) = (Vec::new(), Vec::new());
        for files in files {
            let segment = Arc::new(self.open_segment(&table.definition(), files)?);
            let first = chunks.len();
            for at in 0..segment.chunks() {
                chunks.push(Arc::new(Chunk::in_segment(&segment, at)));
            }
            self.restore_ends(table, files, &chunks[first..])?;
            segments.push(segment);
        }
        Ok((segments, chunks))
    }

    fn restore_ends(
        &self,
        table: &Table,
        files: &SegmentFiles,
        chunks: &[Arc<Chunk>],
    ) -> Result<(), StorageError> {
        let Some(ends) = &files.ends else { return Ok(()) };
        let path = self.path(&table.definition(), ends.number, FileKind::Ends);
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
        let path = self.path(&table.definition(), file.file.number, FileKind::Graph);
        let bytes = read_file(self.fs, &path, &file.file)?;
        let graph = Graph::from_bytes(&bytes);
        let (graph, covered) = graph.map_err(|e| StorageError::corrupt(&path, 0, e.to_string()))?;
        if covered != file.covered || covered > table.rows().len() {
            return Err(StorageError::corrupt(&path, 0, "the graph covers other rows"));
        }
        let index =
            VectorIndex::with_graph(definition.clone(), &table.definition(), graph, covered);
        table.put_index(Arc::new(index));
        Ok(())
    }
}
