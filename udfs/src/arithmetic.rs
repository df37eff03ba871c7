//! Vectors from vectors: `+ - * ||`, `l2_normalize` and `subvector`. NULL in, NULL out; numbers are
//! computed in 32 bits, as pgvector does.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{DataFusionError, Result, ScalarValue};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use types::VectorKind;
use vector::{Query, Row};

use crate::{VectorBuilder, VectorError, vector_row, vector_shape, vector_type};

/// A function whose result is a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// `vector_add`, `+`
    Add,
    /// `vector_sub`, `-`
    Subtract,
    /// `vector_mul`, `*`: number by number
    Multiply,
    /// `vector_concat`, `||`
    Concat,
    /// `l2_normalize`: of length one; a zero vector stays what it is
    Normalize,
    /// `subvector(vector, start, count)`, positions from one on
    Subvector,
}

impl Arithmetic {
    const ALL: [Self; 6] =
        [Self::Add, Self::Subtract, Self::Multiply, Self::Concat, Self::Normalize, Self::Subvector];

    /// The function behind an operator.
    #[must_use]
    pub fn of_operator(operator: &str) -> Option<Self> {
        match operator {
            "+" => Some(Self::Add),
            "-" => Some(Self::Subtract),
            "*" => Some(Self::Multiply),
            "||" => Some(Self::Concat),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Add => "vector_add",
            Self::Subtract => "vector_sub",
            Self::Multiply => "vector_mul",
            Self::Concat => "vector_concat",
            Self::Normalize => "l2_normalize",
            Self::Subvector => "subvector",
        }
    }

    /// How many of the arguments are vectors; they come first.
    fn vectors(self) -> usize {
        match self {
            Self::Add | Self::Subtract | Self::Multiply | Self::Concat => 2,
            Self::Normalize | Self::Subvector => 1,
        }
    }

    fn arguments(self) -> usize {
        if self == Self::Subvector { 3 } else { self.vectors() }
    }

    fn is_of(self, kind: VectorKind) -> bool {
        match kind {
            VectorKind::Vector | VectorKind::Halfvec => true,
            VectorKind::Sparsevec => self == Self::Normalize,
            VectorKind::Bit => false,
        }
    }

    /// The function.
    #[must_use]
    pub fn udf(self) -> Arc<ScalarUDF> {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::from(ArithmeticUdf { function: self, signature }))
    }
}

/// All functions.
pub(crate) fn registry() -> impl Iterator<Item = Arc<ScalarUDF>> {
    Arithmetic::ALL.into_iter().map(Arithmetic::udf)
}

/// The function a call refers to, when its result is a vector, and how many vectors it takes.
#[must_use]
pub fn arithmetic_function(udf: &ScalarUDF) -> Option<(Arithmetic, usize)> {
    let function = udf.inner().downcast_ref::<ArithmeticUdf>()?.function;
    Some((function, function.vectors()))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ArithmeticUdf {
    function: Arithmetic,
    signature: Signature,
}

/// The positions, from zero on, that `subvector` takes.
fn taken(dim: usize, start: i64, count: i64) -> Result<std::ops::Range<usize>, VectorError> {
    let length = i64::try_from(dim).unwrap_or(i64::MAX);
    let end = start.saturating_add(count.max(0)).min(length + 1);
    let start = start.max(1);
    let range = usize::try_from(start - 1).ok().zip(usize::try_from(end - 1).ok());
    match range {
        Some((start, end)) if count > 0 && start < end => Ok(start..end),
        _ => Err(VectorError::Empty(VectorKind::Vector)),
    }
}

fn integer(value: Option<&ScalarValue>) -> Option<i64> {
    match value?.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(value) => value,
        _ => None,
    }
}

