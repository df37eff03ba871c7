//! `WHERE embedding <-> $1 < 0.3`: the codes of an index rule rows out, and only the others are
//! compared. The answer is the one without an index.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr, split_conjunction};
use storage::memtable::{Contents, Rows, VectorIndex, column_id};
use types::{Distance, Quantization};
use udfs::{CheckedFunction, distance_function, vector_of};
use vector::Query;

/// A part of a predicate that asks for rows near a vector.
#[derive(Debug, Clone)]
pub(crate) struct RangeFilter {
    index: Arc<VectorIndex>,
    rows: Arc<Rows>,
    query: Vec<f32>,
    /// The largest distance that passes.
    most: f64,
}

impl RangeFilter {
    /// The first such part of `predicate` that an index with codes helps with.
    /// `named` are the columns that the predicate is over, with their ids.
    pub(crate) fn of(
        predicate: &Arc<dyn PhysicalExpr>,
        contents: &Contents,
        named: &SchemaRef,
    ) -> Option<Self> {
        split_conjunction(predicate).into_iter().find_map(|part| {
            let (position, distance, query, most) = range(part)?;
            let column = column_id(named, position);
            let serves = |index: &&Arc<VectorIndex>| {
                let definition = index.definition();
                definition.column == column
                    && definition.distance == distance
                    && !matches!(
                        definition.options.quantization,
                        Quantization::None | Quantization::Sq8Calibrated
                    )
            };
            let index = Arc::clone(contents.indexes().find(serves)?);
            Some(Self { index, rows: Arc::clone(&contents.rows), query, most })
        })
    }

    /// For each of `ordinals` whether its row may pass; `None` when all may.
    pub(crate) fn may_pass(&self, ordinals: Range<u32>) -> Option<Vec<bool>> {
        self.index.may_be_within(&self.query, self.most, (ordinals, &self.rows))
    }
}

impl fmt::Display for RangeFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ", range_by={}", self.index.definition().name)
    }
}

/// Column, distance, query and bound of `distance < bound`, of `constant - distance > bound`, and of
/// either turned around.
fn range(part: &Arc<dyn PhysicalExpr>) -> Option<(usize, Distance, Vec<f32>, f64)> {
    let comparison = downcast::<BinaryExpr>(part)?;
    let (left, right) = (comparison.left(), comparison.right());
    let (expr, operator, bound) = match (number(left), number(right)) {
        (None, Some(bound)) => (left, *comparison.op(), bound),
        (Some(bound), None) => (right, comparison.op().swap()?, bound),
        _ => return None,
    };
    let (distance, most) = match operator {
        Operator::Lt | Operator::LtEq => (expr, bound),
        Operator::Gt | Operator::GtEq => {
            let difference = downcast::<ScalarFunctionExpr>(expr)?;
            let [constant, distance] = difference.args() else { return None };
            let constant = number(constant)?;
            // As large as what rounding of the difference lets pass.
            let rounding = (constant.abs() + bound.abs()) * f64::EPSILON;
            let most = constant - bound + rounding;
            let function = CheckedFunction::of(difference.fun());
            (function == Some(CheckedFunction::SubtractFloat)).then_some((distance, most))?
        }
        _ => return None,
    };
    let call = downcast::<ScalarFunctionExpr>(distance)?;
    let [a, b] = call.args() else { return None };
    let (column, query) = match (downcast::<Column>(a), downcast::<Column>(b)) {
        (Some(column), None) => (column, vector(b)?),
        (None, Some(column)) => (column, vector(a)?),
        _ => return None,
    };
    Some((column.index(), distance_function(call.fun())?.index_distance()?, query, most))
}

fn downcast<T: 'static>(expr: &Arc<dyn PhysicalExpr>) -> Option<&T> {
    (&**expr as &dyn Any).downcast_ref()
}

fn number(expr: &Arc<dyn PhysicalExpr>) -> Option<f64> {
    match downcast::<Literal>(expr)?.value() {
        ScalarValue::Float64(number) => *number,
        ScalarValue::Float32(number) => number.map(f64::from),
        _ => None,
    }
}

fn vector(expr: &Arc<dyn PhysicalExpr>) -> Option<Vec<f32>> {
    match vector_of(downcast::<Literal>(expr)?.value())? {
        Query::Dense(numbers) => Some(numbers),
        Query::Sparse { .. } => None,
    }
}
