//! What a session shares with the hooks that DataFusion calls while a statement is planned.
//!
//! A session plans one statement at a time, so the scope holds that statement's read view; plans
//! that were made keep what they pinned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use storage::{ReadView, Store};
use types::CommitTs;

use crate::settings::Settings;
use crate::tuner::Tuner;

/// The statement being planned.
#[derive(Debug)]
pub(crate) struct Scope {
    store: Arc<Store>,
    tuner: Arc<Tuner>,
    view: Mutex<ReadView>,
    /// Whether a statement is being planned; one that was cancelled may go on for a moment.
    busy: AtomicBool,
    /// Latest instant that the statement reads and the view has not reached.
    beyond: Mutex<Option<CommitTs>>,
    settings: Mutex<Settings>,
    /// The statement's `now()`, the same however often it is planned.
    started: Mutex<Option<DateTime<Utc>>>,
}

impl Scope {
    pub(crate) fn new(store: Arc<Store>, tuner: Arc<Tuner>) -> Self {
        Self {
            view: Mutex::new(store.read_view().unpinned()),
            store,
            tuner,
            busy: AtomicBool::new(false),
            beyond: Mutex::new(None),
            settings: Mutex::default(),
            started: Mutex::default(),
        }
    }

    /// Begins a statement at `view`.
    pub(crate) fn begin(&self, view: ReadView, settings: Settings, started: Option<DateTime<Utc>>) {
        *self.started.lock() = started;
        let mut kept = self.view.lock();
        *kept = if self.busy.load(Ordering::Acquire) { view } else { view.unpinned() };
        drop(kept);
        *self.beyond.lock() = None;
        *self.settings.lock() = settings;
    }

    /// When the result is dropped the statement is planned: the view keeps no row versions any more.
    pub(crate) fn until_rest(self: &Arc<Self>) -> impl Drop + use<> {
        self.busy.store(true, Ordering::Release);
        Rest(Arc::clone(self))
    }

    /// What the views of the server's own state ask.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// What is known of searches.
    pub(crate) fn tuner(&self) -> &Tuner {
        &self.tuner
    }

    /// The statement's `now()`.
    pub(crate) fn started(&self) -> Option<DateTime<Utc>> {
        *self.started.lock()
    }

    /// The statement's read view.
    pub(crate) fn view(&self) -> ReadView {
        self.view.lock().clone()
    }

    /// The schema of unqualified names.
    pub(crate) fn schema(&self) -> String {
        self.settings.lock().default_schema()
    }

    /// The session's settings.
    pub(crate) fn settings(&self) -> Settings {
        self.settings.lock().clone()
    }

    /// Notes that the statement needs an instant that the view has not reached.
    pub(crate) fn note_beyond(&self, at: CommitTs) {
        let mut beyond = self.beyond.lock();
        *beyond = Some(beyond.map_or(at, |known| known.max(at)));
    }

    /// What [`Scope::note_beyond`] noted.
    pub(crate) fn beyond(&self) -> Option<CommitTs> {
        *self.beyond.lock()
    }
}

/// Lets go of what a statement pinned.
struct Rest(Arc<Scope>);

impl Drop for Rest {
    fn drop(&mut self) {
        let mut view = self.0.view.lock();
        self.0.busy.store(false, Ordering::Release);
        *view = view.unpinned();
    }
}
