//! A search below a join: the join says which rows of the collection qualify, so its other side
//! becomes a row filter of the search.
//!
//! | join, seen from the collection | rows that qualify | the join itself |
//! |---|---|---|
//! | inner, on equal keys alone | those with a match | stays: it adds columns, and rows for each match |
//! | semi (`IN`, `EXISTS`) | those with a match | goes |
//! | anti (`NOT EXISTS`) | those without a match | goes |
//! | outer, the collection being kept whole | all | stays |
//!
//! A join of these kinds with other conditions is left as it is, and the search goes on until enough
//! rows come out of it (`iterate_searches.rs`).
//!
//! Of an inner join the `k` nearest rows that have a match bring forth the `k` nearest rows of the
//! join. Its other side is then read twice, so it must be the same twice: one with a limit, a window or
//! a volatile function is left alone.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, JoinType, NullEquality, Result};
use datafusion::datasource::{MemTable, source_as_provider};
use datafusion::logical_expr::{
    Distinct, Expr, ExprSchemable as _, Join, LogicalPlan, LogicalPlanBuilder,
};

use super::push_vector_top_k::{Wanted, push};
use crate::exec::SemiJoin;
use crate::provider::CollectionProvider;

/// Aggregates that give the same whatever the order of their rows.
const REPEATABLE: [&str; 5] = ["count", "min", "max", "bool_and", "bool_or"];

/// What a join means to the side that is searched.
enum Meaning {
    /// Rows with a match.
    Matched,
    /// Rows with a match, once each, and no columns of the other side.
    Exists,
    /// Rows without a match.
    Missing,
    /// All rows.
    All,
}

/// The join with its searched side replaced, or what takes its place.
pub(super) fn push_below(join: &Join, wanted: Wanted) -> Result<Option<LogicalPlan>> {
    let left = wanted.is_over(join.left.schema());
    if left == wanted.is_over(join.right.schema()) {
        return Ok(None);
    }
    let meaning = match (join.join_type, left) {
        (JoinType::Inner, _) => Meaning::Matched,
        (JoinType::LeftSemi, true) | (JoinType::RightSemi, false) => Meaning::Exists,
        (JoinType::LeftAnti, true) | (JoinType::RightAnti, false) => Meaning::Missing,
        (JoinType::Left | JoinType::LeftMark, true)
        | (JoinType::Right | JoinType::RightMark, false) => Meaning::All,
        _ => return Ok(None),
    };
    let (searched, other) =
        if left { (&join.left, &join.right) } else { (&join.right, &join.left) };
    // Each round of a search that goes on reads the other side again.
    if wanted.may_go_on && !can_be_repeated(join, other)? {
        return Ok(None);
    }
    let mut wanted = wanted;
    // There, a row filter that turns out to be none can be left out.
    let stays = wanted.may_go_on || matches!(meaning, Meaning::Matched | Meaning::All);
    if !matches!(meaning, Meaning::All) {
        match semi_join(join, left, other, &meaning)? {
            Some(semi) => wanted.joins.push(semi),
            None if wanted.may_go_on => {}
            None => return Ok(None),
        }
    }
    let Some(replaced) = push(searched, wanted)? else { return Ok(None) };
    if !stays {
        return Ok(Some(replaced));
    }
    let mut join = join.clone();
    *(if left { &mut join.left } else { &mut join.right }) = Arc::new(replaced);
    Ok(Some(LogicalPlan::Join(join)))
}

/// Whether the join gives the same when it is done again.
fn can_be_repeated(join: &Join, other: &LogicalPlan) -> Result<bool> {
    let volatile = |expr: &Expr| expr.is_volatile();
    let on = join.on.iter().any(|(a, b)| volatile(a) || volatile(b));
    let filter = join.filter.as_ref().is_some_and(volatile);
    Ok(!on && !filter && reads_tables(other)? && is_repeatable(other)?)
}

/// The other side as the keys of rows that qualify; `None` when it cannot be that.
fn semi_join(
    join: &Join,
    left: bool,
    other: &Arc<LogicalPlan>,
    meaning: &Meaning,
) -> Result<Option<SemiJoin>> {
    let equal = join.null_equality == NullEquality::NullEqualsNothing;
    if join.filter.is_some() || join.on.is_empty() || join.null_aware || !equal {
        return Ok(None);
    }
    if !reads_tables(other)? || matches!(meaning, Meaning::Matched) && !is_repeatable(other)? {
        return Ok(None);
    }
    let searched = if left { join.left.schema() } else { join.right.schema() };
    let mut on = Vec::with_capacity(join.on.len());
    let mut keys = Vec::with_capacity(join.on.len());
    for (at, (a, b)) in join.on.iter().enumerate() {
        let (ours, theirs) = if left { (a, b) } else { (b, a) };
        if !same_key_type(ours, searched, theirs, other.schema())? {
            return Ok(None);
        }
        on.push(ours.clone());
        keys.push(theirs.clone().alias(format!("key_{at}")));
    }
    let keys = LogicalPlanBuilder::from(Arc::clone(other)).project(keys)?.build()?;
    let negated = matches!(meaning, Meaning::Missing);
    Ok(Some(SemiJoin { on, keys: Arc::new(keys), negated }))
}

/// Whether equal keys have equal bytes: both of one type that has one form for each value.
fn same_key_type(ours: &Expr, a: &DFSchema, theirs: &Expr, b: &DFSchema) -> Result<bool> {
    let (ours, theirs) = (ours.get_type(a)?, theirs.get_type(b)?);
    let plain = matches!(
        ours,
        DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Utf8
            | DataType::Boolean
            | DataType::Date32
            | DataType::Timestamp(..)
            | DataType::FixedSizeBinary(_)
            | DataType::Binary
    );
    Ok(plain && ours == theirs)
}

/// Whether a plan reads tables alone: what a recursive query has so far can be read once, in its place.
fn reads_tables(plan: &LogicalPlan) -> Result<bool> {
    let mut known = true;
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::TableScan(scan) = plan {
            let provider = source_as_provider(&scan.source)?;
            known &= provider.downcast_ref::<CollectionProvider>().is_some()
                || provider.downcast_ref::<MemTable>().is_some();
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(known)
}

/// Whether a plan gives the same rows when it is read again.
fn is_repeatable(plan: &LogicalPlan) -> Result<bool> {
    let mut repeatable = true;
    plan.apply_with_subqueries(|plan| {
        repeatable &= match plan {
            LogicalPlan::Limit(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::Extension(_)
            | LogicalPlan::RecursiveQuery(_)
            | LogicalPlan::Distinct(Distinct::On(_)) => false,
            LogicalPlan::Sort(sort) => sort.fetch.is_none(),
            LogicalPlan::TableScan(scan) => scan.fetch.is_none(),
            LogicalPlan::Aggregate(aggregate) => aggregate.aggr_expr.iter().all(is_stable),
            _ => true,
        };
        repeatable &= !plan.expressions().iter().any(Expr::is_volatile);
        Ok(if repeatable { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(repeatable)
}

fn is_stable(aggregate: &Expr) -> bool {
    match aggregate {
        Expr::Alias(alias) => is_stable(&alias.expr),
        Expr::AggregateFunction(call) => REPEATABLE.contains(&call.func.name()),
        _ => false,
    }
}
