//! `azimuth check`.
#![expect(clippy::print_stdout, reason = "the output of a command")]

use indicatif::ProgressBar;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::config::ServerConfig;
use crate::error::ServerError;

/// Has a running server read every file of every table against its checksums.
pub(super) async fn run(config: &ServerConfig) -> Result<(), ServerError> {
    let failed = |error: tokio_postgres::Error| {
        let told = error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string);
        ServerError::Check(format!("{} at {}", told, config.pg))
    };
    let (host, port) = (config.pg.ip(), config.pg.port());
    let settings = format!("host={host} port={port} user=azimuth dbname=azimuth");
    let (client, connection) = tokio_postgres::connect(&settings, NoTls).await.map_err(failed)?;
    let connection = tokio::spawn(connection);
    let known = "SELECT namespace, collection FROM azimuth.collections ORDER BY 1, 2";
    let tables = client.query(known, &[]).await.map_err(failed)?;
    let bar = ProgressBar::new(tables.len() as u64);
    let mut damaged = 0;
    for table in &tables {
        let [namespace, name] = [0, 1].map(|at| table.get::<_, String>(at).replace('"', "\"\""));
        let checked =
            client.batch_execute(&format!("CHECK TABLE \"{namespace}\".\"{name}\"")).await;
        match checked {
            Ok(()) => {}
            Err(error) if error.code() == Some(&SqlState::DATA_CORRUPTED) => {
                bar.suspend(|| println!("DAMAGED {namespace}.{name}: {}", failed(error)));
                damaged += 1;
            }
            // Dropped meanwhile.
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {}
            Err(error) => return Err(failed(error)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    drop(client);
    if let Ok(Err(error)) = connection.await {
        return Err(failed(error));
    }
    if damaged > 0 {
        return Err(ServerError::Damaged(damaged));
    }
    println!("all {} tables are whole", tables.len());
    Ok(())
}
