//! The extended protocol: prepared statements, portals, and what an error skips.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use engine::{
    Described, EngineError, Outcome, ParsedStatement, ScalarValue, Session, TransactionStatus,
    pg_types,
};
use tokio_util::sync::CancellationToken;
use types::SqlState;

use crate::connection::Connection;
use crate::encode::Column;
use crate::error::ConnectionError;
use crate::message::{Bind, Format, Frontend, Target};
use crate::parameter;
use crate::rows::{Formats, Rows, describe};

type Result<T> = std::result::Result<T, ConnectionError>;
type Answer<T> = std::result::Result<T, EngineError>;

/// Prepared statements or portals of one connection.
const NAMES_MAX: usize = 10_000;

/// A prepared statement.
#[derive(Debug)]
struct Prepared {
    /// `None` for an empty statement.
    statement: Option<ParsedStatement>,
    described: Described,
}

/// A statement with its values, run as far as the client asked.
#[derive(Debug)]
struct Portal {
    prepared: Arc<Prepared>,
    values: Vec<ScalarValue>,
    formats: Formats,
    state: PortalState,
}

#[derive(Debug)]
enum PortalState {
    Bound,
    Running(Box<Rows>, CancellationToken),
    Done,
}

/// The extended protocol's state.
#[derive(Debug, Default)]
pub(crate) struct Extended {
    statements: HashMap<String, Arc<Prepared>>,
    portals: HashMap<String, Portal>,
    /// An error was reported: everything is skipped up to the next Sync.
    failed: bool,
}

impl Extended {
    /// Whether messages are skipped up to the next Sync.
    pub(crate) fn is_skipping(&self) -> bool {
        self.failed
    }

    /// A simple query ends the unnamed statement and portal.
    pub(crate) fn forget_unnamed(&mut self) {
        self.statements.remove("");
        self.portals.remove("");
    }

    /// Portals end with their transaction.
    pub(crate) fn end_portals(&mut self, connection: &Connection) {
        if connection.session.transaction_status() == TransactionStatus::Idle {
            self.portals.clear();
        }
    }

    /// Forgets one prepared statement, or all.
    pub(crate) fn deallocate(&mut self, name: Option<&str>) {
        match name {
            Some(name) => {
                self.statements.remove(name);
            }
            None => self.statements.clear(),
        }
    }

    /// Handles a message of the extended protocol.
    pub(crate) async fn handle(
        &mut self,
        connection: &mut Connection,
        frontend: Frontend,
    ) -> Result<()> {
        match frontend {
            Frontend::Sync => {
                self.failed = false;
                if let Err(error) = connection.session.end_implicit().await {
                    connection.error(&error);
                }
                self.end_portals(connection);
                connection.report_settings();
                connection.out.ready(connection.session.transaction_status());
                return connection.flush().await;
            }
            Frontend::Flush => return connection.flush().await,
            _ if self.failed => return Ok(()),
            _ => {}
        }
        let answer = match frontend {
            Frontend::Parse { name, sql, types } => {
                self.parse(connection, name, &sql, &types).await
            }
            Frontend::Bind(bind) => self.bind(connection, bind),
            Frontend::Describe(target) => self.describe(connection, &target),
            Frontend::Execute { portal, max_rows } => {
                self.execute(connection, &portal, max_rows).await?
            }
            Frontend::Close(target) => {
                match target {
                    Target::Statement(name) => drop(self.statements.remove(&name)),
                    Target::Portal(name) => {
                        self.portals.remove(&name);
                        connection.session.forget_cursor(&name);
                    }
                }
                connection.out.bare(b'3');
                Ok(())
            }
            _ => Err(EngineError::bug("not a message of the extended protocol")),
        };
        if let Err(error) = answer {
            self.failed = true;
            connection.error(&error);
        }
        connection.flush_if_full().await
    }

