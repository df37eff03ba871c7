//! Leaves out chunks in which no row can pass a predicate, by their zone maps.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use parking_lot::Mutex;
use storage::memtable::{Chunk, Zones};

/// What zone maps say of some chunks.
struct ChunkZones<'a> {
    schema: &'a SchemaRef,
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
        let found: Vec<Option<(Zones, usize)>> =
            self.chunks.iter().map(|chunk| chunk.zones(at)).collect();
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

/// For each chunk whether rows in it may pass `predicate`, which is over `schema`.
pub(super) fn may_pass(
    predicate: &Arc<dyn PhysicalExpr>,
    schema: &SchemaRef,
    chunks: &[&Arc<Chunk>],
) -> Result<Vec<bool>> {
    if !chunks.iter().any(|chunk| chunk.is_in_file()) {
        return Ok(vec![true; chunks.len()]);
    }
    let builder = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema));
    let pruning = builder.try_build(Arc::clone(predicate));
    match pruning {
        Ok(pruning) if !pruning.always_true() => {
            pruning.prune(&ChunkZones { schema, chunks, known: Mutex::default() })
        }
        // A predicate of a kind that says nothing about zones.
        Ok(_) | Err(_) => Ok(vec![true; chunks.len()]),
    }
}
