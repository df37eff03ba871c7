//! What a checkpoint or vacuum is at, for whoever waits for it, and how fast it may go.

use std::time::Duration;

use parking_lot::Mutex;
use types::TableId;

/// The work that runs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Working {
    /// Whether it is a vacuum and not a checkpoint alone.
    pub vacuum: bool,
    /// The table whose files are being made; `None` before the first and after the last.
    pub table: Option<TableId>,
    /// What is being made of it.
    pub phase: Phase,
    /// Chunks of this table and phase that are done, of all.
    pub done: usize,
    /// See `done`.
    pub total: usize,
}

/// A step of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Which rows go where.
    Planning,
    /// Rows to segments.
    Segments,
    /// Graphs without the rows that went.
    Graphs,
    /// The manifest, and what it makes superfluous.
    Manifest,
}

impl Phase {
    /// As views show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::Segments => "writing segments",
            Self::Graphs => "moving graphs",
            Self::Manifest => "writing the manifest",
        }
    }
}

/// Where the work is told of.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Option<Working>>);

impl Progress {
    /// Work that begins; it ends when the result is dropped.
    pub(crate) fn begin(&self, vacuum: bool) -> impl Drop + use<'_> {
        let phase = Phase::Planning;
        *self.0.lock() = Some(Working { vacuum, table: None, phase, done: 0, total: 0 });
        End(self)
    }

    /// The work goes on with another phase.
    pub(crate) fn enter(&self, table: Option<TableId>, phase: Phase, total: usize) {
        if let Some(working) = &mut *self.0.lock() {
            *working = Working { table, phase, done: 0, total, ..*working };
        }
    }

    /// A chunk is done.
    pub(crate) fn advance(&self) {
        if let Some(working) = &mut *self.0.lock() {
            working.done += 1;
        }
    }

    pub(crate) fn now(&self) -> Option<Working> {
        *self.0.lock()
    }
}

/// How fast files are written beside the running store.
pub(crate) struct Pace<'a> {
    /// 0 for as fast as the disk takes them.
    pub(crate) bytes_per_second: u64,
    /// Whether writers wait for this work.
    pub(crate) urgent: &'a dyn Fn() -> bool,
}

impl Pace<'_> {
    /// Waits as long as writing `bytes` may take.
    pub(crate) fn keep(&self, bytes: usize) {
        if self.bytes_per_second > 0 && !(self.urgent)() {
            let seconds = bytes as f64 / self.bytes_per_second as f64;
            std::thread::sleep(Duration::from_secs_f64(seconds));
        }
    }
}

struct End<'a>(&'a Progress);

impl Drop for End<'_> {
    fn drop(&mut self) {
        *self.0.0.lock() = None;
    }
}
