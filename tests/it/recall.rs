//! Declared recall: the server learns from the searches it does, keeps to what was declared, and knows
//! it again after a restart.

use std::time::{Duration, Instant};

use server::ConfigFile;
use tempfile::TempDir;
use tokio_postgres::Client;
use types::SplitMix64;

use crate::support::{column, open, rows, value};

const DIM: usize = 16;
const ROWS: usize = 6_000;
const QUERIES: usize = 150;
/// Samples after which an estimate is good enough to be held to.
const SAMPLES: u64 = 200;
/// Learning them takes seconds.
const LEARNING_TIME_MAX: Duration = Duration::from_secs(240);

/// Numbers in which neighbours are hard to tell: a walk with few candidates misses some.
fn vector(rng: &mut SplitMix64) -> String {
    let numbers: Vec<String> = (0..DIM).map(|_| format!("{:.4}", rng.unit() - 0.5)).collect();
    format!("[{}]", numbers.join(","))
}

fn search(query: &str, filter: &str) -> String {
    format!("SELECT id FROM t {filter} ORDER BY v <-> '{query}' LIMIT 10")
}

/// Mean share of the exact answers that the searches find.
async fn recall(client: &Client, queries: &[String], filter: &str) -> f64 {
    let mut hits = 0;
    for query in queries {
        let found = column(client, &search(query, filter)).await;
        client.batch_execute("SET enable_ann = off").await.unwrap();
        let truth = column(client, &search(query, filter)).await;
        client.batch_execute("SET enable_ann = on").await.unwrap();
        assert_eq!((found.len(), truth.len()), (10, 10));
        hits += found.iter().filter(|id| truth.contains(id)).count();
    }
    hits as f64 / (10 * queries.len()) as f64
}

async fn samples(client: &Client) -> u64 {
    let sum = "SELECT coalesce(sum(recall_samples), 0) FROM azimuth.tuner";
    value(client, sum).await.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_recall_is_learned_kept_and_known_after_a_restart() {
    let data = TempDir::new().unwrap();
    let server = open(data.path(), ConfigFile::default()).await;
    let client = tests::connect(server.address()).await.unwrap();
    let mut rng = SplitMix64::new(11);
    client
        .batch_execute(&format!("CREATE TABLE t (id int PRIMARY KEY, v vector({DIM}))"))
        .await
        .unwrap();
    for from in (0..ROWS).step_by(1_000) {
        let values: Vec<String> =
            (from..from + 1_000).map(|id| format!("({id}, '{}')", vector(&mut rng))).collect();
        client.batch_execute(&format!("INSERT INTO t VALUES {}", values.join(","))).await.unwrap();
    }
    let index =
        "CREATE INDEX t_v ON t USING hnsw (v vector_l2_ops) WITH (m = 6, ef_construction = 30)";
    client.batch_execute(index).await.unwrap();
    // Comparing all rows would be cheaper here, and would need no recall.
    client.batch_execute("SET hnsw.strategy = graph").await.unwrap();
    let began = Instant::now();
    while samples(&client).await < SAMPLES {
        assert!(began.elapsed() < LEARNING_TIME_MAX, "the server does not learn");
        let query = vector(&mut rng);
        column(&client, &search(&query, "")).await;
    }
    let queries: Vec<String> = (0..QUERIES).map(|_| vector(&mut rng)).collect();
    let mut recalls = Vec::new();
    for target in [0.8, 0.9, 0.99] {
        client.batch_execute(&format!("SET hnsw.recall_target = {target}")).await.unwrap();
        let recall = recall(&client, &queries, "").await;
        // Twice the standard error of 150 queries, and as much for the estimate.
        assert!(recall > target - 0.05 && recall < target + 0.08, "{recall} for {target}");
        recalls.push(recall);
    }
    assert!(recalls.is_sorted(), "{recalls:?}");
    client.batch_execute("RESET hnsw.recall_target").await.unwrap();
    let log =
        "SELECT reason, ef_per_row >= 1, recall >= 0.95 FROM azimuth.tuner_log ORDER BY at LIMIT 1";
    let learned = ["learned from samples", "t", "t"].map(|text| Some(text.to_owned()));
    assert_eq!(rows(&client, log).await, vec![learned.to_vec()]);
    let known = "SELECT recall_samples, ef_per_row FROM azimuth.indexes";
    let before = rows(&client, known).await;
    drop(client);
    server.stop().await.unwrap();

    let server = open(data.path(), ConfigFile::default()).await;
    let client = tests::connect(server.address()).await.unwrap();
    let after = rows(&client, known).await;
    // Samples that were under way may have moved it since.
    let ratio = |rows: &[Vec<Option<String>>]| rows[0][1].clone().unwrap().parse::<f64>().unwrap();
    let moved = ratio(&after) / ratio(&before);
    assert!((0.7..1.4).contains(&moved), "{moved} times what was used before the restart");
    let count = |rows: &[Vec<Option<String>>]| rows[0][0].clone().unwrap().parse::<u64>().unwrap();
    assert!(count(&after) >= SAMPLES && count(&after) >= count(&before));
    assert_eq!(rows(&client, log).await, vec![learned.to_vec()]);
    drop(client);
    server.stop().await.unwrap();

    // What cannot be read is learned again.
    let file = data.path().join("tuner");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let server = open(data.path(), ConfigFile::default()).await;
    let client = tests::connect(server.address()).await.unwrap();
    assert_eq!(samples(&client).await, 0);
    assert_eq!(value(&client, "SELECT count(*) FROM t").await, ROWS.to_string());
    drop(client);
    server.stop().await.unwrap();
}
