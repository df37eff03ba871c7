//! Searches over the PostgreSQL protocol from many connections, and prints queries per second,
//! latencies and recall@10 for each value of a
//! setting, as JSON for the harnesses in `versus/`. Speaks to Azimuth and
//! to PostgreSQL with pgvector alike.
//!
//! `wire-load CONNECTION DATA.npy QUERIES.npy [name=value ...]` with `table`, which has the rows of
//! DATA by `id` and their vectors as `embedding`, `connections`, `seconds`, `set` (a setting,
//! `hnsw.ef_search` unless given) and `values` of it (a list with commas).
//! One statement is prepared on each connection; vectors travel in binary form. Cosine distance.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the result is the output")]
#![expect(clippy::disallowed_methods, reason = "measures time")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, NoTls, Statement};
use types::Distance;
use vector::{Matrix, Metric, flat};

const K: usize = 10;

/// A vector in pgvector's binary form.
#[derive(Debug)]
struct PgVector<'a>(&'a [f32]);

impl ToSql for PgVector<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u16(u16::try_from(self.0.len())?);
        out.put_u16(0);
        self.0.iter().for_each(|value| out.put_f32(*value));
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        kind.name() == "vector"
    }

    to_sql_checked!();
}

struct Arguments {
    table: String,
    connections: usize,
    seconds: f64,
    setting: String,
    values: Vec<String>,
}

impl Arguments {
    fn parse(args: &[String]) -> Result<Self, String> {
        let values = [16, 24, 32, 48, 64, 96, 128, 192, 256].map(|ef| ef.to_string()).to_vec();
        let (table, setting) = ("wire".to_owned(), "hnsw.ef_search".to_owned());
        let mut arguments = Self { table, connections: 16, seconds: 3.0, setting, values };
        for arg in args {
            let (name, value) = arg.split_once('=').ok_or(format!("{arg}: not name=value"))?;
            let wrong = |error: &dyn std::fmt::Display| format!("{arg}: {error}");
            match name {
                "table" => value.clone_into(&mut arguments.table),
                "connections" => {
                    arguments.connections = value.parse().map_err(|e| wrong(&e))?;
                }
                "seconds" => arguments.seconds = value.parse().map_err(|e| wrong(&e))?,
                "set" => value.clone_into(&mut arguments.setting),
                "values" => {
                    arguments.values = value.split(',').map(str::to_owned).collect();
                }
                _ => return Err(format!("{arg}: no such option")),
            }
        }
        Ok(arguments)
    }
}

/// Rows that are as near as the tenth nearest, of each query.
fn truth(matrix: &Matrix, queries: &Matrix) -> Vec<Vec<i32>> {
    let metric = Metric::new(Distance::Cosine);
    let rows = u32::try_from(matrix.rows()).unwrap_or(u32::MAX);
    let nearest = |query: &[f32]| {
        let found = flat::search(&metric, &metric.probe(query), matrix, 0..rows, K).0;
        found.iter().filter_map(|n| i32::try_from(n.ordinal).ok()).collect()
    };
    (0..).map_while(|at| queries.vector(at)).map(nearest).collect()
}

async fn search(client: &Client, statement: &Statement, query: &[f32]) -> Result<Vec<i32>, String> {
    let rows = client.query(statement, &[&PgVector(query)]).await.map_err(|e| e.to_string())?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Asks again and again until the time is over; the latencies in microseconds.
async fn ask(
    client: Client,
    statement: Statement,
    queries: Arc<Matrix>,
    (next, end): (Arc<AtomicUsize>, Instant),
) -> Result<Vec<u64>, String> {
    let mut times = Vec::new();
    while Instant::now() < end {
        let at = next.fetch_add(1, Ordering::Relaxed) % queries.rows();
        let query = u32::try_from(at).ok().and_then(|at| queries.vector(at)).unwrap_or_default();
        let began = Instant::now();
        search(&client, &statement, query).await?;
        times.push(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    Ok(times)
}

async fn connect(place: &str, sql: &str, set: &str) -> Result<(Client, Statement), String> {
    let (client, connection) =
        tokio_postgres::connect(place, NoTls).await.map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    client.batch_execute(set).await.map_err(|e| e.to_string())?;
    let statement = client.prepare(sql).await.map_err(|e| e.to_string())?;
    Ok((client, statement))
}

async fn measure(
    (place, sql): (&str, &str),
    arguments: &Arguments,
    queries: &Arc<Matrix>,
    (value, truth): (&str, &[Vec<i32>]),
) -> Result<serde_json::Value, String> {
    let mut hits = 0;
    let mut clients = Vec::new();
    let set = format!("SET {} = {value}", arguments.setting);
    for _ in 0..arguments.connections {
        clients.push(connect(place, sql, &set).await?);
    }
    for (at, near) in (0..).zip(truth) {
        let (client, statement) = &clients[at as usize % clients.len()];
        let found = search(client, statement, queries.vector(at).unwrap_or_default()).await?;
        hits += found.iter().filter(|id| near.contains(id)).count();
    }
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(arguments.seconds);
    let asking: Vec<_> = clients
        .into_iter()
        .map(|(client, statement)| {
            let (queries, next) = (Arc::clone(queries), Arc::clone(&next));
            tokio::spawn(ask(client, statement, queries, (next, end)))
        })
        .collect();
    let mut times = Vec::new();
    for task in asking {
        times.extend(task.await.map_err(|e| e.to_string())??);
    }
    let seconds = began.elapsed().as_secs_f64();
    times.sort_unstable();
    let millis = |share: usize| {
        times.get(times.len() * share / 100).map_or(0.0, |micros| *micros as f64 / 1e3)
    };
    Ok(serde_json::json!({
        "value": value,
        "recall": hits as f64 / (K * truth.len()) as f64,
        "qps": times.len() as f64 / seconds,
        "p50_ms": millis(50),
        "p99_ms": millis(99),
    }))
}

fn main() -> Result<(), String> {
    let args: Vec<String> = std::env::args().collect();
    let [_, place, data, queries, rest @ ..] = &args[..] else {
        return Err("usage: wire-load CONNECTION DATA.npy QUERIES.npy [name=value ...]".to_owned());
    };
    let arguments = Arguments::parse(rest)?;
    let read = |path: &String| benches::npy::read(Path::new(path));
    let (data, queries) = (read(data)?, read(queries)?);
    let matrix = Matrix::new(data.columns, data.values);
    let queries = Arc::new(Matrix::new(queries.columns, queries.values));
    let truth = truth(&matrix, &queries);
    let table = &arguments.table;
    let sql = format!("SELECT id FROM {table} ORDER BY embedding <=> $1 LIMIT {K}");
    // The load itself shall not take the second core from the server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let points: Result<Vec<_>, String> = runtime.map_err(|e| e.to_string())?.block_on(async {
        let mut points = Vec::new();
        for value in &arguments.values {
            let place = (place.as_str(), sql.as_str());
            points.push(measure(place, &arguments, &queries, (value, &truth)).await?);
        }
        Ok(points)
    });
    println!("{:#}", serde_json::json!({ "points": points? }));
    Ok(())
}
