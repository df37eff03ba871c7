//! One connection: start-up, then messages until the client leaves.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use engine::{
    CopyFormat, CopyIn, CopyOptions, EngineError, Outcome, ParsedStatement, RowStream, Session,
    TransactionStatus, settings,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use types::limits::MESSAGE_BYTES_MAX;
use types::{Principal, SqlState};

use crate::copy_binary::BinaryRows;
use crate::error::{ConnectionError, fields};
use crate::extended::Extended;
use crate::listener::Shared;
use crate::message::{self, Frontend, Out};
use crate::registry::Registered;
use crate::rows::{Formats, Rows, describe};
use crate::startup::{self, Opening};

/// Bytes gathered before they are written to the socket.
const FLUSH_BYTES: usize = 64 << 10;
/// How long to wait for Sync behind a statement before it is taken for one of several.
const SYNC_PATIENCE: Duration = Duration::from_millis(1);
/// Rows encoded between two looks at the buffer and the cancel token.
pub(crate) const ROWS_STEP: usize = 256;

type Result<T> = std::result::Result<T, ConnectionError>;

/// A connection with a session.
pub(crate) struct Connection {
    socket: TcpStream,
    input: BytesMut,
    pub(crate) out: Out,
    pub(crate) session: Session,
    shared: Arc<Shared>,
    /// Values last reported to the client, in the order of `settings::REPORTED`.
    reported: Vec<String>,
    _registered: Registered,
}

/// Serves one connection to its end.
pub(crate) async fn run(mut socket: TcpStream, shared: Arc<Shared>) -> Result<()> {
    let mut input = BytesMut::with_capacity(4_096);
    let opening = tokio::time::timeout(
        shared.options.startup_timeout,
        startup::open(&mut socket, &mut input),
    );
    let opened = match opening.await {
        Ok(opened) => opened,
        Err(_) => Err(ConnectionError::protocol("no startup message in time")),
    };
    let (parameters, minor) = match opened {
        Ok(Opening::Session { parameters, minor }) => (parameters, minor),
        Ok(Opening::Cancel(key)) => {
            shared.registry.cancel(key);
            return Ok(());
        }
        Ok(Opening::Gone) => return Ok(()),
        Err(error) => return dismiss(&mut socket, error).await,
    };
    let Ok(_permit) = Arc::clone(&shared.sessions).try_acquire_owned() else {
        let error =
            EngineError::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
                .with_hint("Close some connections, or raise the limit in the configuration.");
        return dismiss(&mut socket, error.into()).await;
    };
    let session = match log_in(&shared, &parameters) {
        Ok(session) => session,
        Err(error) => return dismiss(&mut socket, error.into()).await,
    };
    let registered = shared.registry.register(session.canceller());
    let mut connection = Connection {
        socket,
        input,
        out: Out::default(),
        session,
        shared,
        reported: Vec::new(),
        _registered: registered,
    };
    connection.greet(&parameters, minor).await?;
    match connection.serve().await {
        Ok(()) => Ok(()),
        Err(error) => {
            connection.report_fatal(&error).await;
            Err(error)
        }
    }
}

/// Tells a client that has no session why it is dropped.
async fn dismiss(socket: &mut TcpStream, error: ConnectionError) -> Result<()> {
    if let Some(last_words) = error.last_words() {
        let mut out = Out::default();
        out.report(b'E', &fields("FATAL", &last_words));
        socket.write_all(&out.buffer).await?;
        socket.shutdown().await?;
    }
    Err(error)
}

/// Until roles exist there is one role and one database.
fn log_in(
    shared: &Arc<Shared>,
    parameters: &[(String, String)],
) -> std::result::Result<Session, EngineError> {
    let find = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, v)| v.as_str());
    let user = find("user").unwrap_or_default();
    if user != Principal::OWNER {
        let message = format!("role \"{user}\" does not exist");
        return Err(EngineError::new(SqlState::INVALID_PASSWORD, message)
            .with_hint(format!("Connect as user {}.", Principal::OWNER)));
    }
    let database = find("database").unwrap_or(user);
    if database != "azimuth" {
        let message = format!("database \"{database}\" does not exist");
        return Err(EngineError::new(SqlState::INVALID_CATALOG_NAME, message)
            .with_hint("The server's database is azimuth."));
    }
    let mut session = shared.engine.session(Principal::owner())?;
    for (name, value) in parameters {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" => apply_options(&mut session, value)?,
            name if name.starts_with("_pq_.") => {}
            name => {
                session.settings_mut().set(name, value)?;
            }
        }
    }
    Ok(session)
}

