//! Runs every `tests/sql/**/*.slt` over the PostgreSQL protocol, each file on a fresh server, in the
//! order of their names. With `AZIMUTH_SLT` set, those alone whose path has it in it.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "tests")]

use std::path::Path;

use tests::{run_slt_file, run_slt_text, slt_files};

#[tokio::test(flavor = "multi_thread")]
async fn every_file_holds() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let mut files = slt_files(&directory);
    if let Some(part) = std::env::var_os("AZIMUTH_SLT") {
        let part = part.to_string_lossy();
        files.retain(|file| file.to_string_lossy().contains(&*part));
    }
    assert!(!files.is_empty(), "there are no files below {}", directory.display());
    let mut failures = Vec::new();
    for file in files {
        println!("{}", file.strip_prefix(&directory).unwrap().display());
        failures.extend(run_slt_file(&file).await);
    }
    let count = failures.len();
    assert!(failures.is_empty(), "{count} failures\n\n{}", failures.join("\n"));
}

/// Each record of this script holds.
const RIGHT: &str = "\
query TTT
SELECT CASE WHEN false THEN 'x' END, '', 'a b'
----
NULL (empty) a b

query T
-- columns
SELECT 1, count(*), 2 AS \"Two\" FROM (VALUES (1)) AS v(x)
----
?column?
count
Two

statement ok
CREATE TABLE t (id int PRIMARY KEY)

statement count 2
INSERT INTO t VALUES (1), (2)

statement error (42P01)
SELECT * FROM nope

statement error ^42P01: relation \"nope\" does not exist$
SELECT * FROM nope

statement error (?s)^23505: .*\\nDETAIL: Key \\(id\\)=\\(1\\) already exists\\.
INSERT INTO t VALUES (1)

let id
SELECT max(id) FROM t

control substitution on

query T
SELECT '$id'
----
2
";

/// No record of this script holds.
const WRONG: &str = "\
query T
SELECT 1
----
2

query T
SELECT 1
----
1
1

query T
SELECT '' WHERE false
----
(empty)

statement count 1
SELECT 1 WHERE false

statement error
SELECT 1

statement error (42P01)
SELECT 1 / 0

statement error ^42P01: never mind
SELECT * FROM nope

statement ok
SELECT * FROM nope

query T
-- columns
SELECT 1 AS a
----
b
";

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_passes() {
    assert_eq!(run_slt_text("right", RIGHT).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_hold_is_found() {
    let failures = run_slt_text("wrong", WRONG).await;
    let places: Vec<&str> =
        failures.iter().filter_map(|failure| failure.trim().lines().last()).collect();
    let lines = [1, 6, 12, 17, 20, 23, 26, 29, 32];
    let expected: Vec<String> = lines.iter().map(|line| format!("at wrong:{line}")).collect();
    assert_eq!(places, expected, "{failures:#?}");
}
