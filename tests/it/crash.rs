//! kill -9 in the middle of concurrent writes, again and again on one data directory.
//!
//! Each writer keeps a ledger: what was acknowledged to it, and the one statement that was in flight
//! when its connection broke. After a restart every acknowledged row is there with its value (or it
//! is lost), no other row is there (or it is a phantom), and a statement in flight has happened as a
//! whole or not at all. What a restart has shown counts as acknowledged from then on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tests::ProcessServer;
use tokio::sync::Semaphore;
use tokio_postgres::{Client, SimpleQueryMessage};
use types::SplitMix64;

use crate::support::{column, figure, process, rows, value};

const SEED: u64 = 20_261_122;
/// Kills on every change; `AZIMUTH_KILLS` asks for another number.
const CYCLES: u32 = 30;
const WRITERS: i64 = 4;
/// Enough for the index's graph to be worth walking.
const ROWS_AT_START: i64 = 3_000;
const DIM: usize = 8;
/// Searches after each restart.
const SEARCHES: usize = 20;
/// Statements are acknowledged faster than this, or the server hangs.
const ACKS_TIME_MAX: Duration = Duration::from_secs(60);

/// Versions of rows by id; `None` for a row that is deleted.
type Versions = BTreeMap<i64, Option<i64>>;

/// Rows that are there: version by id.
type Observed = BTreeMap<i64, i64>;

#[expect(clippy::disallowed_methods, reason = "the environment asks for the size of a run")]
fn cycles() -> u32 {
    let asked = std::env::var("AZIMUTH_KILLS").ok();
    asked.map_or(CYCLES, |kills| kills.parse().expect("a number of kills"))
}

/// The text of a version of a row.
fn note(id: i64, version: i64) -> String {
    format!("row {id} version {version}")
}

/// The vector of a version of a row; no other version has the same.
fn vector(id: i64, version: i64) -> String {
    let seed = id.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ version.cast_unsigned();
    let mut rng = SplitMix64::new(seed);
    let numbers: Vec<String> =
        (0..DIM).map(|_| (rng.below(2_001).cast_signed() - 1_000).to_string()).collect();
    format!("[{}]", numbers.join(","))
}

fn values(id: i64, version: i64) -> String {
    format!("({id}, {version}, '{}', '{}')", note(id, version), vector(id, version))
}

/// What one writer knows.
#[derive(Debug, Default)]
struct Ledger {
    settled: Versions,
    /// What the statement in flight makes of its rows.
    in_flight: Versions,
    /// Versions that no search may find any more.
    outdated: Vec<(i64, i64)>,
    next_id: i64,
    version: i64,
    acknowledged: u64,
}

impl Ledger {
    /// A statement on rows of this writer: of ten, six insert, three update and one deletes.
    fn next_statement(&mut self, rng: &mut SplitMix64) -> String {
        self.version += 1;
        let version = self.version;
        let living = self.settled.iter().filter_map(|(id, now)| now.map(|_| *id));
        let living: Vec<i64> = living.collect();
        let at = rng.below(u64::try_from(living.len()).expect("a count"));
        let target = living.get(usize::try_from(at).expect("a position")).copied();
        match (rng.below(10), target) {
            (0..=2, Some(id)) => {
                self.in_flight = Versions::from([(id, Some(version))]);
                let (note, vector) = (note(id, version), vector(id, version));
                format!(
                    "UPDATE items SET version = {version}, note = '{note}', v = '{vector}' \
                     WHERE id = {id}"
                )
            }
            (3, Some(id)) => {
                self.in_flight = Versions::from([(id, None)]);
                format!("DELETE FROM items WHERE id = {id}")
            }
            _ => {
                let count = rng.below(4).cast_signed() + 1;
                let ids = self.next_id..self.next_id + count;
                self.next_id += count;
                self.in_flight = ids.clone().map(|id| (id, Some(version))).collect();
                let rows: Vec<String> = ids.map(|id| values(id, version)).collect();
                format!("INSERT INTO items VALUES {}", rows.join(", "))
            }
        }
    }

    /// The statement in flight has happened.
    fn acknowledge(&mut self) {
        for (id, version) in std::mem::take(&mut self.in_flight) {
            if let Some(Some(old)) = self.settled.insert(id, version) {
                self.outdated.push((id, old));
            }
        }
    }

