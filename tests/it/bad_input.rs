//! Statements that are wrong, huge or deep on purpose: each gets a SQLSTATE, another session keeps
//! working, and what was there before is still there.
//!
//! A deep statement that breaks the server does not end its test: the server starts again, so that
//! one run names every statement of the kind.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tests::ProcessServer;
use tokio::time::timeout;
use types::limits::{MESSAGE_BYTES_MAX, STATEMENT_BYTES_MAX, STATEMENT_OPERATORS_MAX};

use crate::support::process;
use crate::wire::{
    Message, Values, Wire, bind, code, column, error, execute, kinds, message, parse, query, rows,
    sync,
};

/// Longest time for a statement that a limit refuses, or that is small although it looks odd.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(20);
/// Vectors of three dimensions.
const VECTOR: u32 = 16_385;

async fn set_up(server: &ProcessServer) -> Wire {
    let mut session = Wire::log_in(server.address()).await;
    for sql in [
        "CREATE TABLE kept (id bigint PRIMARY KEY, tag text NOT NULL, v vector(3))",
        "INSERT INTO kept SELECT i, 'row', '[1,2,3]' FROM generate_series(1, 100) AS g(i)",
    ] {
        session.run(sql).await;
    }
    session
}

/// Whether a new session reads what was there before.
async fn intact(address: SocketAddr) -> bool {
    // In a task of its own: it panics when nobody listens.
    let read = tokio::spawn(async move {
        let mut session = Wire::log_in(address).await;
        column(&session.run("SELECT sum(id) + count(*) FROM kept").await) == ["5150"]
    });
    matches!(timeout(STATEMENT_TIME_MAX, read).await, Ok(Ok(true)))
}

/// Statements, and the code (or its class) that each is refused with.
const WRONG: &[(&str, &str)] = &[
    ("INSERT INTO kept VALUES (101, 'x', '[1,2]')", "22000"),
    ("INSERT INTO kept VALUES (101, 'x', '[1,2,3]'), (102, 'x', '[1,2,3,4]')", "22000"),
    ("INSERT INTO kept VALUES (101, 'x', '[1,NaN,3]')", "22003"),
    ("INSERT INTO kept VALUES (101, 'x', '[1,Infinity,3]')", "22003"),
    ("INSERT INTO kept VALUES (101, 'x', '[1,-inf,3]')", "22003"),
    ("INSERT INTO kept VALUES (101, 'x', '[1,1e39,3]')", "22003"),
    ("INSERT INTO kept VALUES (101, 'x', '[1,2,3')", "22P02"),
    ("INSERT INTO kept VALUES (101, 'x', '[]')", "22"),
    ("INSERT INTO kept VALUES (101, 'x', '[a,b,c]')", "22P02"),
    ("INSERT INTO kept VALUES (1, 'again', NULL)", "23505"),
    ("INSERT INTO kept VALUES (101, 'x', NULL), (101, 'y', NULL)", "23505"),
    ("UPDATE kept SET id = 2 WHERE id = 1", "23505"),
    ("INSERT INTO kept VALUES (NULL, 'x', NULL)", "23502"),
    ("INSERT INTO kept VALUES (101, NULL, NULL)", "23502"),
    ("INSERT INTO kept VALUES ('abc', 'x', NULL)", "22P02"),
    ("INSERT INTO kept VALUES (99999999999999999999, 'x', NULL)", "22003"),
    ("INSERT INTO kept VALUES (101, 'x', NULL, 1)", "42601"),
    ("INSERT INTO kept (nope) VALUES (1)", "42703"),
    ("INSERT INTO nope VALUES (1)", "42P01"),
    ("UPDATE kept SET nope = 1", "42703"),
    ("UPDATE nope SET id = 1", "42P01"),
    ("DELETE FROM nope", "42P01"),
    ("DELETE FROM kept WHERE nope = 1", "42703"),
    ("SELECT nope FROM kept", "42703"),
    ("SELECT * FROM nope", "42P01"),
    ("SELECT * FROM nope.kept", "42P01"),
    ("SELECT nope(1)", "42883"),
    ("SELECT 1 / 0", "22012"),
    ("SELECT id FROM kept ORDER BY v <-> '[1,2]' LIMIT 1", "22000"),
    ("SELECT id FROM kept ORDER BY v <-> '[1,2,NaN]' LIMIT 1", "22003"),
    ("SELECT id FROM kept WHERE id = 'abc'", "22P02"),
    ("SELECT '[1,2]'::vector(3)", "22000"),
    ("CREATE TABLE kept (id bigint)", "42P07"),
    ("CREATE TABLE wide (v vector(16001))", "22023"),
    ("CREATE TABLE wide (v vector(0))", "22023"),
    ("CREATE TABLE twice (a int, a int)", "42701"),
    ("CREATE INDEX ON kept USING hnsw (tag vector_l2_ops)", "42804"),
    ("CREATE INDEX ON nope USING hnsw (v vector_l2_ops)", "42P01"),
    ("DROP TABLE nope", "42P01"),
    ("SET nope = 1", "42704"),
    ("SET hnsw.ef_search = 0", "22023"),
    ("SHOW nope", "42704"),
    ("SAVEPOINT s", "25P01"),
    ("BEGIN ISOLATION LEVEL SERIALIZABLE", "0A000"),
    ("SELECT $1", "08P01"),
    ("SELECT $0", "42P02"),
    ("SELECT 'abc", "42601"),
    ("SELEC 1", "42601"),
    ("SELECT 1 +", "42601"),
    ("COPY kept FROM '/etc/passwd'", "0A000"),
    ("COPY kept TO 'kept.txt'", "0A000"),
    ("COPY kept TO PROGRAM 'cat'", "0A000"),
    ("COPY nope TO STDOUT", "42P01"),
    ("COPY kept TO STDOUT (FORMAT binary, HEADER)", "42601"),
    ("SELECT * FROM '/etc/passwd'", "42"),
];

