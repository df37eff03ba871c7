//! Data directories that earlier versions wrote are opened, read and written to; files of a later
//! version are refused.
//!
//! `tests/fixtures/format-<version>` holds the files of [`Plan::record`], of version 2
//! those of [`Plan::record_vacuums`], of 3 of [`Plan::record_alterations`], from version 4 on of
//! [`Plan::record_sorted`]; with
//! `AZIMUTH_WRITE_FIXTURES` set, those of the present version are written there first.

use std::fs;
use std::path::{Path, PathBuf};

use storage::StorageError;
use storage::fs::{FileSystem as _, SimFileSystem};
use types::{Coded as _, SqlState};

use crate::plan::Plan;
use crate::support::{START_MICROS, change_rows, clock_at, kept_of, open, row};

const VERSION: u8 = 4;
/// The version in the header of a log file.
const LOG_VERSION: u8 = 1;

/// What the fixture of a version is of.
fn plan_of(version: u8) -> Plan {
    match version {
        1 => Plan::record(),
        2 => Plan::record_vacuums(),
        3 => Plan::record_alterations(),
        _ => Plan::record_sorted(),
    }
}

fn directory(version: u8) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    root.join(format!("format-{version}"))
}

/// All files below a directory, by their path in it.
fn files_below(root: &Path, inside: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join(inside)).unwrap() {
        let entry = entry.unwrap();
        let path = inside.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(root, &path));
        } else {
            files.push((path, fs::read(entry.path()).unwrap()));
        }
    }
    files
}

/// Makes or replaces a file, durably.
fn put(sim: &SimFileSystem, path: &Path, bytes: &[u8]) {
    let _ = sim.remove(path);
    let file = sim.create(path).unwrap();
    file.write_at(0, bytes).unwrap();
    file.sync_data().unwrap();
    sim.sync_dir(path.parent().unwrap()).unwrap();
}

#[test]
fn what_earlier_versions_wrote_is_read_and_written_to() {
    if std::env::var_os("AZIMUTH_WRITE_FIXTURES").is_some() {
        let plan = plan_of(VERSION);
        let root = directory(VERSION);
        let _ = fs::remove_dir_all(&root);
        for (path, bytes) in plan.fs.contents() {
            if path.ends_with("spare.tmp") {
                continue;
            }
            let path = root.join(path.strip_prefix("data").unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
    for version in 1..=VERSION {
        let sim = SimFileSystem::default();
        for (path, bytes) in files_below(&directory(version), Path::new("")) {
            put(&sim, &Path::new("data").join(path), &bytes);
        }
        let (store, report) = open(&sim, &clock_at(START_MICROS)).unwrap();
        assert!(report.damaged.is_empty() && report.checkpoint.is_some(), "{report:?}");
        let plan = plan_of(version);
        let (expected, _) = open(&plan.fs, &clock_at(START_MICROS)).unwrap();
        let [found, expected] = [&store, &expected].map(|store| kept_of(store, plan.table));
        assert_eq!(found, expected, "format {version}");
        change_rows(&store, plan.table, &[], &[row(2_000, "written by a later version")]).unwrap();
        store.checkpoint().unwrap();
    }
}

#[test]
fn files_of_a_later_version_are_refused() {
    let plan = Plan::record();
    let mut tried = 0;
    for (path, bytes) in plan.fs.contents() {
        let name = path.file_name().unwrap().to_string_lossy();
        let mut newer = bytes.clone();
        newer[7] += 1;
        // The checksums that are right for the changed byte.
        if name.starts_with("manifest-") {
            let end = newer.len() - 16;
            let hash = twox_hash::XxHash3_128::oneshot(&newer[..end]);
            newer[end..].copy_from_slice(&hash.to_le_bytes());
        } else if name.ends_with(".log") {
            let crc = crc32c::crc32c(&newer[..508]);
            newer[508..512].copy_from_slice(&crc.to_le_bytes());
        } else {
            continue; // known by a hash in the manifest, so never of another version than it
        }
        let sim = plan.fs.fork();
        put(&sim, &path, &newer);
        let before = sim.contents();
        let Err(error) = open(&sim, &clock_at(START_MICROS)) else {
            assert!(name.starts_with("manifest-"), "{path:?} was read");
            continue; // an older manifest is not read while the newest is whole
        };
        let StorageError::NewerFormat { path: named, version } = &error else {
            panic!("{path:?}: {error}")
        };
        assert_eq!(
            (named, *version),
            (&path, 1 + if name.starts_with("manifest-") { VERSION } else { LOG_VERSION })
        );
        assert_eq!(error.sql_state(), SqlState::FEATURE_NOT_SUPPORTED);
        assert!(sim.contents() == before, "a refusal of {path:?} changes nothing");
        tried += 1;
    }
    assert!(tried >= 3, "{tried} files");
}
