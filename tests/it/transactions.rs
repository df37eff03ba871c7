//! Transactions over the wire: what the client is told of them, and searches that see their rows.

use tests::TestServer;

use crate::support::{column, rows, value};
use crate::wire::{
    Message, Values, Wire, bind, close, code, column as wire_column, describe, execute, kinds,
    parse, sync, tags,
};

/// Where the session stands, as the last message says.
fn status(answer: &[Message]) -> char {
    let last = answer.last().expect("an answer");
    assert_eq!(last.kind, 'Z', "{answer:?}");
    char::from(last.body[0])
}

/// Code and text of the warning in an answer.
fn warning(answer: &[Message]) -> String {
    let notice = answer.iter().find(|message| message.kind == 'N').expect("a warning").fields();
    assert_eq!(notice[&'S'], "WARNING");
    format!("{}: {}", notice[&'C'], notice[&'M'])
}

async fn start() -> (TestServer, Wire) {
    let server = TestServer::start().await;
    let mut wire = Wire::log_in(server.address()).await;
    wire.run("CREATE TABLE docs (id bigint PRIMARY KEY, title text)").await;
    wire.run("INSERT INTO docs VALUES (1, 'one'), (2, 'two')").await;
    (server, wire)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_told_where_it_stands() {
    let (_server, mut wire) = start().await;
    for (sql, tag, standing) in [
        ("BEGIN", "BEGIN", 'T'),
        ("INSERT INTO docs VALUES (3, 'three')", "INSERT 0 1", 'T'),
        ("SAVEPOINT s", "SAVEPOINT", 'T'),
        ("RELEASE s", "RELEASE", 'T'),
        ("COMMIT", "COMMIT", 'I'),
        ("START TRANSACTION", "BEGIN", 'T'),
        ("ROLLBACK", "ROLLBACK", 'I'),
        ("SELECT 1", "SELECT 1", 'I'),
    ] {
        let answer = wire.query(sql).await;
        assert_eq!((tags(&answer), status(&answer)), (vec![tag.to_owned()], standing), "{sql}");
    }
    wire.run("BEGIN").await;
    assert_eq!(status(&wire.query("SELECT nope").await), 'E');
    let aborted = wire.query("SELECT 1").await;
    assert_eq!((code(&aborted), status(&aborted)), ("25P02".to_owned(), 'E'));
    let parsed = wire.ask(&[parse("", "SELECT 1", &[]), sync()].concat()).await;
    assert_eq!((code(&parsed), status(&parsed)), ("25P02".to_owned(), 'E'));
    let ended = wire.query("COMMIT").await;
    assert_eq!((tags(&ended), status(&ended)), (vec!["ROLLBACK".to_owned()], 'I'));
    for (sql, warned) in [
        ("COMMIT", "25P01: there is no transaction in progress"),
        ("ROLLBACK", "25P01: there is no transaction in progress"),
        ("SET LOCAL enable_ann = off", "25P01: SET LOCAL can only be used in transaction blocks"),
        (
            "SET TRANSACTION READ ONLY",
            "25P01: SET TRANSACTION can only be used in transaction blocks",
        ),
    ] {
        assert_eq!(warning(&wire.query(sql).await), warned, "{sql}");
    }
    wire.run("BEGIN").await;
    let again = wire.query("BEGIN").await;
    assert_eq!(warning(&again), "25001: there is already a transaction in progress");
    assert_eq!(status(&again), 'T');
}

/// The statements of one message are one transaction, unless they say otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_a_transaction() {
    let (_server, mut wire) = start().await;
    let ids = "SELECT id FROM docs ORDER BY id";
    let failed = wire.query("INSERT INTO docs VALUES (3, 'x'); SELECT 1 / 0").await;
    assert_eq!((tags(&failed), status(&failed)), (vec!["INSERT 0 1".to_owned()], 'I'));
    assert_eq!(code(&failed), "22012");
    assert_eq!(wire_column(&wire.run(ids).await), ["1", "2"]);
    let done = wire.run("INSERT INTO docs VALUES (3, 'x'); SELECT count(*) FROM docs").await;
    assert_eq!((wire_column(&done), status(&done)), (vec!["3".to_owned()], 'I'));
    let made = wire.query("CREATE TABLE m (id int PRIMARY KEY); INSERT INTO m VALUES (1)").await;
    assert_eq!(tags(&made), ["CREATE TABLE", "INSERT 0 1"]);
    let kept =
        wire.query("DELETE FROM docs WHERE id = 3; BEGIN; DELETE FROM docs WHERE id = 2").await;
    assert_eq!(status(&kept), 'T');
    wire.run("ROLLBACK").await;
    assert_eq!(wire_column(&wire.run(ids).await), ["1", "2", "3"]);
    let halves = "DELETE FROM docs WHERE id = 3; COMMIT; DELETE FROM docs; SELECT 1 / 0";
    assert_eq!(code(&wire.query(halves).await), "22012");
    assert_eq!(wire_column(&wire.run(ids).await), ["1", "2"]);
}

