//! Searches again, with every `ef`, what was searched for, and compares with the exact answer. On one
//! thread that rests most of the time, fed by a short queue that drops what does not fit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use storage::memtable::{IndexSearch, Rows, Strategy, VectorIndex};
use types::{Clock, CommitTs};
use vector::Query;

use super::class::Class;
use super::index::{IndexTuning, Move};
use super::model::{RUNGS, ef_of, ratio};

/// Samples that may wait.
const QUEUE: usize = 4;
/// Times its work that the thread rests: searches that meet it at work are slower, and they are not to
/// be as many as a 95th percentile shows.
const REST: u32 = 19;
/// Rungs in a row on which nothing is missed, after which nothing is expected to be.
const COMPLETE_RUNGS: usize = 2;

/// A search that was done.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) tuning: Arc<IndexTuning>,
    pub(crate) class: Class,
    pub(crate) index: Arc<VectorIndex>,
    pub(crate) rows: Arc<Rows>,
    pub(crate) query: Query,
    pub(crate) k: usize,
    pub(crate) at: CommitTs,
    pub(crate) admitted: Option<Vec<u32>>,
}

impl Sample {
    fn search(&self, ef: usize, strategy: Strategy) -> IndexSearch<'_> {
        IndexSearch {
            query: self.query.row(),
            k: self.k,
            ef,
            may_stop: true,
            at: self.at,
            strategy: Some(strategy),
            admitted: self.admitted.as_deref(),
        }
    }

    /// The recall on each rung; `None` when it could not be measured.
    fn recalls(&self, stop: &AtomicBool) -> Option<[f64; RUNGS]> {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let exact = self.search(self.k, Strategy::Exact);
        let (truth, _) = self.index.search(&self.rows, &exact).ok()?;
        let mut recalls = [1.0; RUNGS];
        let (mut complete, mut last) = (0, None);
        for (rung, recall) in recalls.iter_mut().enumerate() {
            let ef = ef_of(ratio(rung), self.k);
            *recall = match last {
                Some((before, recall)) if before == ef => recall,
                Some(_) | None => {
                    let search = self.search(ef, Strategy::Graph);
                    let (found, _) = self.index.search(&self.rows, &search).ok()?;
                    self.index.recall(&found, &truth)
                }
            };
            last = Some((ef, *recall));
            complete = if *recall < 1.0 { 0 } else { complete + 1 };
            if complete >= COMPLETE_RUNGS {
                break;
            }
            if stop.load(Ordering::Relaxed) {
                return None;
            }
        }
        Some(recalls)
    }
}

/// The thread.
#[derive(Debug)]
pub(crate) struct Shadow {
    queue: Mutex<Option<SyncSender<Sample>>>,
    /// Samples in the queue, and those on their way to it.
    waiting: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Shadow {
    /// Starts the thread; `learned` is told of every sample, and how it moved `ef`.
    pub(crate) fn start(
        clock: Arc<dyn Clock>,
        learned: impl Fn(Option<Move>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (queue, samples) = sync_channel(QUEUE);
        let stop = Arc::new(AtomicBool::new(false));
        let waiting = Arc::new(AtomicUsize::new(0));
        let (stopped, taken) = (Arc::clone(&stop), Arc::clone(&waiting));
        let thread = std::thread::Builder::new()
            .name("azimuth-tuner".to_owned())
            .spawn(move || run((&samples, &taken), &*clock, &stopped, &learned))?;
        let (queue, thread) = (Mutex::new(Some(queue)), Mutex::new(Some(thread)));
        Ok(Self { queue, waiting, stop, thread })
    }

    /// Hands a sample over if there is room.
    pub(crate) fn take(&self, sample: impl FnOnce() -> Sample) {
        // A full queue means that there are samples enough, and copying this one would be in vain.
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let queue = self.queue.lock().clone();
        if queue.is_none_or(|queue| queue.try_send(sample()).is_err()) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        *self.queue.lock() = None;
        if let Some(thread) = self.thread.lock().take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the tuner's thread panicked");
            }
        }
    }
}

fn run(
    (samples, waiting): (&Receiver<Sample>, &AtomicUsize),
    clock: &dyn Clock,
    stop: &AtomicBool,
    learned: &dyn Fn(Option<Move>),
) {
    while let Ok(sample) = samples.recv() {
        waiting.fetch_sub(1, Ordering::Relaxed);
        let began = clock.now_micros();
        let recalls = sample.recalls(stop);
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if let Some(recalls) = recalls {
            learned(sample.tuning.learn(sample.class, &recalls, clock.now_micros()));
        }
        drop(sample);
        let worked = u64::try_from(clock.now_micros() - began).unwrap_or(0).min(10_000_000);
        std::thread::park_timeout(Duration::from_micros(worked) * REST);
    }
}
