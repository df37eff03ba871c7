//! Statements that are cancelled or run out of time, servers that are full, stopped or not alone.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use server::ConfigFile;
use tempfile::TempDir;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::support::{open, process, refusal, value};
use crate::wire::{
    CANCEL, Message, Values, Wire, bind, code, column, error, execute, kinds, message, packet,
    parse, query, rows, sync, tags,
};

/// A large row, which the server sends at once, and then no more for hours.
const ENDLESS: &str = "SELECT repeat('x', 100000) UNION ALL \
                       SELECT count(*)::text FROM generate_series(1, 1000000) AS a(i) \
                       CROSS JOIN generate_series(1, 1000000) AS b(i) WHERE a.i * b.i = 7";
/// The same, from operators that give way more often than a join without a key.
const STEADY: &str = "SELECT repeat('x', 100000) UNION ALL \
                      SELECT count(*)::text FROM generate_series(1, 1000000000000) AS a(i) \
                      WHERE a.i % 7 = 9";
/// Rows without an end.
const FLOOD: &str = "SELECT i, repeat('x', 1000) FROM generate_series(1, 1000000000) AS g(i)";
/// Longest time from a request to cancel to the end of the statement.
const CANCEL_TIME_MAX: Duration = Duration::from_secs(2);

/// Sends a request to cancel and waits until the server has dealt with it.
async fn cancel(address: SocketAddr, key: &[u8]) {
    let mut wire = Wire::open(address).await;
    wire.send(&packet(CANCEL, key)).await;
    assert!(wire.rest().await.is_empty(), "a request to cancel has no answer");
}