/// `options=-c name=value`, also written `--name=value`; a backslash keeps a space.
fn apply_options(session: &mut Session, options: &str) -> std::result::Result<(), EngineError> {
    let kept = options.replace("\\ ", "\u{0}");
    let mut words = kept.split_whitespace();
    while let Some(word) = words.next() {
        let assignment = match word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            Some("") => words.next().unwrap_or_default(),
            Some(rest) => rest,
            None => "",
        };
        let Some((name, value)) = assignment.split_once('=') else {
            let message = format!("invalid command-line argument \"{word}\" in options");
            return Err(EngineError::new(SqlState::INVALID_PARAMETER_VALUE, message));
        };
        let value = value.replace('\u{0}', " ");
        session.settings_mut().set(&name.replace('-', "_"), &value)?;
    }
    Ok(())
}

impl Connection {
    async fn greet(&mut self, parameters: &[(String, String)], minor: u32) -> Result<()> {
        let options = parameters.iter().map(|(name, _)| name);
        let unknown: Vec<String> =
            options.filter(|name| name.starts_with("_pq_.")).cloned().collect();
        if minor > 0 || !unknown.is_empty() {
            self.out.negotiate_version(&unknown);
        }
        self.out.authentication_ok();
        self.report_settings();
        let key = self._registered.key;
        self.out.backend_key(key.process, key.secret);
        self.ready();
        self.flush().await
    }

    /// Reports settings whose values the client does not have yet.
    pub(crate) fn report_settings(&mut self) {
        let settings = self.session.settings();
        for (at, name) in settings::REPORTED.iter().enumerate() {
            let value = settings.get(name).unwrap_or_default();
            match self.reported.get_mut(at) {
                Some(reported) if reported == value => continue,
                Some(reported) => value.clone_into(reported),
                None => self.reported.push(value.to_owned()),
            }
            self.out.parameter_status(name, value);
        }
    }

    pub(crate) async fn flush(&mut self) -> Result<()> {
        if !self.out.buffer.is_empty() {
            self.socket.write_all(&self.out.buffer).await?;
            self.out.buffer.clear();
        }
        Ok(())
    }

    /// Writes what has gathered, once it is worth a system call.
    pub(crate) async fn flush_if_full(&mut self) -> Result<()> {
        if self.out.buffer.len() >= FLUSH_BYTES { self.flush().await } else { Ok(()) }
    }