/// So is what comes up to Sync.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_a_transaction() {
    let (_server, mut wire) = start().await;
    let run = |sql: &str| {
        [parse("", sql, &[]), bind("", "", &Values::default()), execute("", 0)].concat()
    };
    let ids = "SELECT id FROM docs ORDER BY id";
    let (insert, fail) = (run("INSERT INTO docs VALUES (3, 'x')"), run("SELECT 1 / 0"));
    let answer = wire.ask(&[insert.clone(), fail, insert.clone(), sync()].concat()).await;
    assert_eq!((code(&answer), kinds(&answer)), ("22012".to_owned(), "12C12EZ".to_owned()));
    assert_eq!(wire_column(&wire.run(ids).await), ["1", "2"]);
    let taken = wire.ask(&[insert.clone(), insert.clone(), sync()].concat()).await;
    assert_eq!(code(&taken), "23505");
    assert_eq!(wire_column(&wire.run(ids).await), ["1", "2"]);
    let (delete, seen) = (run("DELETE FROM docs WHERE id = 1"), run(ids));
    let answer = wire.ask(&[insert, delete, seen, sync()].concat()).await;
    assert_eq!(
        (wire_column(&answer), status(&answer)),
        (vec!["2".to_owned(), "3".to_owned()], 'I')
    );
    assert_eq!(wire_column(&wire.run(ids).await), ["2", "3"]);
}

/// A portal lives until its transaction ends, and shows the rows it began with.
#[tokio::test(flavor = "multi_thread")]
async fn portals_last_as_long_as_their_transaction() {
    let (_server, mut wire) = start().await;
    wire.run("BEGIN; INSERT INTO docs SELECT i, 'x' FROM generate_series(3, 9) AS g(i)").await;
    let messages = [
        parse("", "SELECT id FROM docs ORDER BY id", &[]),
        bind("p", "", &Values::default()),
        execute("p", 2),
        sync(),
    ];
    assert_eq!(wire_column(&wire.ask(&messages.concat()).await), ["1", "2"]);
    wire.run("DELETE FROM docs WHERE id > 2").await;
    let rest = wire.ask(&[execute("p", 0), sync()].concat()).await;
    assert_eq!(wire_column(&rest), ["3", "4", "5", "6", "7", "8", "9"]);
    wire.run("COMMIT").await;
    let late = wire.ask(&[execute("p", 1), sync()].concat()).await;
    assert_eq!(code(&late), "34000");
    assert_eq!(wire_column(&wire.run("SELECT id FROM docs ORDER BY id").await), ["1", "2"]);
}

