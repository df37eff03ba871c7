//! A session as sqllogictest sees it: simple queries, every value as text.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;

use async_trait::async_trait;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::connect;

/// First line of a statement whose column names are wanted instead of its rows, one name a row.
const COLUMNS: &str = "-- columns";

/// A session.
#[derive(Debug)]
pub struct WireDb {
    client: Client,
}

impl WireDb {
    /// A new session at `address`.
    ///
    /// # Errors
    /// When the login fails.
    pub async fn connect(address: SocketAddr) -> Result<Self, WireError> {
        Ok(Self { client: connect(address).await? })
    }
}

/// What the server answered, or why there is no answer: `42P01: relation "t" does not exist`, then
/// detail and hint on lines of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireError {
    state: Option<String>,
    text: String,
}

impl From<tokio_postgres::Error> for WireError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(answer) = error.as_db_error() else {
            let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
            return Self { state: None, text: format!("{error}{cause}") };
        };
        let state = answer.code().code().to_owned();
        let mut text = format!("{state}: {}", answer.message());
        for (label, more) in [("DETAIL", answer.detail()), ("HINT", answer.hint())] {
            if let Some(more) = more {
                text.push_str(&format!("\n{label}: {more}"));
            }
        }
        Self { state: Some(state), text }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for WireError {}

/// A value as `.slt` files write it.
fn cell(value: Option<&str>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some("") => "(empty)".to_owned(),
        Some(text) => text.to_owned(),
    }
}

#[async_trait]
impl AsyncDB for WireDb {
    type Error = WireError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, WireError> {
        let mut columns = None;
        let mut rows = Vec::new();
        let mut count = 0;
        for message in self.client.simple_query(sql).await? {
            match message {
                SimpleQueryMessage::RowDescription(described) => columns = Some(described),
                SimpleQueryMessage::Row(row) => {
                    rows.push((0..row.len()).map(|at| cell(row.get(at))).collect());
                }
                SimpleQueryMessage::CommandComplete(affected) => count = affected,
                _ => {}
            }
        }
        let Some(columns) = columns else { return Ok(DBOutput::StatementComplete(count)) };
        if sql.lines().next() == Some(COLUMNS) {
            let names = columns.iter().map(|column| vec![column.name().to_owned()]).collect();
            return Ok(DBOutput::Rows { types: vec![DefaultColumnType::Text], rows: names });
        }
        Ok(DBOutput::Rows { types: vec![DefaultColumnType::Text; columns.len()], rows })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "azimuth"
    }

    fn error_sql_state(error: &WireError) -> Option<String> {
        error.state.clone()
    }
}
