//! The nearest rows of a collection, by an index or exactly: exactly `min(k, qualifying rows)` of
//! them. The plan keeps its Sort above this operator, so a wrong order here could cost recall and
//! never the order of the answer.

use std::fmt;
use std::sync::Arc;

use arrow::array::Array as _;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput as _,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
    SendableRecordBatchStream, apply_expression_roots,
};
use parking_lot::Mutex;
use storage::ReadView;
use storage::memtable::{IndexSearch, Rows, SearchReport, Strategy, VectorIndex, exact_search};
use types::Distance;
use udfs::vector_slice;
use vector::Metric;

use super::Source;
use super::rows::storage_error;
use crate::prepared::with_values;

/// What is searched for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum QueryVector {
    Known(Vec<f32>),
    /// The number of a parameter, from zero, in a plan whose parameters are open.
    Parameter(usize),
}

/// What the optimizer rule asks a scan for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct VectorTopK {
    /// Position of the vector column.
    pub(crate) column: usize,
    pub(crate) query: QueryVector,
    pub(crate) distance: Distance,
    pub(crate) k: usize,
}

/// The session's say in how to search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SearchSettings {
    pub(crate) ef: usize,
    pub(crate) enable_ann: bool,
    /// The way to take; `None` for the cheapest.
    pub(crate) strategy: Option<Strategy>,
}

/// The operator.
#[derive(Debug)]
pub(crate) struct VectorTopKExec {
    source: Source,
    /// Absent in a plan that is kept to be bound.
    rows: Option<Arc<Rows>>,
    search: VectorTopK,
    settings: SearchSettings,
    index: Option<Arc<VectorIndex>>,
    /// What the last execution did.
    report: Arc<Mutex<Option<SearchReport>>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl VectorTopKExec {
    pub(crate) fn new(
        source: Source,
        search: VectorTopK,
        settings: SearchSettings,
    ) -> Result<Self> {
        let serves = |index: &Arc<VectorIndex>| {
            let definition = index.definition();
            definition.column == search.column && definition.distance == search.distance
        };
        let contents = source.table.contents();
        let index = contents.indexes().find(|index| serves(index)).map(Arc::clone);
        let index = index.filter(|_| settings.enable_ann);
        let schema = Arc::new(source.schema.project(&source.projection)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Ok(Self {
            rows: Some(contents.rows),
            source,
            search,
            settings,
            index,
            report: Arc::default(),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl VectorTopKExec {
    /// Whether the statement names the instant that is searched.
    pub(crate) fn is_of_the_past(&self) -> bool {
        self.source.past
    }

    /// The same search without rows and index, which a plan that is kept must not hold on to.
    pub(crate) fn unbound(&self) -> Self {
        Self {
            source: self.source.clone(),
            rows: None,
            search: self.search.clone(),
            settings: self.settings,
            index: None,
            report: Arc::default(),
            properties: Arc::clone(&self.properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The same search at the instant of `view` with values in the place of parameters; `None` when
    /// the table is gone or the value is not a vector of the column's dimension.
    pub(crate) fn bind(&self, view: &ReadView, parameters: &[ScalarValue]) -> Result<Option<Self>> {
        let id = self.source.table.collection().id;
        let Some(table) = view.readable(id).map_err(storage_error)? else { return Ok(None) };
        let mut search = self.search.clone();
        if let QueryVector::Parameter(number) = search.query {
            let column = table.schema().field(search.column).data_type();
            let vector = match parameters.get(number) {
                Some(ScalarValue::FixedSizeList(list)) if list.data_type() == column => {
                    vector_slice(list, 0)
                }
                Some(_) | None => None,
            };
            let Some(vector) = vector else { return Ok(None) };
            search.query = QueryVector::Known(vector.to_vec());
        }
        let predicate = self.source.predicate.as_ref();
        let source = Source {
            table: Arc::clone(table),
            at: view.at(),
            predicate: predicate.map(|p| with_values(p, parameters)).transpose()?,
            ..self.source.clone()
        };
        Self::new(source, search, self.settings).map(Some)
    }
}

/// Everything one execution needs.
struct Search {
    source: Source,
    rows: Arc<Rows>,
    search: VectorTopK,
    settings: SearchSettings,
    index: Option<Arc<VectorIndex>>,
}

impl Search {
    fn run(&self) -> Result<(arrow::array::RecordBatch, SearchReport)> {
        let admitted = match &self.source.predicate {
            Some(_) => Some(self.source.qualifying(&self.rows)?),
            None => None,
        };
        let QueryVector::Known(query) = &self.search.query else {
            return internal_err!("a search for a parameter without a value");
        };
        let request = IndexSearch {
            query,
            k: self.search.k,
            ef: self.settings.ef,
            at: self.source.at,
            strategy: self.settings.strategy,
            admitted: admitted.as_deref(),
        };
        let searched = match &self.index {
            Some(index) => index.search(&self.rows, &request),
            None => {
                let metric = Metric::new(self.search.distance);
                let dim = query.len();
                let vectors = self.rows.vectors(self.search.column, dim);
                exact_search(&metric, &self.rows, &vectors, &request)
            }
        };
        let (found, report) = searched.map_err(storage_error)?;
        let ordinals: Vec<u32> = found.iter().map(|neighbor| neighbor.ordinal).collect();
        Ok((self.source.fetch(&self.rows, &ordinals)?, report))
    }
}

impl DisplayAs for VectorTopKExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let collection = self.source.table.collection();
        write!(
            f,
            "VectorTopK: table={}, column={}, distance={}, k={}",
            collection.name,
            collection.columns[self.search.column].name,
            self.search.distance.operator(),
            self.search.k,
        )?;
        match &self.index {
            Some(index) => write!(
                f,
                ", index={}, quantization={}, ef={}",
                index.definition().name,
                index.definition().options.quantization.name(),
                self.settings.ef
            )?,
            None => write!(f, ", index=none")?,
        }
        if let Some(predicate) = &self.source.predicate {
            write!(f, ", filter={predicate}")?;
        }
        if let Some(report) = *self.report.lock() {
            write!(
                f,
                ", strategy={}, rows_qualifying={}, points_visited={}, distances_computed={}, \
                 rescored={}",
                report.way(),
                report.qualifying,
                report.visited,
                report.distances,
                report.rescored,
            )?;
        } else if self.index.is_none() {
            write!(f, ", strategy=exact")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for VectorTopKExec {
    fn name(&self) -> &'static str {
        "VectorTopKExec"
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

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(
        &self,
        partition: usize,
        _context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let search = Search {
            source: self.source.clone(),
            rows: self.rows.as_ref().map_or_else(
                || internal_err!("a search that was not bound"),
                |rows| Ok(Arc::clone(rows)),
            )?,
            search: self.search.clone(),
            settings: self.settings,
            index: self.index.clone(),
        };
        let report = Arc::clone(&self.report);
        let once = futures::stream::once(async move {
            let _timer = baseline.elapsed_compute().timer();
            let (batch, done) = search.run()?;
            *report.lock() = Some(done);
            Ok(batch.record_output(&baseline))
        });
        let schema = self.schema();
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(schema, once))))
    }
}
