//! One flipped bit in any file of a data directory: opening refuses, or says so and reads the same.

use std::path::Path;

use storage::StorageError;
use storage::fs::SimFileSystem;
use types::{Coded as _, SplitMix64, SqlState};

use crate::plan::Plan;
use crate::support::{START_MICROS, clock_at, history_of, open};

const FLIPS: u64 = 600;

fn is_checkpoint(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("checkpoint-"))
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
        let (path, bit) = SimFileSystem::random_bit(among, &mut rng);
        let context = format!("seed {seed}: byte {}, bit {}, {path:?}", bit / 8, bit % 8);
        let fs = plan.fs.fork();
        fs.flip_bit(&path, bit);
        let before = fs.contents();
        match open(&fs, &clock_at(START_MICROS)) {
            Err(error) => {
                assert_eq!(error.sql_state(), SqlState::DATA_CORRUPTED, "{context}: {error}");
                let StorageError::Corrupt { path: named, .. } = &error else {
                    panic!("{context}: {error}")
                };
                assert_eq!(named, &path, "{context}: {error}");
                assert!(!is_checkpoint(&path), "{context}: the log makes up for a checkpoint");
                assert!(fs.contents() == before, "{context}: a refusal changes nothing");
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
