//! One flipped bit in any file of a data directory: opening refuses, or says so and reads the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use storage::StorageError;
use storage::fs::{FileSystem as _, SimFileSystem, read_all};
use types::{Coded as _, SplitMix64, SqlState};

use crate::plan::Plan;
use crate::support::{START_MICROS, clock_at, history_of, open};

const FLIPS: u64 = 600;

fn is_checkpoint(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("checkpoint-"))
}

fn random_bit(files: &[(PathBuf, u64)], rng: &mut SplitMix64) -> (PathBuf, u64) {
    let mut bit = rng.below(files.iter().map(|(_, size)| size * 8).sum());
    for (path, size) in files {
        if bit < size * 8 {
            return (path.clone(), bit);
        }
        bit -= size * 8;
    }
    unreachable!("the bit lies in one of the files")
}

fn contents(fs: &SimFileSystem) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |path: &Path| read_all(&*fs.open(path).unwrap()).unwrap();
    fs.files().into_iter().map(|(path, _)| (path.clone(), read(&path))).collect()
}

#[test]
fn a_flipped_bit_is_never_a_silent_difference() {
    let plan = Plan::record();
    let files = plan.fs.files();
    let (checkpoints, logs): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|(path, _)| is_checkpoint(path));
    assert_eq!(checkpoints.len(), 2);
    let newest = &checkpoints[1].0;
    let mut unnoticed = Vec::new();
    for seed in 0..FLIPS {
        let mut rng = SplitMix64::new(seed);
        let among = if seed.is_multiple_of(2) { &logs } else { &checkpoints };
        let (path, bit) = random_bit(among, &mut rng);
        let context = format!("seed {seed}: byte {}, bit {}, {path:?}", bit / 8, bit % 8);
        let fs = plan.fs.fork();
        fs.flip_bit(&path, bit);
        let before = contents(&fs);
        match open(&fs, &clock_at(START_MICROS)) {
            Err(error) => {
                assert_eq!(error.sql_state(), SqlState::DATA_CORRUPTED, "{context}: {error}");
                let StorageError::Corrupt { path: named, .. } = &error else {
                    panic!("{context}: {error}")
                };
                assert_eq!(named, &path, "{context}: {error}");
                assert!(!is_checkpoint(&path), "{context}: the log makes up for a checkpoint");
                assert!(contents(&fs) == before, "{context}: a refusal changes nothing");
            }
            Ok((store, report)) => {
                let found = history_of(&store, plan.table);
                assert_eq!(Some(&found), plan.after.last(), "{context}: other rows");
                let reported = report.damaged.iter().any(|(file, _)| *file == path);
                assert_eq!(reported, path == *newest, "{context}: {:?}", report.damaged);
                // The older checkpoint is not read while the newer one is whole.
                if !is_checkpoint(&path) {
                    unnoticed.push(context);
                }
            }
        }
    }
    let count = unnoticed.len();
    assert_eq!(count, 0, "{count} flips in the log were not noticed: {unnoticed:#?}");
}
