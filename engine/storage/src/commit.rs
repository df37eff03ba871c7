//! The commit log of a group of one: proposals become frames, durable frames are applied in order.
//!
//! Two threads. The *log* thread takes whatever proposals are waiting, gives each an index and a
//! commit timestamp, writes them as one frame and syncs it (group commit: with one client a commit
//! costs one sync, with many a sync carries many). The *apply* thread applies durable entries in
//! order and answers the proposers, so the next frame is written while the last one is applied.
//!
//! An answer is given only after sync and apply. A failed write poisons the log: all waiting and
//! later proposals fail, and [`CommitLog::failure`] reports it so that the process can end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;

use catalog::Defined;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use types::limits::{ENTRY_BYTES_MAX, PROPOSALS_QUEUED_MAX};
use types::{Clock, CommitTs, Lsn};

use crate::command::Command;
use crate::error::{Rejection, StorageError};
use crate::machine::Machine;
use crate::wal::{Entry, LogPosition, LogWriter};

/// Entries and bytes of one frame.
const FRAME_ENTRIES_MAX: usize = 2_048;
const FRAME_BYTES_MAX: usize = 32 << 20;

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Rows changed.
    Written,
    /// The catalog changed.
    Defined(Defined),
    /// Only time moved.
    Ticked,
}

/// What became of a logged command: it changed something, or it was rejected and changed nothing.
pub type Outcome = Result<Effect, Rejection>;

/// Proof that a command is durable and applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its position in the log.
    pub lsn: Lsn,
    /// The instant from which it is visible.
    pub commit_ts: CommitTs,
    /// What it did.
    pub effect: Effect,
}

/// The answer to a proposal.
pub type Reply = Pin<Box<dyn Future<Output = Result<Applied, StorageError>> + Send>>;

/// The one way to change anything. A group of one and a Raft group answer alike.
pub trait CommitLog: Send + Sync + std::fmt::Debug {
    /// Proposes a command. The answer comes when it is durable and applied, or rejected; dropping
    /// the future does not take the proposal back.
    fn propose(&self, command: Command) -> Reply;

    /// Tells why the log stopped, once it has.
    fn failure(&self) -> watch::Receiver<Option<String>>;
}

struct Proposal {
    payload: Vec<u8>,
    command: Command,
    reply: oneshot::Sender<Result<Applied, StorageError>>,
}

struct Durable {
    lsn: Lsn,
    commit_ts: CommitTs,
    position: LogPosition,
    bytes: usize,
    proposal: Proposal,
}

/// The log of a group of one.
#[derive(Debug)]
pub(crate) struct LocalLog {
    proposals: Arc<Mutex<Option<mpsc::Sender<Proposal>>>>,
    failure: watch::Receiver<Option<String>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl LocalLog {
    /// Starts the two threads.
    pub(crate) fn start(
        writer: LogWriter,
        machine: Arc<Machine>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StorageError> {
        let (proposals, waiting) = mpsc::channel(PROPOSALS_QUEUED_MAX);
        let (durable, to_apply) = std::sync::mpsc::channel();
        let (failed, failure) = watch::channel(None);
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(body)
                .map_err(|e| StorageError::io("start a thread for", "log".as_ref(), e))
        };
        let failed = Arc::new(failed);
        let failed_apply = Arc::clone(&failed);
        let log = move || run_log(writer, &*clock, waiting, &durable, &failed);
        let apply = move || run_apply(&machine, &to_apply, &failed_apply);
        let threads =
            vec![spawn("azimuth-log", Box::new(log))?, spawn("azimuth-apply", Box::new(apply))?];
        Ok(Self {
            proposals: Arc::new(Mutex::new(Some(proposals))),
            failure,
            threads: Mutex::new(threads),
        })
    }

    /// Takes no more proposals and waits until all taken ones are answered.
    pub(crate) fn close(&self) {
        self.proposals.lock().take();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a log thread panicked");
            }
        }
    }
}