/// Cancels a statement whose first row has come; the rest of its answer.
async fn cancel_running(address: SocketAddr, wire: &mut Wire) -> Vec<Message> {
    wire.until('D').await;
    let begin = Instant::now();
    cancel(address, &wire.key).await;
    let answer = wire.until('Z').await;
    assert!(begin.elapsed() < CANCEL_TIME_MAX, "cancelling took {:?}", begin.elapsed());
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drivers_request_cancels_a_statement_and_the_session_serves_on() {
    let server = process().await;
    let client = server.connect().await;
    let answers = client.simple_query_raw(ENDLESS).await.expect("a statement that runs");
    let mut answers = pin!(answers);
    while let Some(answer) = answers.next().await {
        if matches!(answer.expect("a row"), SimpleQueryMessage::Row(_)) {
            break;
        }
    }
    let begin = Instant::now();
    client.cancel_token().cancel_query(NoTls).await.expect("a request to cancel");
    let mut failure = None;
    while let Some(answer) = answers.next().await {
        failure = answer.err().or(failure);
    }
    assert!(begin.elapsed() < CANCEL_TIME_MAX, "cancelling took {:?}", begin.elapsed());
    let failure = failure.expect("the statement fails");
    assert_eq!(failure.code().expect("an SQLSTATE").code(), "57014");
    assert_eq!(value(&client, "SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_of_both_protocols_are_cancelled() {
    let server = process().await;
    let address = server.address();
    let mut wire = Wire::log_in(address).await;
    let prepared =
        [parse("", FLOOD, &[]), bind("", "", &Values::default()), execute("", 0), sync()];
    for messages in [query(FLOOD), prepared.concat(), query(ENDLESS)] {
        wire.send(&messages).await;
        let answer = cancel_running(address, &mut wire).await;
        assert_eq!(code(&answer), "57014");
        assert_eq!(column(&wire.run("SELECT 1").await), ["1"]);
    }
    // Neither a late request nor a wrong key reaches another statement.
    cancel(address, &wire.key).await;
    assert_eq!(column(&wire.run("SELECT 2").await), ["2"]);
    let mut wrong = wire.key.clone();
    wrong[7] ^= 1;
    wire.send(&query("SELECT count(*) FROM generate_series(1, 2000000) AS g(i)")).await;
    cancel(address, &wrong).await;
    assert_eq!(column(&wire.until('Z').await), ["2000000"]);
}

/// A cancelled statement ends inside, too: its thread is free for others.
#[tokio::test(flavor = "multi_thread")]
async fn cancelled_statements_leave_nothing_running() {
    let server = process().await;
    let address = server.address();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for _ in 0..=2 * threads {
        let mut wire = Wire::log_in(address).await;
        wire.send(&query(STEADY)).await;
        assert_eq!(code(&cancel_running(address, &mut wire).await), "57014");
        assert_eq!(column(&wire.run("SELECT 1").await), ["1"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_runs_out_of_time_ends() {
    let server = process().await;
    let mut wire = Wire::log_in(server.address()).await;
    wire.run("CREATE TABLE numbers (id bigint PRIMARY KEY)").await;
    let endless_write = "INSERT INTO numbers SELECT a.i * b.i FROM generate_series(1, 1000000) \
                         AS a(i) CROSS JOIN generate_series(1, 1000000) AS b(i)";
    for sql in [FLOOD, ENDLESS, endless_write] {
        wire.run("SET statement_timeout = 300").await;
        let begin = Instant::now();
        let answer = wire.query(sql).await;
        assert_eq!(code(&answer), "57014", "{sql}");
        assert!(error(&answer)[&'M'].contains("timeout"), "{:?}", error(&answer));
        assert!(begin.elapsed() < Duration::from_millis(300) + CANCEL_TIME_MAX, "{sql}");
        // What is left of the statement may still be on the processors.
        wire.run("SET statement_timeout = 0").await;
        assert_eq!(column(&wire.run("SELECT count(*) FROM numbers").await), ["0"]);
    }
    let slow = "SELECT count(*) FROM generate_series(1, 3000000) AS g(i)";
    assert_eq!(column(&wire.run(slow).await), ["3000000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_too_many_is_refused_until_another_ends() {
    let data = TempDir::new().expect("a directory");
    let config = ConfigFile { connections_max: Some(2), ..ConfigFile::default() };
    let running = open(data.path(), config).await;
    let address = running.address();
    let mut first = Wire::log_in(address).await;
    let mut second = Wire::log_in(address).await;
    let refused = Wire::open(address).await.begin().await.expect_err("a third session");
    let fields = refused.fields();
    assert_eq!((fields[&'S'].as_str(), fields[&'C'].as_str()), ("FATAL", "53300"));
    assert!(fields.contains_key(&'H'), "{fields:?}");
    // A request to cancel is no session.
    first.send(&query(FLOOD)).await;
    assert_eq!(code(&cancel_running(address, &mut first).await), "57014");
    second.send(&message(b'X', b"")).await;
    assert!(second.rest().await.is_empty(), "no answer to a goodbye");
    // The server may take a moment to count the session off.
    let mut tries = 0;
    let mut third = loop {
        match Wire::open(address).await.begin().await {
            Ok(third) => break third,
            Err(refused) => assert_eq!(refused.fields()[&'C'], "53300"),
        }
        tries += 1;
        assert!(tries < 10_000, "a place is free");
    };
    assert_eq!(column(&third.run("SELECT 1").await), ["1"]);
    assert_eq!(column(&first.run("SELECT 1").await), ["1"]);
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_to_stop_lets_statements_end_and_leaves_nothing_to_replay() {
    const ROWS: usize = 16_000;
    let mut server = process().await;
    let address = server.address();
    let mut idle = Wire::log_in(address).await;
    for sql in [
        "CREATE TABLE items (id bigint PRIMARY KEY, v vector(2))",
        "INSERT INTO items SELECT i, '[1,2]' FROM generate_series(1, 1000) AS g(i)",
        "CREATE INDEX ON items USING hnsw (v vector_l2_ops)",
        "DELETE FROM items WHERE id % 10 = 0",
    ] {
        idle.run(sql).await;
    }
    // More than the system keeps for a client that does not read: the statement has to wait.
    let mut reader = Wire::open_narrow(address).await.begin().await.expect("a session");
    let sql = format!("SELECT i, repeat('x', 1000) FROM generate_series(1, {ROWS}) AS g(i)");
    reader.send(&query(&sql)).await;
    let mut answer = reader.until('D').await;
    let end = async {
        assert_eq!(code(&idle.rest().await), "57P01");
        answer.extend(reader.rest().await);
        answer
    };
    let (status, answer) = tokio::join!(server.terminate(), end);
    assert_eq!(tags(&answer), [format!("SELECT {ROWS}")]);
    assert_eq!(rows(&answer).len(), ROWS);
    assert!(kinds(&answer).ends_with("DCZE"), "the statement ends before the session");
    assert_eq!(code(&answer), "57P01");
    assert_eq!(status.code(), Some(0));

    let running = open(server.data(), ConfigFile::default()).await;
    assert!(running.report().checkpoint.is_some(), "the last act was a checkpoint");
    assert_eq!(running.report().log.entries, 0, "nothing is replayed");
    let mut wire = Wire::log_in(running.address()).await;
    assert_eq!(column(&wire.run("SELECT count(*) FROM items").await), ["900"]);
    running.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_directory_is_refused() {
    let server = process().await;
    let mut wire = Wire::log_in(server.address()).await;
    wire.run("CREATE TABLE items (id bigint PRIMARY KEY)").await;
    let (status, text) = refusal(server.data()).await;
    assert!(status.is_some_and(|status| status != 0), "{status:?}");
    assert!(text.contains("in use"), "{text}");
    assert!(text.contains(&*server.data().to_string_lossy()), "{text}");
    wire.run("INSERT INTO items VALUES (1)").await;
    assert_eq!(column(&wire.run("SELECT id FROM items").await), ["1"]);
}

/// Nobody waits for a join that compares every row with every other, and it can be cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn a_join_without_a_key_lets_others_in() {
    let server = process().await;
    let other = server.connect().await;
    let join = "SELECT count(*) FROM generate_series(1, 20000) AS a(i) \
                CROSS JOIN generate_series(1, 100000) AS b(i) WHERE a.i + b.i = 7";
    // More than there are threads.
    let mut running = Vec::new();
    for _ in 0..6 {
        let client = server.connect().await;
        let token = client.cancel_token();
        running.push((token, tokio::spawn(async move { client.simple_query(join).await })));
    }
    // tidy: sleep allowed because nothing tells that a join is under way
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begin = Instant::now();
    assert_eq!(value(&other, "SELECT 1").await, "1");
    assert!(begin.elapsed() < CANCEL_TIME_MAX, "the other waited {:?}", begin.elapsed());
    let begin = Instant::now();
    for (token, joined) in running {
        token.cancel_query(NoTls).await.expect("a request to cancel");
        let error = joined.await.expect("no panic").expect_err("the statement was cancelled");
        assert_eq!(error.code().map(|code| code.code()), Some("57014"));
    }
    assert!(begin.elapsed() < CANCEL_TIME_MAX, "cancelling took {:?}", begin.elapsed());
}
