//! Plans that are kept with a prepared statement, so that only its first executions are planned.
//!
//! Kept is the physical plan of a search, `ORDER BY distance LIMIT k` over one collection, with its
//! parameters open. An execution binds it: the collection to the newest read view, the parameters to
//! their values. Everything that planning fixed must be the same as when it was planned: the
//! catalog, the session's settings, the types of the values. Statements that planning fixes more of
//! are planned each time: those that call a function whose result is not a matter of its arguments
//! alone, hold a subquery, read the past, or have a parameter where a plan needs its value.

mod by_key;

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use catalog::Catalog;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::expr::{Placeholder, ScalarFunction};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast::Query;
use parking_lot::Mutex;
use storage::ReadView;

use crate::error::Result;
use crate::exec::{Search, Steps, VectorTopKExec};
use crate::query::{Planner, named_schema, replace_expressions};
use crate::settings::Settings;
use crate::sql::types::parameter_number;

pub(crate) use self::by_key::KeptWrite;

/// Where a prepared statement keeps its plan.
#[derive(Debug, Default)]
pub(crate) struct PlanSlot {
    /// Of a query.
    pub(crate) query: Slot<KeptPlan>,
    /// Of an UPDATE or DELETE.
    pub(crate) write: Slot<KeptWrite>,
}

/// Where a plan of one kind is kept.
#[derive(Debug)]
pub(crate) struct Slot<T>(Mutex<State<T>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Mutex::new(State::New))
    }
}

#[derive(Debug)]
enum State<T> {
    /// Not executed yet. What is executed once is not worth a plan to keep.
    New,
    /// To be planned.
    Due,
    /// Planned each time.
    Unfit,
    Kept(Arc<T>),
}

/// What was fixed when a plan was made.
pub(crate) trait Kept {
    /// Whether it is the same in `view` and under `settings`.
    fn is_of(&self, view: &ReadView, settings: &Settings) -> bool;
}

/// What a slot says at an execution.
#[derive(Debug)]
pub(crate) enum Found<T> {
    /// A plan to bind.
    Plan(Arc<T>),
    /// A plan is to be made and kept.
    Due,
    /// Plan for this execution alone.
    None,
}

impl<T: Kept> Slot<T> {
    /// What there is at an execution under `settings`.
    pub(crate) fn find(&self, view: &ReadView, settings: &Settings) -> Found<T> {
        let mut state = self.0.lock();
        match &*state {
            State::New => {
                *state = State::Due;
                Found::None
            }
            State::Unfit => Found::None,
            State::Kept(kept) if kept.is_of(view, settings) => Found::Plan(Arc::clone(kept)),
            State::Due | State::Kept(_) => Found::Due,
        }
    }

    pub(crate) fn is_kept(&self) -> bool {
        matches!(&*self.0.lock(), State::Kept(_))
    }

    /// Keeps a plan, or that there is none to keep.
    pub(crate) fn keep(&self, plan: Option<Arc<T>>) {
        *self.0.lock() = plan.map_or(State::Unfit, State::Kept);
    }
}

/// The values of an execution, which the functions in the plan read.
#[derive(Debug, Default)]
struct Values {
    /// Whether an execution reads them. A second one at the same time is planned apart.
    lent: AtomicBool,
    values: Mutex<Vec<ScalarValue>>,
}

/// Holds a plan's values for an execution.
#[derive(Debug)]
pub(crate) struct Lease(Arc<Values>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.lent.store(false, Ordering::Release);
    }
}

/// A plan with open parameters.
#[derive(Debug)]
pub(crate) struct KeptPlan {
    plan: Arc<dyn ExecutionPlan>,
    /// The same as a search and steps to take at its rows, where the plan is no more than that.
    at_once: Option<(Steps, VectorTopKExec)>,
    schema: SchemaRef,
    context: Arc<TaskContext>,
    catalog: Arc<Catalog>,
    settings: Settings,
    types: Vec<DataType>,
    values: Arc<Values>,
}

/// A plan whose parameters have values.
pub(crate) struct BoundPlan {
    pub(crate) schema: SchemaRef,
    pub(crate) work: BoundWork,
    pub(crate) lease: Lease,
}

/// What to execute.
pub(crate) enum BoundWork {
    Search(Box<BoundSearch>),
    Plan(Arc<dyn ExecutionPlan>, Arc<TaskContext>),
}

/// A search, and what is made of its rows.
pub(crate) struct BoundSearch {
    pub(crate) search: Search,
    kept: Arc<KeptPlan>,
}

impl BoundSearch {
    /// The rows of the plan.
    pub(crate) fn run(&self) -> Result<RecordBatch> {
        let rows = self.search.rows()?;
        Ok(match &self.kept.at_once {
            Some((steps, _)) => steps.run(rows)?,
            None => rows,
        })
    }
}