    async fn parse(
        &mut self,
        connection: &mut Connection,
        name: String,
        sql: &str,
        types: &[u32],
    ) -> Answer<()> {
        if !name.is_empty() && self.statements.contains_key(&name) {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(EngineError::new(SqlState::DUPLICATE_PREPARED_STATEMENT, message));
        }
        if self.statements.len() >= NAMES_MAX {
            let message = format!("a connection has at most {NAMES_MAX} prepared statements");
            return Err(EngineError::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message));
        }
        let mut statements = Session::parse(sql)?;
        if statements.len() > 1 {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(EngineError::syntax(message));
        }
        connection.session.begin_statement();
        let prepared = match statements.pop() {
            Some(statement) => {
                let (statement, described) = connection.session.describe(statement, types).await?;
                Prepared { statement: Some(statement), described }
            }
            None => Prepared {
                statement: None,
                described: Described { parameters: Vec::new(), columns: None },
            },
        };
        self.statements.insert(name, Arc::new(prepared));
        connection.out.bare(b'1');
        Ok(())
    }

    fn prepared(&self, name: &str) -> Answer<&Arc<Prepared>> {
        self.statements.get(name).ok_or_else(|| {
            let message = format!("prepared statement \"{name}\" does not exist");
            EngineError::new(SqlState::INVALID_SQL_STATEMENT_NAME, message)
        })
    }

    fn bind(&mut self, connection: &mut Connection, bind: Bind) -> Answer<()> {
        let prepared = Arc::clone(self.prepared(&bind.statement)?);
        connection.session.check_not_failed(prepared.statement.as_ref())?;
        let expected = prepared.described.parameters.len();
        if bind.values.len() != expected {
            let message = format!(
                "bind message supplies {} parameters, but prepared statement \"{}\" requires {expected}",
                bind.values.len(),
                bind.statement
            );
            return Err(EngineError::new(SqlState::PROTOCOL_VIOLATION, message));
        }
        let columns = prepared.described.columns.as_ref().map_or(0, |schema| schema.fields().len());
        let fits = |formats: &[Format], count: usize| formats.len() <= 1 || formats.len() == count;
        if !fits(&bind.formats, expected) || !fits(&bind.results, columns) {
            let message = "bind message has a wrong number of format codes";
            return Err(EngineError::new(SqlState::PROTOCOL_VIOLATION, message));
        }
        if self.portals.len() >= NAMES_MAX {
            let message = format!("a connection has at most {NAMES_MAX} portals");
            return Err(EngineError::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message));
        }
        let results = Formats(bind.results);
        // Told before anything is done that could not be sent.
        for (at, field) in prepared.described.columns.iter().flat_map(|c| c.fields()).enumerate() {
            let nothing = arrow::array::new_empty_array(field.data_type());
            Column::new(&nothing, pg_types::oid_of_field(field).0, results.of(at))?;
        }
        let formats = Formats(bind.formats);
        let values: Answer<Vec<ScalarValue>> = bind
            .values
            .iter()
            .zip(&prepared.described.parameters)
            .enumerate()
            .map(|(at, (value, field))| parameter::read(field, formats.of(at), value.as_ref()))
            .collect();
        let portal =
            Portal { prepared, values: values?, formats: results, state: PortalState::Bound };
        self.portals.insert(bind.portal, portal);
        connection.out.bare(b'2');
        Ok(())
    }

    fn describe(&self, connection: &mut Connection, target: &Target) -> Answer<()> {
        let (columns, formats): (Option<&SchemaRef>, Formats) = match target {
            Target::Statement(name) => {
                let prepared = self.prepared(name)?;
                let oid = |field: &arrow::datatypes::FieldRef| pg_types::oid_of_field(field).0;
                let oids: Vec<u32> = prepared.described.parameters.iter().map(oid).collect();
                connection.out.parameter_description(&oids);
                (prepared.described.columns.as_ref(), Formats::default())
            }
            Target::Portal(name) => {
                match (self.portals.get(name), connection.session.cursor(name)) {
                    (Some(portal), _) => {
                        (portal.prepared.described.columns.as_ref(), portal.formats.clone())
                    }
                    (None, Some(columns)) => (Some(columns), Formats::default()),
                    (None, None) => return Err(no_portal(name)),
                }
            }
        };
        match columns {
            Some(columns) => connection.out.row_description(&describe(columns, &formats)),
            None => connection.out.bare(b'n'),
        }
        Ok(())
    }

    /// The outer error ends the connection.
    async fn execute(
        &mut self,
        connection: &mut Connection,
        name: &str,
        max_rows: usize,
    ) -> Result<Answer<()>> {
        // Taken out while it runs, so that the statement itself may forget statements.
        let Some(mut portal) = self.portals.remove(name) else { return Ok(Err(no_portal(name))) };
        let answer = self.run(connection, &mut portal, max_rows).await?;
        if answer.is_ok() {
            self.portals.insert(name.to_owned(), portal);
        }
        Ok(answer)
    }

    async fn run(
        &mut self,
        connection: &mut Connection,
        portal: &mut Portal,
        max_rows: usize,
    ) -> Result<Answer<()>> {
        let Some(statement) = &portal.prepared.statement else {
            connection.out.bare(b'I');
            return Ok(Ok(()));
        };
        if let Err(error) = connection.session.check_not_failed(Some(statement)) {
            return Ok(Err(error));
        }
        if let PortalState::Bound = portal.state {
            // What comes up to Sync is one transaction; a statement alone needs none.
            if statement.is_transactional()
                && connection.session.transaction_status() == TransactionStatus::Idle
                && !connection.sync_is_next().await
            {
                connection.session.begin_implicit();
            }
            let token = connection.session.begin_statement();
            let values = std::mem::take(&mut portal.values);
            let outcome = match connection.session.execute(statement, values).await {
                Ok(outcome) => outcome,
                Err(error) => return Ok(Err(error)),
            };
            match outcome {
                Outcome::Rows(stream) => {
                    let described = portal.prepared.described.columns.as_ref();
                    let checked = pg_types::check_described(described, stream.schema());
                    // The cursor may have come after the statement that fetches from it.
                    if let Err(error) = checked
                        && !(described.is_none() && statement.is_fetch())
                    {
                        return Ok(Err(error));
                    }
                    let rows = Box::new(Rows::new(stream, portal.formats.clone()));
                    portal.state = PortalState::Running(rows, token);
                }
                Outcome::CopyOut(copy) => {
                    portal.state = PortalState::Done;
                    return Ok(connection.copy_out(*copy, &token).await?.map(|tag| {
                        connection.out.command_complete(&tag);
                    }));
                }
                Outcome::CopyIn(copy) => {
                    portal.state = PortalState::Done;
                    return Ok(connection.copy_in(*copy, &token).await?.map(|tag| {
                        connection.out.command_complete(&tag);
                    }));
                }
                other => {
                    portal.state = PortalState::Done;
                    connection.finish(other, self);
                    return Ok(Ok(()));
                }
            }
        }
        match &mut portal.state {
            PortalState::Running(rows, token) => {
                let most = if max_rows == 0 { usize::MAX } else { max_rows };
                match connection.send_rows(rows, most, token).await? {
                    Ok(true) => {
                        let tag = rows.tag();
                        connection.out.command_complete(&tag);
                        portal.state = PortalState::Done;
                    }
                    Ok(false) => connection.out.bare(b's'),
                    Err(error) => return Ok(Err(error)),
                }
            }
            PortalState::Bound | PortalState::Done => connection.out.command_complete("SELECT 0"),
        }
        Ok(Ok(()))
    }
}

fn no_portal(name: &str) -> EngineError {
    let message = format!("portal \"{name}\" does not exist");
    EngineError::new(SqlState::INVALID_CURSOR_NAME, message)
}