impl CommitLog for LocalLog {
    fn propose(&self, command: Command) -> Reply {
        let (proposals, failure) = (Arc::clone(&self.proposals), self.failure.clone());
        // A log that failed says why; one that was closed says that.
        let stopped = move || match &*failure.borrow() {
            Some(why) => StorageError::Poisoned(why.clone()),
            None => StorageError::Closed,
        };
        Box::pin(async move {
            let payload = command.encode().map_err(|error| StorageError::Io {
                action: "encode",
                path: "log entry".into(),
                source: Arc::new(std::io::Error::other(error)),
            })?;
            if payload.len() > ENTRY_BYTES_MAX {
                let bytes = payload.len();
                return Err(StorageError::EntryTooLarge { bytes, max: ENTRY_BYTES_MAX });
            }
            let (reply, answer) = oneshot::channel();
            // Taken when the proposal is made and not before: closing waits for every sender.
            let sender = proposals.lock().clone();
            let sender = sender.ok_or_else(&stopped)?;
            let sent = sender.send(Proposal { payload, command, reply }).await;
            drop(sender);
            sent.map_err(|_| stopped())?;
            answer.await.map_err(|_| stopped())?
        })
    }

    fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.clone()
    }
}

fn run_log(
    mut writer: LogWriter,
    clock: &dyn Clock,
    mut waiting: mpsc::Receiver<Proposal>,
    durable: &std::sync::mpsc::Sender<Vec<Durable>>,
    failed: &watch::Sender<Option<String>>,
) {
    while let Some(first) = waiting.blocking_recv() {
        let mut proposals = vec![first];
        let mut bytes = proposals[0].payload.len();
        while proposals.len() < FRAME_ENTRIES_MAX && bytes < FRAME_BYTES_MAX {
            let Ok(next) = waiting.try_recv() else { break };
            bytes += next.payload.len();
            proposals.push(next);
        }
        let entries = number(&mut proposals, writer.position(), clock);
        match writer.append(&entries) {
            Ok(()) => {
                let batch = entries.iter().zip(proposals).map(|(entry, proposal)| Durable {
                    lsn: entry.index,
                    commit_ts: entry.commit_ts,
                    position: LogPosition {
                        term: entry.term,
                        index: entry.index,
                        commit_ts: entry.commit_ts,
                    },
                    bytes: entry.payload.len(),
                    proposal,
                });
                if durable.send(batch.collect()).is_err() {
                    return;
                }
            }
            Err(error) => {
                let full = matches!(error, StorageError::DiskFull);
                if !full {
                    failed.send_replace(Some(error.to_string()));
                }
                for proposal in proposals {
                    let _ = proposal.reply.send(Err(error.clone()));
                }
                if !full {
                    return;
                }
            }
        }
    }
}

/// Gives proposals their places in the log. A timestamp never repeats and never goes back, whatever
/// the clock does.
fn number(proposals: &mut [Proposal], end: LogPosition, clock: &dyn Clock) -> Vec<Entry> {
    let now = clock.now_micros();
    let mut last = (end.index, end.commit_ts);
    proposals
        .iter_mut()
        .map(|proposal| {
            last = (last.0.next(), last.1.successor().max(CommitTs(now)));
            let payload = std::mem::take(&mut proposal.payload);
            Entry { term: end.term, index: last.0, commit_ts: last.1, payload }
        })
        .collect()
}

fn run_apply(
    machine: &Machine,
    durable: &std::sync::mpsc::Receiver<Vec<Durable>>,
    failed: &watch::Sender<Option<String>>,
) {
    while let Ok(batch) = durable.recv() {
        for Durable { lsn, commit_ts, position, bytes, proposal } in batch {
            let applied = machine.apply(&proposal.command, position, bytes);
            let answer = match applied {
                Ok(outcome) => outcome
                    .map(|effect| Applied { lsn, commit_ts, effect })
                    .map_err(StorageError::Rejected),
                Err(error) => {
                    // The entry is durable but cannot be applied: going on would part this
                    // state from the log.
                    failed.send_replace(Some(error.to_string()));
                    let _ = proposal.reply.send(Err(error));
                    return;
                }
            };
            let _ = proposal.reply.send(answer);
        }
    }
}
