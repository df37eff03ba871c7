//! The background task that moves every index up to its table's last row.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::error::StorageError;
use crate::machine::Machine;
use crate::memtable::IndexerOptions;

#[derive(Debug, Default)]
struct Signals {
    /// Set when there may be work.
    work: Mutex<bool>,
    arrived: Condvar,
    stop: AtomicBool,
    progress: watch::Sender<u64>,
}

/// Owner of the task.
#[derive(Debug)]
pub(crate) struct Indexer {
    signals: Arc<Signals>,
    options: IndexerOptions,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Indexer {
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            signals: Arc::default(),
            options: IndexerOptions { threads },
            thread: Mutex::new(None),
        }
    }

    /// Starts the task, unless it was configured to have no threads.
    pub(crate) fn start(&self, machine: &Arc<Machine>) -> Result<(), StorageError> {
        if self.options.threads == 0 {
            return Ok(());
        }
        let (signals, options) = (Arc::clone(&self.signals), self.options);
        let machine = Arc::downgrade(machine);
        let thread = std::thread::Builder::new()
            .name("azimuth-index".to_owned())
            .spawn(move || run(&signals, options, &machine))
            .map_err(|e| StorageError::io("start a thread for", "index".as_ref(), e))?;
        *self.thread.lock() = Some(thread);
        self.wake();
        Ok(())
    }

    /// Says that there may be rows to cover.
    pub(crate) fn wake(&self) {
        *self.signals.work.lock() = true;
        self.signals.arrived.notify_one();
    }

    /// Changes with every progress, beginning with this call: what comes between it and the wait
    /// is not missed.
    pub(crate) fn progress(&self) -> watch::Receiver<u64> {
        self.signals.progress.subscribe()
    }

    pub(crate) fn stop(&self) {
        self.signals.stop.store(true, Ordering::Relaxed);
        self.wake();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the index thread panicked");
        }
    }
}

fn run(signals: &Signals, options: IndexerOptions, machine: &Weak<Machine>) {
    while !signals.stop.load(Ordering::Relaxed) {
        {
            let mut work = signals.work.lock();
            while !std::mem::take(&mut *work) {
                signals.arrived.wait(&mut work);
            }
        }
        let Some(machine) = machine.upgrade() else { return };
        let mut left = true;
        while left && !signals.stop.load(Ordering::Relaxed) {
            left = false;
            for (rows, index) in machine.uncovered() {
                left |= index.extend(&rows, options, &signals.stop);
                signals.progress.send_modify(|count| *count += 1);
            }
        }
        signals.progress.send_modify(|count| *count += 1);
    }
}
