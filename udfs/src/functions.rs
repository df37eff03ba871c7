//! Distances and norms as scalar functions. NULL in, NULL out; results are `double precision`,
//! computed in `f32` by the kernels of this machine.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, Float64Array, Int32Array};
use arrow::datatypes::DataType;
use datafusion_common::{DataFusionError, Result};
use datafusion_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use types::Distance;
use vector::Metric;

use crate::{VectorError, vector_dimension, vector_slice};

/// A function of two vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DistanceFunction {
    /// `l2_distance`, `<->`
    L2,
    /// `vector_negative_inner_product`, `<#>`
    NegativeInnerProduct,
    /// `cosine_distance`, `<=>`
    Cosine,
    /// `l1_distance`, `<+>`
    L1,
    /// `inner_product`
    InnerProduct,
}

/// A function of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VectorFunction {
    /// Of two.
    Distance(DistanceFunction),
    /// `vector_dims`
    Dims,
    /// `vector_norm`, `l2_norm`
    Norm,
}

impl DistanceFunction {
    /// The index distance that orders rows like this function, if there is one.
    #[must_use]
    pub fn index_distance(self) -> Option<Distance> {
        match self {
            Self::L2 => Some(Distance::L2),
            Self::NegativeInnerProduct => Some(Distance::InnerProduct),
            Self::Cosine => Some(Distance::Cosine),
            Self::L1 | Self::InnerProduct => None,
        }
    }

    /// The function behind an operator.
    #[must_use]
    pub fn of_operator(operator: &str) -> Option<Self> {
        match operator {
            "<->" => Some(Self::L2),
            "<#>" => Some(Self::NegativeInnerProduct),
            "<=>" => Some(Self::Cosine),
            "<+>" => Some(Self::L1),
            _ => None,
        }
    }
}

impl VectorFunction {
    const ALL: [Self; 7] = [
        Self::Distance(DistanceFunction::L2),
        Self::Distance(DistanceFunction::NegativeInnerProduct),
        Self::Distance(DistanceFunction::Cosine),
        Self::Distance(DistanceFunction::L1),
        Self::Distance(DistanceFunction::InnerProduct),
        Self::Dims,
        Self::Norm,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Distance(DistanceFunction::L2) => "l2_distance",
            Self::Distance(DistanceFunction::NegativeInnerProduct) => {
                "vector_negative_inner_product"
            }
            Self::Distance(DistanceFunction::Cosine) => "cosine_distance",
            Self::Distance(DistanceFunction::L1) => "l1_distance",
            Self::Distance(DistanceFunction::InnerProduct) => "inner_product",
            Self::Dims => "vector_dims",
            Self::Norm => "vector_norm",
        }
    }
}

/// All functions of this crate.
#[must_use]
pub fn registry() -> Vec<Arc<ScalarUDF>> {
    VectorFunction::ALL.into_iter().map(|f| Arc::new(ScalarUDF::from(VectorUdf::new(f)))).collect()
}

/// The function a call refers to, when it is one of two vectors.
#[must_use]
pub fn distance_function(udf: &ScalarUDF) -> Option<DistanceFunction> {
    match udf.inner().downcast_ref::<VectorUdf>()?.function {
        VectorFunction::Distance(distance) => Some(distance),
        VectorFunction::Dims | VectorFunction::Norm => None,
    }
}

#[derive(Debug)]
struct VectorUdf {
    function: VectorFunction,
    signature: Signature,
    aliases: Vec<String>,
}

impl PartialEq for VectorUdf {
    fn eq(&self, other: &Self) -> bool {
        self.function == other.function
    }
}

impl Eq for VectorUdf {}

impl Hash for VectorUdf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.hash(state);
    }
}

impl VectorUdf {
    fn new(function: VectorFunction) -> Self {
        let aliases = match function {
            VectorFunction::Norm => vec!["l2_norm".to_owned()],
            VectorFunction::Distance(_) | VectorFunction::Dims => Vec::new(),
        };
        Self { function, signature: Signature::user_defined(Volatility::Immutable), aliases }
    }

    fn arity(&self) -> usize {
        match self.function {
            VectorFunction::Distance(_) => 2,
            VectorFunction::Dims | VectorFunction::Norm => 1,
        }
    }
}

