//! Segments: immutable files of row versions, mapped and read in place.
//!
//! A segment holds rows in the order of their ids: their columns as Arrow record batches of one chunk
//! each with a zone map, the instants at which they began, and a lookup table of primary keys. When rows end
//! is not in the segment, because that is not known when it is made.
//!
//! Every byte lies in a block with a checksum; the checksums stand in the footer, and the footer's
//! hash in the manifest. A block is checked when it is first touched, and a damaged one is an error
//! that names file and offset, each time it is asked for. Bytes: `docs/FORMAT.md`.

mod format;
mod keys;
mod reader;
mod writer;
mod zones;

pub(crate) use keys::hash_key;
pub(crate) use reader::Segment;
pub(crate) use writer::{ChunkRows, Identity, Written, write};
pub use zones::Zones;

#[cfg(test)]
mod tests;
