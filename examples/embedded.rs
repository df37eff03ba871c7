//! The engine without a server: open a directory, write, search, look into the past.
//!
//! `cargo run -p examples --bin embedded [DIR]`
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::path::PathBuf;

use arrow::util::pretty::pretty_format_batches;
use engine::{Engine, EngineError, EngineOptions, Outcome, Result, Session};
use types::Principal;

#[tokio::main]
async fn main() -> Result<()> {
    let directory = std::env::args().nth(1).map_or_else(temporary, PathBuf::from);
    let (engine, _report) = Engine::open(EngineOptions::new(&directory, 1))?;
    let mut session = engine.session(Principal::owner())?;
    for statement in [
        "CREATE TABLE fruit (name text PRIMARY KEY, taste vector(3))",
        "INSERT INTO fruit VALUES ('lemon', '[0.9,0.1,0]'), ('plum', '[0.4,0.7,0.1]'), \
         ('fig', '[0,1,0.2]')",
        "CREATE INDEX ON fruit USING hnsw (taste vector_cosine_ops)",
        "SELECT name, taste <=> '[0.1,0.9,0.1]' AS distance FROM fruit ORDER BY distance LIMIT 2",
        "DELETE FROM fruit WHERE name = 'fig'",
        "SELECT name FROM fruit ORDER BY taste <=> '[0.1,0.9,0.1]' LIMIT 1",
    ] {
        run(&mut session, statement).await?;
    }
    engine.close()
}

fn temporary() -> PathBuf {
    std::env::temp_dir().join(format!("azimuth-example-{}", std::process::id()))
}

async fn run(session: &mut Session, sql: &str) -> Result<()> {
    println!("{sql}");
    for statement in Session::parse(sql)? {
        match session.execute(&statement, Vec::new()).await? {
            Outcome::Rows(mut rows) => {
                let mut batches = Vec::new();
                while let Some(batch) = rows.next().await {
                    batches.push(batch?);
                }
                println!("{}", pretty_format_batches(&batches).map_err(EngineError::from)?);
            }
            Outcome::Done { tag, .. } => println!("{tag}"),
            Outcome::CopyIn(_)
            | Outcome::CopyOut(_)
            | Outcome::Deallocate(_)
            | Outcome::DiscardAll => {
                println!("nothing this example sends");
            }
        }
    }
    Ok(())
}
