//! What a server finds when it starts again: checkpoint, log and index; and what it refuses.

use std::path::{Path, PathBuf};

use server::ConfigFile;
use tests::ProcessServer;
use types::SplitMix64;

use crate::support::{column, figure, open, process, refusal, value};
use crate::wire::{self, Wire};

const SEED: u64 = 20_261_124;
/// Enough for the index's graph to be worth walking.
const ROWS: u64 = 5_000;
/// Bits that are flipped, one start each.
const FLIPS: usize = 40;
/// Bytes that a disk writes whole; log frames begin at multiples of it.
const SECTOR: usize = 512;

/// The vector of a row; no other row has the same.
fn vector(id: u64) -> String {
    let mut rng = SplitMix64::new(SEED ^ id);
    let numbers: Vec<String> = (0..8).map(|_| rng.below(1_000).to_string()).collect();
    format!("[{}]", numbers.join(","))
}

fn insert(ids: std::ops::Range<u64>) -> String {
    let rows: Vec<String> = ids.map(|id| format!("({id}, '{}')", vector(id))).collect();
    format!("INSERT INTO items VALUES {}", rows.join(", "))
}

const CREATE: &str = "CREATE TABLE items (id bigint PRIMARY KEY, v vector(8))";

fn nearest(id: u64) -> String {
    format!("SELECT id FROM items ORDER BY v <-> '{}' LIMIT 1", vector(id))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_answers_at_once_after_a_kill() {
    let mut server = process().await;
    let client = server.connect().await;
    let index = "CREATE INDEX ON items USING hnsw (v vector_l2_ops)";
    for sql in [CREATE, &insert(0..ROWS), index, "CHECKPOINT"] {
        client.batch_execute(sql).await.expect("a statement that is right");
    }
    for sql in [
        insert(ROWS..ROWS + 50),
        format!("UPDATE items SET v = '{}' WHERE id = 1", vector(ROWS + 1_000)),
        "DELETE FROM items WHERE id = 2".to_owned(),
    ] {
        client.batch_execute(&sql).await.expect("a statement that is right");
    }
    server.kill9().await;
    server.restart().await;

    let client = server.connect().await;
    client.batch_execute("SET hnsw.ef_search = 40").await.expect("a setting");
    let plan = column(&client, &format!("EXPLAIN ANALYZE {}", nearest(7))).await;
    let operator = plan.iter().find(|line| line.contains("VectorTopK")).expect("the operator");
    assert!(operator.contains("index=items_v_idx"), "{operator}");
    assert!(operator.contains("strategy=graph"), "{operator}");
    assert_eq!(figure(operator, "rows_qualifying"), ROWS + 50 - 1, "{operator}");
    assert!(figure(operator, "points_visited") > 0, "{operator}");
    let few = figure(operator, "distances_computed") < ROWS / 2;
    assert!(few, "the graph came from the checkpoint, not from the rows: {operator}");
    for (row, expected) in [(7, "7"), (ROWS + 49, "5049"), (ROWS + 1_000, "1")] {
        assert_eq!(value(&client, &nearest(row)).await, expected);
    }
    for gone in [1, 2] {
        assert_ne!(value(&client, &nearest(gone)).await, gone.to_string());
    }
    let count = value(&client, "SELECT count(*) FROM items").await;
    assert_eq!(count, (ROWS + 50 - 1).to_string());
}

/// The files in a directory with the given ending, in the order of their names.
fn files(directory: &Path, matches: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| name(path).is_some_and(|name| matches(&name))).collect();
    paths.sort();
    paths
}

/// Positions of the sectors of a file that are not blank.
fn written_sectors(bytes: &[u8]) -> Vec<usize> {
    let sectors = bytes.chunks(SECTOR).enumerate();
    sectors.filter(|(_, sector)| sector.iter().any(|byte| *byte != 0)).map(|(at, _)| at).collect()
}

