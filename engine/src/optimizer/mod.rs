//! Rules that replace a part of a logical plan by one that an operator of ours does better.
//!
//! The logical rule runs after DataFusion's own, because it wants predicates and limits where
//! those have pushed them: into the scan and into the sort.

mod push_vector_top_k;
mod yield_in_joins;

pub(crate) use push_vector_top_k::PushVectorTopK;
pub(crate) use yield_in_joins::YieldInJoins;
