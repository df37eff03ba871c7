//! Servers for tests that do more than one start, and what to ask them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use server::{ConfigFile, Overrides, Running, ServerConfig};
use tests::ProcessServer;
use tokio::process::Command;
use tokio_postgres::{Client, SimpleQueryMessage};

/// The server's binary.
const BINARY: &str = env!("CARGO_BIN_EXE_azimuth-under-test");

/// A start that is refused takes no longer.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(60);

/// A server in a process of its own, on an empty data directory.
pub(crate) async fn process() -> ProcessServer {
    ProcessServer::start(BINARY).await
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A server in this process, on a directory that may have been another's before.
pub(crate) async fn open(data: &Path, file: ConfigFile) -> Running {
    let flags = Overrides { data: Some(data.to_owned()), pg: Some(any_port()) };
    let config = ServerConfig::resolve(file, flags).expect("a configuration");
    server::start(&config).await.expect("the server starts")
}

/// Runs the server's binary on a directory that it must refuse: its status and its last words.
pub(crate) async fn refusal(data: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(BINARY);
    command.args(["serve", "--pg", &any_port().to_string(), "--data"]).arg(data);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(REFUSAL_TIME_MAX, command.output()).await;
    let Output { status, stderr, .. } = ended.expect("the server ends").expect("the server runs");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

/// The rows of a simple query; NULL is `None`.
pub(crate) async fn rows(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let messages = client.simple_query(sql).await;
    let messages = messages.unwrap_or_else(|error| panic!("{sql:.200}: {error:?}"));
    let mut rows = Vec::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect());
        }
    }
    rows
}

/// The first value of each row of a simple query.
pub(crate) async fn column(client: &Client, sql: &str) -> Vec<String> {
    let rows = rows(client, sql).await;
    rows.into_iter().map(|row| row.into_iter().next().flatten().expect("a value")).collect()
}

/// The only value of a simple query.
pub(crate) async fn value(client: &Client, sql: &str) -> String {
    let mut column = column(client, sql).await;
    assert_eq!(column.len(), 1, "{sql:.200}");
    column.remove(0)
}

/// The number after `name=` in the line of a plan.
pub(crate) fn figure(line: &str, name: &str) -> u64 {
    let (_, rest) = line.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("{line}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number {name} in {line}"))
}
