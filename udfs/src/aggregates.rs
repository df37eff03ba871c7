//! `sum` and `avg` of vectors, under the names of the functions of numbers: of anything else than
//! vectors they are those. And `min` and `max` of floating-point numbers, where groups begin with an
//! infinity and know NaN.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, ListArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion_common::{DataFusionError, Result, ScalarValue};
use datafusion_expr::function::{
    AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs,
};
use datafusion_expr::type_coercion::functions::fields_with_udf;
use datafusion_expr::utils::AggregateOrderSensitivity;
use datafusion_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, GroupsAccumulator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs, Volatility,
};
use types::VectorKind;
use vector::Row;

use crate::{VectorBuilder, VectorError, vector_row, vector_shape};

/// `sum`, `avg`, `min` or `max` in the place of the function that `numbers` is.
#[must_use]
pub fn own_aggregate(numbers: Arc<AggregateUDF>) -> AggregateUDF {
    let signature = Signature::user_defined(Volatility::Immutable);
    AggregateUDF::from(OwnAggregate { numbers, signature })
}

/// What a function is of numbers.
#[must_use]
pub fn aggregate_of_numbers(function: &AggregateUDF) -> &AggregateUDF {
    let ours = function.inner().downcast_ref::<OwnAggregate>();
    ours.map_or(function, |ours| &ours.numbers)
}

#[derive(Debug)]
struct OwnAggregate {
    numbers: Arc<AggregateUDF>,
    signature: Signature,
}

impl PartialEq for OwnAggregate {
    fn eq(&self, other: &Self) -> bool {
        self.numbers == other.numbers
    }
}

impl Eq for OwnAggregate {}

impl Hash for OwnAggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.numbers.hash(state);
    }
}

/// Whether values are vectors that can be summed; others are what they are compared by.
fn is_summed(data_type: &DataType) -> bool {
    matches!(vector_shape(data_type), Some((VectorKind::Vector | VectorKind::Halfvec, _)))
}

impl OwnAggregate {
    fn sums(&self) -> bool {
        matches!(self.numbers.name(), "sum" | "avg")
    }

    fn of_vectors(&self, fields: &[FieldRef]) -> bool {
        self.sums() && fields.first().is_some_and(|field| is_summed(field.data_type()))
    }
}

fn sums_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Float64, false)))
}

impl AggregateUDFImpl for OwnAggregate {
    fn name(&self) -> &str {
        self.numbers.name()
    }

    fn aliases(&self) -> &[String] {
        self.numbers.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [vector] if self.sums() && is_summed(vector) => Ok(vector.clone()),
            _ => self.numbers.return_type(arg_types),
        }
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        if let [vector] = arg_types
            && self.sums()
            && is_summed(vector)
        {
            return Ok(arg_types.to_vec());
        }
        let field = |t: &DataType| Arc::new(Field::new("", t.clone(), true));
        let fields: Vec<FieldRef> = arg_types.iter().map(field).collect();
        let coerced = fields_with_udf(&fields, &*self.numbers)?;
        Ok(coerced.iter().map(|field| field.data_type().clone()).collect())
    }

    fn is_nullable(&self) -> bool {
        self.numbers.is_nullable()
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if !self.of_vectors(args.expr_fields) {
            return self.numbers.accumulator(args);
        }
        if args.is_distinct {
            let what = format!("{}(DISTINCT vector)", self.name());
            return Err(DataFusionError::NotImplemented(what));
        }
        let shape = vector_shape(args.expr_fields[0].data_type());
        let (kind, dim) = shape.unwrap_or((VectorKind::Vector, 0));
        let mean = self.name() == "avg";
        Ok(Box::new(Sums { kind, dim, mean, sums: Vec::new(), count: 0 }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if !self.of_vectors(args.input_fields) {
            return self.numbers.state_fields(args);
        }
        Ok(vec![
            Arc::new(Field::new(format!("{}[sums]", args.name), sums_type(), true)),
            Arc::new(Field::new(format!("{}[count]", args.name), DataType::Int64, true)),
        ])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        let of_floats = args.expr_fields.iter().any(|field| field.data_type().is_floating());
        let extreme = matches!(self.name(), "min" | "max") && of_floats;
        let own = extreme || self.of_vectors(args.expr_fields);
        !own && self.numbers.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        self.numbers.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        if self.of_vectors(args.expr_fields) {
            return self.accumulator(args);
        }
        self.numbers.create_sliding_accumulator(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.numbers.order_sensitivity()
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        self.numbers.simplify()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.numbers.reverse_udf()
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        self.numbers.value_from_stats(statistics)
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        if self.sums() && is_summed(data_type) {
            return ScalarValue::try_from(data_type);
        }
        self.numbers.default_value(data_type)
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        if self.sums() && is_summed(data_type) {
            return SetMonotonicity::NotMonotonic;
        }
        self.numbers.inner().set_monotonicity(data_type)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.numbers.documentation()
    }
}

/// Sums in 64 bits, number by number.
#[derive(Debug)]
struct Sums {
    kind: VectorKind,
    dim: usize,
    mean: bool,
    sums: Vec<f64>,
    count: i64,
}

impl Sums {
    fn add(&mut self, numbers: impl ExactSizeIterator<Item = f64>, count: i64) -> Result<()> {
        if self.sums.is_empty() {
            self.sums.resize(numbers.len(), 0.0);
        }
        if self.sums.len() != numbers.len() {
            let (have, got) = (self.sums.len(), numbers.len());
            return Err(VectorError::Different(self.kind, have, got).into());
        }
        self.sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
        self.count += count;
        Ok(())
    }
}

impl Accumulator for Sums {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(vectors) = values.first() else { return Ok(()) };
        for row in 0..vectors.len() {
            if let Some(vector) = vector_row(&**vectors, row) {
                self.add(vector.to_f32().iter().map(|number| f64::from(*number)), 1)?;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut builder = VectorBuilder::new(self.kind, self.dim);
        if self.count == 0 {
            builder.push_null();
        } else {
            #[expect(clippy::cast_precision_loss, reason = "fewer rows than 2^53")]
            let by = if self.mean { self.count as f64 } else { 1.0 };
            #[expect(clippy::cast_possible_truncation, reason = "checked to be finite")]
            let numbers: Vec<f32> = self.sums.iter().map(|sum| (sum / by) as f32).collect();
            if numbers.iter().any(|number| number.is_infinite()) {
                return Err(VectorError::Overflow.into());
            }
            builder.push(Row::Full(&numbers)).map_err(|error| match error {
                VectorError::OutOfRange(..) => VectorError::Overflow,
                other => other,
            })?;
        }
        ScalarValue::try_from_array(&builder.finish()?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sums.capacity() * size_of::<f64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sums = std::mem::take(&mut self.sums).into_iter().map(Some);
        let item = Arc::new(Field::new_list_field(DataType::Float64, false));
        let values = arrow::array::Float64Array::from_iter(sums);
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([values.len()]);
        let list = ListArray::try_new(item, offsets, Arc::new(values), None)?;
        Ok(vec![ScalarValue::List(Arc::new(list)), ScalarValue::Int64(Some(self.count))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [sums, counts] = states else { return Ok(()) };
        let (sums, counts) = (sums.as_list::<i32>(), counts.as_primitive::<Int64Type>());
        for row in 0..sums.len() {
            if sums.is_null(row) || counts.value(row) == 0 {
                continue;
            }
            let numbers = sums.value(row);
            let numbers = numbers.as_primitive::<Float64Type>();
            self.add(numbers.values().iter().copied(), counts.value(row))?;
        }
        Ok(())
    }
}