impl KeptPlan {
    /// Plans `query` for values of the types of `parameters`; `None` when its plan cannot be kept.
    pub(crate) async fn plan(
        planner: &Planner,
        query: &Query,
        parameters: &[ScalarValue],
    ) -> Result<Option<Self>> {
        let planned = planner.plan(query, None).await?;
        let view = planner.scope.view();
        let values = Arc::new(Values::default());
        let types: Vec<DataType> = parameters.iter().map(ScalarValue::data_type).collect();
        let state: &SessionState = &planned.state;
        let Some(plan) = open_plan(planned.plan, state, &types, &values).await? else {
            return Ok(None);
        };
        if !is_one_search(&plan)? {
            return Ok(None);
        }
        let plan = plan.transform_up(|node| {
            let search = node.downcast_ref::<VectorTopKExec>().map(VectorTopKExec::unbound);
            Ok(match search {
                Some(search) => Transformed::yes(Arc::new(search) as Arc<dyn ExecutionPlan>),
                None => Transformed::no(node),
            })
        })?;
        let plan = plan.data;
        Ok(Some(Self {
            schema: named_schema(query, &plan.schema()),
            at_once: Steps::above_search(&plan)?,
            plan,
            context: state.task_ctx(),
            catalog: Arc::clone(view.shared_catalog()),
            settings: planner.settings.clone(),
            types,
            values,
        }))
    }

    /// The plan over the rows of `view` with `parameters` as its values; `None` when it does not
    /// suit them or is being executed already.
    pub(crate) fn bind(
        self: &Arc<Self>,
        view: &ReadView,
        parameters: &[ScalarValue],
    ) -> Result<Option<BoundPlan>> {
        let suits = |(value, data_type): (&ScalarValue, &DataType)| {
            !value.is_null() && value.data_type() == *data_type
        };
        if parameters.len() != self.types.len() || !parameters.iter().zip(&self.types).all(suits) {
            return Ok(None);
        }
        if self.values.lent.swap(true, Ordering::Acquire) {
            return Ok(None);
        }
        let lease = Lease(Arc::clone(&self.values));
        *self.values.values.lock() = parameters.to_vec();
        let work = match &self.at_once {
            Some((_, search)) => search.bind_search(view, parameters)?.map(|search| {
                BoundWork::Search(Box::new(BoundSearch { search, kept: Arc::clone(self) }))
            }),
            None => self.bind_plan(view, parameters)?,
        };
        let schema = Arc::clone(&self.schema);
        Ok(work.map(|work| BoundPlan { schema, work, lease }))
    }

    fn bind_plan(&self, view: &ReadView, parameters: &[ScalarValue]) -> Result<Option<BoundWork>> {
        let mut bound = true;
        let plan = Arc::clone(&self.plan).transform_up(|node| {
            let Some(search) = node.downcast_ref::<VectorTopKExec>() else {
                return Ok(Transformed::yes(node.reset_state()?));
            };
            Ok(match search.bind(view, parameters)? {
                Some(search) => Transformed::yes(Arc::new(search) as Arc<dyn ExecutionPlan>),
                None => {
                    bound = false;
                    Transformed::no(node)
                }
            })
        })?;
        Ok(bound.then(|| BoundWork::Plan(plan.data, Arc::clone(&self.context))))
    }
}

impl Kept for KeptPlan {
    fn is_of(&self, view: &ReadView, settings: &Settings) -> bool {
        Arc::ptr_eq(&self.catalog, view.shared_catalog()) && self.settings == *settings
    }
}

/// Gives a parameter below a cast, `$1::type`, that type.
fn with_declared_types(plan: LogicalPlan) -> Result<LogicalPlan> {
    let typed = plan.transform_up_with_subqueries(|plan| {
        plan.map_expressions(|expr| {
            expr.transform_up(|expr| {
                let Expr::Cast(cast) = &expr else { return Ok(Transformed::no(expr)) };
                let Expr::Placeholder(placeholder) = &*cast.expr else {
                    return Ok(Transformed::no(expr));
                };
                let shape = udfs::vector_shape(cast.field.data_type());
                let known = shape
                    .is_some_and(|(kind, dim)| dim == 0 && kind != types::VectorKind::Sparsevec);
                if placeholder.field.is_some() || known {
                    return Ok(Transformed::no(expr));
                }
                let field = Some(Arc::clone(&cast.field));
                let typed = Placeholder::new_with_field(placeholder.id.clone(), field);
                Ok(Transformed::yes(Expr::Placeholder(typed)))
            })
        })
    })?;
    Ok(typed.data)
}

/// The physical plan of `plan` with its parameters open; `None` when planning it fixes more than may be.
async fn open_plan(
    plan: LogicalPlan,
    state: &SessionState,
    types: &[DataType],
    values: &Arc<Values>,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let logical = with_declared_types(plan)?;
    if !is_fixed(&logical)? {
        return Ok(None);
    }
    let optimized = state.optimize(&logical)?;
    let Some(open) = open_parameters(optimized, types, values)? else { return Ok(None) };
    Ok(Some(state.query_planner().create_physical_plan(&open, state).await?))
}

