//! Reads every file of a data directory that no server uses, and changes nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use catalog::Collection;

use crate::command::Command;
use crate::error::{StorageError, format_micros};
use crate::flush::Place;
use crate::fs::FileSystem;
use crate::manifest::{self, DataFile, FileKind, Restored, SegmentFiles, path_of, read_file};
use crate::memtable::Definition;
use crate::store::{LOG_DIRECTORY, lock};
use crate::wal::{self, Entry, LogOptions, LogPosition, StoreId};

/// What was found in a file, or in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// The file, or the log's directory.
    pub path: PathBuf,
    /// What it is.
    pub kind: &'static str,
    /// What it holds; for a damaged one what is wrong.
    pub content: String,
    /// Whether all its checksums are right.
    pub whole: bool,
    /// What it holds, piece by piece: the entries of the log, what a manifest says, the blocks of a
    /// segment. Empty unless asked for.
    pub details: Vec<String>,
}

/// Reads all files that a manifest names, the manifests and the log, against their checksums. With
/// `details` says what is in those of one kind: `log`, `manifest`, `segment`.
///
/// # Errors
/// When a server uses the directory, or the system refuses to read. Damage is told in the reports.
pub fn inspect(
    fs: &dyn FileSystem,
    directory: &Path,
    details: Option<&str>,
) -> Result<Vec<FileReport>, StorageError> {
    let _lock = lock(fs, directory)?;
    let (seen, reports) = (BTreeSet::new(), Vec::new());
    let mut inspector = Inspector { fs, directory, details, seen, reports };
    let mut newest = None;
    for file in manifest::list(fs, directory)? {
        match manifest::read(fs, &file.path) {
            Ok(restored) => {
                let content = format!(
                    "entry {} of {}: {} tables, {} files",
                    restored.position.index,
                    format_micros(restored.position.commit_ts),
                    restored.manifest.tables.len(),
                    restored.manifest.files().count(),
                );
                inspector.note(&file.path, "manifest", Ok(content))?;
                if details == Some("manifest") {
                    inspector.detail(restored.manifest.describe());
                }
                inspector.files(&restored)?;
                newest = newest.or(Some((restored.store, restored.position)));
            }
            Err(error) => inspector.note(&file.path, "manifest", Err(error))?,
        }
    }
    inspector.log(newest)?;
    Ok(inspector.reports)
}

struct Inspector<'a> {
    fs: &'a dyn FileSystem,
    directory: &'a Path,
    details: Option<&'a str>,
    /// Numbers of files that were read: manifests share them.
    seen: BTreeSet<u64>,
    reports: Vec<FileReport>,
}

impl Inspector<'_> {
    fn note(
        &mut self,
        path: &Path,
        kind: &'static str,
        found: Result<String, StorageError>,
    ) -> Result<(), StorageError> {
        let (content, whole) = match found {
            Ok(content) => (content, true),
            Err(error @ (StorageError::Corrupt { .. } | StorageError::NewerFormat { .. })) => {
                (error.to_string(), false)
            }
            Err(error) => return Err(error),
        };
        let details = Vec::new();
        self.reports.push(FileReport { path: path.to_owned(), kind, content, whole, details });
        Ok(())
    }

    /// Adds to the last report.
    fn detail(&mut self, lines: Vec<String>) {
        if let Some(report) = self.reports.last_mut() {
            report.details = lines;
        }
    }

    fn files(&mut self, restored: &Restored) -> Result<(), StorageError> {
        let Restored { store, manifest, .. } = restored;
        let (fs, directory) = (self.fs, self.directory);
        let place = Place { fs, directory, store: *store, chunk_bits: manifest.chunk_bits };
        for table in &manifest.tables {
            let Some(collection) = manifest.catalog.collection_by_id(table.table) else { continue };
            let (name, definition) = (&collection.name, Definition::new(collection.clone()));
            for files in table.parts() {
                let mut blocks = Vec::new();
                let wanted = self.details == Some("segment");
                self.file(collection, FileKind::Segment, &files.file, |_| {
                    let segment = place.open_segment(&definition, files)?;
                    if wanted {
                        blocks = segment.describe();
                    }
                    segment.check()?;
                    let SegmentFiles { base, rows, .. } = files;
                    Ok(format!("{rows} rows of table {name} from row {base} on"))
                })?;
                if !blocks.is_empty() {
                    self.detail(blocks);
                }
                if let Some(ends) = &files.ends {
                    self.file(collection, FileKind::Ends, ends, |path| {
                        read_file(fs, path, ends)?;
                        Ok(format!("ends of rows of table {name}"))
                    })?;
                }
            }
            for graph in &table.graphs {
                self.file(collection, FileKind::Graph, &graph.file, |path| {
                    read_file(fs, path, &graph.file)?;
                    Ok(format!("links of {} rows of table {name}", graph.covered))
                })?;
            }
        }
        Ok(())
    }

    /// Reads a file unless that was done for another manifest.
    fn file(
        &mut self,
        collection: &Collection,
        kind: FileKind,
        file: &DataFile,
        read: impl FnOnce(&Path) -> Result<String, StorageError>,
    ) -> Result<(), StorageError> {
        if !self.seen.insert(file.number) {
            return Ok(());
        }
        let path = path_of(self.directory, collection.schema, file.number, kind);
        let found = read(&path);
        self.note(&path, kind.suffix(), found)
    }

    fn log(&mut self, newest: Option<(StoreId, LogPosition)>) -> Result<(), StorageError> {
        let directory = self.directory.join(LOG_DIRECTORY);
        let options =
            LogOptions { directory: directory.clone(), file_bytes: 0, may_be_fresh: true };
        let mut entries = Vec::new();
        let mut note = |entry: Entry| {
            if self.details == Some("log") {
                let what = Command::describe(&entry.payload);
                let (at, bytes) = (format_micros(entry.commit_ts), entry.payload.len());
                entries.push(format!("entry {} of {at}: {what}, {bytes} bytes", entry.index));
            }
            Ok(())
        };
        let found = wal::verify(self.fs, &options, newest, &mut note).map(|report| {
            let torn = report.torn.map_or(String::new(), |(path, offset)| {
                format!(", an unfinished write in {} at offset {offset}", path.display())
            });
            format!("{} files, {} entries after the manifest{torn}", report.files, report.entries)
        });
        self.note(&directory, "log", found)?;
        self.detail(entries);
        Ok(())
    }
}