#[tokio::test(flavor = "multi_thread")]
async fn wrong_statements_are_refused_by_code() {
    let server = process().await;
    let mut session = set_up(&server).await;
    for (sql, expected) in WRONG {
        let answer = session.query(sql).await;
        let found = code(&answer);
        assert!(found.starts_with(*expected), "{sql}: {:?}, expected {expected}", error(&answer));
        assert!(intact(server.address()).await, "after {sql}");
    }
    assert_eq!(column(&session.run("SELECT sum(id) + count(*) FROM kept").await), ["5150"]);
}

/// What is wrong, the format, the three values, and the code (or its class).
type Case<'a> = (&'static str, i16, &'a [u8], &'a [u8], Vec<u8>, &'static str);

#[tokio::test(flavor = "multi_thread")]
async fn wrong_parameters_are_refused_by_code() {
    let server = process().await;
    let mut session = set_up(&server).await;
    let insert = parse("i", "INSERT INTO kept VALUES ($1, $2, $3)", &[20, 25, VECTOR]);
    assert_eq!(kinds(&session.ask(&[insert, sync()].concat()).await), "1Z");
    let binary = |numbers: &[f32]| {
        let dim = u16::try_from(numbers.len()).expect("a dimension").to_be_bytes();
        let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        [&dim[..], &[0, 0], &numbers].concat()
    };
    let right = binary(&[1.0, 2.0, 3.0]);
    let id = 101_i64.to_be_bytes();
    let cases: [Case<'_>; 13] = [
        ("two dimensions", 1, &id, b"x", binary(&[1.0, 2.0]), "22000"),
        ("NaN", 1, &id, b"x", binary(&[1.0, f32::NAN, 3.0]), "22"),
        ("infinity", 1, &id, b"x", binary(&[1.0, f32::INFINITY, 3.0]), "22"),
        ("a cut vector", 1, &id, b"x", right[..11].to_vec(), "22P03"),
        ("a long vector", 1, &id, b"x", [&right[..], &[0]].concat(), "22P03"),
        ("an empty vector", 1, &id, b"x", Vec::new(), "22P03"),
        ("a short number", 1, &id[..3], b"x", right.clone(), "22P03"),
        ("text that is not UTF-8", 1, &id, b"\xFF", right.clone(), "22"),
        ("NaN in text", 0, b"101", b"x", b"[1,NaN,3]".to_vec(), "22003"),
        ("a wrong dimension in text", 0, b"101", b"x", b"[1,2]".to_vec(), "22000"),
        ("no vector", 0, b"101", b"x", b"hello".to_vec(), "22P02"),
        ("no number", 0, b"one", b"x", b"[1,2,3]".to_vec(), "22P02"),
        ("a key that is there", 0, b"7", b"x", b"[1,2,3]".to_vec(), "23505"),
    ];
    for (what, format, id, tag, vector, expected) in cases {
        let given: &[Option<&[u8]>] = &[Some(id), Some(tag), Some(&vector[..])];
        let values = Values { formats: &[format], values: given, results: &[] };
        let answer = session.ask(&[bind("", "i", &values), execute("", 0), sync()].concat()).await;
        assert!(code(&answer).starts_with(expected), "{what}: {:?}", error(&answer));
        assert!(intact(server.address()).await, "after {what}");
    }
    let given: &[Option<&[u8]>] = &[Some(&id[..]), Some(&b"x"[..]), Some(&right[..])];
    let values = Values { formats: &[1], values: given, results: &[] };
    let answer = session.ask(&[bind("", "i", &values), execute("", 0), sync()].concat()).await;
    assert_eq!(kinds(&answer), "2CZ", "the statement still serves");
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_beyond_the_limit_are_refused_and_those_below_run() {
    let server = process().await;
    let mut session = set_up(&server).await;
    let ten_megabytes = "x".repeat(10_000_000);
    let too_long = [
        format!("SELECT length('{ten_megabytes}')"),
        format!("INSERT INTO kept VALUES (101, '{ten_megabytes}', NULL)"),
        format!("SELECT 1{}", " ".repeat(10_000_000)),
        format!("SELECT 1 /* {ten_megabytes} */"),
        format!("SELECT length('{}')", "x".repeat(60 << 20)),
    ];
    for sql in &too_long {
        let answer = session.query(sql).await;
        assert_eq!((code(&answer), kinds(&answer)), ("53400".to_owned(), "EZ".to_owned()));
        let answer = session.ask(&[parse("", sql, &[]), sync()].concat()).await;
        assert_eq!((code(&answer), kinds(&answer)), ("53400".to_owned(), "EZ".to_owned()));
        assert!(intact(server.address()).await, "after {sql:.40}");
    }
    let most = STATEMENT_BYTES_MAX - "SELECT length('')".len();
    let answer = session.run(&format!("SELECT length('{}')", "x".repeat(most))).await;
    assert_eq!(column(&answer), [most.to_string()]);
    let answer = session.query(&format!("SELECT length('{}')", "x".repeat(most + 1))).await;
    assert_eq!(code(&answer), "53400");
    let values: Vec<String> =
        (1_001..6_001).map(|id| format!("({id}, '{}', '[1,2,3]')", "y".repeat(1_000))).collect();
    let answer = session.run(&format!("INSERT INTO kept VALUES {}", values.join(", "))).await;
    assert_eq!(kinds(&answer), "CZ");
    session.run("DELETE FROM kept WHERE id > 1000").await;
    assert!(intact(server.address()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_beyond_the_limit_is_an_error_and_the_end_of_its_session() {
    let server = process().await;
    let mut session = set_up(&server).await;
    for kind in *b"QPBd" {
        let mut wire = Wire::log_in(server.address()).await;
        let length = u32::try_from(MESSAGE_BYTES_MAX + 1).expect("32 bits").to_be_bytes();
        wire.send(&[&[kind][..], &length].concat()).await;
        let answer = wire.rest().await;
        assert_eq!((code(&answer), kinds(&answer)), ("53400".to_owned(), "E".to_owned()));
        assert!(intact(server.address()).await);
    }
    // Announced, and never sent.
    let mut wire = Wire::log_in(server.address()).await;
    let length = u32::try_from(MESSAGE_BYTES_MAX).expect("32 bits").to_be_bytes();
    wire.send(&[&b"Q"[..], &length, b"SELECT"].concat()).await;
    assert!(intact(server.address()).await, "while one waits for 64 MiB");
    wire.end().await;
    assert!(wire.rest().await.is_empty(), "nobody is left to talk to");
    session.run("SELECT 1").await;
    let unread = message(b'Q', b"SELECT 2\0");
    assert_eq!(kinds(&session.ask(&unread).await), "TDCZ");
}

fn nested(before: &str, core: &str, after: &str, levels: usize) -> String {
    format!("SELECT {}{core}{}", before.repeat(levels), after.repeat(levels))
}

fn chain(operand: &str, operator: &str, operands: usize) -> String {
    format!("SELECT {}", vec![operand; operands].join(operator))
}

fn list(most: usize) -> String {
    let numbers: Vec<String> = (1..=most).map(|number| number.to_string()).collect();
    numbers.join(",")
}

/// What a statement has to come to.
enum Expected {
    /// An error of the client's, or a result.
    Anything,
    /// This error.
    Code(&'static str),
    /// This one value.
    Value(&'static str),
}

use Expected::{Anything, Code, Value};

fn deep_statements() -> Vec<(&'static str, String, Expected)> {
    let most = STATEMENT_OPERATORS_MAX;
    vec![
        ("40 brackets", nested("(", "1", ")", 40), Value("1")),
        ("10,000 brackets", nested("(", "1", ")", 10_000), Code("53400")),
        ("10,000 open brackets", nested("(", "", "", 10_000), Code("53400")),
        ("10,000 square brackets", nested("[", "", "", 10_000), Code("53400")),
        ("10,000 subqueries", nested("(SELECT ", "1", ")", 10_000), Code("53400")),
        ("40 functions", nested("abs(", "1", ")", 40), Value("1")),
        ("60 functions", nested("abs(", "1", ")", 60), Anything),
        ("60 ceil", nested("ceil(", "1.5", ")", 60), Anything),
        ("60 TRY_CAST", nested("TRY_CAST(", "1", " AS int)", 60), Anything),
        ("60 ARRAY", nested("ARRAY[", "1", "]", 60), Anything),
        ("24 ARRAY with an error inside", nested("ARRAY[", "1 1 1", "]", 24), Anything),
        ("24 ROW", nested("ROW(", "1", ")", 24), Anything),
        ("24 EXISTS", nested("EXISTS (SELECT ", "1", ")", 24), Anything),
        ("90 INTERVAL", nested("INTERVAL ", "'1'", "", 90), Anything),
        ("60 INTERVAL in brackets", nested("INTERVAL (", "'1 day'", ")", 60), Anything),
        ("40 CASE", nested("CASE WHEN true THEN ", "1", " END", 40), Anything),
        ("10,000 CASE", nested("CASE WHEN true THEN ", "1", " END", 10_000), Code("53400")),
        ("10,000 NOT", nested("NOT ", "true", "", 10_000), Code("53400")),
        ("3,000 NOT", nested("NOT ", "true", "", 3_000), Anything),
        ("most NOT", nested("NOT ", "true", "", most), Anything),
        ("most signs", nested("- ", "1", "", most), Anything),
        ("100,000 terms", chain("1", "+", 100_000), Code("53400")),
        ("3,000 terms", chain("1", "+", 3_001), Anything),
        ("most terms", chain("1", "+", most + 1), Anything),
        ("COPY of many terms", format!("COPY ({}) TO STDOUT", chain("1", "+", most)), Anything),
        (
            "a cursor of many terms",
            format!("DECLARE c CURSOR FOR {}", chain("1", "+", most)),
            Anything,
        ),
        ("most AND", chain("true", " AND ", most + 1), Anything),
        ("most concatenations", chain("'a'", "||", most + 1), Anything),
        ("most casts", format!("SELECT 1{}", "::int".repeat(most)), Anything),
        ("most IS NULL", format!("SELECT 1{}", " IS NULL".repeat(most)), Anything),
        ("most OR", chain("1 = 2", " OR ", most / 2), Anything),
        ("most UNION", vec!["SELECT 1"; most + 1].join(" UNION ALL "), Anything),
        ("40 joins in joins", format!("SELECT 1 FROM {}", tables("kept", 40)), Anything),
        ("60 tables in tables", format!("SELECT 1 FROM {}", in_tables(60)), Anything),
        ("most WITH", format!("WITH {} SELECT 1", with_queries(most)), Anything),
    ]
}

fn tables(name: &str, joined: usize) -> String {
    let (open, close) = ("(".to_owned() + name + " JOIN ", " ON true)");
    format!("{}{name}{}", open.repeat(joined), close.repeat(joined))
}

fn in_tables(levels: usize) -> String {
    format!("{}kept{}", "(SELECT * FROM ".repeat(levels), ") AS t".repeat(levels))
}

fn with_queries(queries: usize) -> String {
    let queries: Vec<String> = (0..queries).map(|at| format!("q{at} AS (SELECT 1)")).collect();
    queries.join(", ")
}

/// Runs one statement in a session of its own: all that came, or what went wrong.
async fn outcome(address: SocketAddr, sql: &str) -> Result<Vec<Message>, &'static str> {
    let run = async {
        let mut wire = Wire::log_in(address).await;
        wire.send(&query(sql)).await;
        let mut answer = Vec::new();
        while let Some(message) = wire.next().await {
            let ready = message.kind == 'Z';
            answer.push(message);
            if ready {
                return Ok(answer);
            }
        }
        Err("the connection broke")
    };
    timeout(STATEMENT_TIME_MAX, run).await.unwrap_or(Err("no answer in time"))
}

/// What is wrong with an answer.
fn complaint(answer: Result<Vec<Message>, &str>, expected: &Expected) -> Option<String> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(what) => return Some(what.to_owned()),
    };
    let (found, shown) = (code(&answer), format!("{:?}", error(&answer)));
    let right = match expected {
        Anything => !found.starts_with("XX"),
        Code(expected) => found == *expected,
        Value(value) => rows(&answer) == [[Some((*value).to_owned())]],
    };
    (!right).then_some(shown)
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_statements_end_and_the_server_lives() {
    let mut server = process().await;
    set_up(&server).await;
    let mut complaints = Vec::new();
    for (what, sql, expected) in deep_statements() {
        let (begin, complaints_before) = (Instant::now(), complaints.len());
        let answer = outcome(server.address(), &sql).await;
        println!("{what}: {:.2} s", begin.elapsed().as_secs_f64());
        if let Some(complaint) = complaint(answer, &expected) {
            complaints.push(format!("{what}: {complaint:.200}"));
        }
        if !intact(server.address()).await {
            complaints.push(format!("{what}: the server does not serve any more"));
        }
        if complaints.len() > complaints_before {
            server.kill9().await;
            server.restart().await;
            assert!(intact(server.address()).await, "after {what}");
        }
    }
    assert!(complaints.is_empty(), "{} bad ends:\n{}", complaints.len(), complaints.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lists_run() {
    let server = process().await;
    let mut session = set_up(&server).await;
    let sql = format!("SELECT count(*) FROM kept WHERE id IN ({})", list(100_000));
    assert_eq!(column(&session.run(&sql).await), ["100"]);
    let sql = format!("SELECT count(*) FROM kept WHERE tag IN ('{}')", list(10_000));
    assert_eq!(column(&session.run(&sql).await), ["0"]);
    let rows = list(10_000).replace(',', "),(");
    let sql = format!("SELECT count(*) FROM (VALUES ({rows})) AS v(i)");
    assert_eq!(column(&session.run(&sql).await), ["10000"]);
    let many = "SELECT 1;".repeat(1_000);
    assert_eq!(kinds(&session.run(&many).await).matches('C').count(), 1_000);
    assert!(intact(server.address()).await);
}
