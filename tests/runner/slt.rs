//! Runs `.slt` files, each on a fresh server. `tests/sql/README.md` says how they are written.

use std::path::{Path, PathBuf};

use sqllogictest::{DefaultColumnType, Record, Runner};

use crate::{TestServer, WireDb};

/// Failures after which the rest of a file is not run.
const FAILURES_MAX: usize = 20;

/// All `.slt` files below `directory`, in the order of their paths.
#[must_use]
pub fn slt_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "slt") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Runs a file; what failed, with the place and what came instead. A failure does not end the run,
/// so that one report shows as much as possible.
pub async fn run_slt_file(path: &Path) -> Vec<String> {
    match sqllogictest::parse_file(path) {
        Ok(records) => run(records).await,
        Err(error) => vec![error.to_string()],
    }
}

/// Runs a script that is not in a file.
pub async fn run_slt_text(name: &str, script: &str) -> Vec<String> {
    match sqllogictest::parse_with_name(script, name) {
        Ok(records) => run(records).await,
        Err(error) => vec![error.to_string()],
    }
}

async fn run(records: Vec<Record<DefaultColumnType>>) -> Vec<String> {
    let server = TestServer::start().await;
    let address = server.address();
    let mut runner = Runner::new(|| WireDb::connect(address));
    let mut failures = Vec::new();
    for record in records {
        if matches!(record, Record::Halt { .. }) {
            break;
        }
        if let Err(failure) = Box::pin(runner.run_async(record)).await {
            failures.push(failure.to_string());
        }
        if failures.len() == FAILURES_MAX {
            failures.push(format!("more than {FAILURES_MAX} failures, the rest was not run"));
            break;
        }
    }
    drop(runner);
    server.stop().await;
    failures
}