/// Flips one bit of a file, sees the server refuse to start, and puts the bit back.
async fn refuse_flipped(server: &ProcessServer, path: &Path, byte: usize, bit: u64) {
    let whole = std::fs::read(path).expect("a file");
    let mut damaged = whole.clone();
    damaged[byte] ^= 1 << bit;
    std::fs::write(path, &damaged).expect("a file");
    let (status, text) = refusal(server.data()).await;
    let what = format!("bit {bit} of byte {byte} of {}: {text}", path.display());
    assert!(status.is_some_and(|status| status != 0), "{what}");
    assert!(text.contains(&*path.file_name().expect("a name").to_string_lossy()), "{what}");
    assert!(text.contains("offset"), "{what}");
    assert_eq!(std::fs::read(path).expect("a file"), damaged, "nothing is changed: {what}");
    std::fs::write(path, &whole).expect("a file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_log_keeps_the_server_from_starting() {
    println!("seed {SEED}");
    let mut rng = SplitMix64::new(SEED);
    let mut server = process().await;
    let client = server.connect().await;
    for sql in [CREATE, &insert(0..20), "DELETE FROM items WHERE id = 3", &insert(20..300)] {
        client.batch_execute(sql).await.expect("a statement that is right");
    }
    client.batch_execute(&insert(300..301)).await.expect("the last row");
    server.kill9().await;

    let logs = files(&server.data().join("log"), |name| name.ends_with(".log"));
    let last = logs.last().expect("a log file").clone();
    let sectors = written_sectors(&std::fs::read(&last).expect("a file"));
    let [.., end] = sectors.as_slice() else { panic!("an empty log") };
    assert!(sectors.len() > 3, "header and frames");
    for byte in [0, 1, 8, 20, SECTOR - 5, SECTOR - 4, SECTOR - 1] {
        refuse_flipped(&server, &last, end * SECTOR + byte, rng.below(8)).await;
    }
    for _ in 0..FLIPS {
        let at = rng.below(u64::try_from(sectors.len()).expect("a count"));
        let sector = sectors[usize::try_from(at).expect("a position")];
        let byte = usize::try_from(rng.below(512)).expect("a position");
        refuse_flipped(&server, &last, sector * SECTOR + byte, rng.below(8)).await;
    }
    server.restart().await;
    let client = server.connect().await;
    assert_eq!(value(&client, "SELECT count(*) FROM items").await, "300");
    assert_eq!(value(&client, "SELECT id FROM items WHERE id = 300").await, "300");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_is_made_up_for_by_the_one_before_and_the_log() {
    let mut server = process().await;
    let client = server.connect().await;
    for sql in [CREATE, &insert(0..100), "CHECKPOINT", &insert(100..200), "CHECKPOINT"] {
        client.batch_execute(sql).await.expect("a statement that is right");
    }
    client.batch_execute(&insert(200..201)).await.expect("the last row");
    server.kill9().await;
    let manifests = files(server.data(), |name| name.starts_with("manifest-"));
    assert_eq!(manifests.len(), 2, "{manifests:?}");
    let newest = manifests.last().expect("a manifest");
    let mut bytes = std::fs::read(newest).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(newest, &bytes).expect("a file");

    let running = open(server.data(), ConfigFile::default()).await;
    let damaged: Vec<&PathBuf> = running.report().damaged.iter().map(|(path, _)| path).collect();
    assert_eq!(damaged, [newest]);
    let mut wire = Wire::log_in(running.address()).await;
    let answer = wire.run("SELECT count(*), max(id) FROM items").await;
    let expected = ["201", "200"].map(|number| Some(number.to_owned()));
    assert_eq!(wire::rows(&answer), [expected]);
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_every_kind_are_found_again_after_a_kill() {
    const KINDS: &str = "CREATE TABLE kinds (id bigint PRIMARY KEY, h halfvec(8), b bit(8), \
                         s sparsevec(8))";
    let rows = |ids: std::ops::Range<u64>| {
        let row = |id: u64| {
            let dense = vector(id);
            let bits: String =
                dense.split(',').map(|n| if n.len() > 2 { '1' } else { '0' }).collect();
            format!("({id}, '{dense}', '{bits}', '{dense}'::vector)")
        };
        let rows: Vec<String> = ids.map(row).collect();
        format!("INSERT INTO kinds VALUES {}", rows.join(", "))
    };
    let mut server = process().await;
    let client = server.connect().await;
    for sql in [
        KINDS,
        &rows(0..1_000),
        "CREATE INDEX ON kinds USING hnsw (h halfvec_l2_ops)",
        "CREATE INDEX ON kinds USING hnsw (b bit_hamming_ops)",
        "CREATE INDEX ON kinds USING hnsw (s sparsevec_ip_ops)",
        "CHECKPOINT",
        &rows(1_000..1_100),
        "DELETE FROM kinds WHERE id % 100 = 7",
    ] {
        client.batch_execute(sql).await.expect("a statement that is right");
    }
    let numbers = vector(9_999);
    let searches = [
        format!("SELECT id FROM kinds ORDER BY h <-> '{numbers}', id LIMIT 10"),
        format!("SELECT id FROM kinds ORDER BY h <-> '{numbers}' LIMIT 1000"),
        "SELECT id FROM kinds ORDER BY b <~> '10110100', id LIMIT 10".to_owned(),
        "SELECT b <~> '10110100' FROM kinds ORDER BY b <~> '10110100' LIMIT 1000".to_owned(),
        "SELECT id FROM kinds ORDER BY s <#> '{2:1,5:3}/8', id LIMIT 10".to_owned(),
        "SELECT s <#> '{2:1,5:3}/8' FROM kinds ORDER BY s <#> '{2:1,5:3}/8' LIMIT 20".to_owned(),
        "SELECT h::text || b::text || s::text FROM kinds WHERE id IN (3, 1050) ORDER BY id"
            .to_owned(),
    ];
    let mut before = Vec::new();
    for search in &searches {
        before.push(column(&client, search).await);
    }
    server.kill9().await;
    server.restart().await;
    let client = server.connect().await;
    for (search, before) in searches.iter().zip(&before) {
        assert!(!before.is_empty());
        assert_eq!(&column(&client, search).await, before, "{search}");
    }
}

/// A transaction that makes or changes a table and writes to it is read from the log with the columns
/// it was written in; one that was refused stops nothing.
#[tokio::test(flavor = "multi_thread")]
async fn changed_tables_are_found_again_after_a_kill() {
    let mut server = process().await;
    let client = server.connect().await;
    for sql in [
        "BEGIN; CREATE TABLE made (id int PRIMARY KEY, a int, CONSTRAINT pos CHECK (a > 0)); \
         ALTER TABLE made DROP CONSTRAINT pos, ADD COLUMN b text DEFAULT 'b'; \
         INSERT INTO made VALUES (1, -5, DEFAULT), (2, 6, 'c'); COMMIT",
        "CREATE TABLE changed (id int PRIMARY KEY, gone text, n int)",
        "INSERT INTO changed SELECT i, 'x' || i, i FROM generate_series(1, 5000) g(i)",
        "CHECKPOINT",
        "ALTER TABLE changed DROP COLUMN gone, ALTER n TYPE bigint, ADD COLUMN late int DEFAULT 7",
        "UPDATE changed SET n = 5000000000 WHERE id = 4999",
    ] {
        client.batch_execute(sql).await.expect("a statement that is right");
    }
    let other = server.connect().await;
    let refused = "BEGIN; ALTER TABLE changed ADD COLUMN y int DEFAULT 7; \
                   INSERT INTO changed VALUES (9001, 5, 6, 8)";
    client.batch_execute(refused).await.expect("a statement that is right");
    other.batch_execute("ALTER TABLE changed ADD COLUMN y text").await.expect("a column");
    let error = client.batch_execute("COMMIT").await.expect_err("the other one came first");
    assert_eq!(error.code().map(|code| code.code()), Some("40001"));
    server.kill9().await;
    server.restart().await;

    let client = server.connect().await;
    let made = column(&client, "SELECT concat_ws(',', id, a, b) FROM made ORDER BY id").await;
    assert_eq!(made, ["1,-5,b", "2,6,c"]);
    let sums = "SELECT concat_ws(',', count(*), sum(n), sum(late), count(y)) FROM changed";
    let expected = 5_000 * 5_001 / 2 - 4_999 + 5_000_000_000_u64;
    assert_eq!(value(&client, sums).await, format!("5000,{expected},35000,0"));
}
