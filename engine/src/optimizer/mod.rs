//! Rules that replace a part of a logical plan by one that an operator of ours does better.
//!
//! The search rule runs after DataFusion's own, because it wants predicates and limits where those
//! have pushed them: into the scan and into the sort. The rules that give operators PostgreSQL's
//! meaning run before any of them.

mod checked_numbers;
mod iterate_searches;
mod keep_above_aggregates;
mod null_aware_in;
mod or_unchanged;
mod postgres_types;
mod push_vector_top_k;
mod search_below_join;
mod whole_order;
mod yield_in_joins;

pub(crate) use checked_numbers::CheckedNumbers;
pub(crate) use iterate_searches::IterateSearches;
pub(crate) use keep_above_aggregates::KeepAboveAggregates;
pub(crate) use null_aware_in::NullAwareIn;
pub(crate) use or_unchanged::OrUnchanged;
pub(crate) use postgres_types::PostgresTypes;
pub(crate) use push_vector_top_k::PushVectorTopK;
pub(crate) use whole_order::WholeOrder;
pub(crate) use yield_in_joins::YieldInJoins;
