//! `COPY ... FROM STDIN`: text and csv, whole or refused as a whole, with the place of what is wrong;
//! and `TO STDOUT`.

use std::net::SocketAddr;

use tests::TestServer;

use crate::wire::{
    Message, Values, Wire, bind, code, column, error, execute, flush, kinds, message, parse, query,
    rows, sync, tags,
};

const TABLE: &str = "CREATE TABLE k (id bigint PRIMARY KEY, name text NOT NULL, \
                     score double precision, v vector(2))";

async fn start() -> (TestServer, Wire) {
    let server = TestServer::start().await;
    let mut wire = Wire::log_in(server.address()).await;
    wire.run(TABLE).await;
    wire.run("INSERT INTO k VALUES (1, 'first', 0.5, '[0,0]')").await;
    (server, wire)
}

/// Runs a COPY with its data in pieces of some bytes; all answers.
async fn copy(wire: &mut Wire, sql: &str, data: impl AsRef<[u8]>, piece: usize) -> Vec<Message> {
    wire.send(&query(sql)).await;
    let begun = wire.next().await.expect("an answer");
    if begun.kind == 'E' {
        return [vec![begun], wire.until('Z').await].concat();
    }
    assert_eq!(begun.kind, 'G', "{sql}");
    for piece in data.as_ref().chunks(piece) {
        wire.send(&message(b'd', piece)).await;
    }
    wire.ask(&message(b'c', b"")).await
}

