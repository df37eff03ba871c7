//! Distances, norms and bits of vectors as scalar functions. NULL in, NULL out; results are `double
//! precision`, computed in `f32` by the kernels of this machine, of bits and sparse vectors in `f64`.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int32Array};
use arrow::datatypes::DataType;
use datafusion_common::{DataFusionError, Result};
use datafusion_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use types::{Distance, VectorKind};
use vector::{Metric, Row};

use crate::{VectorBuilder, VectorError, vector_row, vector_shape, vector_type};

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
    /// `hamming_distance`, `<~>`
    Hamming,
    /// `jaccard_distance`, `<%>`
    Jaccard,
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
    /// `binary_quantize`: which numbers are above zero, as bits.
    BinaryQuantize,
}

impl DistanceFunction {
    /// The index distance that orders rows like this function, if there is one.
    #[must_use]
    pub fn index_distance(self) -> Option<Distance> {
        match self {
            Self::L2 => Some(Distance::L2),
            Self::NegativeInnerProduct => Some(Distance::InnerProduct),
            Self::Cosine => Some(Distance::Cosine),
            Self::Hamming => Some(Distance::Hamming),
            Self::Jaccard => Some(Distance::Jaccard),
            Self::L1 => Some(Distance::L1),
            Self::InnerProduct => None,
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
            "<~>" => Some(Self::Hamming),
            "<%>" => Some(Self::Jaccard),
            _ => None,
        }
    }

    /// Whether there is such a distance between vectors of a kind.
    #[must_use]
    pub fn is_of(self, kind: VectorKind) -> bool {
        matches!(self, Self::Hamming | Self::Jaccard) == (kind == VectorKind::Bit)
    }
}

impl VectorFunction {
    const ALL: [Self; 10] = [
        Self::Distance(DistanceFunction::L2),
        Self::Distance(DistanceFunction::NegativeInnerProduct),
        Self::Distance(DistanceFunction::Cosine),
        Self::Distance(DistanceFunction::L1),
        Self::Distance(DistanceFunction::InnerProduct),
        Self::Distance(DistanceFunction::Hamming),
        Self::Distance(DistanceFunction::Jaccard),
        Self::Dims,
        Self::Norm,
        Self::BinaryQuantize,
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
            Self::Distance(DistanceFunction::Hamming) => "hamming_distance",
            Self::Distance(DistanceFunction::Jaccard) => "jaccard_distance",
            Self::Dims => "vector_dims",
            Self::Norm => "vector_norm",
            Self::BinaryQuantize => "binary_quantize",
        }
    }

    fn is_of(self, kind: VectorKind) -> bool {
        match self {
            Self::Distance(distance) => distance.is_of(kind),
            Self::Norm => kind != VectorKind::Bit,
            Self::Dims | Self::BinaryQuantize => {
                matches!(kind, VectorKind::Vector | VectorKind::Halfvec)
            }
        }
    }
}

/// Vectors as vectors of another kind, or of the same after a look at their dimension, which is checked
/// unless it is 0.
///
/// # Errors
/// When a number is none in `f16`, or a dimension is another.
pub fn convert((kind, dim): (VectorKind, usize), array: &dyn Array) -> Result<ArrayRef> {
    let mut builder = VectorBuilder::new(kind, dim);
    for row in 0..array.len() {
        match vector_row(array, row) {
            Some(vector) => builder.push(vector)?,
            None => builder.push_null(),
        }
    }
    builder.finish()
}

/// All functions of this crate.
#[must_use]
pub fn registry() -> Vec<Arc<ScalarUDF>> {
    let numbers =
        VectorFunction::ALL.into_iter().map(|f| Arc::new(ScalarUDF::from(VectorUdf::new(f))));
    let others = crate::arithmetic::registry().chain(crate::intervals::registry());
    numbers.chain(others).collect()
}