    /// The next message; `None` when the client is gone.
    async fn receive(&mut self) -> Result<Option<Frontend>> {
        loop {
            if let Some(frontend) = message::read(&mut self.input, MESSAGE_BYTES_MAX)? {
                return Ok(Some(frontend));
            }
            if self.socket.read_buf(&mut self.input).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn serve(&mut self) -> Result<()> {
        let mut extended = Extended::default();
        let shutdown = self.shared.shutdown.clone();
        loop {
            let idle = match self.session.transaction_status() {
                TransactionStatus::Idle => None,
                TransactionStatus::Open | TransactionStatus::Failed => {
                    self.session.settings().idle_in_transaction_timeout()
                }
            };
            let frontend = tokio::select! {
                biased;
                frontend = self.receive() => frontend?,
                () = engine::passed(idle) => {
                    let message = "terminating connection due to idle-in-transaction timeout";
                    let state = SqlState::IDLE_IN_TRANSACTION_TIMEOUT;
                    return Err(EngineError::new(state, message).into());
                }
                () = shutdown.cancelled() => {
                    let message = "terminating connection because the server is shutting down";
                    return Err(EngineError::new(SqlState::ADMIN_SHUTDOWN, message).into());
                }
            };
            let Some(frontend) = frontend else { return Ok(()) };
            match frontend {
                Frontend::Terminate => return Ok(()),
                Frontend::Query(_) if extended.is_skipping() => {}
                Frontend::Query(sql) => {
                    extended.forget_unnamed();
                    self.simple_query(&sql, &mut extended).await?;
                }
                // Data of a COPY that has failed already.
                Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_) => {}
                Frontend::Password => {
                    return Err(ConnectionError::protocol("unexpected password message"));
                }
                Frontend::FunctionCall => {
                    self.error(&EngineError::unsupported("the function call message"));
                    self.ready();
                    self.flush().await?;
                }
                other => extended.handle(self, other).await?,
            }
        }
    }

    /// Whether the client has sent Sync behind the message that is being answered.
    pub(crate) async fn sync_is_next(&mut self) -> bool {
        if self.input.is_empty() {
            // Most clients send both at once, if perhaps in two pieces. An error is met again by the
            // next read.
            let arrived = self.socket.read_buf(&mut self.input);
            let _ = tokio::time::timeout(SYNC_PATIENCE, arrived).await;
        }
        message::next_but_close_and_flush(&self.input) == Some(b'S')
    }

    fn ready(&mut self) {
        self.out.ready(self.session.transaction_status());
    }

    /// Queues an error for the client; a transaction that is open has failed with it.
    pub(crate) fn error(&mut self, error: &EngineError) {
        self.session.fail();
        self.out.report(b'E', &fields("ERROR", error));
    }

    async fn report_fatal(&mut self, error: &ConnectionError) {
        if let Some(last_words) = error.last_words() {
            self.out.report(b'E', &fields("FATAL", &last_words));
            // The client may be gone; then there is nobody to tell.
            let _ = self.flush().await;
            let _ = self.socket.shutdown().await;
        }
    }

    async fn simple_query(&mut self, sql: &str, extended: &mut Extended) -> Result<()> {
        match Session::parse(sql) {
            Err(error) => self.error(&error),
            Ok(statements) if statements.is_empty() => match self.session.end_implicit().await {
                Ok(()) => self.out.bare(b'I'),
                Err(error) => self.error(&error),
            },
            Ok(statements) => {
                // Several statements are one transaction.
                let several = statements.len() > 1;
                let mut left = statements.len();
                for statement in statements {
                    left -= 1;
                    if several {
                        self.session.begin_implicit();
                    }
                    let answer = self.simple_statement(&statement, left == 0, extended).await?;
                    if let Err(error) = answer {
                        self.error(&error);
                        break;
                    }
                }
            }
        }
        extended.end_portals(self);
        self.report_settings();
        self.ready();
        self.flush().await
    }

    /// Runs one statement of a simple query; the `last` one ends what its message has begun. The outer
    /// error ends the connection.
    async fn simple_statement(
        &mut self,
        statement: &ParsedStatement,
        last: bool,
        extended: &mut Extended,
    ) -> Result<std::result::Result<(), EngineError>> {
        let token = self.session.begin_statement();
        let outcome = match self.session.execute(statement, Vec::new()).await {
            Ok(outcome) => outcome,
            Err(error) => return Ok(Err(error)),
        };
        match outcome {
            Outcome::Rows(stream) => {
                let mut rows = Rows::new(stream, Formats::default());
                self.out.row_description(&describe(rows.schema(), &Formats::default()));
                if let Err(error) = self.send_rows(&mut rows, usize::MAX, &token).await? {
                    return Ok(Err(error));
                }
                let tag = rows.tag();
                Ok(self.conclude(Outcome::done(tag), last, extended).await)
            }
            Outcome::CopyOut(copy) => match self.copy_out(*copy, &token).await? {
                Ok(tag) => Ok(self.conclude(Outcome::done(tag), last, extended).await),
                Err(error) => Ok(Err(error)),
            },
            Outcome::CopyIn(copy) => match self.copy_in(*copy, &token).await? {
                Ok(tag) => Ok(self.conclude(Outcome::done(tag), last, extended).await),
                Err(error) => Ok(Err(error)),
            },
            other => Ok(self.conclude(other, last, extended).await),
        }
    }

    /// Answers a statement of a simple query, after the commit that it may be the last before.
    async fn conclude(
        &mut self,
        outcome: Outcome,
        last: bool,
        extended: &mut Extended,
    ) -> std::result::Result<(), EngineError> {
        if last {
            self.session.end_implicit().await?;
        }
        self.finish(outcome, extended);
        Ok(())
    }

    /// Answers a statement that has no rows.
    pub(crate) fn finish(&mut self, outcome: Outcome, extended: &mut Extended) {
        match outcome {
            Outcome::Done { tag, notice } => {
                let least = self.session.settings().get("client_min_messages").unwrap_or_default();
                let hushed = notice.as_ref().is_some_and(|notice| match notice.severity {
                    "NOTICE" => matches!(least, "warning" | "error"),
                    _ => least == "error",
                });
                if let Some(notice) = notice.filter(|_| !hushed) {
                    let notice = [
                        (b'S', notice.severity.to_owned()),
                        (b'V', notice.severity.to_owned()),
                        (b'C', notice.state.code().to_owned()),
                        (b'M', notice.message),
                    ];
                    self.out.report(b'N', &notice);
                }
                self.out.command_complete(&tag);
            }
            Outcome::Deallocate(name) => {
                extended.deallocate(name.as_deref());
                let tag = if name.is_some() { "DEALLOCATE" } else { "DEALLOCATE ALL" };
                self.out.command_complete(tag);
            }
            Outcome::DiscardAll => {
                extended.deallocate(None);
                self.out.command_complete("DISCARD ALL");
            }
            Outcome::Rows(_) | Outcome::CopyIn(_) | Outcome::CopyOut(_) => {}
        }
    }

    /// Sends up to `most` rows; true when the result ended. Watches for cancellation between steps
    /// and while waiting for rows or for the client to read.
    pub(crate) async fn send_rows(
        &mut self,
        rows: &mut Rows,
        most: usize,
        token: &CancellationToken,
    ) -> Result<std::result::Result<bool, EngineError>> {
        let timeout = self.session.settings().statement_timeout();
        // What a write returns is told, as the write is done.
        let is_done = rows.is_done();
        let mut expired = pin!(engine::passed(timeout.filter(|_| !is_done)));
        let mut left = most;
        while left > 0 {
            let step = rows.write_some(left.min(ROWS_STEP), &mut self.out);
            let written = tokio::select! {
                written = step => written,
                () = token.cancelled(), if !is_done => Err(EngineError::cancelled()),
                () = &mut expired => Err(engine::timed_out()),
            };
            match written {
                Ok(Some(count)) => left -= count,
                Ok(None) => return Ok(Ok(true)),
                Err(error) => return Ok(Err(error)),
            }
            self.flush_if_full().await?;
        }
        Ok(Ok(false))
    }

    /// Sends the rows of a COPY; its command tag.
    pub(crate) async fn copy_out(
        &mut self,
        (stream, options): (RowStream, CopyOptions),
        token: &CancellationToken,
    ) -> Result<std::result::Result<String, EngineError>> {
        let columns = stream.schema().fields().len();
        self.out.copy_out(columns, options.format() == CopyFormat::Binary);
        let mut rows = Rows::of_copy(stream, options);
        if let Err(error) = self.send_rows(&mut rows, usize::MAX, token).await? {
            return Ok(Err(error));
        }
        rows.end_copy(&mut self.out);
        Ok(Ok(format!("COPY {}", rows.sent)))
    }

    /// Takes the data of a COPY; its command tag.
    pub(crate) async fn copy_in(
        &mut self,
        mut copy: CopyIn,
        token: &CancellationToken,
    ) -> Result<std::result::Result<String, EngineError>> {
        let mut binary = copy.is_binary().then(|| BinaryRows::new(&copy));
        self.out.copy_in(copy.columns(), binary.is_some());
        self.flush().await?;
        let mut expired = pin!(engine::passed(self.session.settings().statement_timeout()));
        loop {
            let received = tokio::select! {
                received = self.receive() => received?,
                () = token.cancelled() => return Ok(Err(EngineError::cancelled())),
                () = &mut expired => return Ok(Err(engine::timed_out())),
            };
            match received {
                None => {
                    let gone = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                    return Err(gone.into());
                }
                Some(Frontend::CopyData(data)) => {
                    let taken = match &mut binary {
                        Some(binary) => binary.push(&data, &mut copy),
                        None => copy.push(&data),
                    };
                    if let Err(error) = taken {
                        return Ok(Err(error));
                    }
                }
                Some(Frontend::CopyDone) => break,
                Some(Frontend::CopyFail(why)) => {
                    let message = format!("COPY from stdin failed: {why}");
                    return Ok(Err(EngineError::new(SqlState::QUERY_CANCELED, message)));
                }
                // Allowed, and without meaning, inside of COPY.
                Some(Frontend::Flush | Frontend::Sync) => {}
                Some(_) => {
                    let message = "unexpected message type during COPY from stdin";
                    return Err(ConnectionError::protocol(message));
                }
            }
        }
        if let Some(Err(error)) = binary.map(|mut binary| binary.finish(&mut copy)) {
            return Ok(Err(error));
        }
        Ok(self.session.copy_done(copy).await)
    }
}