/// Whether the plan's result is a matter of the rows, the parameters and the settings alone, and all
/// parameters have a type.
fn is_fixed(plan: &LogicalPlan) -> Result<bool> {
    let mut fixed = true;
    plan.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expr| {
            expr.apply(|expr| {
                fixed &= match expr {
                    Expr::ScalarFunction(call) => {
                        call.func.signature().volatility == Volatility::Immutable
                    }
                    Expr::Placeholder(placeholder) => placeholder.field.is_some(),
                    Expr::ScalarSubquery(_)
                    | Expr::Exists(_)
                    | Expr::InSubquery(_)
                    | Expr::ScalarVariable(..)
                    | Expr::OuterReferenceColumn(..) => false,
                    _ => true,
                };
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        // A LIMIT is a number when it is planned.
        if let LogicalPlan::Limit(limit) = plan {
            let parameter = |expr: &Option<Box<Expr>>| {
                expr.as_ref().is_some_and(|e| e.exists(is_placeholder).unwrap_or(true))
            };
            fixed &= !parameter(&limit.skip) && !parameter(&limit.fetch);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(fixed)
}

#[expect(clippy::unnecessary_wraps, reason = "what a tree is searched with")]
fn is_placeholder(expr: &Expr) -> DataFusionResult<bool> {
    Ok(matches!(expr, Expr::Placeholder(_)))
}

/// Puts a function in the place of each parameter; `None` when one has not the type of its value.
fn open_parameters(
    plan: LogicalPlan,
    types: &[DataType],
    values: &Arc<Values>,
) -> Result<Option<LogicalPlan>> {
    let mut known = true;
    let open = replace_expressions(plan, |expr| {
        let Expr::Placeholder(placeholder) = &expr else { return Ok(Transformed::no(expr)) };
        let number = parameter_number(&placeholder.id).and_then(|n| n.checked_sub(1));
        let field = placeholder.field.as_ref();
        let Some((number, field)) = number.zip(field).filter(|(number, field)| {
            types.get(*number).is_some_and(|known| known == field.data_type())
        }) else {
            known = false;
            return Ok(Transformed::no(expr));
        };
        let function = Parameter::new(number, Arc::clone(field), Arc::clone(values));
        let function = Arc::new(ScalarUDF::new_from_impl(function));
        let call = ScalarFunction::new_udf(function, Vec::new());
        Ok(Transformed::yes(Expr::ScalarFunction(call)))
    })?;
    Ok(known.then_some(open))
}

/// Whether the plan reads one collection, as a search of now.
fn is_one_search(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let (mut searches, mut leaves) = (0, 0);
    plan.apply(|node| {
        leaves += usize::from(node.children().is_empty());
        let search = node.downcast_ref::<VectorTopKExec>();
        searches += usize::from(search.is_some_and(VectorTopKExec::can_be_kept));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok((searches, leaves) == (1, 1))
}

/// A predicate with values in the place of parameters, so that zone maps can be asked.
pub(crate) fn with_values(
    predicate: &Arc<dyn PhysicalExpr>,
    parameters: &[ScalarValue],
) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
    let bound = Arc::clone(predicate).transform_up(|expr| {
        let value = (&*expr as &dyn std::any::Any)
            .downcast_ref::<ScalarFunctionExpr>()
            .and_then(|call| call.fun().inner().downcast_ref::<Parameter>())
            .and_then(|parameter| parameters.get(parameter.number));
        Ok(match value {
            Some(value) => {
                Transformed::yes(Arc::new(Literal::new(value.clone())) as Arc<dyn PhysicalExpr>)
            }
            None => Transformed::no(expr),
        })
    })?;
    Ok(bound.data)
}

/// The value of a parameter in the execution under way.
#[derive(Debug)]
struct Parameter {
    number: usize,
    field: FieldRef,
    values: Arc<Values>,
    signature: Signature,
}

impl Parameter {
    fn new(number: usize, field: FieldRef, values: Arc<Values>) -> Self {
        // Volatile, so that nothing computes it before there is a value.
        Self { number, field, values, signature: Signature::nullary(Volatility::Volatile) }
    }
}

impl PartialEq for Parameter {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number && Arc::ptr_eq(&self.values, &other.values)
    }
}

impl Eq for Parameter {}

impl Hash for Parameter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl ScalarUDFImpl for Parameter {
    fn name(&self) -> &'static str {
        "parameter"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.field.data_type().clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let value = self.values.values.lock().get(self.number).cloned();
        value.map(ColumnarValue::Scalar).ok_or_else(|| {
            datafusion::common::DataFusionError::Internal("a parameter without a value".to_owned())
        })
    }
}

#[cfg(test)]
mod tests;
