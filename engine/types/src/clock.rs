//! The only source of wall-clock time: a seam with a real clock and one that tests step by hand.

use std::sync::atomic::{AtomicI64, Ordering};

/// A source of wall-clock time.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Microseconds since 1970-01-01 UTC. May step backwards; whoever needs an increasing value
    /// makes it so.
    fn now_micros(&self) -> i64;
}

/// The operating system's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    fn now_micros(&self) -> i64 {
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(elapsed) => i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX),
            Err(before_epoch) => {
                -i64::try_from(before_epoch.duration().as_micros()).unwrap_or(i64::MAX)
            }
        }
    }
}

/// A clock that stands still until it is told to move, in either direction.
#[derive(Debug)]
pub struct SteppedClock {
    micros: AtomicI64,
}

impl SteppedClock {
    /// A clock that shows `micros`.
    #[must_use]
    pub fn new(micros: i64) -> Self {
        Self { micros: AtomicI64::new(micros) }
    }

    /// Moves the clock by `micros`, which may be negative.
    pub fn step(&self, micros: i64) {
        self.micros.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for SteppedClock {
    fn now_micros(&self) -> i64 {
        self.micros.load(Ordering::SeqCst)
    }
}
