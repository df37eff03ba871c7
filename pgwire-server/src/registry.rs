//! Running connections: their number, and the keys that cancel their statements.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

use engine::Canceller;

/// Identifies a connection to cancel requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) process: i32,
    pub(crate) secret: i32,
}

/// All running connections.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    next: AtomicI32,
    running: Mutex<HashMap<Key, Canceller>>,
}

/// A connection's entry, removed when dropped.
#[derive(Debug)]
pub(crate) struct Registered {
    registry: Arc<Registry>,
    pub(crate) key: Key,
}

impl Registry {
    /// Enters a connection under a fresh key.
    pub(crate) fn register(self: &Arc<Self>, canceller: Canceller) -> Registered {
        let process = self.next.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        // The standard library seeds each hasher from the system's random source.
        let random = RandomState::new().build_hasher().finish().to_le_bytes();
        let secret = i32::from_le_bytes([random[0], random[1], random[2], random[3]]);
        let key = Key { process, secret };
        self.running().insert(key, canceller);
        Registered { registry: Arc::clone(self), key }
    }

    /// Cancels the statement of the connection with this key; a wrong key does nothing.
    pub(crate) fn cancel(&self, key: Key) {
        if let Some(canceller) = self.running().get(&key) {
            canceller.cancel();
        }
    }

    /// Cancels every running statement.
    #[expect(clippy::iter_over_hash_type, reason = "the order does not matter")]
    pub(crate) fn cancel_all(&self) {
        for canceller in self.running().values() {
            canceller.cancel();
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Canceller>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.running().remove(&self.key);
    }
}
