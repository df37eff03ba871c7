//! What the operators share: rows of a table at an instant, filtered and projected.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{filter_record_batch, interleave_record_batch, prep_null_mask_filter};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use storage::StorageError;
use storage::memtable::{Chunk, Contents, Definition, Rows, Table};
use types::{CommitTs, RowOrdinal};

use super::range::RangeFilter;
use super::zones::may_pass;

/// Rows of a table at an instant.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) table: Arc<Table>,
    /// As it is at the instant.
    pub(crate) definition: Arc<Definition>,
    pub(crate) at: CommitTs,
    /// The provider's columns; one more than the table's when row ids are asked for.
    pub(crate) schema: SchemaRef,
    pub(crate) row_id: bool,
    /// Whether the statement names the instant.
    pub(crate) past: bool,
    /// Columns of `schema` to return, in order.
    pub(crate) projection: Vec<usize>,
    /// Predicate over `schema`; rows for which it is not true do not qualify.
    pub(crate) predicate: Option<Arc<dyn PhysicalExpr>>,
    /// What rules rows out before the predicate meets them; goes with the rows of one `Contents`.
    pub(crate) range: Option<RangeFilter>,
}

impl Source {
    /// The columns of `schema` for the rows of a chunk.
    fn widen(&self, chunk: &Chunk) -> Result<RecordBatch> {
        let rows = self.definition.read(chunk.batch().map_err(storage_error)?)?;
        if !self.row_id {
            return Ok(rows);
        }
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(chunk.row_ids()) as ArrayRef);
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// The same where an index helps with the predicate.
    pub(crate) fn with_range(self, contents: &Contents) -> Self {
        let range = self
            .predicate
            .as_ref()
            .and_then(|p| RangeFilter::of(p, contents, self.definition.named()));
        Self { range, ..self }
    }

    /// The rows of a chunk, which begins at `base`, that the predicate is to meet; `None` for all.
    fn met(&self, base: u32, chunk: &Chunk) -> Option<BooleanArray> {
        let rows = u32::try_from(chunk.len()).unwrap_or(0);
        let near = self.range.as_ref().and_then(|range| range.may_pass(base..base + rows));
        let all_visible = chunk.all_visible(self.at);
        if near.is_none() && all_visible {
            return None;
        }
        let met = |slot: usize| {
            near.as_ref().is_none_or(|near| near[slot])
                && (all_visible || chunk.visible(slot, self.at))
        };
        Some((0..chunk.len()).map(|slot| Some(met(slot))).collect())
    }

    /// Which rows of a chunk are visible and pass the predicate; `None` when all do. The predicate
    /// meets visible rows alone: an error in a row that is not there must not be seen.
    fn mask(&self, base: u32, chunk: &Chunk, wide: &RecordBatch) -> Result<Option<BooleanArray>> {
        let met = self.met(base, chunk);
        let Some(predicate) = &self.predicate else { return Ok(met) };
        if let Some(met) = met {
            return self.mask_of_met(predicate, &met, wide).map(Some);
        }
        let passed = predicate.evaluate(wide)?.into_array(wide.num_rows())?;
        let passed = datafusion::common::cast::as_boolean_array(&passed)?;
        let passed =
            if passed.null_count() > 0 { prep_null_mask_filter(passed) } else { passed.clone() };
        Ok(Some(passed))
    }

    fn mask_of_met(
        &self,
        predicate: &Arc<dyn PhysicalExpr>,
        met: &BooleanArray,
        wide: &RecordBatch,
    ) -> Result<BooleanArray> {
        let seen = filter_record_batch(wide, met)?;
        let passed = predicate.evaluate(&seen)?.into_array(seen.num_rows())?;
        let passed = datafusion::common::cast::as_boolean_array(&passed)?;
        let mut verdicts = passed.iter();
        let verdict = |seen: bool| seen && verdicts.next().flatten().unwrap_or(false);
        Ok(met.values().iter().map(verdict).map(Some).collect())
    }

    /// For each chunk whether a row in it may qualify, told without reading it.
    pub(crate) fn may_qualify(&self, chunks: &[&Arc<Chunk>]) -> Vec<bool> {
        let mut may = match &self.predicate {
            Some(predicate) => may_pass(predicate, (&self.schema, self.definition.named()), chunks),
            None => vec![true; chunks.len()],
        };
        for (may, chunk) in may.iter_mut().zip(chunks) {
            *may &= !chunk.none_visible(self.at);
        }
        may
    }

    /// The qualifying rows of a chunk, projected.
    pub(crate) fn read(&self, base: u32, chunk: &Chunk) -> Result<RecordBatch> {
        if self.projection.is_empty() && self.predicate.is_none() {
            // Rows are counted without being read.
            return no_columns(chunk.count_visible(self.at));
        }
        let wide = self.widen(chunk)?;
        let mask = self.mask(base, chunk, &wide)?;
        let narrow = wide.project(&self.projection)?;
        match mask {
            Some(mask) => Ok(filter_record_batch(&narrow, &mask)?),
            None => Ok(narrow),
        }
    }

    /// Ordinals of the qualifying rows, ascending.
    pub(crate) fn qualifying(&self, rows: &Rows) -> Result<Vec<u32>> {
        let mut ordinals = Vec::new();
        let (bases, chunks): (Vec<u32>, Vec<&Arc<Chunk>>) = rows.placed().unzip();
        let may = self.may_qualify(&chunks);
        let placed = bases.into_iter().zip(chunks).zip(may).filter(|(_, may)| *may);
        for ((base, chunk), _) in placed {
            let mask = self.mask(base, chunk, &self.widen(chunk)?)?;
            let slots = 0..u32::try_from(chunk.len()).unwrap_or(0);
            match mask {
                None => ordinals.extend(slots.map(|slot| base + slot)),
                Some(mask) => ordinals
                    .extend(slots.filter(|slot| mask.value(*slot as usize)).map(|s| base + s)),
            }
        }
        Ok(ordinals)
    }

    /// The given rows, projected, in the order given.
    pub(crate) fn fetch(&self, rows: &Rows, ordinals: &[u32]) -> Result<RecordBatch> {
        let mut batches: Vec<RecordBatch> = Vec::new();
        let mut places = Vec::with_capacity(ordinals.len());
        let mut last: Option<(&Arc<Chunk>, usize)> = None;
        let mut seen: Vec<(&Arc<Chunk>, usize)> = Vec::new();
        for ordinal in ordinals {
            let Some((chunk, slot)) = rows.locate(RowOrdinal(*ordinal)) else { continue };
            let known = last
                .filter(|(other, _)| Arc::ptr_eq(other, chunk))
                .or_else(|| seen.iter().find(|(other, _)| Arc::ptr_eq(other, chunk)).copied());
            let place = match known {
                Some((_, at)) => at,
                None => {
                    batches.push(self.widen(chunk)?.project(&self.projection)?);
                    seen.push((chunk, batches.len() - 1));
                    batches.len() - 1
                }
            };
            last = Some((chunk, place));
            places.push((place, slot));
        }
        let schema = Arc::new(self.schema.project(&self.projection)?);
        if self.projection.is_empty() {
            return no_columns(places.len());
        }
        if places.is_empty() {
            return Ok(RecordBatch::new_empty(schema));
        }
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        Ok(interleave_record_batch(&batches, &places)?)
    }
}

/// So many rows of no columns.
fn no_columns(rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?)
}

/// Passes a failure of storage through DataFusion.
pub(crate) fn storage_error(error: StorageError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