/// A cursor of SQL is a portal that can be described and closed, as drivers do.
#[tokio::test(flavor = "multi_thread")]
async fn cursors_are_portals() {
    let (_server, mut wire) = start().await;
    wire.run("BEGIN").await;
    wire.run("DECLARE c CURSOR FOR SELECT id, title AS name FROM docs ORDER BY id").await;
    let described = wire.ask(&[describe(b'P', "c"), sync()].concat()).await;
    assert_eq!(kinds(&described), "TZ");
    let names: Vec<String> = described[0].columns().into_iter().map(|column| column.0).collect();
    assert_eq!(names, ["id", "name"]);
    let fetch = [
        parse("", "FETCH FORWARD 1 FROM c", &[]),
        bind("", "", &Values { results: &[1], ..Values::default() }),
        describe(b'P', ""),
        execute("", 0),
        sync(),
    ];
    let answer = wire.ask(&fetch.concat()).await;
    assert_eq!((kinds(&answer), tags(&answer)), ("12TDCZ".to_owned(), vec!["FETCH 1".to_owned()]));
    wire.ask(&[close(b'P', "c"), sync()].concat()).await;
    assert_eq!(code(&wire.query("FETCH c").await), "34000");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_transaction_ends_when_it_is_told_to() {
    let (_server, mut wire) = start().await;
    wire.run("SET idle_in_transaction_session_timeout = 100").await;
    wire.run("BEGIN; DELETE FROM docs").await;
    let last = wire.next().await.expect("a last word").fields();
    assert_eq!((last[&'S'].as_str(), last[&'C'].as_str()), ("FATAL", "25P03"));
}

/// A driver's transactions, with values.
#[tokio::test(flavor = "multi_thread")]
async fn a_driver_commits_and_rolls_back() {
    let (server, _wire) = start().await;
    let mut client = server.connect().await;
    let insert = "INSERT INTO docs VALUES ($1, $2)";
    let transaction = client.transaction().await.unwrap();
    for id in 10..20_i64 {
        transaction.execute(insert, &[&id, &"ten"]).await.unwrap();
    }
    let count = transaction.query_one("SELECT count(*) FROM docs", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 12);
    transaction.commit().await.unwrap();
    let mut transaction = client.transaction().await.unwrap();
    let nested = transaction.savepoint("inner").await.unwrap();
    let taken = nested.execute(insert, &[&10_i64, &"again"]).await.unwrap_err();
    assert_eq!(taken.code().unwrap().code(), "23505");
    nested.rollback().await.unwrap();
    transaction.execute("DELETE FROM docs WHERE id >= $1", &[&10_i64]).await.unwrap();
    drop(transaction);
    let count = client.query_one("SELECT count(*) FROM docs", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 12, "dropped without a commit");
}

/// Searches in a transaction walk the table's graph and find its own rows and no one else's, however
/// the graph goes on meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn searches_see_the_rows_of_their_transaction() {
    let server = TestServer::start().await;
    let (client, other) = (server.connect().await, server.connect().await);
    let vectors = |from: u32, to: u32| {
        format!(
            "INSERT INTO p SELECT i, i % 7, ('[' || sin(i) || ',' || cos(i * 3) || ',' || sin(i * 7) \
             || ',' || cos(i * 11) || ']')::vector(4) FROM generate_series({from}, {to}) AS g(i)"
        )
    };
    let ddl = "CREATE TABLE p (id bigint PRIMARY KEY, tag bigint, v vector(4))";
    client.simple_query(ddl).await.unwrap();
    client.simple_query(&vectors(1, 6_000)).await.unwrap();
    client.simple_query("CREATE INDEX ON p USING hnsw (v vector_l2_ops)").await.unwrap();
    let target = "'[0.1,0.2,0.3,0.4]'";
    let nearest =
        |filter: &str| format!("SELECT id FROM p {filter} ORDER BY v <-> {target}, id LIMIT 10");
    let by_graph =
        |filter: &str| format!("SELECT id FROM p {filter} ORDER BY v <-> {target} LIMIT 10");

    client.simple_query("BEGIN").await.unwrap();
    let first: i64 = column(&client, &by_graph("")).await[0].parse().unwrap();
    client.simple_query(&format!("DELETE FROM p WHERE id = {first}")).await.unwrap();
    let insert = format!("INSERT INTO p VALUES (90001, 3, {target}), (90002, 4, {target})");
    client.simple_query(&insert).await.unwrap();
    // Others go on, and the graph with them.
    other.simple_query(&vectors(6_001, 9_000)).await.unwrap();
    let insert = format!("INSERT INTO p VALUES (80001, 3, {target}), (80002, 4, {target})");
    other.simple_query(&insert).await.unwrap();
    loop {
        let covered = "SELECT rows = covered_rows FROM azimuth.indexes";
        if value(&other, covered).await == "t" {
            break;
        }
    }
    client.simple_query("SET hnsw.ef_search = 200").await.unwrap();
    for strategy in ["graph", "scan", "exact", "auto"] {
        client.simple_query(&format!("SET hnsw.strategy = {strategy}")).await.unwrap();
        for filter in ["", "WHERE tag = 3", "WHERE id IN (SELECT id FROM p WHERE tag < 5)"] {
            let found = column(&client, &by_graph(filter)).await;
            client.simple_query("SET enable_ann = off").await.unwrap();
            let exact = column(&client, &nearest(filter)).await;
            client.simple_query("SET enable_ann = on").await.unwrap();
            let hits = exact.iter().filter(|id| found.contains(id)).count();
            assert!(hits >= 9, "{strategy} {filter}: {found:?}, exactly {exact:?}");
            assert_eq!(found.len(), 10);
            assert!(found.contains(&"90001".to_owned()), "{strategy} {filter}: {found:?}");
            for id in &found {
                let id: i64 = id.parse().unwrap();
                assert!(id != first && (id <= 6_000 || id > 90_000), "{strategy}: {id}");
            }
        }
        let near = format!("SELECT count(*) FROM p WHERE v <-> {target} < 0.25");
        let with = value(&client, &near).await;
        client.simple_query("SET enable_ann = off").await.unwrap();
        assert_eq!(value(&client, &near).await, with, "range");
        client.simple_query("SET enable_ann = on").await.unwrap();
    }
    client.simple_query("SET hnsw.strategy = graph").await.unwrap();
    let plan = format!("EXPLAIN ANALYZE {}", by_graph(""));
    let plan: String = rows(&client, &plan).await.concat().into_iter().flatten().collect();
    assert!(plan.contains("index=p_v_idx") && plan.contains("strategy=graph,"), "{plan}");
    client.simple_query("COMMIT").await.unwrap();
    client.simple_query("SET hnsw.strategy = auto").await.unwrap();
    let mut found = column(&client, &by_graph("")).await;
    found.truncate(4);
    found.sort();
    assert_eq!(found, ["80001", "80002", "90001", "90002"]);
    assert_eq!(value(&client, "SELECT count(*) FROM p").await, "9003");
}