fn text(values: &[Option<&str>]) -> Vec<Option<String>> {
    values.iter().map(|value| value.map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn good_rows_arrive_wherever_the_pieces_end() {
    let (_server, mut wire) = start().await;
    let as_text = "2\ttwo\\ttabs\t1.5\t[1,2]\n3\t\\N is not it\\\\\t\\N\t\\N\r\n4\té\t-1e3\t[3,4]";
    let as_csv = "id,name,score,v\n2,\"two\ttabs\",1.5,\"[1,2]\"\n3,\\N is not it\\,,\n\
                  4,é,-1e3,\"[3,4]\"\n";
    let expected = [
        text(&[Some("2"), Some("two\ttabs"), Some("1.5"), Some("[1,2]")]),
        text(&[Some("4"), Some("é"), Some("-1000"), Some("[3,4]")]),
    ];
    let forms =
        [("COPY k FROM STDIN", as_text), ("COPY k FROM STDIN (FORMAT csv, HEADER)", as_csv)];
    for (sql, data) in forms {
        for piece in [1, 3, 10, 1_000] {
            let answer = copy(&mut wire, sql, data, piece).await;
            assert_eq!(tags(&answer), ["COPY 3"], "{sql}: {:?}", error(&answer));
            let got = wire.run("SELECT * FROM k WHERE id IN (2, 4) ORDER BY id").await;
            assert_eq!(rows(&got), expected, "{sql} in pieces of {piece}");
            let got = wire.run("SELECT score IS NULL AND v IS NULL FROM k WHERE id = 3").await;
            assert_eq!(column(&got), ["t"], "{sql} in pieces of {piece}");
            wire.run("DELETE FROM k WHERE id > 1").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_knows_quotes_delimiters_and_marks_for_null() {
    let (_server, mut wire) = start().await;
    let sql = "COPY k (id, name) FROM STDIN (FORMAT csv)";
    let data = "2,\"a, \"\"b\"\"\nc\"\n3,\"\"\n";
    assert_eq!(tags(&copy(&mut wire, sql, data, 4).await), ["COPY 2"]);
    let sql = "COPY k (name, v, id) FROM STDIN (FORMAT csv, DELIMITER ';', NULL 'none')";
    let data = "x;[1,2];4\ny;none;5\n\"none\";none;6\n";
    assert_eq!(tags(&copy(&mut wire, sql, data, 5).await), ["COPY 3"]);
    let got = wire.run("SELECT name, v FROM k WHERE id > 1 ORDER BY id").await;
    let expected = [
        text(&[Some("a, \"b\"\nc"), None]),
        text(&[Some(""), None]),
        text(&[Some("x"), Some("[1,2]")]),
        text(&[Some("y"), None]),
        text(&[Some("none"), None]),
    ];
    assert_eq!(rows(&got), expected);
}

/// Statement, data, code, and the places that the detail names.
type Bad = (&'static str, &'static str, &'static str, &'static [&'static str]);

const TEXT: &str = "COPY k FROM STDIN";
const CSV: &str = "COPY k FROM STDIN (FORMAT csv)";

const BAD: &[Bad] = &[
    (TEXT, "2\ta\t1\t[1,2]\n3\tb\tx\t[1,2]\n", "22P02", &["line 2", "column score"]),
    (TEXT, "2\ta\t1\t[1,2]\nx\tb\t1\t[1,2]\n", "22P02", &["line 2", "column id"]),
    (TEXT, "2\ta\t1\t[1,2]\n3\tb\t1\t[1,2,3]\n", "22000", &["line 2", "column v"]),
    (TEXT, "2\ta\t1\t[1,NaN]\n", "22003", &["line 1", "column v"]),
    (TEXT, "2\ta\t1\t[1,1e39]\n", "22003", &["line 1", "column v"]),
    (TEXT, "2\ta\t1\t[1,2\n", "22P02", &["line 1", "column v"]),
    (TEXT, "2\ta\t1\t[1,2]\n3\tb\n", "22P04", &["line 2"]),
    (TEXT, "2\ta\t1\t[1,2]\t5\n", "22P04", &["line 1"]),
    (TEXT, "2\ta\t1\t[1,2]\n\n", "22P02", &["line 2", "column id"]),
    (TEXT, "2\ta\t1\t[1,2]\n3\t\\N\t1\t[1,2]\n", "23502", &["line 2"]),
    (TEXT, "2\ta\t1\t[1,2]\n1\tb\t1\t[1,2]\n", "23505", &["(1)"]),
    (TEXT, "2\ta\t1\t[1,2]\n2\tb\t1\t[1,2]\n", "23505", &["(2)"]),
    (CSV, "2,a,1,\"[1,2]\"\n3,b,one,\"[1,2]\"\n", "22P02", &["line 2", "column score"]),
    (CSV, "2,a,1,\"[1,2]\"\n3,b,1,[1,2]\n", "22P04", &["line 2"]),
    (CSV, "2,a,1,\"[1,2]\"\n3,b,1,\"[1]\"\n", "22000", &["line 2", "column v"]),
    (CSV, "2,a,1,\"[1,2]\"\n3,,1,\"[1,2]\"\n", "23502", &["line 2"]),
    (CSV, "2,\"a,1,\"[1,2]\"\n", "22P04", &[]),
    ("COPY nope FROM STDIN", "", "42P01", &[]),
    ("COPY k (nope) FROM STDIN", "", "42703", &[]),
    ("COPY k (id, id) FROM STDIN", "", "42701", &[]),
    ("COPY k FROM STDIN BINARY", "", "22P04", &[]),
    ("COPY k FROM STDIN BINARY", "PGCOPX", "22P04", &[]),
    ("COPY k FROM STDIN (FORMAT parquet)", "", "22023", &[]),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_is_located_and_nothing_is_inserted() {
    let (_server, mut wire) = start().await;
    for (sql, data, expected, places) in BAD {
        for piece in [7, 1_000] {
            let answer = copy(&mut wire, sql, data, piece).await;
            let found = error(&answer);
            assert_eq!(code(&answer), *expected, "{sql} {data:?}: {found:?}");
            let detail = found.get(&'D').map_or("", String::as_str);
            for place in *places {
                assert!(detail.contains(*place), "{data:?}: no {place} in {detail:?}");
            }
            assert!(!detail.contains("line 0"), "{data:?}: {detail:?}");
            assert_eq!(column(&wire.run("SELECT id FROM k").await), ["1"], "after {data:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_not_utf8_is_refused() {
    let (_server, mut wire) = start().await;
    wire.send(&query(TEXT)).await;
    wire.until('G').await;
    let messages = [message(b'd', b"2\tA\xFF\t1\t[1,2]\n"), message(b'c', b"")].concat();
    let answer = wire.ask(&messages).await;
    assert_eq!(error(&answer)[&'C'], "22021");
    assert!(error(&answer)[&'D'].contains("line 1"));
    assert_eq!(column(&wire.run("SELECT id FROM k").await), ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_the_client_gives_up_inserts_nothing() {
    let (server, mut wire) = start().await;
    wire.send(&query(TEXT)).await;
    wire.until('G').await;
    let messages = [message(b'd', b"2\ta\t1\t[1,2]\n"), message(b'f', b"changed my mind\0")];
    let answer = wire.ask(&messages.concat()).await;
    assert_eq!(error(&answer)[&'C'], "57014");
    assert!(error(&answer)[&'M'].contains("changed my mind"));
    assert_eq!(column(&wire.run("SELECT id FROM k").await), ["1"]);

    // Nor does one whose client goes away, or says something else in the middle.
    let mut gone = Wire::log_in(server.address()).await;
    gone.send(&query(TEXT)).await;
    gone.until('G').await;
    gone.send(&message(b'd', b"3\ta\t1\t[1,2]\n")).await;
    gone.end().await;
    assert!(gone.rest().await.is_empty(), "nobody is left to talk to");
    let mut confused = Wire::log_in(server.address()).await;
    confused.send(&query(TEXT)).await;
    confused.until('G').await;
    let messages = [message(b'd', b"4\ta\t1\t[1,2]\n"), query("SELECT 1")].concat();
    confused.send(&messages).await;
    assert_eq!(code(&confused.rest().await), "08P01");
    assert_eq!(column(&wire.run("SELECT id FROM k").await), ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_failed_copy_is_skipped_and_the_session_serves_on() {
    let (_server, mut wire) = start().await;
    wire.send(&query(TEXT)).await;
    wire.until('G').await;
    let bad = wire.ask(&message(b'd', b"x\ta\t1\t[1,2]\n")).await;
    assert_eq!(kinds(&bad), "EZ", "the error comes before the end of the data");
    let late = [message(b'd', b"5\tb\t1\t[1,2]\n"), message(b'c', b""), query("SELECT id FROM k")];
    assert_eq!(column(&wire.ask(&late.concat()).await), ["1"]);
    let copied = copy(&mut wire, TEXT, "6\tc\t1\t[1,2]\n", 100).await;
    assert_eq!(tags(&copied), ["COPY 1"]);
}

async fn begin_extended(address: SocketAddr, sql: &str) -> Wire {
    let mut wire = Wire::log_in(address).await;
    let messages = [parse("", sql, &[]), bind("", "", &Values::default()), execute("", 0), flush()];
    wire.send(&messages.concat()).await;
    assert_eq!(kinds(&wire.until('G').await), "12G");
    wire
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_runs_in_the_extended_protocol_and_inside_of_several_statements() {
    let (server, mut wire) = start().await;
    let mut extended = begin_extended(server.address(), TEXT).await;
    let data = [message(b'd', b"2\ta\t1\t[1,2]\n"), message(b'c', b""), sync()].concat();
    assert_eq!(kinds(&extended.ask(&data).await), "CZ");
    let mut extended = begin_extended(server.address(), TEXT).await;
    let data = [message(b'd', b"x\ta\n"), message(b'd', b"3\ta\t1\t[1,2]\n"), message(b'c', b"")];
    let data = [data.concat(), sync()].concat();
    let answer = extended.ask(&data).await;
    assert_eq!((code(&answer), kinds(&answer)), ("22P02".to_owned(), "EZ".to_owned()));
    assert_eq!(tags(&extended.run("SELECT 1").await), ["SELECT 1"]);

    wire.send(&query(&format!("{TEXT}; SELECT count(*) FROM k"))).await;
    wire.until('G').await;
    let data = [message(b'd', b"4\td\t1\t[1,2]\n"), message(b'c', b"")].concat();
    let answer = wire.ask(&data).await;
    assert_eq!(tags(&answer), ["COPY 1", "SELECT 1"]);
    assert_eq!(column(&answer), ["3"]);
}

/// What a COPY sends: the pieces as one, and the command tag.
async fn copied(wire: &mut Wire, sql: &str) -> (Vec<u8>, Vec<String>) {
    let answer = wire.run(sql).await;
    let sent = kinds(&answer).replace('d', "");
    assert_eq!(sent, "HcCZ", "{sql}");
    let pieces = answer.iter().filter(|message| message.kind == 'd');
    (pieces.flat_map(|message| message.body.clone()).collect(), tags(&answer))
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_leave_in_every_format() {
    let (_server, mut wire) = start().await;
    let odd = "INSERT INTO k VALUES (2, E'tab\\t\\\\ \"q\", \\n', NULL, '[1.5,-2]'), (3, '', 1e300, NULL)";
    wire.run(odd).await;
    let all = "(SELECT * FROM k ORDER BY id)";
    for (sql, expected) in [
        (
            format!("COPY {all} TO STDOUT"),
            "1\tfirst\t0.5\t[0,0]\n2\ttab\\t\\\\ \"q\", \\n\t\\N\t[1.5,-2]\n3\t\t1e+300\t\\N\n",
        ),
        (
            format!("COPY {all} TO STDOUT (FORMAT csv, HEADER)"),
            "id,name,score,v\n1,first,0.5,\"[0,0]\"\n2,\"tab\t\\ \"\"q\"\", \n\",,\"[1.5,-2]\"\n3,\"\",1e+300,\n",
        ),
        (
            format!("COPY {all} TO STDOUT (DELIMITER '|', NULL '-')"),
            "1|first|0.5|[0,0]\n2|tab\\t\\\\ \"q\", \\n|-|[1.5,-2]\n3||1e+300|-\n",
        ),
    ] {
        let (data, tag) = copied(&mut wire, &sql).await;
        assert_eq!(String::from_utf8(data).unwrap(), expected, "{sql}");
        assert_eq!(tag, ["COPY 3"]);
    }
    let (data, _) = copied(&mut wire, "COPY k (name) TO STDOUT (FORMAT csv, NULL 'first')").await;
    assert!(data.starts_with(b"\"first\"\n"), "a value that looks like NULL is quoted: {data:?}");
    let (data, _) = copied(&mut wire, "COPY (SELECT 1::bigint, NULL::text) TO STDOUT BINARY").await;
    let row = [0, 2, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 255, 255, 255, 255, 255, 255];
    assert_eq!(data, [b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".as_slice(), &row].concat());
    // What leaves comes back.
    for format in ["text", "csv", "binary"] {
        let (data, _) = copied(&mut wire, &format!("COPY k TO STDOUT (FORMAT {format})")).await;
        let copy_in = format!("COPY k2 FROM STDIN (FORMAT {format})");
        wire.run(&TABLE.replace("TABLE k", "TABLE k2")).await;
        let answer = copy(&mut wire, &copy_in, &data, 5).await;
        assert_eq!(tags(&answer), ["COPY 3"], "{format}");
        let same = "SELECT count(*) FROM k JOIN k2 ON k.id = k2.id AND k.name = k2.name AND \
                    k.v::text IS NOT DISTINCT FROM k2.v::text AND \
                    k.score IS NOT DISTINCT FROM k2.score";
        assert_eq!(column(&wire.run(same).await), ["3"], "{format}");
        wire.run("DROP TABLE k2").await;
    }
    // An error in the middle ends it with an error alone.
    let failed =
        wire.query("COPY (SELECT 1 / (i - 3) FROM generate_series(1, 5) AS g(i)) TO STDOUT").await;
    assert_eq!(code(&failed), "22012");
    assert!(!kinds(&failed).contains('c'), "{failed:?}");
    assert_eq!(column(&wire.run("SELECT 1").await), ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_binary_rows_are_refused() {
    let (_server, mut wire) = start().await;
    let head = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".as_slice();
    let short = [0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9];
    for (rest, expected) in [
        (&short[..], "22P04"),
        (&[0, 4, 0, 0, 0, 8, 0], "22P04"),
        (&[0, 4, 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "22P03"),
        (
            &[
                0, 4, 0, 0, 0, 4, 255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255,
                255, 255,
            ],
            "22P03",
        ),
        (&[0, 4, 255, 0, 0, 0], "22P04"),
        (&[255, 255, 0], "22P04"),
        (&[255], "22P04"),
    ] {
        for piece in [1, 3, 1_000] {
            let data = [head, rest].concat();
            let answer = copy(&mut wire, "COPY k FROM STDIN BINARY", &data, piece).await;
            assert_eq!(code(&answer), expected, "{rest:?}, pieces of {piece}");
        }
    }
    assert_eq!(column(&wire.run("SELECT count(*) FROM k").await), ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_of_other_marks_comes_back() {
    let (_server, mut wire) = start().await;
    let marks = "(FORMAT csv, QUOTE '|', ESCAPE '\\')";
    wire.run("INSERT INTO k VALUES (4, E'a,\\\\', 1, NULL), (5, E'it|s, \\\\|x\\n', 2, NULL)")
        .await;
    let (data, _) = copied(&mut wire, &format!("COPY k TO STDOUT {marks}")).await;
    for piece in [1, 2, 1_000] {
        wire.run(&TABLE.replace("TABLE k", "TABLE k2")).await;
        let answer = copy(&mut wire, &format!("COPY k2 FROM STDIN {marks}"), &data, piece).await;
        assert_eq!(tags(&answer), ["COPY 3"], "{:?}", String::from_utf8_lossy(&data));
        let same = "SELECT count(*) FROM k JOIN k2 ON k.id = k2.id AND k.name = k2.name AND \
                    k.score IS NOT DISTINCT FROM k2.score";
        assert_eq!(column(&wire.run(same).await), ["3"], "pieces of {piece}");
        wire.run("DROP TABLE k2").await;
    }
    for (options, expected) in [
        ("(DELIMITER 'a')", "22023"),
        ("(DELIMITER '|', NULL 'a|b')", "22023"),
        ("(FORMAT csv, DELIMITER '\"')", "22023"),
        ("(NULL E'\\n')", "22023"),
        ("(QUOTE '|')", "0A000"),
    ] {
        let refused = wire.query(&format!("COPY k TO STDOUT {options}")).await;
        assert_eq!(code(&refused), expected, "{options}");
    }
}

/// A client that stalls in the middle of its data does not hold up whoever cancels, nor a timeout.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_stalls_can_be_ended() {
    let (_server, mut wire) = start().await;
    wire.run("SET statement_timeout = 200").await;
    wire.send(&query("COPY k FROM STDIN")).await;
    assert_eq!(wire.next().await.expect("an answer").kind, 'G');
    wire.send(&message(b'd', b"7\tseven\t1\t\\N\n")).await;
    let answer = wire.until('Z').await;
    assert_eq!(code(&answer), "57014");
    wire.send(&message(b'd', b"8\teight\t1\t\\N\n")).await;
    wire.send(&message(b'c', b"")).await;
    assert_eq!(column(&wire.run("SELECT count(*) FROM k").await), ["1"]);
}