impl ScalarUDFImpl for VectorUdf {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.function {
            VectorFunction::Distance(_) | VectorFunction::Norm => DataType::Float64,
            VectorFunction::Dims => DataType::Int32,
        })
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let known = arg_types.iter().find(|t| vector_dimension(t).is_some());
        // Constant text is read as a vector before types are coerced.
        let text = |t: &DataType| t == &DataType::Utf8;
        let acceptable = |t: &DataType| vector_dimension(t).is_some() || t.is_null() || text(t);
        match known {
            Some(known) if arg_types.len() == self.arity() && arg_types.iter().all(acceptable) => {
                let typed = |t: &DataType| if t.is_null() { known.clone() } else { t.clone() };
                Ok(arg_types.iter().map(typed).collect())
            }
            Some(_) | None => {
                let types: Vec<String> = arg_types.iter().map(ToString::to_string).collect();
                let types = types.join(", ");
                Err(VectorError::NoFunction { function: self.function.name(), types }.into())
            }
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalars = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalars { 1 } else { args.number_rows };
        let arguments: Result<Vec<Argument>> = args.args.iter().map(Argument::of).collect();
        let arguments = arguments?;
        let result: ArrayRef = match (self.function, arguments.as_slice()) {
            (VectorFunction::Distance(function), [left, right]) => {
                Arc::new(distances(function, (left, right), rows)?)
            }
            (VectorFunction::Dims, [argument]) => {
                let dims = |vector: &[f32]| i32::try_from(vector.len()).unwrap_or(i32::MAX);
                let vectors = argument.vectors("vector_dims")?;
                Arc::new((0..rows).map(|row| vectors(row).map(dims)).collect::<Int32Array>())
            }
            (VectorFunction::Norm, [argument]) => {
                let metric = Metric::new(Distance::InnerProduct);
                let norm = |vector: &[f32]| (-metric.between(vector, vector)).sqrt();
                let vectors = argument.vectors("vector_norm")?;
                Arc::new((0..rows).map(|row| vectors(row).map(norm)).collect::<Float64Array>())
            }
            (VectorFunction::Distance(_) | VectorFunction::Dims | VectorFunction::Norm, _) => {
                return Err(DataFusionError::Internal("wrong number of arguments".to_owned()));
            }
        };
        if scalars {
            let value = datafusion_common::ScalarValue::try_from_array(&result, 0)?;
            return Ok(ColumnarValue::Scalar(value));
        }
        Ok(ColumnarValue::Array(result))
    }
}

/// An argument: a vector for each row, or one for all.
struct Argument {
    array: ArrayRef,
    same: bool,
}

impl Argument {
    fn of(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Array(array) => Self { array: Arc::clone(array), same: false },
            ColumnarValue::Scalar(value) => Self { array: value.to_array()?, same: true },
        })
    }

    /// The vector of each row.
    fn vectors<'a>(
        &'a self,
        function: &'static str,
    ) -> Result<impl Fn(usize) -> Option<&'a [f32]>> {
        let list = self.array.as_fixed_size_list_opt();
        let list = list.ok_or_else(|| no_vector(function, &self.array))?;
        Ok(|row| vector_slice(list, if self.same { 0 } else { row }))
    }
}

/// Text that is not a constant cannot be read as a vector.
fn no_vector(function: &'static str, array: &ArrayRef) -> DataFusionError {
    VectorError::NoFunction { function, types: array.data_type().to_string() }.into()
}

type Compute = Box<dyn Fn(&[f32], &[f32]) -> f64>;

fn distances(
    function: DistanceFunction,
    (left, right): (&Argument, &Argument),
    rows: usize,
) -> Result<Float64Array> {
    let name = VectorFunction::Distance(function).name();
    let (left, right) = (left.vectors(name)?, right.vectors(name)?);
    let compute: Compute = match function {
        DistanceFunction::L1 => {
            let kernels = vector::kernels::detect();
            Box::new(|a, b| f64::from((kernels.l1)(a, b)))
        }
        DistanceFunction::InnerProduct => {
            let metric = Metric::new(Distance::InnerProduct);
            // The other way round, NaN would change its sign, which sorting tells apart.
            Box::new(move |a, b| 0.0 - metric.between(a, b))
        }
        DistanceFunction::L2
        | DistanceFunction::NegativeInnerProduct
        | DistanceFunction::Cosine => {
            let metric = Metric::new(function.index_distance().unwrap_or(Distance::L2));
            Box::new(move |a, b| metric.between(a, b))
        }
    };
    let row = |row| match (left(row), right(row)) {
        (Some(a), Some(b)) if a.len() != b.len() => {
            Err(VectorError::Different(a.len(), b.len()).into())
        }
        (Some(a), Some(b)) => Ok(Some(compute(a, b))),
        (None, _) | (_, None) => Ok(None),
    };
    (0..rows).map(row).collect()
}