/// What cannot be sent is refused before anything is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_cannot_be_sent_changes_nothing() {
    let (_server, mut wire) = start().await;
    let sql = "INSERT INTO docs VALUES (3, 'x') RETURNING ARRAY[ARRAY[id]]";
    let binary = Values { results: &[1], ..Values::default() };
    let messages = [parse("", sql, &[]), bind("", "", &binary), execute("", 0), sync()];
    assert_eq!(code(&wire.ask(&messages.concat()).await), "0A000");
    assert_eq!(wire_column(&wire.run("SELECT count(*) FROM docs").await), ["2"]);
    let text = Values::default();
    let messages = [parse("", sql, &[]), bind("", "", &text), execute("", 0), sync()];
    assert_eq!(wire_column(&wire.ask(&messages.concat()).await), ["{{3}}"]);
    // Types that a client declares count in what is returned, too.
    let sql = "INSERT INTO docs VALUES ($1, 'x') RETURNING id + $2";
    let messages = [
        parse("", sql, &[20, 20]),
        bind("", "", &Values { values: &[Some(b"4"), Some(b"6")], ..Values::default() }),
        execute("", 0),
        sync(),
    ];
    assert_eq!(wire_column(&wire.ask(&messages.concat()).await), ["10"]);
}

/// A cursor that comes later, and one in a message of several statements.
#[tokio::test(flavor = "multi_thread")]
async fn cursors_come_when_they_are_declared() {
    let (_server, mut wire) = start().await;
    let sql = "DECLARE c CURSOR FOR SELECT id FROM docs ORDER BY id; FETCH ALL c";
    assert_eq!(wire_column(&wire.run(sql).await), ["1", "2"]);
    assert_eq!(code(&wire.query("FETCH c").await), "34000");
    wire.run("BEGIN").await;
    assert_eq!(kinds(&wire.ask(&[parse("f", "FETCH c", &[]), sync()].concat()).await), "1Z");
    let declare = [
        parse("", "DECLARE c CURSOR FOR SELECT title FROM docs WHERE id = $1", &[]),
        bind("", "", &Values { values: &[Some(b"2")], ..Values::default() }),
        execute("", 0),
        sync(),
    ];
    assert_eq!(tags(&wire.ask(&declare.concat()).await), ["DECLARE CURSOR"]);
    let fetch = [bind("", "f", &Values::default()), execute("", 0), sync()].concat();
    assert_eq!(wire_column(&wire.ask(&fetch).await), ["two"]);
}
