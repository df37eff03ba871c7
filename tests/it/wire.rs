//! A client that speaks the protocol byte by byte, so that a test can also speak it wrongly.
//! Messages: PostgreSQL 15 manual, chapter 55. Sending never fails: what matters is the answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// No answer takes longer; a test that waits longer has found a hang.
const PATIENCE: Duration = Duration::from_secs(120);
/// Version 3.0 of the protocol.
pub(crate) const VERSION: u32 = 196_608;
/// Code of a request to cancel.
pub(crate) const CANCEL: u32 = 80_877_102;
/// Code of a request for TLS.
pub(crate) const SSL: u32 = 80_877_103;

/// A message from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: char,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// Fields of an error or a notice, by their codes.
    pub(crate) fn fields(&self) -> BTreeMap<char, String> {
        assert!(matches!(self.kind, 'E' | 'N'), "not an error or a notice: {self:?}");
        let fields = self.body.split(|byte| *byte == 0).filter(|field| !field.is_empty());
        fields
            .map(|field| {
                let text = String::from_utf8(field[1..].to_vec()).expect("text is UTF-8");
                (char::from(field[0]), text)
            })
            .collect()
    }

    /// The command tag.
    pub(crate) fn tag(&self) -> String {
        assert_eq!(self.kind, 'C', "not the end of a command: {self:?}");
        String::from_utf8_lossy(&self.body[..self.body.len() - 1]).into_owned()
    }

    /// The values of a row.
    pub(crate) fn values(&self) -> Vec<Option<Vec<u8>>> {
        assert_eq!(self.kind, 'D', "not a row: {self:?}");
        let mut rest = &self.body[2..];
        let mut values = Vec::new();
        for _ in 0..u16::from_be_bytes([self.body[0], self.body[1]]) {
            let (length, tail) = rest.split_first_chunk::<4>().expect("a length");
            rest = tail;
            values.push(match i32::from_be_bytes(*length) {
                -1 => None,
                length => {
                    let length = usize::try_from(length).expect("a length");
                    let (value, tail) = rest.split_at(length);
                    rest = tail;
                    Some(value.to_vec())
                }
            });
        }
        assert!(rest.is_empty(), "bytes behind the last value: {self:?}");
        values
    }

    /// Type ids and modifiers of the columns of a row description.
    pub(crate) fn columns(&self) -> Vec<(String, u32, i32)> {
        assert_eq!(self.kind, 'T', "not a row description: {self:?}");
        let mut rest = &self.body[2..];
        let mut columns = Vec::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == 0).expect("a name");
            let name = String::from_utf8(rest[..end].to_vec()).expect("text is UTF-8");
            let fixed = &rest[end + 1..end + 19];
            let oid = u32::from_be_bytes(fixed[6..10].try_into().expect("four bytes"));
            let typmod = i32::from_be_bytes(fixed[12..16].try_into().expect("four bytes"));
            columns.push((name, oid, typmod));
            rest = &rest[end + 19..];
        }
        columns
    }

    /// Type ids of a parameter description.
    pub(crate) fn parameters(&self) -> Vec<u32> {
        assert_eq!(self.kind, 't', "not a parameter description: {self:?}");
        let (oids, _) = self.body[2..].as_chunks::<4>();
        oids.iter().map(|oid| u32::from_be_bytes(*oid)).collect()
    }
}

/// The kinds of messages, in order.
pub(crate) fn kinds(messages: &[Message]) -> String {
    messages.iter().map(|message| message.kind).collect()
}

/// The code of the one error among messages; empty when there is none.
pub(crate) fn code(messages: &[Message]) -> String {
    error(messages).get(&'C').cloned().unwrap_or_default()
}

/// The fields of the one error among messages; empty when there is none.
pub(crate) fn error(messages: &[Message]) -> BTreeMap<char, String> {
    let mut errors = messages.iter().filter(|message| message.kind == 'E');
    let first = errors.next().map(Message::fields).unwrap_or_default();
    assert!(errors.next().is_none(), "more than one error: {messages:?}");
    first
}

/// The command tags, in order.
pub(crate) fn tags(messages: &[Message]) -> Vec<String> {
    messages.iter().filter(|message| message.kind == 'C').map(Message::tag).collect()
}

/// The rows, in text form; NULL is `None`.
pub(crate) fn rows(messages: &[Message]) -> Vec<Vec<Option<String>>> {
    let text = |value: Vec<u8>| String::from_utf8(value).expect("text is UTF-8");
    let row = |message: &Message| -> Vec<Option<String>> {
        message.values().into_iter().map(|value| value.map(text)).collect()
    };
    messages.iter().filter(|message| message.kind == 'D').map(row).collect()
}

/// The rows of one column, in text form.
pub(crate) fn column(messages: &[Message]) -> Vec<String> {
    let first = |row: Vec<Option<String>>| row.into_iter().next().flatten().expect("a value");
    rows(messages).into_iter().map(first).collect()
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: TcpStream,
    input: Vec<u8>,
    /// What a request to cancel this connection's statement has to say.
    pub(crate) key: Vec<u8>,
}

impl Wire {
    fn new(socket: TcpStream) -> Self {
        Self { socket, input: Vec::new(), key: Vec::new() }
    }