    /// Finds out whether the statement in flight has happened.
    fn settle(&mut self, observed: &Observed) {
        let now = |id: &i64| observed.get(id).copied();
        let before = |id: &i64| self.settled.get(id).copied().flatten();
        let done = self.in_flight.iter().all(|(id, version)| now(id) == *version);
        let undone = self.in_flight.keys().all(|id| now(id) == before(id));
        assert!(done || undone, "a statement has happened in part: {:?}", self.in_flight);
        if done {
            self.acknowledge();
        } else {
            self.in_flight.clear();
        }
    }
}

/// Writes until the connection breaks.
async fn write(client: Client, mut ledger: Ledger, seed: u64, acks: Arc<Semaphore>) -> Ledger {
    let mut rng = SplitMix64::new(seed);
    loop {
        let statement = ledger.next_statement(&mut rng);
        let affected = match client.simple_query(&statement).await {
            Ok(messages) => messages.iter().find_map(|message| {
                let SimpleQueryMessage::CommandComplete(rows) = message else { return None };
                Some(*rows)
            }),
            Err(error) => {
                assert!(error.as_db_error().is_none(), "{statement:.100}: {error:?}");
                return ledger;
            }
        };
        let expected = u64::try_from(ledger.in_flight.len()).expect("a count");
        assert_eq!(affected, Some(expected), "{statement:.100}");
        ledger.acknowledge();
        ledger.acknowledged += 1;
        acks.add_permits(1);
    }
}

/// Waits for more statements to be acknowledged.
async fn wait(acks: &Semaphore, more: u32) {
    let arrived = tokio::time::timeout(ACKS_TIME_MAX, acks.acquire_many(more)).await;
    arrived.expect("writers get on").expect("an open semaphore").forget();
}

/// Lets all writers write, and kills the server after some statements of theirs.
async fn write_and_kill(
    server: &mut ProcessServer,
    ledgers: Vec<Ledger>,
    rng: &mut SplitMix64,
) -> Vec<Ledger> {
    let acks = Arc::new(Semaphore::new(0));
    let mut writers = Vec::new();
    for ledger in ledgers {
        let client = server.connect().await;
        writers.push(tokio::spawn(write(client, ledger, rng.next_u64(), Arc::clone(&acks))));
    }
    let mut some = |most: u64| u32::try_from(rng.below(most)).expect("a small number");
    let (before, after, checkpoint) = (10 + some(70), 1 + some(70), some(3) == 0);
    wait(&acks, before).await;
    if checkpoint {
        let client = server.connect().await;
        tokio::spawn(async move {
            // The kill may come first.
            let _ = client.simple_query("CHECKPOINT").await;
        });
    }
    wait(&acks, after).await;
    server.kill9().await;
    let mut ledgers = Vec::new();
    for writer in writers {
        ledgers.push(writer.await.expect("a writer ends with its connection"));
    }
    ledgers
}

/// All rows; each has to be whole.
async fn observe(client: &Client) -> Observed {
    let mut observed = Observed::new();
    for row in rows(client, "SELECT id, version, note, v FROM items").await {
        let [Some(id), Some(version), Some(text), Some(v)] = row.as_slice() else {
            panic!("a row with holes: {row:?}");
        };
        let id: i64 = id.parse().expect("a number");
        let version: i64 = version.parse().expect("a number");
        assert_eq!((text, v), (&note(id, version), &vector(id, version)), "row {id} is not whole");
        assert_eq!(observed.insert(id, version), None, "row {id} is there twice");
    }
    observed
}

/// Rows lost and phantom rows.
fn compare(ledgers: &[Ledger], observed: &Observed) -> (Observed, Observed) {
    let settled = ledgers.iter().flat_map(|ledger| &ledger.settled);
    let expected: Observed = settled.filter_map(|(id, v)| v.map(|v| (*id, v))).collect();
    let without = |all: &Observed, others: &Observed| -> Observed {
        let missing = all.iter().filter(|(id, version)| others.get(*id) != Some(*version));
        missing.map(|(id, version)| (*id, *version)).collect()
    };
    (without(&expected, observed), without(observed, &expected))
}

fn nearest(what: &str, (id, version): (i64, i64)) -> String {
    let query = vector(id, version);
    format!("SELECT {what} FROM items ORDER BY v <-> '{query}' LIMIT 1").replace("$v", &query)
}

