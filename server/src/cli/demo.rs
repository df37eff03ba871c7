//! `azimuth demo`: the main job from end to end, through the wire like any client.
#![expect(clippy::print_stdout, reason = "the demonstration is its output")]

use std::fmt::Write as _;

use bytes::Bytes;
use futures::SinkExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_postgres::{Client, NoTls};

use super::sample::{self, DIM, Sentence};
use super::serve::{announce, until_stopped};
use crate::config::ServerConfig;
use crate::error::ServerError;

/// Rows sent between two moves of the bar.
const ROWS_STEP: usize = 200;
/// Sentences searched for.
const SEARCHES: usize = 4;

fn failed(error: impl std::fmt::Display) -> ServerError {
    ServerError::Demo(error.to_string())
}

/// Serves, loads the sample if it is not there, searches, and keeps serving unless `once`.
pub(super) async fn run(config: &ServerConfig, once: bool) -> Result<(), ServerError> {
    let running = announce(config).await?;
    let address = running.address();
    let settings =
        format!("host={} port={} user=azimuth dbname=azimuth", address.ip(), address.port());
    let (client, connection) = tokio_postgres::connect(&settings, NoTls).await.map_err(failed)?;
    let connection = tokio::spawn(connection);
    load(&client).await?;
    for sentence in sample::sentences().iter().take(SEARCHES) {
        search(&client, sentence).await?;
    }
    drop(client);
    if let Ok(Err(error)) = connection.await {
        return Err(failed(error));
    }
    if once {
        return running.stop().await;
    }
    println!("{}", invitation(address.port()));
    until_stopped(running).await
}

async fn load(client: &Client) -> Result<(), ServerError> {
    let there = client
        .query_one("SELECT count(*) FROM pg_class WHERE relname = 'words'", &[])
        .await
        .map_err(failed)?;
    if there.get::<_, i64>(0) > 0 {
        println!("the sample is loaded already");
        return Ok(());
    }
    client
        .batch_execute(&format!(
            "CREATE TABLE words (id bigint PRIMARY KEY, words text NOT NULL, gloss text NOT NULL, \
             embedding vector({DIM}));
             CREATE TABLE sentences (id bigint PRIMARY KEY, text text NOT NULL, \
             embedding vector({DIM}))"
        ))
        .await
        .map_err(failed)?;
    let synsets = sample::synsets();
    let rows = synsets.iter().map(|s| copy_row(s.id, &[s.words, s.gloss], &s.embedding));
    copy(client, "COPY words FROM STDIN", "loading words", rows.collect()).await?;
    let sentences = sample::sentences();
    let rows = (0..).zip(&sentences).map(|(id, s)| copy_row(id, &[s.text], &s.embedding));
    copy(client, "COPY sentences FROM STDIN", "loading sentences", rows.collect()).await?;
    let bar = ProgressBar::new_spinner().with_message("building the index");
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    client
        .batch_execute("CREATE INDEX ON words USING hnsw (embedding vector_cosine_ops)")
        .await
        .map_err(failed)?;
    bar.finish_with_message("built the index");
    println!("loaded {} words and {} sentences", synsets.len(), sentences.len());
    Ok(())
}

/// A row in COPY's text format.
fn copy_row(id: i64, texts: &[&str], embedding: &[f32]) -> String {
    let mut row = id.to_string();
    for text in texts {
        row.push('\t');
        row.push_str(&text.replace('\\', "\\\\"));
    }
    row.push_str("\t[");
    for (at, value) in embedding.iter().enumerate() {
        let separator = if at > 0 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(row, "{separator}{value}");
    }
    row.push_str("]\n");
    row
}

async fn copy(
    client: &Client,
    statement: &str,
    what: &'static str,
    rows: Vec<String>,
) -> Result<(), ServerError> {
    let bar = ProgressBar::new(rows.len() as u64).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} {elapsed}") {
        bar.set_style(style.progress_chars("=> "));
    }
    let sink = client.copy_in::<_, Bytes>(statement).await.map_err(failed)?;
    let mut sink = std::pin::pin!(sink);
    for piece in rows.chunks(ROWS_STEP) {
        sink.send(Bytes::from(piece.concat())).await.map_err(failed)?;
        bar.inc(piece.len() as u64);
    }
    let copied = sink.finish().await.map_err(failed)?;
    bar.finish();
    if copied != rows.len() as u64 {
        return Err(failed(format!("{copied} of {} rows were copied", rows.len())));
    }
    Ok(())
}

async fn search(client: &Client, sentence: &Sentence) -> Result<(), ServerError> {
    let mut vector = String::new();
    engine::write_vector(&mut vector, engine::Row::Full(&sentence.embedding));
    let statement = format!(
        "SELECT words, gloss, embedding <=> '{vector}' AS distance FROM words \
         ORDER BY distance LIMIT 3"
    );
    println!("\nnearest to \"{}\":", sentence.text);
    for row in client.query(&statement, &[]).await.map_err(failed)? {
        let (words, gloss): (&str, &str) = (row.get(0), row.get(1));
        let distance: f64 = row.get(2);
        let gloss: String = gloss.chars().take(60).collect();
        println!("  {distance:.3}  {words:<28} {gloss}");
    }
    Ok(())
}

fn invitation(port: u16) -> String {
    format!(
        "
try, in another terminal:

  psql -h 127.0.0.1 -p {port} -U azimuth azimuth

  \\d words
  SELECT id, text FROM sentences ORDER BY id LIMIT 10;
  SELECT words, gloss FROM words
    ORDER BY embedding <=> (SELECT embedding FROM sentences WHERE id = 7) LIMIT 5;
  SELECT words FROM words WHERE gloss LIKE '%music%'
    ORDER BY embedding <=> (SELECT embedding FROM sentences WHERE id = 3) LIMIT 5;
  DELETE FROM words WHERE id < 1000;
  SELECT count(*) FROM words AS OF TIMESTAMP now() - interval '1 minute';

press Ctrl-C to stop"
    )
}
