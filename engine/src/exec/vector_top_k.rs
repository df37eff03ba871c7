//! The nearest rows of a collection, by an index or exactly: exactly `min(k, qualifying rows)` of
//! them. The plan keeps its Sort above this operator, so a wrong order here could cost recall and
//! never the order of the answer.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use catalog::Collection;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, ScalarValue, Statistics, internal_err};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use datafusion::physical_expr::expressions::binary;
use datafusion::physical_expr::{Distribution, EquivalenceProperties, PhysicalExpr};
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
use storage::memtable::{IndexSearch, Rows, SearchReport, Strategy, VectorIndex, exact_search};
use storage::{ReadView, StorageError};
use types::Distance;
use udfs::vector_of;
use vector::{Metric, Neighbor, Query};

use super::Source;
use super::key_filter::{KeyInput, membership};
use super::rows::storage_error;
use crate::prepared::with_values;
use crate::tuner::{Choice, Class, Estimate, Goal, IndexTuning, Sample, Tuner};

/// Samples of a class of which no walk comes: enough to know what a walk would cost.
const SAMPLES_UNWALKED: f64 = 64.0;

/// What a search may take, about, on the thread that serves its client: longer ones would keep others
/// waiting.
const SHORT_NANOS: f64 = 1e6;

/// What is searched for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum QueryVector {
    Known(Query),
    /// The number of a parameter, from zero, in a plan whose parameters are open.
    Parameter(usize),
}

/// Whether a query has the dimension of a column, which the type of a sparse one does not say.
pub(crate) fn has_dimension(collection: &Collection, column: usize, query: &Query) -> bool {
    let vector = collection.column_by_id(column).and_then(|column| column.column_type.vector());
    vector.is_some_and(|(_, dim)| dim.len() == query.row().len())
}

/// What the optimizer rule asks a scan for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct VectorTopK {
    /// Id of the vector column.
    pub(crate) column: usize,
    pub(crate) query: QueryVector,
    pub(crate) distance: Distance,
    pub(crate) k: usize,
    /// Whether `k` rows may turn out to be too few, because of conditions above that the search does
    /// not know. Then all rows are returned, unless an `IterativeSearchExec` says how many.
    pub(crate) may_go_on: bool,
    /// Joins that say which rows qualify.
    pub(crate) joins: Vec<SemiJoin>,
}

/// Only rows qualify whose key is among those of another plan; or is not.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SemiJoin {
    /// The key of a row, over the collection's columns.
    pub(crate) on: Vec<Expr>,
    /// Its columns are the keys.
    pub(crate) keys: Arc<LogicalPlan>,
    pub(crate) negated: bool,
}

/// The session's say in how to search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SearchSettings {
    pub(crate) goal: Goal,
    pub(crate) enable_ann: bool,
    /// The way to take; `None` for the cheapest.
    pub(crate) strategy: Option<Strategy>,
    /// Whether the answer is compared with the exact one.
    pub(crate) measure_recall: bool,
}

/// An index to search, and what is known of its searches.
#[derive(Debug, Clone)]
struct Searched {
    index: Arc<VectorIndex>,
    tuning: Arc<IndexTuning>,
}

/// What an execution did.
#[derive(Debug, Clone, Copy)]
struct Done {
    report: SearchReport,
    choice: Option<Choice>,
    /// The share of the exact answer that was found, when it was asked for.
    recall: Option<f64>,
}