impl ScalarUDFImpl for ArithmeticUdf {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Err(DataFusionError::Internal("the type depends on the arguments".to_owned()))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let shape = |at: usize| args.arg_fields.get(at).and_then(|f| vector_shape(f.data_type()));
        let (kind, dim) = shape(0).unwrap_or((VectorKind::Vector, 0));
        let dim = match self.function {
            Arithmetic::Add
            | Arithmetic::Subtract
            | Arithmetic::Multiply
            | Arithmetic::Normalize => dim,
            Arithmetic::Concat => match (dim, shape(1).map_or(0, |(_, dim)| dim)) {
                (0, _) | (_, 0) => 0,
                (a, b) => a + b,
            },
            Arithmetic::Subvector => {
                let given = |at: usize| integer(args.scalar_arguments.get(at).copied().flatten());
                let (Some(start), Some(count)) = (given(1), given(2)) else {
                    let what = "subvector with a start and a count that are not constant";
                    return Err(DataFusionError::NotImplemented(what.to_owned()));
                };
                taken(dim, start, count)?.len()
            }
        };
        Ok(Arc::new(Field::new(self.function.name(), vector_type(kind, dim), true)))
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let vectors = self.function.vectors();
        let kind = |t: &DataType| vector_shape(t).map(|(kind, _)| kind);
        let known = arg_types.iter().take(vectors).find_map(kind);
        let fits = |(at, given): (usize, &DataType)| match at {
            // Constant text is read as a vector before types are coerced.
            at if at < vectors => {
                given.is_null() || *given == DataType::Utf8 || kind(given) == known
            }
            _ => given.is_integer() || given.is_null(),
        };
        let known = known.filter(|kind| self.function.is_of(*kind));
        let (Some(known), true) = (known, arg_types.iter().enumerate().all(fits)) else {
            return Err(self.no_function(arg_types));
        };
        if arg_types.len() != self.function.arguments() {
            return Err(self.no_function(arg_types));
        }
        let dim = arg_types.iter().find_map(vector_shape).map_or(0, |(_, dim)| dim);
        let typed = |(at, given): (usize, &DataType)| match at {
            // A constant has to stay one.
            at if at >= vectors && given.is_integer() => given.clone(),
            at if at >= vectors => DataType::Int64,
            _ if given.is_null() => vector_type(known, dim),
            _ => given.clone(),
        };
        Ok(arg_types.iter().enumerate().map(typed).collect())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalars = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalars { 1 } else { args.number_rows };
        let arrays: Vec<ArrayRef> =
            args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<_>>()?;
        let (kind, dim) = vector_shape(args.return_type()).unwrap_or((VectorKind::Vector, 0));
        let mut builder = VectorBuilder::new(kind, dim);
        for row in 0..rows {
            let vectors: Option<Vec<Row<'_>>> = arrays
                .iter()
                .take(self.function.vectors())
                .map(|array| vector_row(&**array, row))
                .collect();
            match vectors {
                Some(vectors) => self.compute(&mut builder, &vectors, &arrays, row)?,
                None => builder.push_null(),
            }
        }
        let result = builder.finish()?;
        if scalars {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

impl ArithmeticUdf {
    fn no_function(&self, arg_types: &[DataType]) -> DataFusionError {
        let types: Vec<String> = arg_types.iter().map(ToString::to_string).collect();
        VectorError::NoFunction { function: self.function.name(), types: types.join(", ") }.into()
    }

    fn compute(
        &self,
        builder: &mut VectorBuilder,
        vectors: &[Row<'_>],
        arrays: &[ArrayRef],
        row: usize,
    ) -> Result<()> {
        match (self.function, vectors) {
            (Arithmetic::Concat, [a, b]) => {
                let joined = [a.to_f32(), b.to_f32()].concat();
                builder.push(Row::Full(&joined))?;
            }
            (Arithmetic::Normalize, [a]) => builder.push(normalized(*a).row())?,
            (Arithmetic::Subvector, [a]) => {
                let at = |at: usize| {
                    integer(ScalarValue::try_from_array(&arrays[at], row).ok().as_ref())
                };
                let (Some(start), Some(count)) = (at(1), at(2)) else {
                    builder.push_null();
                    return Ok(());
                };
                let numbers = a.to_f32();
                builder.push(Row::Full(&numbers[taken(numbers.len(), start, count)?]))?;
            }
            (Arithmetic::Add | Arithmetic::Subtract | Arithmetic::Multiply, [a, b]) => {
                builder.push(Row::Full(&self.combined(*a, *b)?))?;
            }
            _ => return Err(DataFusionError::Internal("wrong number of arguments".to_owned())),
        }
        Ok(())
    }

    /// Number by number.
    fn combined(&self, a: Row<'_>, b: Row<'_>) -> Result<Vec<f32>, VectorError> {
        let kind = if matches!(a, Row::Half(_)) { VectorKind::Halfvec } else { VectorKind::Vector };
        if a.len() != b.len() {
            return Err(VectorError::Different(kind, a.len(), b.len()));
        }
        let (a, b) = (a.to_f32(), b.to_f32());
        let combine = |(a, b): (&f32, &f32)| {
            let number = match self.function {
                Arithmetic::Add => a + b,
                Arithmetic::Subtract => a - b,
                _ => a * b,
            };
            let product = self.function == Arithmetic::Multiply;
            let number = if kind == VectorKind::Halfvec {
                half::f16::from_f32(number).to_f32()
            } else {
                number
            };
            if number.is_infinite() {
                return Err(VectorError::Overflow);
            }
            if product && number == 0.0 && *a != 0.0 && *b != 0.0 {
                return Err(VectorError::Underflow);
            }
            Ok(number)
        };
        a.iter().zip(&*b).map(combine).collect()
    }
}

/// A vector of length one in the same direction.
fn normalized(vector: Row<'_>) -> Query {
    let length = |numbers: &mut dyn Iterator<Item = f32>| {
        numbers.map(|number| f64::from(number) * f64::from(number)).sum::<f64>().sqrt()
    };
    #[expect(clippy::cast_possible_truncation, reason = "the numbers of vectors have 32 bits")]
    let shorter = |number: f32, length: f64| {
        if length > 0.0 { (f64::from(number) / length) as f32 } else { number }
    };
    if let Row::Sparse(sparse) = vector {
        let length = length(&mut sparse.entries().map(|(_, number)| number));
        let entries = sparse.entries().map(|(at, number)| (at, shorter(number, length)));
        return Query::sparse(sparse.dim(), entries);
    }
    let numbers = vector.to_f32();
    let length = length(&mut numbers.iter().copied());
    Query::Dense(numbers.iter().map(|number| shorter(*number, length)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_vector_are_counted_from_one() {
        let cases = [
            ((5, 1, 3), Some(0..3)),
            ((5, 3, 2), Some(2..4)),
            ((5, -1, 3), Some(0..1)),
            ((5, 4, 9), Some(3..5)),
            ((5, 1, i64::MAX), Some(0..5)),
            ((5, 6, 1), None),
            ((5, -1, 2), None),
            ((5, 1, 0), None),
            ((5, 1, -1), None),
        ];
        for ((dim, start, count), expected) in cases {
            assert_eq!(taken(dim, start, count).ok(), expected, "{dim} {start} {count}");
        }
    }
}
