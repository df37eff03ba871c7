//! Declared recall: every search is noted, some are sampled, and from the samples it is known which
//! `ef` reaches which recall, by index and by class of searches. Once a minute the law of `control.rs`
//! moves what sessions use that name neither `ef` nor a target.
//!
//! What was learned is kept in a file of its own, `tuner`, that nothing depends on: where it is
//! missing or damaged, learning begins anew.

mod class;
mod control;
mod index;
mod latency;
mod model;
mod shadow;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use catalog::Index;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use storage::{ReadView, Store};
use types::{Clock, IndexId};

use self::index::SavedClass;
use self::shadow::Shadow;
use crate::error::{EngineError, Result};

pub(crate) use self::class::Class;
pub(crate) use self::control::Reason;
pub(crate) use self::index::{Choice, ClassReport, Goal, IndexTuning, Move};
pub(crate) use self::model::Estimate;
pub(crate) use self::shadow::Sample;

/// Length of a window.
const WINDOW_MICROS: i64 = 60_000_000;
/// Moves that are remembered.
const MOVES_MAX: usize = 1_000;
/// The file.
const FILE: &str = "tuner";

/// What is known of all indexes.
#[derive(Debug)]
pub(crate) struct Tuner {
    clock: Arc<dyn Clock>,
    indexes: RwLock<BTreeMap<IndexId, Arc<IndexTuning>>>,
    moves: Arc<Moves>,
    shadow: Shadow,
    window_ends: AtomicI64,
}

#[derive(Debug, Default)]
struct Moves {
    list: Mutex<VecDeque<Move>>,
    /// Whether there is something to save.
    unsaved: AtomicBool,
}

impl Moves {
    /// Notes a sample, and the change of `ef` that it made.
    fn learned(&self, change: Option<Move>) {
        self.unsaved.store(true, Ordering::Relaxed);
        change.into_iter().for_each(|change| self.add(change));
    }

    fn add(&self, change: Move) {
        let mut list = self.list.lock();
        if list.len() >= MOVES_MAX {
            list.pop_front();
        }
        list.push_back(change);
        self.unsaved.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    indexes: Vec<(IndexId, Vec<SavedClass>)>,
    moves: Vec<Move>,
}

impl Tuner {
    /// What was learned earlier in the data directory of `store`.
    pub(crate) fn open(store: &Store, clock: Arc<dyn Clock>) -> Result<Self> {
        let moves = Arc::new(Moves::default());
        let told = Arc::clone(&moves);
        let shadow = Shadow::start(Arc::clone(&clock), move |change| told.learned(change))
            .map_err(|error| EngineError::bug(format!("could not start the tuner: {error}")))?;
        let window_ends = AtomicI64::new(clock.now_micros() + WINDOW_MICROS);
        let tuner = Self { clock, indexes: RwLock::default(), moves, shadow, window_ends };
        let saved = match store.read_aside(FILE) {
            Ok(Some(bytes)) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            Ok(None) => return Ok(tuner),
            Err(error) => Err(error.to_string()),
        };
        match saved {
            Ok(saved) => tuner.restore(saved, &store.read_view()),
            Err(error) => tracing::warn!(error, "what the tuner had learned cannot be read"),
        }
        Ok(tuner)
    }

    fn restore(&self, saved: Saved, view: &ReadView) {
        for (id, classes) in saved.indexes {
            if let Some(definition) = view.catalog().index_by_id(id) {
                self.of(definition).restore(classes);
            }
        }
        self.moves.list.lock().extend(saved.moves);
    }

    /// Microseconds, to measure with.
    pub(crate) fn now_micros(&self) -> i64 {
        self.clock.now_micros()
    }

    /// What is known of an index.
    pub(crate) fn of(&self, definition: &Index) -> Arc<IndexTuning> {
        if let Some(known) = self.indexes.read().get(&definition.id) {
            return Arc::clone(known);
        }
        let mut indexes = self.indexes.write();
        let new = || Arc::new(IndexTuning::new(definition));
        Arc::clone(indexes.entry(definition.id).or_insert_with(new))
    }

    /// Hands over a search to learn from.
    pub(crate) fn sample(&self, sample: impl FnOnce() -> Sample) {
        self.shadow.take(sample);
    }

    /// Ends the window when it is time, and saves what changed. To be called every second or so.
    pub(crate) fn maintain(&self, store: &Store) -> Result<()> {
        let now = self.clock.now_micros();
        let ends = self.window_ends.load(Ordering::Relaxed);
        // A clock that was set back must not stop the windows.
        if now < ends && ends - now <= WINDOW_MICROS {
            return Ok(());
        }
        self.window_ends.store(now + WINDOW_MICROS, Ordering::Relaxed);
        let view = store.read_view();
        let lives = |id: IndexId| {
            let index = view.catalog().index_by_id(id);
            index.is_some_and(|index| index.life.contains(view.at()))
        };
        self.indexes.write().retain(|id, _| lives(*id));
        let indexes: Vec<_> = self.indexes.read().values().map(Arc::clone).collect();
        indexes.iter().flat_map(|index| index.step(now)).for_each(|change| self.moves.add(change));
        self.save(store)
    }

    /// Saves what changed.
    pub(crate) fn save(&self, store: &Store) -> Result<()> {
        if !self.moves.unsaved.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let indexes = self.indexes.read().iter().map(|(id, index)| (*id, index.saved())).collect();
        let saved = Saved { indexes, moves: self.moves() };
        let bytes = serde_json::to_vec(&saved)
            .map_err(|error| EngineError::bug(format!("what was learned: {error}")))?;
        store.write_aside(FILE, &bytes).inspect_err(|_| {
            self.moves.unsaved.store(true, Ordering::Relaxed);
        })?;
        Ok(())
    }

    /// The last changes, oldest first.
    pub(crate) fn moves(&self) -> Vec<Move> {
        self.moves.list.lock().iter().copied().collect()
    }

    /// Ends the thread that learns.
    pub(crate) fn stop(&self) {
        self.shadow.stop();
    }
}

impl Drop for Tuner {
    fn drop(&mut self) {
        self.stop();
    }
}