/// The function a call refers to, when it is one of two vectors.
#[must_use]
pub fn distance_function(udf: &ScalarUDF) -> Option<DistanceFunction> {
    match udf.inner().downcast_ref::<VectorUdf>()?.function {
        VectorFunction::Distance(distance) => Some(distance),
        VectorFunction::Dims | VectorFunction::Norm | VectorFunction::BinaryQuantize => None,
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
            VectorFunction::Distance(_) | VectorFunction::Dims | VectorFunction::BinaryQuantize => {
                Vec::new()
            }
        };
        Self { function, signature: Signature::user_defined(Volatility::Immutable), aliases }
    }

    fn arity(&self) -> usize {
        match self.function {
            VectorFunction::Distance(_) => 2,
            VectorFunction::Dims | VectorFunction::Norm | VectorFunction::BinaryQuantize => 1,
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

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let dim = arg_types.first().and_then(vector_shape).map_or(0, |(_, dim)| dim);
        Ok(match self.function {
            VectorFunction::Distance(_) | VectorFunction::Norm => DataType::Float64,
            VectorFunction::Dims => DataType::Int32,
            VectorFunction::BinaryQuantize => vector_type(VectorKind::Bit, dim),
        })
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let of = |t: &DataType| vector_shape(t).map(|(kind, _)| kind);
        let fits = |t: &&DataType| of(t).is_some_and(|kind| self.function.is_of(kind));
        let known = arg_types.iter().find(fits);
        // Constant text is read as a vector before types are coerced.
        let text = |t: &DataType| t == &DataType::Utf8;
        let acceptable =
            |t: &DataType| known.is_some_and(|known| of(known) == of(t)) || t.is_null() || text(t);
        if known.is_none() && self.function.is_of(VectorKind::Bit) && arg_types.iter().all(text) {
            return Ok(arg_types.to_vec()); // text is read as bits, which no other function takes
        }
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
                let dims = |vector: Row<'_>| i32::try_from(vector.len()).unwrap_or(i32::MAX);
                let vectors = argument.vectors("vector_dims")?;
                Arc::new((0..rows).map(|row| vectors(row).map(dims)).collect::<Int32Array>())
            }
            (VectorFunction::Norm, [argument]) => {
                let metric = Metric::new(Distance::InnerProduct);
                let norm = |vector: Row<'_>| (-metric.between_rows(vector, vector)).sqrt();
                let vectors = argument.vectors("vector_norm")?;
                Arc::new((0..rows).map(|row| vectors(row).map(norm)).collect::<Float64Array>())
            }
            (VectorFunction::BinaryQuantize, [argument]) => {
                let vectors = argument.vectors("binary_quantize")?;
                let shape = vector_shape(argument.array.data_type());
                let mut bits = VectorBuilder::new(VectorKind::Bit, shape.map_or(0, |(_, dim)| dim));
                for row in 0..rows {
                    match vectors(row) {
                        Some(vector) => {
                            let above =
                                vector.to_f32().iter().map(|n| n.max(0.0)).collect::<Vec<_>>();
                            bits.push(Row::Full(&above))?;
                        }
                        None => bits.push_null(),
                    }
                }
                bits.finish()?
            }
            (
                VectorFunction::Distance(_)
                | VectorFunction::Dims
                | VectorFunction::Norm
                | VectorFunction::BinaryQuantize,
                _,
            ) => {
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
    fn vectors<'a>(&'a self, function: &'static str) -> Result<impl Fn(usize) -> Option<Row<'a>>> {
        if vector_shape(self.array.data_type()).is_none() {
            return Err(no_vector(function, &self.array));
        }
        Ok(|row| vector_row(&*self.array, if self.same { 0 } else { row }))
    }
}

/// Text that is not a constant cannot be read as a vector.
fn no_vector(function: &'static str, array: &ArrayRef) -> DataFusionError {
    VectorError::NoFunction { function, types: array.data_type().to_string() }.into()
}

type Compute = Box<dyn Fn(Row<'_>, Row<'_>) -> f64>;

fn distances(
    function: DistanceFunction,
    (left, right): (&Argument, &Argument),
    rows: usize,
) -> Result<Float64Array> {
    let name = VectorFunction::Distance(function).name();
    let (left, right) = (left.vectors(name)?, right.vectors(name)?);
    let compute: Compute = match function {
        DistanceFunction::InnerProduct => {
            let metric = Metric::new(Distance::InnerProduct);
            // The other way round, NaN would change its sign, which sorting tells apart.
            Box::new(move |a, b| 0.0 - metric.between_rows(a, b))
        }
        DistanceFunction::NegativeInnerProduct => {
            let metric = Metric::new(Distance::InnerProduct);
            // Not -0, which comparisons by bits tell from 0.
            Box::new(move |a, b| metric.between_rows(a, b) + 0.0)
        }
        DistanceFunction::L2
        | DistanceFunction::Cosine
        | DistanceFunction::L1
        | DistanceFunction::Hamming
        | DistanceFunction::Jaccard => {
            let metric = Metric::new(function.index_distance().unwrap_or(Distance::L2));
            Box::new(move |a, b| metric.between_rows(a, b))
        }
    };
    let row = |row| match (left(row), right(row)) {
        (Some(a), Some(b)) if a.len() != b.len() => {
            Err(VectorError::Different(kind_of(a), a.len(), b.len()).into())
        }
        (Some(a), Some(b)) => Ok(Some(compute(a, b))),
        (None, _) | (_, None) => Ok(None),
    };
    (0..rows).map(row).collect()
}

fn kind_of(row: Row<'_>) -> VectorKind {
    match row {
        Row::Full(_) => VectorKind::Vector,
        Row::Half(_) => VectorKind::Halfvec,
        Row::Bits(_) => VectorKind::Bit,
        Row::Sparse(_) => VectorKind::Sparsevec,
    }
}