    /// Connects and says nothing.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.expect("the server listens"))
    }

    /// Connects and says nothing; the system keeps little of what was sent and not read yet.
    pub(crate) async fn open_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(64 << 10).expect("a small buffer");
        Self::new(socket.connect(address).await.expect("the server listens"))
    }

    /// Begins a session; the server's refusal when it has one.
    pub(crate) async fn begin(mut self) -> Result<Self, Message> {
        self.send(&startup(&[("user", "azimuth"), ("database", "azimuth")])).await;
        loop {
            let message = self.next().await.expect("an answer to the start-up message");
            match message.kind {
                'E' => return Err(message),
                'K' => self.key = message.body,
                'Z' => return Ok(self),
                _ => {}
            }
        }
    }

    /// Logs in.
    pub(crate) async fn log_in(address: SocketAddr) -> Self {
        Self::open(address).await.begin().await.expect("a session")
    }

    /// Sends bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await;
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn end(&mut self) {
        let _ = self.socket.shutdown().await;
    }

    /// One byte, as it answers a request for TLS.
    pub(crate) async fn byte(&mut self) -> u8 {
        timeout(PATIENCE, self.socket.read_u8()).await.expect("an answer in time").expect("a byte")
    }

    /// The next message; `None` when the server has closed the connection.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = take(&mut self.input) {
                return Some(message);
            }
            self.input.reserve(16 << 10);
            let read = timeout(PATIENCE, self.socket.read_buf(&mut self.input)).await;
            match read.expect("an answer in time") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The messages up to and with the first one of a kind.
    pub(crate) async fn until(&mut self, kind: char) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let message = self.next().await;
            let message = message.unwrap_or_else(|| panic!("closed after {}", kinds(&messages)));
            let last = message.kind == kind;
            messages.push(message);
            if last {
                return messages;
            }
        }
    }

    /// The messages until the server closes the connection.
    pub(crate) async fn rest(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.next().await {
            messages.push(message);
        }
        messages
    }

    /// Sends bytes; the messages up to the next `ReadyForQuery`.
    pub(crate) async fn ask(&mut self, bytes: &[u8]) -> Vec<Message> {
        self.send(bytes).await;
        self.until('Z').await
    }

    /// Runs a simple query.
    pub(crate) async fn query(&mut self, sql: &str) -> Vec<Message> {
        self.ask(&query(sql)).await
    }

    /// Runs a simple query that must succeed.
    pub(crate) async fn run(&mut self, sql: &str) -> Vec<Message> {
        let messages = self.query(sql).await;
        assert_eq!(error(&messages), BTreeMap::new(), "{sql:.200}");
        messages
    }
}

/// Takes a whole message off the input.
fn take(input: &mut Vec<u8>) -> Option<Message> {
    let head = input.first_chunk::<5>()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let end = 1 + usize::try_from(length).expect("a length");
    if input.len() < end {
        return None;
    }
    let kind = char::from(head[0]);
    let body = input[5..end].to_vec();
    input.drain(..end);
    Some(Message { kind, body })
}

fn length_of(body: &[u8], more: usize) -> [u8; 4] {
    u32::try_from(body.len() + more).expect("a short message").to_be_bytes()
}

/// A message of any kind.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &length_of(body, 4), body].concat()
}

/// A packet of the start-up phase, which has no kind.
pub(crate) fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    [&length_of(body, 8)[..], &code.to_be_bytes(), body].concat()
}

/// A start-up message.
pub(crate) fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in parameters {
        body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    body.push(0);
    packet(VERSION, &body)
}

fn string(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn count(number: usize) -> [u8; 2] {
    u16::try_from(number).expect("a small number").to_be_bytes()
}

fn formats(formats: &[i16]) -> Vec<u8> {
    let each = formats.iter().flat_map(|format| format.to_be_bytes());
    count(formats.len()).into_iter().chain(each).collect()
}

/// A simple query.
pub(crate) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &string(sql))
}

/// Prepares a statement.
pub(crate) fn parse(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let oids: Vec<u8> = types.iter().flat_map(|oid| oid.to_be_bytes()).collect();
    message(b'P', &[&string(name)[..], &string(sql), &count(types.len()), &oids].concat())
}

/// Parameter values and formats, and the formats of the result: none for text, one for all, or one
/// for each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Values<'a> {
    pub(crate) formats: &'a [i16],
    pub(crate) values: &'a [Option<&'a [u8]>],
    pub(crate) results: &'a [i16],
}

/// Binds values to a statement.
pub(crate) fn bind(portal: &str, statement: &str, values: &Values<'_>) -> Vec<u8> {
    let mut body = [string(portal), string(statement), formats(values.formats)].concat();
    body.extend(count(values.values.len()));
    for value in values.values {
        match value {
            None => body.extend((-1_i32).to_be_bytes()),
            Some(bytes) => {
                body.extend(length_of(bytes, 0));
                body.extend(*bytes);
            }
        }
    }
    body.extend(formats(values.results));
    message(b'B', &body)
}

/// Asks what a statement (`S`) or a portal (`P`) takes and gives.
pub(crate) fn describe(what: u8, name: &str) -> Vec<u8> {
    message(b'D', &[&[what][..], &string(name)].concat())
}

/// Runs a portal for up to `rows` rows; 0 for all.
pub(crate) fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[&string(portal)[..], &rows.to_be_bytes()].concat())
}

/// Forgets a statement (`S`) or a portal (`P`).
pub(crate) fn close(what: u8, name: &str) -> Vec<u8> {
    message(b'C', &[&[what][..], &string(name)].concat())
}

/// Ends a series of messages of the extended protocol.
pub(crate) fn sync() -> Vec<u8> {
    message(b'S', b"")
}

/// Asks for the answers so far.
pub(crate) fn flush() -> Vec<u8> {
    message(b'H', b"")
}