/// Looks rows up by their own vectors, through the index and without it; how many the index missed.
async fn search(
    client: &Client,
    observed: &Observed,
    ledgers: &[Ledger],
    rng: &mut SplitMix64,
) -> usize {
    let all: Vec<(i64, i64)> = observed.iter().map(|(id, version)| (*id, *version)).collect();
    let mut pick = |from: &[(i64, i64)]| {
        let at = rng.below(u64::try_from(from.len()).expect("a count"));
        from[usize::try_from(at).expect("a position")]
    };
    let picked: Vec<(i64, i64)> = (0..SEARCHES).map(|_| pick(&all)).collect();
    let outdated: Vec<(i64, i64)> = ledgers
        .iter()
        .filter(|ledger| !ledger.outdated.is_empty())
        .map(|ledger| pick(&ledger.outdated))
        .collect();
    client.batch_execute("SET hnsw.ef_search = 40").await.expect("a setting");
    let mut missed = 0;
    for row in &picked {
        let found = value(client, &nearest("id", *row)).await;
        missed += usize::from(found != row.0.to_string());
    }
    for row in outdated {
        let distance = value(client, &nearest("v <-> '$v'", row)).await;
        let distance: f64 = distance.parse().expect("a number");
        assert!(distance > 0.0, "the index finds version {} of row {}", row.1, row.0);
    }
    client.batch_execute("SET enable_ann = off").await.expect("a setting");
    for row in picked {
        assert_eq!(value(client, &nearest("id", row)).await, row.0.to_string(), "without index");
    }
    client.batch_execute("SET enable_ann = on").await.expect("a setting");
    missed
}

async fn set_up(server: &ProcessServer) -> Vec<Ledger> {
    let client = server.connect().await;
    let create = "CREATE TABLE items (id bigint PRIMARY KEY, version bigint NOT NULL, \
                  note text NOT NULL, v vector(8) NOT NULL)";
    client.batch_execute(create).await.expect("a table");
    let rows: Vec<String> = (0..ROWS_AT_START).map(|id| values(id, 0)).collect();
    let insert = format!("INSERT INTO items VALUES {}", rows.join(", "));
    client.batch_execute(&insert).await.expect("the first rows");
    let index = "CREATE INDEX ON items USING hnsw (v vector_l2_ops)";
    client.batch_execute(index).await.expect("an index");
    let ledger = |writer: i64| {
        let mine = (0..ROWS_AT_START).filter(|id| id % WRITERS == writer);
        Ledger {
            settled: mine.map(|id| (id, Some(0))).collect(),
            next_id: (writer + 1) * 1_000_000_000,
            ..Ledger::default()
        }
    };
    (0..WRITERS).map(ledger).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_else_appears() {
    println!("seed {SEED}");
    let mut rng = SplitMix64::new(SEED);
    let mut server = process().await;
    let mut ledgers = set_up(&server).await;
    let (mut lost, mut phantom, mut missed) = (0, 0, 0);
    let cycles = cycles();
    for cycle in 1..=cycles {
        ledgers = write_and_kill(&mut server, ledgers, &mut rng).await;
        server.restart().await;
        let client = server.connect().await;
        let observed = observe(&client).await;
        ledgers.iter_mut().for_each(|ledger| ledger.settle(&observed));
        let (lost_now, phantom_now) = compare(&ledgers, &observed);
        if !lost_now.is_empty() || !phantom_now.is_empty() {
            println!("cycle {cycle}: lost {lost_now:?}, phantom {phantom_now:?}");
        }
        lost += lost_now.len();
        phantom += phantom_now.len();
        missed += search(&client, &observed, &ledgers, &mut rng).await;
    }
    let client = server.connect().await;
    client.batch_execute("SET hnsw.ef_search = 40").await.expect("a setting");
    let plan = column(&client, &format!("EXPLAIN ANALYZE {}", nearest("id", (0, 0)))).await;
    let acknowledged: u64 = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
    let searches = SEARCHES * usize::try_from(cycles).expect("a count");
    println!(
        "{cycles} cycles, {acknowledged} statements acknowledged, {lost} rows lost, \
         {phantom} phantom rows, {missed} of {searches} rows missed by the index"
    );
    assert_eq!((lost, phantom), (0, 0));
    let operator = plan.iter().find(|line| line.contains("VectorTopK")).expect("the operator");
    assert!(operator.contains("strategy=graph"), "{operator}");
    assert!(figure(operator, "points_visited") > 0, "{operator}");
    // The graph is approximate; a row's own vector is as easy to find as it gets.
    assert!(missed * 100 <= searches, "the index misses rows");
}
