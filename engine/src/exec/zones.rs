//! Leaves out chunks in which no row can pass a predicate, by their zone maps.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::tree_node::TreeNode as _;
use datafusion::common::{Column, ScalarValue};
use datafusion::physical_expr::expressions::{CastExpr, TryCastExpr};
use datafusion::physical_expr::{PhysicalExpr, split_conjunction};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use parking_lot::Mutex;
use storage::memtable::{Chunk, Zones, column_id};

/// What zone maps say of some chunks.
struct ChunkZones<'a> {
    schema: &'a SchemaRef,
    /// The table's own columns, which are the first ones of `schema`, with their ids.
    named: &'a SchemaRef,
    chunks: &'a [&'a Arc<Chunk>],
    /// By column, as far as asked for.
    known: Mutex<HashMap<usize, Option<Zones>>>,
}

impl ChunkZones<'_> {
    /// Zones with a value per chunk; NULL for chunks that have none.
    fn column(&self, column: &Column) -> Option<Zones> {
        let at = self.schema.index_of(&column.name).ok()?;
        self.known.lock().entry(at).or_insert_with(|| self.gather(at)).clone()
    }

    fn gather(&self, at: usize) -> Option<Zones> {
        let wanted = self.named.fields().get(at)?.data_type();
        let id = column_id(self.named, at);
        // Rows that were written when the column had another type have zones of that.
        let zones = |chunk: &&Arc<Chunk>| {
            chunk.zones(id).filter(|(zones, _)| zones.min.data_type() == wanted)
        };
        let found: Vec<Option<(Zones, usize)>> = self.chunks.iter().map(zones).collect();
        let first = found.iter().flatten().next()?;
        let gather = |part: fn(&Zones) -> &ArrayRef| {
            let unknown = new_null_array(part(&first.0).data_type(), 1);
            let mut sources = vec![&*unknown];
            let mut places = Vec::with_capacity(found.len());
            for known in &found {
                match known {
                    Some((zones, at)) => {
                        places.push((sources.len(), *at));
                        sources.push(&**part(zones));
                    }
                    None => places.push((0, 0)),
                }
            }
            interleave(&sources, &places).ok()
        };
        Some(Zones {
            min: gather(|zones| &zones.min)?,
            max: gather(|zones| &zones.max)?,
            nulls: gather(|zones| &zones.nulls)?,
        })
    }
}

impl PruningStatistics for ChunkZones<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.column(column).map(|zones| zones.min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.column(column).map(|zones| zones.max)
    }

    fn num_containers(&self) -> usize {
        self.chunks.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        self.column(column).map(|zones| zones.nulls)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.chunks.iter().map(|chunk| chunk.len() as u64);
        Some(Arc::new(rows.collect::<UInt64Array>()))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// For each chunk whether rows in it may pass `predicate`, which is over `schema`; `named` are the table's
/// columns with their ids. Chunks that nothing
/// can be told of, be it that telling fails, may.
pub(super) fn may_pass(
    predicate: &Arc<dyn PhysicalExpr>,
    (schema, named): (&SchemaRef, &SchemaRef),
    chunks: &[&Arc<Chunk>],
) -> Vec<bool> {
    let all = vec![true; chunks.len()];
    if !chunks.iter().any(|chunk| chunk.is_in_file()) {
        return all;
    }
    let mut may = all;
    for conjunct in split_conjunction(predicate) {
        if !keeps_order(conjunct, schema) {
            continue;
        }
        let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema));
        let Ok(pruning) = builder.try_build(Arc::clone(conjunct)) else { continue };
        if pruning.always_true() {
            continue;
        }
        let zones = ChunkZones { schema, named, chunks, known: Mutex::default() };
        // Zones tell of rows that are not visible, in which a comparison may fail.
        let Ok(passed) = pruning.prune(&zones) else { continue };
        may.iter_mut().zip(passed).for_each(|(may, passed)| *may &= passed);
    }
    may
}

/// Whether every cast in the expression keeps the order of values. DataFusion takes least and greatest
/// values through casts without asking; `timestamp::time`, for one, has another order.
fn keeps_order(expr: &Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> bool {
    let breaks = |expr: &Arc<dyn PhysicalExpr>| {
        let any = &**expr as &dyn Any;
        let cast = any
            .downcast_ref::<CastExpr>()
            .map(|cast| (cast.expr(), cast.cast_type().clone()))
            .or_else(|| {
                let cast = any.downcast_ref::<TryCastExpr>()?;
                Some((cast.expr(), cast.cast_type().clone()))
            });
        let Some((inner, to)) = cast else { return Ok(false) };
        Ok(!inner.data_type(schema).is_ok_and(|from| in_order(&from, &to)))
    };
    !expr.exists(breaks).unwrap_or(true)
}

fn in_order(from: &DataType, to: &DataType) -> bool {
    use DataType::{Date32, Decimal128, Float64, Int16, Int32, Int64, Timestamp, Utf8, Utf8View};
    match (from, to) {
        (Int16 | Int32 | Int64, Int16 | Int32 | Int64 | Float64 | Decimal128(..))
        | (Date32, Timestamp(_, None))
        | (Utf8 | Utf8View, Utf8 | Utf8View) => true,
        (Timestamp(_, zone), Timestamp(_, other)) => zone == other,
        _ => from == to,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;

    #[test]
    fn casts_that_change_the_order_say_nothing_of_zones() {
        let moment = DataType::Timestamp(TimeUnit::Microsecond, None);
        assert!(in_order(&DataType::Int32, &DataType::Int64));
        assert!(in_order(&DataType::Date32, &moment));
        assert!(!in_order(&moment, &DataType::Time64(TimeUnit::Microsecond)));
        assert!(!in_order(&DataType::Int32, &DataType::Utf8));
        assert!(!in_order(&DataType::Int64, &DataType::Boolean));
        assert!(!in_order(&DataType::Utf8, &DataType::Int32));
    }
}
