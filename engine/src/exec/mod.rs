//! Physical operators over collections. Each is plain data plus handles to a table, and says in
//! EXPLAIN what it will do and in EXPLAIN ANALYZE what it did.

mod at_once;
mod collection_scan;
mod in_pieces;
mod iterative_search;
mod key_filter;
mod lookup;
mod range;
mod rows;
mod vector_top_k;
mod zones;

pub(crate) use at_once::Steps;
pub(crate) use collection_scan::CollectionScanExec;
pub(crate) use in_pieces::InPiecesExec;
pub(crate) use iterative_search::{IterativeSearchExec, goes_on_below};
pub(crate) use key_filter::KeyInput;
pub(crate) use lookup::{Lookup, lookup, lossless};
pub(crate) use rows::{Source, storage_error};
pub(crate) use vector_top_k::{
    QueryVector, Search, SearchSettings, SemiJoin, VectorTopK, VectorTopKExec, has_dimension,
};
