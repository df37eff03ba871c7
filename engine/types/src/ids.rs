//! Newtypes for everything countable or addressable, so that two positions of different kinds
//! cannot be mixed up.
//!
//! Catalog ids double as the `oid` that PostgreSQL's catalog views show: they are assigned once
//! by the log and never change. User objects begin at [`FIRST_USER_OID`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// First object id that is handed to a user's schema, table or index. PostgreSQL starts user
/// objects at 16384; the range up to here is kept for the types this server defines itself.
pub const FIRST_USER_OID: u32 = 20_000;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A namespace (SQL schema).
    SchemaId,
    u32
);
id!(
    /// A collection (SQL table). Never reused, so a dropped table keeps its identity in the past.
    TableId,
    u32
);
id!(
    /// An access path of a collection.
    IndexId,
    u32
);
id!(
    /// A sequence.
    SequenceId,
    u32
);
id!(
    /// A row version, unique within its table for ever. Assigned in log order by `apply`.
    RowId,
    u64
);
id!(
    /// Position of a row version inside a table's memtable, dense from zero.
    RowOrdinal,
    u32
);
id!(
    /// Raft term. A single server is a group of one that stays in term 1.
    Term,
    u64
);
id!(
    /// Position of an entry in the log; Raft's log index. The first entry has 1, so 0 means
    /// "before everything".
    Lsn,
    u64
);
id!(
    /// Number of dimensions of a vector, 1 to [`crate::limits::DIM_MAX`].
    Dim,
    u32
);
id!(
    /// Commit timestamp: microseconds since 1970-01-01 UTC, strictly increasing in log order.
    CommitTs,
    i64
);

impl Lsn {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl CommitTs {
    /// Before every commit.
    pub const ZERO: Self = Self(0);
    /// The end timestamp of a row version that is still alive.
    pub const INFINITY: Self = Self(i64::MAX);

    /// The smallest timestamp that follows this one.
    #[must_use]
    pub fn successor(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Dim {
    /// The dimension as a length.
    #[must_use]
    pub fn len(self) -> usize {
        self.0 as usize
    }

    /// Whether the dimension is zero, which no stored vector has.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}
