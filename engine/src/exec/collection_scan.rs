//! Reads the rows of a collection at an instant, one chunk at a time.

use std::fmt;
use std::sync::Arc;

use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricType, MetricsSet,
    RecordOutput as _,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
    SendableRecordBatchStream, apply_expression_roots,
};
use futures::StreamExt as _;
use storage::memtable::{Chunk, Rows};

use super::{Lookup, Source};

/// Of so many rows one is thought to pass a predicate of which nothing is known.
const FILTERED_PART: usize = 5;

/// Scans a collection, or fetches rows of it by a key.
#[derive(Debug)]
pub(crate) struct CollectionScanExec {
    source: Source,
    rows: Arc<Rows>,
    /// The only rows to read, when the predicate names them by key.
    lookup: Option<Lookup>,
    /// Rows after which reading may stop.
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl CollectionScanExec {
    pub(crate) fn new(
        source: Source,
        rows: Arc<Rows>,
        lookup: Option<Lookup>,
        limit: Option<usize>,
        partitions: usize,
    ) -> Result<Self> {
        let schema = Arc::new(source.schema.project(&source.projection)?);
        let chunks = rows.chunks().count().max(1);
        let partitions = if lookup.is_some() { 1 } else { partitions.min(chunks) };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Ok(Self {
            source,
            rows,
            lookup,
            limit,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl CollectionScanExec {
    /// The columns that it returns, by their place in the table; behind the last one the row id.
    pub(crate) fn projection(&self) -> &[usize] {
        &self.source.projection
    }
}

impl DisplayAs for CollectionScanExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.source.definition.name;
        match &self.lookup {
            Some(Lookup { by: None, .. }) => {
                write!(f, "CollectionLookup: table={name}, by=primary key")?;
            }
            Some(Lookup { by: Some(index), .. }) => {
                write!(f, "CollectionLookup: table={name}, by={index}")?;
            }
            None => write!(f, "CollectionScan: table={name}")?,
        }
        if let Some(predicate) = &self.source.predicate {
            write!(f, ", filter={predicate}")?;
        }
        if let Some(range) = &self.source.range {
            write!(f, "{range}")?;
        }
        if let Some(limit) = self.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for CollectionScanExec {
    fn name(&self) -> &'static str {
        "CollectionScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(&self.source.predicate, f)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        let live = self.rows.live() as usize;
        let all = match (&self.lookup, &self.source.predicate) {
            (Some(lookup), _) => lookup.ordinals.len(),
            (None, Some(_)) => live / FILTERED_PART,
            (None, None) => live,
        };
        let partitions = self.properties.partitioning.partition_count();
        let rows = if partition.is_some() { all / partitions } else { all };
        let num_rows = Precision::Inexact(self.limit.map_or(rows, |limit| rows.min(limit)));
        Ok(Arc::new(Statistics { num_rows, ..Statistics::new_unknown(&self.schema()) }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(
        &self,
        partition: usize,
        _context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let (source, rows) = (self.source.clone(), Arc::clone(&self.rows));
        let partitions = self.properties.partitioning.partition_count();
        let chunks: Vec<(u32, Arc<Chunk>)> = match &self.lookup {
            Some(_) => Vec::new(),
            None => {
                let mine = |(at, _): &(usize, (u32, &Arc<Chunk>))| at % partitions == partition;
                let mine = rows.placed().enumerate().filter(mine).map(|(_, placed)| placed);
                let (bases, mine): (Vec<u32>, Vec<&Arc<Chunk>>) = mine.unzip();
                let may = source.may_qualify(&mine);
                let placed = bases.into_iter().zip(&mine).zip(may).filter(|(_, may)| *may);
                let left: Vec<(u32, Arc<Chunk>)> =
                    placed.map(|((base, chunk), _)| (base, Arc::clone(chunk))).collect();
                let pruned = MetricBuilder::new(&self.metrics)
                    .with_type(MetricType::Summary)
                    .counter("chunks_pruned", partition);
                pruned.add(mine.len() - left.len());
                left
            }
        };
        let mut left = self.limit;
        let looked_up = self.lookup.as_ref().map(|Lookup { ordinals, .. }| {
            let unprojected = Source {
                projection: (0..source.schema.fields().len()).collect(),
                ..source.clone()
            };
            let fetched = unprojected.fetch(&rows, ordinals)?;
            let passed = match &source.predicate {
                Some(predicate) => {
                    datafusion::physical_plan::filter::batch_filter(&fetched, predicate)?
                }
                None => fetched,
            };
            Ok(passed.project(&source.projection)?)
        });
        let read =
            futures::stream::iter(chunks).map(move |(base, chunk)| source.read(base, &chunk));
        let stream = futures::stream::iter(looked_up)
            .chain(read)
            .map(move |batch| {
                let _timer = baseline.elapsed_compute().timer();
                batch.map(|batch| batch.record_output(&baseline))
            })
            .take_while(move |batch| {
                let more = left != Some(0);
                if let (Some(left), Ok(batch)) = (&mut left, batch) {
                    *left = left.saturating_sub(batch.num_rows());
                }
                futures::future::ready(more)
            });
        let schema = self.schema();
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(schema, stream))))
    }
}
