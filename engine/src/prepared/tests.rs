//! Each execution of a prepared statement against the same statement with its values written in.

use arrow::datatypes::DataType;
use arrow::util::pretty::pretty_format_batches;
use datafusion::common::ScalarValue;
use tempfile::TempDir;
use types::{Principal, VectorKind};

use crate::query::RowStream;
use crate::values;
use crate::{Engine, EngineOptions, Outcome, ParsedStatement, Session};

struct World {
    engine: std::sync::Arc<Engine>,
    session: Session,
    _directory: TempDir,
}

/// A value as the wire reads it.
fn scalar_from_text(data_type: &DataType, text: &str) -> crate::Result<ScalarValue> {
    if let Some((kind, _)) = udfs::vector_shape(data_type) {
        return Ok(udfs::VectorBuilder::literal(kind, 0, text)?);
    }
    values::scalar_from_text(data_type, text)
}

async fn rows(mut stream: RowStream) -> String {
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        match batch {
            Ok(batch) => batches.push(batch),
            Err(error) => return error.to_string(),
        }
    }
    let shown = pretty_format_batches(&batches).unwrap().to_string();
    // Without rows there may be no batch to name the columns.
    if batches.iter().all(|batch| batch.num_rows() == 0) { String::new() } else { shown }
}

impl World {
    async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let (engine, _) = Engine::open(EngineOptions::new(directory.path(), 2)).unwrap();
        let session = engine.session(Principal::owner()).unwrap();
        let mut world = Self { engine, session, _directory: directory };
        for sql in [
            "CREATE TABLE t (id int PRIMARY KEY, grp int, v vector(3))",
            "INSERT INTO t SELECT g, g % 5, ARRAY[sin(g), cos(g), sin(g * 0.3)] \
             FROM generate_series(1, 3000) AS s(g)",
            "CREATE INDEX t_v ON t USING hnsw (v vector_l2_ops)",
        ] {
            world.run(sql).await;
        }
        world
    }

    async fn outcome(&mut self, statement: &ParsedStatement, values: Vec<ScalarValue>) -> String {
        match self.session.execute(statement, values).await {
            Ok(Outcome::Rows(stream)) => rows(stream).await,
            Ok(_) => "done".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    async fn run(&mut self, sql: &str) -> String {
        let statement = Session::parse(sql).unwrap().pop().unwrap();
        self.outcome(&statement, Vec::new()).await
    }

    async fn prepare(&self, sql: &str) -> (ParsedStatement, Vec<DataType>) {
        let statement = Session::parse(sql).unwrap().pop().unwrap();
        let (statement, described) = self.session.describe(statement, &[]).await.unwrap();
        (statement, described.parameters.iter().map(|f| f.data_type().clone()).collect())
    }

    /// Executes a prepared statement and the same with its values in the text.
    async fn check(
        &mut self,
        sql: &str,
        (statement, types): &(ParsedStatement, Vec<DataType>),
        values: &[&str],
    ) {
        let typed = values.iter().zip(types);
        let typed = typed.map(|(text, data_type)| scalar_from_text(data_type, text).unwrap());
        let got = self.outcome(statement, typed.collect()).await;
        let mut text = sql.to_owned();
        for (at, value) in values.iter().enumerate() {
            let vector = value.starts_with('[');
            let literal = if vector { format!("'{value}'") } else { (*value).to_owned() };
            text = text.replace(&format!("${}", at + 1), &literal);
        }
        let expected = self.run(&text).await;
        assert_eq!(got, expected, "{sql} with {values:?}");
    }
}

const SEARCHES: [&str; 6] = [
    "SELECT id FROM t ORDER BY v <-> $1 LIMIT 5",
    "SELECT id, grp, round((v <-> $1)::numeric, 4) AS d FROM t ORDER BY v <-> $1 LIMIT 3 OFFSET 2",
    "SELECT id FROM t WHERE grp = $2 ORDER BY v <-> $1 LIMIT 4",
    "SELECT id + $3 AS sum FROM t WHERE grp = $2 AND id > $3 ORDER BY v <-> $1 LIMIT 4",
    "SELECT max(id), count(*) FROM (SELECT id FROM t ORDER BY v <-> $1 LIMIT 9) AS n",
    "SELECT id FROM t AS a ORDER BY $1 <=> a.v LIMIT 2",
];

const VALUES: [[&str; 3]; 3] =
    [["[0.1,0.2,0.3]", "3", "100"], ["[1,-1,0]", "0", "7"], ["[-0.4,0.9,0.2]", "9", "2990"]];

#[tokio::test(flavor = "multi_thread")]
async fn executions_of_a_kept_plan_answer_as_the_statement_does() {
    let mut world = World::new().await;
    // So that an answer does not depend on which walk met it.
    world.run("SET hnsw.strategy = scan").await;
    let mut prepared = Vec::new();
    for sql in SEARCHES {
        prepared.push((sql, world.prepare(sql).await));
    }
    let changes = [
        "INSERT INTO t VALUES (4001, 3, '[0.1,0.2,0.3]'), (4002, 0, '[1,-1,0]')",
        "UPDATE t SET v = '[5,5,5]', grp = 4 WHERE id = 4001",
        "DELETE FROM t WHERE id % 3 = 0",
        "SET hnsw.strategy = exact",
        "DROP INDEX t_v",
        "CREATE INDEX t_v ON t USING hnsw (v vector_cosine_ops) WITH (quantization = polar4)",
        "SET enable_ann = off",
        "VACUUM t",
        "DELETE FROM t",
    ];
    for change in [""].into_iter().chain(changes) {
        if !change.is_empty() {
            assert_eq!(world.run(change).await, "done", "{change}");
        }
        for (sql, statement) in &prepared {
            for values in VALUES {
                world.check(sql, statement, &values[..statement.1.len()]).await;
            }
            assert!(statement.0.keeps_plan(), "{sql} after {change}");
        }
    }
    // A table of the same name and other columns, and none.
    let (sql, statement) = &prepared[2];
    let narrow = "CREATE TABLE t (id text PRIMARY KEY, grp int, v vector(2))";
    for change in ["DROP TABLE t", narrow] {
        assert_eq!(world.run(change).await, "done");
        if change == narrow {
            world.run("INSERT INTO t VALUES ('a', 3, '[1,2]')").await;
        }
        let values = [VALUES[0][0], VALUES[0][1]].iter().zip(&statement.1);
        let values = values.map(|(text, t)| scalar_from_text(t, text).unwrap()).collect();
        let answer = world.outcome(&statement.0, values).await;
        assert!(answer.contains("\"t\"") || answer.contains("dimension"), "{sql}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_a_kept_plan_does_not_suit_are_planned_apart() {
    let mut world = World::new().await;
    let sql = SEARCHES[2];
    let statement = world.prepare(sql).await;
    for _ in 0..3 {
        world.check(sql, &statement, &["[1,0,0]", "2"]).await;
    }
    assert!(statement.0.keeps_plan());
    let vector =
        |text: &str| scalar_from_text(&udfs::vector_type(VectorKind::Vector, 3), text).unwrap();
    let null_group = vec![vector("[1,0,0]"), ScalarValue::Int32(None)];
    assert_eq!(world.outcome(&statement.0, null_group).await, "");
    let null_vector = vec![
        ScalarValue::try_from(&udfs::vector_type(VectorKind::Vector, 3)).unwrap(),
        ScalarValue::Int32(Some(2)),
    ];
    let answer = world.outcome(&statement.0, null_vector).await;
    assert_eq!(answer.lines().count(), 4 + 4, "rows without a distance: {answer}");
    let short = scalar_from_text(&udfs::vector_type(VectorKind::Vector, 2), "[1,0]").unwrap();
    let answer = world.outcome(&statement.0, vec![short, ScalarValue::Int32(Some(2))]).await;
    assert!(answer.contains("different vector dimensions"), "{answer}");
    world.check(sql, &statement, &["[1,0,0]", "2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_executions_at_once_keep_their_values_apart() {
    let mut world = World::new().await;
    let search = "SELECT id, v, v <-> $1 AS d FROM t ORDER BY v <-> $1 LIMIT 2000";
    // One that is over when its rows are there, and one whose rows are made while they are read.
    for sql in [search, &format!("SELECT * FROM ({search}) AS n WHERE d + (v <-> $1) > 0")] {
        let (statement, types) = world.prepare(sql).await;
        let value = |text: &str| vec![scalar_from_text(&types[0], text).unwrap()];
        let mut alone = Vec::new();
        for text in ["[1,0,0]", "[0,0,1]", "[1,0,0]"] {
            alone.push(world.outcome(&statement, value(text)).await);
        }
        assert!(statement.keeps_plan());
        let mut streams = Vec::new();
        for text in ["[1,0,0]", "[0,0,1]"] {
            match world.session.execute(&statement, value(text)).await.unwrap() {
                Outcome::Rows(stream) => streams.push(stream),
                _ => unreachable!("a query"),
            }
        }
        for (stream, expected) in streams.into_iter().zip(&alone).rev() {
            assert_eq!(&rows(stream).await, expected, "{sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_of_any_size_answer_from_a_kept_plan() {
    let mut world = World::new().await;
    for terms in [1, 60, 300] {
        let sum = "id % 7 + ".repeat(terms);
        let sql = format!("SELECT {sum} id AS sum FROM t ORDER BY v <-> $1 LIMIT 3");
        let statement = world.prepare(&sql).await;
        for value in [VALUES[0][0], VALUES[1][0], VALUES[2][0], VALUES[0][0]] {
            world.check(&sql, &statement, &[value]).await;
        }
        assert!(statement.0.keeps_plan(), "{terms}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_planning_fixes_more_of_is_planned_each_time() {
    let mut world = World::new().await;
    for sql in [
        "SELECT id, now() FROM t ORDER BY v <-> $1 LIMIT 5",
        "SELECT id FROM t ORDER BY v <-> (SELECT v FROM t WHERE id = 7) LIMIT 5",
        "SELECT id FROM t WHERE grp IN (SELECT 3) ORDER BY v <-> $1 LIMIT 5",
        "SELECT a.id FROM t AS a JOIN t AS b ON a.id = b.id ORDER BY a.v <-> $1 LIMIT 5",
        "SELECT id FROM t WHERE grp = 3",
        "SELECT current_setting('hnsw.ef_search'), id FROM t ORDER BY v <-> $1 LIMIT 5",
    ] {
        let (statement, types) = world.prepare(sql).await;
        for _ in 0..4 {
            let value = |t| scalar_from_text(t, "[1,0,0]").unwrap();
            let answer = world.outcome(&statement, types.iter().map(value).collect()).await;
            assert!(answer.starts_with('+'), "{sql}: {answer}");
            assert!(!statement.keeps_plan(), "{sql}");
        }
    }
    // The past stays what it was.
    let newest = crate::timestamp_text(world.engine.store.read_view().at().0);
    let sql = format!("SELECT id FROM t AS OF TIMESTAMP '{newest}' ORDER BY v <-> $1 LIMIT 1");
    let (statement, types) = world.prepare(&sql).await;
    for round in 0..4 {
        let value = vec![scalar_from_text(&types[0], "[7,7,7]").unwrap()];
        let answer = world.outcome(&statement, value).await;
        assert!(!answer.contains("500"), "{round}: {answer}");
        assert!(!statement.keeps_plan());
        world.run(&format!("INSERT INTO t VALUES ({}, 1, '[7,7,7]')", 5_000 + round)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_a_join_filters_is_planned_each_time() {
    let mut world = World::new().await;
    world.run("CREATE TABLE likes (id int)").await;
    world.run("INSERT INTO likes SELECT g FROM generate_series(1, 40) AS s(g)").await;
    let searches = [
        "SELECT t.id FROM t LEFT SEMI JOIN likes l ON l.id = t.id ORDER BY t.v <-> $1 LIMIT 4",
        "SELECT t.id FROM t WHERE t.id IN (SELECT id FROM likes) ORDER BY t.v <-> $1 LIMIT 4",
        "SELECT t.id FROM t JOIN likes l ON l.id = t.id ORDER BY t.v <-> $1 LIMIT 4",
    ];
    let mut prepared = Vec::new();
    for sql in searches {
        prepared.push((sql, world.prepare(sql).await));
    }
    for change in ["", "DELETE FROM likes WHERE id < 35", "INSERT INTO likes VALUES (7), (9)"] {
        if !change.is_empty() {
            world.run(change).await;
        }
        for (sql, statement) in &prepared {
            for _ in 0..3 {
                world.check(sql, statement, &VALUES[0][..1]).await;
            }
            assert!(!statement.0.keeps_plan(), "{sql}");
        }
    }
}
