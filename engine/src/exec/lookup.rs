//! Rows that a predicate names by a key: by the whole primary key, or by the first columns of a sorted
//! index and a range of the next one.

use std::ops::Bound;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use catalog::SortedIndex;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use storage::memtable::Rows;

use super::rows::{Source, storage_error};

/// An index is not worth its while beyond one row in so many: a scan reads them faster.
const LOOKED_UP_PART: usize = 20;
/// As many rows are always worth it.
const LOOKED_UP_ROWS: usize = 256;

/// Rows found by a key.
#[derive(Debug, Clone)]
pub(crate) struct Lookup {
    pub(crate) ordinals: Vec<u32>,
    /// Name of the index; `None` for the primary key.
    pub(crate) by: Option<String>,
}

/// The rows that `filters` name by a key, and the rows they are among; `None` when they do not, or name
/// too many. The filters still have to be applied to them.
pub(crate) fn lookup(source: &Source, filters: &[Expr]) -> Result<(Arc<Rows>, Option<Lookup>)> {
    let compared = Compared::of(source, filters);
    if let Some(found) = by_primary_key(source, &compared)? {
        return Ok(found);
    }
    let newest = source.table.definition();
    let mut best: Option<(Arc<Rows>, Lookup)> = None;
    for index in &newest.sorted {
        let Some((rows, found)) = by_index(source, index, &compared)? else { continue };
        let better = |(_, known): &(_, Lookup)| found.ordinals.len() < known.ordinals.len();
        if best.as_ref().is_none_or(better) {
            best = Some((rows, found));
        }
    }
    Ok(best.map_or_else(|| (source.table.rows(), None), |(rows, found)| (rows, Some(found))))
}

fn by_primary_key(
    source: &Source,
    compared: &Compared,
) -> Result<Option<(Arc<Rows>, Option<Lookup>)>> {
    let Source { table, definition, at, .. } = source;
    if definition.primary_key.is_empty() {
        return Ok(None);
    }
    let value = |position: &usize| compared.equal(*position);
    let Some(key) = definition.primary_key.iter().map(value).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let (rows, found) = table.find(&key, *at).map_err(storage_error)?;
    let ordinals = found.map(|ordinal| ordinal.0).into_iter().collect();
    Ok(Some((rows, Some(Lookup { ordinals, by: None }))))
}

fn by_index(
    source: &Source,
    index: &SortedIndex,
    compared: &Compared,
) -> Result<Option<(Arc<Rows>, Lookup)>> {
    let Source { table, definition, at, .. } = source;
    let newest = table.definition();
    let mut equal: Vec<ArrayRef> = Vec::new();
    let mut range = (Bound::Unbounded, Bound::Unbounded);
    for column in &index.columns {
        let seen = definition.position_of(column.column);
        let now = newest.position_of(column.column);
        let (Some(seen), Some(now)) = (seen, now) else { return Ok(None) };
        // Keys are of the newest types, the values of those of the instant.
        if definition.schema().field(seen).data_type() != newest.schema().field(now).data_type() {
            return Ok(None);
        }
        match compared.equal(seen) {
            Some(value) => equal.push(value),
            None => {
                range = compared.range(seen);
                break;
            }
        }
    }
    if equal.is_empty() && matches!(range, (Bound::Unbounded, Bound::Unbounded)) {
        return Ok(None);
    }
    let most = (table.rows().live() as usize / LOOKED_UP_PART).max(LOOKED_UP_ROWS);
    let bounds = (range.0.as_ref(), range.1.as_ref());
    let found = table.find_range((index.oid, &equal), bounds, most, *at);
    let Some((rows, Some(found))) = found.map_err(storage_error)? else { return Ok(None) };
    let ordinals = found.into_iter().map(|ordinal| ordinal.0).collect();
    Ok(Some((rows, Lookup { ordinals, by: Some(index.name.clone()) })))
}

/// What columns are compared with, by position.
struct Compared {
    parts: Vec<(usize, Operator, ArrayRef)>,
}

impl Compared {
    fn of(source: &Source, filters: &[Expr]) -> Self {
        let mut compared = Self { parts: Vec::new() };
        for filter in filters {
            compared.add(source, filter);
        }
        compared
    }

    fn add(&mut self, source: &Source, filter: &Expr) {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                self.add(source, left);
                self.add(source, right);
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (&**left, &**right) {
                (Expr::Column(column), Expr::Literal(value, _)) => {
                    self.compare(source, &column.name, *op, value);
                }
                (Expr::Literal(value, _), Expr::Column(column)) => {
                    if let Some(op) = op.swap() {
                        self.compare(source, &column.name, op, value);
                    }
                }
                _ => {}
            },
            Expr::Between(Between { expr, negated: false, low, high }) => {
                if let (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) =
                    (&**expr, &**low, &**high)
                {
                    self.compare(source, &column.name, Operator::GtEq, low);
                    self.compare(source, &column.name, Operator::LtEq, high);
                }
            }
            _ => {}
        }
    }

    /// Notes a comparison with a value that is one of the column's type.
    fn compare(&mut self, source: &Source, column: &str, op: Operator, value: &ScalarValue) {
        let known = matches!(
            op,
            Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq
        );
        let Some(position) = source.definition.column_position(column).filter(|_| known) else {
            return;
        };
        let data_type = source.definition.schema().field(position).data_type();
        if let Some(value) = lossless(value, data_type) {
            self.parts.push((position, op, value));
        }
    }

    fn equal(&self, position: usize) -> Option<ArrayRef> {
        let found = self.parts.iter().find(|(at, op, _)| *at == position && *op == Operator::Eq);
        found.map(|(_, _, value)| Arc::clone(value))
    }

    /// One bound on each side: the predicate is still to be applied.
    fn range(&self, position: usize) -> (Bound<ArrayRef>, Bound<ArrayRef>) {
        let mut range = (Bound::Unbounded, Bound::Unbounded);
        for (_, op, value) in self.parts.iter().filter(|(at, _, _)| *at == position) {
            let value = Arc::clone(value);
            match op {
                Operator::Gt => range.0 = Bound::Excluded(value),
                Operator::GtEq => range.0 = Bound::Included(value),
                Operator::Lt => range.1 = Bound::Excluded(value),
                Operator::LtEq => range.1 = Bound::Included(value),
                _ => {}
            }
        }
        range
    }
}

/// A value as one of a type. A literal of another type was compared in a common type; only a lossless one
/// is a key.
pub(crate) fn lossless(value: &ScalarValue, data_type: &DataType) -> Option<ArrayRef> {
    let cast = value.cast_to(data_type).ok().filter(|cast| !cast.is_null())?;
    if cast.cast_to(&value.data_type()).ok()? != *value {
        return None;
    }
    // A negative zero is stored as zero.
    match cast {
        ScalarValue::Float64(Some(0.0)) => ScalarValue::Float64(Some(0.0)),
        ScalarValue::Float32(Some(0.0)) => ScalarValue::Float32(Some(0.0)),
        other => other,
    }
    .to_array()
    .ok()
}