/// The operator.
#[derive(Debug, Clone)]
pub(crate) struct VectorTopKExec {
    source: Source,
    /// Absent in a plan that is kept to be bound.
    rows: Option<Arc<Rows>>,
    search: VectorTopK,
    /// Inputs that say which rows qualify.
    joins: Vec<KeyInput>,
    settings: SearchSettings,
    tuner: Arc<Tuner>,
    index: Option<Searched>,
    /// What the last execution did.
    done: Arc<Mutex<Option<Done>>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl VectorTopKExec {
    pub(crate) fn new(
        source: Source,
        search: VectorTopK,
        joins: Vec<KeyInput>,
        (settings, tuner): (SearchSettings, Arc<Tuner>),
    ) -> Result<Self> {
        let schema = Arc::new(source.schema.project(&source.projection)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        let Search { source, rows, search, settings, tuner, index } =
            Search::new(source, search, settings, tuner);
        Ok(Self {
            rows: Some(rows),
            source,
            search,
            joins,
            settings,
            tuner,
            index,
            done: Arc::default(),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl VectorTopKExec {
    /// Whether the search can be bound to another read view: it is one of now, and reads nothing but
    /// its collection.
    pub(crate) fn can_be_kept(&self) -> bool {
        !self.source.past && self.joins.is_empty() && !self.search.may_go_on
    }

    /// Whether it can be asked for more rows than at first.
    pub(crate) fn may_go_on(&self) -> bool {
        self.search.may_go_on
    }

    /// The same search asked for `k` rows, if it can be asked, or for all, where there is no index that
    /// would find `k` for less. EXPLAIN shows here what it did.
    pub(crate) fn asking_for(&self, k: usize) -> Option<Self> {
        let may_go_on = self.index.is_none();
        let search = VectorTopK { k, may_go_on, ..self.search.clone() };
        self.search.may_go_on.then(|| Self { search, ..self.clone() })
    }

    /// Whether the last execution returned every row that qualifies.
    pub(crate) fn found_all(&self) -> bool {
        let all = |done: Done| self.search.may_go_on || done.report.qualifying <= self.search.k;
        self.done.lock().is_some_and(all)
    }

    /// The same search without rows and index, which a plan that is kept must not hold on to.
    pub(crate) fn unbound(&self) -> Self {
        let source = Source { range: None, ..self.source.clone() };
        Self { source, rows: None, index: None, ..self.unexecuted() }
    }

    /// The same search, of which nothing was executed.
    fn unexecuted(&self) -> Self {
        Self { done: Arc::default(), metrics: ExecutionPlanMetricsSet::new(), ..self.clone() }
    }

    /// The same search at the instant of `view` with values in the place of parameters; `None` when
    /// the table is gone or the value is not a vector of the column's dimension.
    fn bound(
        &self,
        view: &ReadView,
        parameters: &[ScalarValue],
    ) -> Result<Option<(Source, VectorTopK)>> {
        let Some(table) = view.readable(self.source.definition.id).map_err(storage_error)? else {
            return Ok(None);
        };
        let definition = view.definition(table);
        // The plan is of other columns.
        if definition.version != self.source.definition.version {
            return Ok(None);
        }
        let query = match &self.search.query {
            QueryVector::Known(query) => query.clone(),
            QueryVector::Parameter(number) => {
                let position = definition.position_of(self.search.column);
                let column = position.map(|at| definition.schema().field(at).data_type());
                let value = parameters.get(*number);
                let value = value.filter(|value| Some(&value.data_type()) == column);
                let query = value.and_then(vector_of);
                let fits = |query: &Query| has_dimension(&definition, self.search.column, query);
                let Some(query) = query.filter(fits) else { return Ok(None) };
                query
            }
        };
        let search = VectorTopK { query: QueryVector::Known(query), ..self.search.clone() };
        let predicate = self.source.predicate.as_ref();
        let source = Source {
            table: Arc::clone(table),
            definition: Arc::clone(&definition),
            at: view.at(),
            predicate: predicate.map(|p| with_values(p, parameters)).transpose()?,
            ..self.source.clone()
        };
        Ok(Some((source, search)))
    }

    /// The bound search as an operator.
    pub(crate) fn bind(&self, view: &ReadView, parameters: &[ScalarValue]) -> Result<Option<Self>> {
        let Some((source, search)) = self.bound(view, parameters)? else { return Ok(None) };
        let settings = (self.settings, Arc::clone(&self.tuner));
        Self::new(source, search, self.joins.clone(), settings).map(Some)
    }

    /// The bound search alone.
    pub(crate) fn bind_search(
        &self,
        view: &ReadView,
        parameters: &[ScalarValue],
    ) -> Result<Option<Search>> {
        let bound = self.bound(view, parameters)?;
        let tuner = || Arc::clone(&self.tuner);
        Ok(bound.map(|(source, search)| Search::new(source, search, self.settings, tuner())))
    }
}

/// Everything one execution needs.
pub(crate) struct Search {
    source: Source,
    rows: Arc<Rows>,
    search: VectorTopK,
    settings: SearchSettings,
    tuner: Arc<Tuner>,
    index: Option<Searched>,
}

impl Search {
    fn new(
        source: Source,
        search: VectorTopK,
        settings: SearchSettings,
        tuner: Arc<Tuner>,
    ) -> Self {
        let serves = |index: &Arc<VectorIndex>| {
            let definition = index.definition();
            definition.column == search.column && definition.distance == search.distance
        };
        let contents = source.table.contents();
        let source = if settings.enable_ann { source.with_range(&contents) } else { source };
        let index = contents.indexes().find(|index| settings.enable_ann && serves(index));
        let index = index.map(|index| Searched {
            index: Arc::clone(index),
            tuning: tuner.of(index.definition()),
        });
        Self { source, rows: contents.rows, search, settings, tuner, index }
    }

    /// Whether the search is over in less time than another thread takes to begin it and tell of its
    /// end.
    pub(crate) fn is_short(&self) -> bool {
        let (Some(Searched { index, tuning }), None) = (&self.index, &self.source.predicate) else {
            return false;
        };
        let (k, qualifying) = (self.search.k, self.rows.count_visible(self.source.at));
        let class = Class::of(k, qualifying, self.rows.points());
        let ef = tuning.choose(class, k, self.settings.goal).ef;
        index.search_nanos(&self.rows, ef.max(k), qualifying) < SHORT_NANOS
    }

    /// The rows found, by distance.
    pub(crate) fn rows(&self) -> Result<RecordBatch> {
        Ok(self.run()?.0)
    }

    /// Lets only rows qualify for which `filter` is true.
    fn admit(&mut self, filter: Arc<dyn PhysicalExpr>) -> Result<()> {
        self.source.predicate = Some(match self.source.predicate.take() {
            Some(known) => binary(known, Operator::And, filter, &self.source.schema)?,
            None => filter,
        });
        Ok(())
    }

    fn run(&self) -> Result<(RecordBatch, Done)> {
        let began = self.tuner.now_micros();
        let admitted = match &self.source.predicate {
            Some(_) => Some(self.source.qualifying(&self.rows)?),
            None => None,
        };
        let QueryVector::Known(query) = &self.search.query else {
            return internal_err!("a search for a parameter without a value");
        };
        let k = if self.search.may_go_on {
            admitted.as_ref().map_or(self.rows.len() as usize, Vec::len)
        } else {
            self.search.k
        };
        let request = IndexSearch {
            query: query.row(),
            k,
            ef: k,
            may_stop: !matches!(self.settings.goal, Goal::Ef(_)),
            at: self.source.at,
            strategy: self.settings.strategy,
            admitted: admitted.as_deref(),
        };
        let (found, done) = match &self.index {
            Some(searched) => self.by_index(searched, &request, began).map_err(storage_error)?,
            None => {
                let metric = Metric::new(self.search.distance);
                let vectors = self.rows.vectors(self.search.column, query.row().len());
                let exact = exact_search(&metric, &self.rows, &vectors, &request);
                let (found, report) = exact.map_err(storage_error)?;
                let recall = self.settings.measure_recall.then_some(1.0);
                (found, Done { report, choice: None, recall })
            }
        };
        let ordinals: Vec<u32> = found.iter().map(|neighbor| neighbor.ordinal).collect();
        Ok((self.source.fetch(&self.rows, &ordinals)?, done))
    }

    fn by_index(
        &self,
        Searched { index, tuning }: &Searched,
        request: &IndexSearch<'_>,
        began: i64,
    ) -> Result<(Vec<Neighbor>, Done), StorageError> {
        let (rows, k) = (&self.rows, request.k);
        let qualifying = match request.admitted {
            Some(admitted) => admitted.len(),
            None => rows.count_visible(request.at),
        };
        let class = Class::of(k, qualifying, rows.points());
        let choice = tuning.choose(class, k, self.settings.goal);
        let request = IndexSearch { ef: choice.ef, ..*request };
        let (found, report) = index.search(rows, &request)?;
        let sampled = tuning.note(class, self.tuner.now_micros().saturating_sub(began));
        // Where all rows are compared, more samples would change nothing.
        let walked = report.strategy == Strategy::Graph || tuning.samples(class) < SAMPLES_UNWALKED;
        // Nobody else searches the rows of a transaction.
        let shared = !rows.is_fork();
        if sampled && walked && shared && index.has_graph() && k < qualifying {
            self.tuner.sample(|| Sample {
                tuning: Arc::clone(tuning),
                class,
                index: Arc::clone(index),
                rows: Arc::clone(rows),
                query: Query::from(request.query),
                k,
                at: request.at,
                admitted: request.admitted.map(<[u32]>::to_vec),
            });
        }
        let recall = if self.settings.measure_recall {
            let exact = IndexSearch { strategy: Some(Strategy::Exact), ..request };
            Some(index.recall(&found, &index.search(rows, &exact)?.0))
        } else {
            None
        };
        Ok((found, Done { report, choice: Some(choice), recall }))
    }
}

impl Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { report, choice, recall } = self;
        write!(f, ", strategy={}", report.way())?;
        if let Some(choice) = choice.filter(|_| report.strategy == Strategy::Graph) {
            write!(f, ", ef_walked={}", choice.ef)?;
            if let Some(Estimate { recall, error, .. }) = choice.expected {
                write!(f, ", recall_expected={recall:.3}+-{error:.3}")?;
            }
        }
        if let Some(recall) = recall {
            write!(f, ", recall={recall}")?;
        }
        write!(
            f,
            ", rows_qualifying={}, points_visited={}, distances_computed={}, rescored={}",
            report.qualifying, report.visited, report.distances, report.rescored,
        )
    }
}

impl DisplayAs for VectorTopKExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let collection = &self.source.definition;
        let column = collection.column_by_id(self.search.column);
        write!(
            f,
            "VectorTopK: table={}, column={}, distance={}",
            collection.name,
            column.map_or("", |column| column.name.as_str()),
            self.search.distance.operator(),
        )?;
        if self.search.may_go_on {
            write!(f, ", k=any")?;
        } else {
            write!(f, ", k={}", self.search.k)?;
        }
        match &self.index {
            Some(Searched { index, tuning }) => {
                let name = &index.definition().name;
                let quantization = index.definition().options.quantization.name();
                write!(f, ", index={name}, quantization={quantization}")?;
                match self.settings.goal {
                    Goal::Ef(ef) => write!(f, ", ef={ef}")?,
                    Goal::Recall(target) => write!(f, ", ef=auto, recall_target={target}")?,
                    Goal::Index => write!(f, ", ef=auto, recall_target={}", tuning.target())?,
                }
            }
            None => write!(f, ", index=none")?,
        }
        if let Some(predicate) = &self.source.predicate {
            write!(f, ", filter={predicate}")?;
        }
        if let Some(range) = &self.source.range {
            write!(f, "{range}")?;
        }
        for join in &self.joins {
            write!(f, ", join={} input", membership(&join.on, join.negated))?;
        }
        if let Some(done) = *self.done.lock() {
            done.fmt(f)?;
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
        self.joins.iter().map(|join| &join.keys).collect()
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition; self.joins.len()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.joins.len()]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(&self.source.predicate, f)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.len() != self.joins.len() {
            return internal_err!("a search with {} inputs", children.len());
        }
        let input = |(join, keys): (&KeyInput, _)| KeyInput { keys, ..join.clone() };
        let joins = self.joins.iter().zip(children).map(input).collect();
        // The same rows, whatever came since.
        Ok(Arc::new(Self { joins, ..self.unexecuted() }))
    }

    fn partition_statistics(&self, _partition: Option<usize>) -> Result<Arc<Statistics>> {
        // A join above builds its table of these few rows.
        let num_rows = Precision::Inexact(self.search.k);
        Ok(Arc::new(Statistics { num_rows, ..Statistics::new_unknown(&self.schema()) }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let joins = self.joins.clone();
        let mut search = Search {
            source: self.source.clone(),
            rows: self.rows.as_ref().map_or_else(
                || internal_err!("a search that was not bound"),
                |rows| Ok(Arc::clone(rows)),
            )?,
            search: self.search.clone(),
            settings: self.settings,
            tuner: Arc::clone(&self.tuner),
            index: self.index.clone(),
        };
        let last = Arc::clone(&self.done);
        let once = futures::stream::once(async move {
            for join in joins {
                search.admit(join.filter(&search.source.schema, &context).await?)?;
            }
            let _timer = baseline.elapsed_compute().timer();
            let (batch, done) = search.run()?;
            *last.lock() = Some(done);
            Ok(batch.record_output(&baseline))
        });
        let schema = self.schema();
        Ok(make_cooperative(Box::pin(RecordBatchStreamAdapter::new(schema, once))))
    }
}
