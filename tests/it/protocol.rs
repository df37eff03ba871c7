//! The simple and the extended protocol, message by message, and through a driver.

use std::error::Error;

use bytes::{BufMut as _, BytesMut};
use tests::TestServer;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::wire::{
    Message, Values, Wire, bind, close, code, column, describe, error, execute, flush, kinds,
    parse, rows, sync, tags,
};

/// Type ids as PostgreSQL has them, and ours for vectors.
const INT8: u32 = 20;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const VECTOR: u32 = 16_385;

async fn start() -> (TestServer, Wire) {
    let server = TestServer::start().await;
    let mut wire = Wire::log_in(server.address()).await;
    for sql in [
        "CREATE TABLE docs (id bigint PRIMARY KEY, title text, v vector(3))",
        "INSERT INTO docs VALUES (1, 'one', '[1,0,0]'), (2, 'two', '[0,1,0]')",
    ] {
        wire.run(sql).await;
    }
    (server, wire)
}

async fn ids(wire: &mut Wire) -> Vec<String> {
    column(&wire.run("SELECT id FROM docs ORDER BY id").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simple_query_stops_at_the_first_error() {
    let (_server, mut wire) = start().await;
    let answer = wire.query("SELECT 1; SELECT 1 / 0; SELECT 3").await;
    assert_eq!(code(&answer), "22012");
    assert_eq!(tags(&answer), ["SELECT 1"]);
    assert_eq!(column(&answer), ["1"]);
    let sql = "SELECT nope; INSERT INTO docs VALUES (3, 'three', NULL)";
    assert_eq!(kinds(&wire.query(sql).await), "EZ");
    // What cannot be read at all does not run in part.
    let sql = "INSERT INTO docs VALUES (4, 'four', NULL); SELEC";
    assert_eq!(code(&wire.query(sql).await), "42601");
    assert_eq!(ids(&mut wire).await, ["1", "2"]);
    let sql = "INSERT INTO docs VALUES (5, 'five', NULL); DELETE FROM docs WHERE id = 5; SELECT 7";
    assert_eq!(tags(&wire.run(sql).await), ["INSERT 0 1", "DELETE 1", "SELECT 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_queries_are_answered() {
    let (_server, mut wire) = start().await;
    for sql in ["", " ", ";", " ; ; ", "-- nothing", "/* nothing */"] {
        assert_eq!(kinds(&wire.query(sql).await), "IZ", "{sql:?}");
        let messages = [parse("", sql, &[]), bind("", "", &Values::default())].concat();
        let messages = [messages, describe(b'P', ""), execute("", 0), sync()].concat();
        assert_eq!(kinds(&wire.ask(&messages).await), "12nIZ", "{sql:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn null_is_null_with_and_without_a_type() {
    let (_server, mut wire) = start().await;
    for sql in ["SELECT NULL", "SELECT NULL::int", "SELECT title FROM (SELECT NULL) AS t(title)"] {
        assert_eq!(rows(&wire.run(sql).await), [[None]], "{sql}");
    }
}

/// One value of each type: its type, its text form and its binary form.
fn typed_values() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let micros = 820_551_845_500_000_i64.to_be_bytes().to_vec();
    vec![
        ("smallint", "-2", (-2_i16).to_be_bytes().to_vec()),
        ("integer", "3", 3_i32.to_be_bytes().to_vec()),
        ("bigint", "-9000000000", (-9_000_000_000_i64).to_be_bytes().to_vec()),
        ("real", "1.5", 1.5_f32.to_be_bytes().to_vec()),
        ("double precision", "-2.25", (-2.25_f64).to_be_bytes().to_vec()),
        ("boolean", "t", vec![1]),
        ("text", "é, \"quoted\"", "é, \"quoted\"".as_bytes().to_vec()),
        ("varchar", "", Vec::new()),
        ("bytea", "\\x00ff", vec![0, 0xFF]),
        ("date", "2026-01-02", 9_498_i32.to_be_bytes().to_vec()),
        ("timestamp", "2026-01-01 03:04:05.5", Vec::from(&micros[..])),
        ("timestamptz", "2026-01-01 03:04:05.5+00", micros),
        ("vector(2)", "[1,-2.5]", vec![0, 2, 0, 0, 0x3F, 0x80, 0, 0, 0xC0, 0x20, 0, 0]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_travel_in_text_and_in_binary() {
    let (_server, mut wire) = start().await;
    let typed = typed_values();
    let columns = typed.iter().enumerate().map(|(at, (name, _, _))| format!("c{at} {name}"));
    let columns: Vec<String> = columns.collect();
    wire.run(&format!("CREATE TABLE typed ({})", columns.join(", "))).await;
    let holes: Vec<String> = (1..=typed.len()).map(|at| format!("${at}")).collect();
    let insert = format!("INSERT INTO typed VALUES ({})", holes.join(", "));
    let prepare = [parse("i", &insert, &[]), parse("s", "SELECT * FROM typed", &[]), sync()];
    assert_eq!(kinds(&wire.ask(&prepare.concat()).await), "11Z");

    let text: Vec<Option<&[u8]>> = typed.iter().map(|(_, text, _)| Some(text.as_bytes())).collect();
    let binary: Vec<Option<&[u8]>> = typed.iter().map(|(_, _, bytes)| Some(&bytes[..])).collect();
    let nulls: Vec<Option<&[u8]>> = vec![None; typed.len()];
    for (format, values) in [(0, &text), (1, &binary), (1, &nulls)] {
        let given = Values { formats: &[format], values, results: &[] };
        let insert = [bind("", "i", &given), execute("", 0), sync()].concat();
        assert_eq!(tags(&wire.ask(&insert).await), ["INSERT 0 1"]);
        for (format, expected) in [(0, &text), (1, &binary)] {
            let expected = if values[0].is_none() { &nulls } else { expected };
            let wanted = Values { formats: &[], values: &[], results: &[format] };
            let answer = wire.ask(&[bind("", "s", &wanted), execute("", 0), sync()].concat()).await;
            assert_eq!(kinds(&answer), "2DCZ", "{:?}", error(&answer));
            let got = answer[1].values();
            let got: Vec<Option<&[u8]>> = got.iter().map(Option::as_deref).collect();
            assert_eq!(&got, expected, "results in format {format}");
        }
        wire.run("DELETE FROM typed").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_described() {
    let (_server, mut wire) = start().await;
    let messages = [
        parse("s", "SELECT id, title, v FROM docs WHERE title = $1 AND id > $2", &[]),
        describe(b'S', "s"),
        parse("i", "INSERT INTO docs VALUES ($1, $2, $3)", &[]),
        describe(b'S', "i"),
        sync(),
    ];
    let answer = wire.ask(&messages.concat()).await;
    assert_eq!(kinds(&answer), "1tT1tnZ");
    assert_eq!(answer[1].parameters(), [TEXT, INT8]);
    let named = |name: &str, oid: u32, typmod: i32| (name.to_owned(), oid, typmod);
    let columns = [named("id", INT8, -1), named("title", TEXT, -1), named("v", VECTOR, 3)];
    assert_eq!(answer[2].columns(), columns);
    assert_eq!(answer[4].parameters(), [INT8, TEXT, VECTOR]);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_get_the_types_that_postgresql_gives_them() {
    let (_server, mut wire) = start().await;
    let cases: [(&str, &[u32]); 8] = [
        ("SELECT id FROM docs WHERE id = $1", &[INT8]),
        ("SELECT id FROM docs ORDER BY v <-> $1 LIMIT 1", &[VECTOR]),
        ("SELECT id FROM docs ORDER BY v <-> $1 LIMIT $2", &[VECTOR, INT8]),
        ("SELECT id FROM docs ORDER BY id LIMIT $1 OFFSET $2", &[INT8, INT8]),
        ("SELECT $1::int, $2::text", &[INT4, TEXT]),
        ("SELECT id FROM docs ORDER BY v <-> $1::vector LIMIT 1", &[VECTOR]),
        ("UPDATE docs SET title = $1 WHERE id = $2", &[TEXT, INT8]),
        ("DELETE FROM docs WHERE id = $1", &[INT8]),
    ];
    let mut wrong = Vec::new();
    for (sql, expected) in cases {
        let answer = wire.ask(&[parse("", sql, &[]), describe(b'S', ""), sync()].concat()).await;
        let described = answer.iter().find(|message| message.kind == 't');
        let found = described.map(Message::parameters);
        if found.as_deref() != Some(expected) {
            wrong.push(format!("{sql}: {found:?}, {:?}", error(&answer)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_serve_again_and_see_what_is_new() {
    let (server, mut wire) = start().await;
    let mut other = Wire::log_in(server.address()).await;
    let prepare = parse("count", "SELECT count(*) FROM docs WHERE id > $1", &[INT8]);
    assert_eq!(kinds(&wire.ask(&[prepare, sync()].concat()).await), "1Z");
    let values = Values { formats: &[], values: &[Some(&b"0"[..])], results: &[] };
    let count = [bind("", "count", &values), execute("", 0), sync()].concat();
    for number in 3..=50 {
        other.run(&format!("INSERT INTO docs VALUES ({number}, 'more', NULL)")).await;
        assert_eq!(column(&wire.ask(&count).await), [number.to_string()]);
    }
    let again = parse("count", "SELECT 1", &[]);
    assert_eq!(code(&wire.ask(&[again.clone(), sync()].concat()).await), "42P05");
    // Neither the error nor a simple query ends a named statement.
    wire.run("SELECT 1").await;
    assert_eq!(column(&wire.ask(&count).await), ["50"]);
    let replace = [close(b'S', "count"), close(b'S', "never there"), again, sync()].concat();
    assert_eq!(kinds(&wire.ask(&replace).await), "331Z");
    for forget in ["DEALLOCATE count", "DEALLOCATE ALL", "DISCARD ALL"] {
        let prepare = [parse("count", "SELECT 1", &[]), sync()].concat();
        wire.ask(&prepare).await;
        wire.run(forget).await;
        let bound = wire.ask(&[bind("", "count", &Values::default()), sync()].concat()).await;
        assert_eq!(code(&bound), "26000", "{forget}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_gives_as_many_rows_as_it_is_asked_for() {
    let (_server, mut wire) = start().await;
    let messages = [
        parse("", "SELECT i FROM generate_series(1, 10) AS g(i) ORDER BY i", &[]),
        bind("p", "", &Values::default()),
        execute("p", 4),
        execute("p", 4),
        flush(),
    ];
    wire.send(&messages.concat()).await;
    let mut answer = wire.until('s').await;
    answer.extend(wire.until('s').await);
    assert_eq!(kinds(&answer), "12DDDDsDDDDs");
    let rest = wire.ask(&[execute("p", 4), execute("p", 4), sync()].concat()).await;
    assert_eq!(kinds(&rest), "DDCCZ", "the portal is at its end");
    answer.extend(rest);
    let expected: Vec<String> = (1..=10).map(|number| number.to_string()).collect();
    assert_eq!(column(&answer), expected);
    let late = wire.ask(&[execute("p", 1), sync()].concat()).await;
    assert_eq!(code(&late), "34000", "the portal ended with its transaction");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_skips_everything_up_to_sync() {
    let (_server, mut wire) = start().await;
    let skipped = [
        parse("", "INSERT INTO docs VALUES (9, 'never', NULL)", &[]),
        bind("", "", &Values::default()),
        execute("", 0),
        parse("skipped", "SELECT 1", &[]),
        flush(),
        sync(),
    ];
    let failing = parse("", "SELECT nope", &[]);
    let answer = wire.ask(&[vec![failing], skipped.to_vec()].concat().concat()).await;
    assert_eq!((code(&answer), kinds(&answer)), ("42703".to_owned(), "EZ".to_owned()));
    let bound = wire.ask(&[bind("", "skipped", &Values::default()), sync()].concat()).await;
    assert_eq!(code(&bound), "26000", "the skipped statement was not prepared");
    assert_eq!(ids(&mut wire).await, ["1", "2"]);
    let two = [parse("", "SELECT 1; SELECT 2", &[]), sync()].concat();
    assert_eq!(code(&wire.ask(&two).await), "42601");
    for (message, expected) in [
        (execute("nope", 0), "34000"),
        (describe(b'P', "nope"), "34000"),
        (describe(b'S', "nope"), "26000"),
        (bind("", "nope", &Values::default()), "26000"),
    ] {
        assert_eq!(code(&wire.ask(&[message, sync()].concat()).await), expected);
    }
    assert_eq!(column(&wire.run("SELECT 1").await), ["1"]);
}

/// The state as of now can be read: the statement has one instant, and it ends.
#[tokio::test(flavor = "multi_thread")]
async fn the_state_as_of_now_can_be_read() {
    let (_server, mut wire) = start().await;
    wire.run("SET statement_timeout = '20s'").await;
    let answer = wire.run("SELECT count(*) FROM docs AS OF TIMESTAMP now()").await;
    assert_eq!(column(&answer), ["2"]);
}

/// A vector as pgvector's drivers send and read it: dimension, zero, numbers.
#[derive(Debug, Clone, PartialEq)]
struct Embedding(Vec<f32>);

type Failure = Box<dyn Error + Sync + Send>;

impl ToSql for Embedding {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        out.put_u16(u16::try_from(self.0.len())?);
        out.put_u16(0);
        self.0.iter().for_each(|number| out.put_f32(*number));
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "vector"
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Embedding {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        let (head, numbers) = raw.split_first_chunk::<4>().ok_or("a cut vector")?;
        let (numbers, rest) = numbers.as_chunks::<4>();
        let dim = usize::from(u16::from_be_bytes([head[0], head[1]]));
        if dim != numbers.len() || !rest.is_empty() {
            return Err("a vector of another length".into());
        }
        Ok(Self(numbers.iter().map(|number| f32::from_be_bytes(*number)).collect()))
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "vector"
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_looks_the_vector_type_up_and_sends_it_in_binary() {
    let (server, _wire) = start().await;
    let client = server.connect().await;
    let insert = client.prepare("INSERT INTO docs VALUES ($1, $2, $3)").await;
    let insert = insert.expect("the driver's own queries for the type run");
    assert_eq!(insert.params()[2].name(), "vector");
    let v = Embedding(vec![0.5, -0.25, 1e-3]);
    let inserted = client.execute(&insert, &[&3_i64, &"three", &v]).await.expect("a row");
    assert_eq!(inserted, 1);
    client.execute(&insert, &[&4_i64, &None::<&str>, &None::<Embedding>]).await.expect("NULLs");
    let wrong = client.execute(&insert, &[&5_i64, &"five", &Embedding(vec![1.0])]).await;
    assert_eq!(wrong.unwrap_err().code().expect("an SQLSTATE").code(), "22000");
    let nearest = "SELECT id, v, v <-> $1 AS distance FROM docs ORDER BY distance LIMIT $2";
    let rows = client.query(nearest, &[&v, &2_i64]).await.expect("rows");
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].get::<_, i64>("id"), 3);
    assert_eq!(rows[0].get::<_, Embedding>("v"), v);
    assert!(rows[0].get::<_, f64>("distance").abs() < f64::EPSILON);
    let null = client.query_one("SELECT title, v FROM docs WHERE id = $1", &[&4_i64]).await;
    let null = null.expect("a row");
    assert_eq!(null.get::<_, Option<&str>>("title"), None);
    assert_eq!(null.get::<_, Option<Embedding>>("v"), None);
}
